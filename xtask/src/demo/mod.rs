//! The story, told by running it: everything printed comes from what happened.

mod stage;
mod story;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use anyhow::{Result, bail, ensure};
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::{build, setup};

static STOPPED: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// Sets up, builds, plays, and leaves nothing behind, also on Ctrl-C.
pub(crate) fn run() -> Result<()> {
    ensure!(
        nix::unistd::Uid::effective().is_root(),
        "the demo attaches eBPF programs and needs root"
    );
    // Only noted, so that Ctrl-C ends the story through its own clean-up and not in the middle of it.
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&STOPPED))?;
    }
    let started = Instant::now();
    stage::title("Set-up");
    setup::everything()?;
    interrupted()?;
    let binary = build::agent(false)?;
    interrupted()?;
    stage::line(&format!("built in {:.0} s", started.elapsed().as_secs_f32()));
    // Ctrl-C reaches the story's commands as well; then their end is no fault of theirs.
    let left = story::play(&binary).or_else(|error| interrupted().and(Err(error)))?;
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
