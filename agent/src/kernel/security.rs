//! Whether this kernel asks BPF programs at its security hooks.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

/// Where the active security modules are listed, if somebody has mounted it.
const LIST: &str = "/sys/kernel/security/lsm";

/// Why programs on security hooks are not to be had; `None`: they are.
///
/// To be asked before they are loaded: a kernel takes and attaches them also where it never asks them.
pub(super) fn refusal() -> Option<&'static str> {
    // None of it changes while the kernel runs.
    static REFUSAL: OnceLock<Option<String>> = OnceLock::new();
    let found = REFUSAL.get_or_init(|| match active() {
        Ok(modules) if modules.split(',').any(|module| module.trim() == "bpf") => None,
        Ok(modules) => Some(format!(
            "bpf is not among the active security modules ({}): boot with `lsm={},bpf`",
            modules.trim(),
            modules.trim()
        )),
        Err(reason) => Some(reason),
    });
    found.as_deref()
}

/// The list of active security modules.
fn active() -> Result<String, String> {
    if let Ok(list) = fs::read_to_string(LIST) {
        return Ok(list);
    }
    // Nobody has mounted it: looked at in a mount namespace that ends with the thread.
    let look = || {
        unshare(CloneFlags::CLONE_NEWNS)?;
        mount(
            None::<&str>,
            "/",
            None::<&str>,
            MsFlags::MS_REC | MsFlags::MS_PRIVATE,
            None::<&str>,
        )?;
        let at = Path::new(LIST).parent().unwrap_or(Path::new("/"));
        mount(
            Some("securityfs"),
            at,
            Some("securityfs"),
            MsFlags::empty(),
            None::<&str>,
        )?;
        Ok::<_, nix::Error>(fs::read_to_string(LIST))
    };
    let looked = std::thread::spawn(look).join();
    match looked {
        Ok(Ok(Ok(list))) => Ok(list),
        Ok(Ok(Err(error))) => Err(format!("reading {LIST}: {error}")),
        Ok(Err(errno)) => Err(format!("mounting securityfs to read {LIST}: {errno}")),
        Err(_) => Err(format!("reading {LIST}: the thread ended")),
    }
}
