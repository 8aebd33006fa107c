//! No image of the agent's memory is written, and nobody but root looks into it: secrets are in there.
//!
//! Two walls, since each has a hole. `PR_SET_DUMPABLE` 0 forbids every dump, and hands `/proc/PID` to root; but the kernel sets
//! it to `fs.suid_dumpable` whenever a thread changes its user or group (`commit_creds`), and systemd-coredump sets that to
//! 2, which lets it take dumps. `RLIMIT_CORE` survives that, but is not asked where `core_pattern` is a pipe, as
//! systemd-coredump's is, unless it is exactly 1 byte (`do_coredump`): so that is what it is set to. No file has room in one
//! byte either.
//!
//! Locking single pages (`mlock`, `MADV_DONTDUMP`) would add nothing: nothing is dumped at all, and copies of a secret in
//! buffers of libraries could not be named. tollgate.service keeps all of the agent's memory off swap instead.
//! Known limits: root reads the memory through `/proc/PID/mem` or a debugger; hibernation and dumps of a crashed kernel
//! hold it.

use std::io;

use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Bytes that a core may have: none fits, and handlers behind a pipe are not started.
const CORE: u64 = 1;

/// Puts up both walls, for this process and for the limit those that it starts. To be called before any secret is read, and
/// again after another program was executed in its place.
///
/// # Errors
/// The kernel refuses, which it does for no user.
pub fn forbid() -> io::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_CORE)?;
    let limit = CORE.min(hard);
    setrlimit(Resource::RLIMIT_CORE, limit, limit)?;
    forbid_again()
}

/// Puts up again the wall that has fallen when a thread has changed its user or group.
///
/// # Errors
/// As [`forbid`].
pub fn forbid_again() -> io::Result<()> {
    prctl::set_dumpable(false).map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    use nix::sys::prctl;
    use nix::sys::resource::{Resource, getrlimit};

    #[test]
    fn nothing_is_dumped_from_then_on() {
        super::forbid().unwrap();
        assert!(!prctl::get_dumpable().unwrap());
        let (soft, hard) = getrlimit(Resource::RLIMIT_CORE).unwrap();
        assert!(soft <= 1 && hard <= 1, "{soft} {hard}");
    }
}
