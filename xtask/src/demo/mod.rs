//! The story, told by running it: everything printed comes from what happened.

mod stage;
mod story;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Result, bail, ensure};
use nix::sys::signal::{SigSet, Signal};

use crate::{build, setup};

static STOPPED: AtomicBool = AtomicBool::new(false);

/// Sets up, builds, plays, and leaves nothing behind, also on Ctrl-C.
pub(crate) fn run() -> Result<()> {
    ensure!(
        nix::unistd::Uid::effective().is_root(),
        "the demo attaches eBPF programs and needs root"
    );
    // Blocked in every thread, so that Ctrl-C ends the story through its own clean-up and not in the middle of it.
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGINT);
    signals.add(Signal::SIGTERM);
    signals.thread_block()?;
    std::thread::spawn(move || {
        if signals.wait().is_ok() {
            STOPPED.store(true, Ordering::Relaxed);
        }
    });
    let started = Instant::now();
    stage::title("Set-up");
    setup::everything()?;
    interrupted()?;
    let binary = build::agent(false)?;
    interrupted()?;
    stage::line(&format!("built in {:.0} s", started.elapsed().as_secs_f32()));
    let left = story::play(&binary)?;
    stage::title("Nothing is left behind");
    for path in &left {
        ensure!(!path.exists(), "the demo left {} behind", path.display());
    }
    stage::line("no pinned link or map, no cgroup, no process, no file");
    stage::ending();
    Ok(())
}

/// Ends the story when the person has pressed Ctrl-C.
fn interrupted() -> Result<()> {
    if STOPPED.load(Ordering::Relaxed) {
        bail!("stopped; everything that the demo made has been removed");
    }
    Ok(())
}
