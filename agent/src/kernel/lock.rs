//! One agent a host.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::KernelError;

/// Proof that no other agent uses the same run directory. Released when dropped, also by SIGKILL.
#[derive(Debug)]
pub struct HostLock {
    _file: Flock<File>,
}

impl HostLock {
    /// Takes the lock `agent.lock` in `run_dir`, which is made if it is missing. Does not wait.
    pub fn take(run_dir: &Path) -> Result<Self, KernelError> {
        fs::create_dir_all(run_dir)
            .map_err(KernelError::system(format!("creating {}", run_dir.display())))?;
        let path = run_dir.join("agent.lock");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(KernelError::system(format!("opening {}", path.display())))?;
        let mut file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => file,
            Err((mut file, Errno::EWOULDBLOCK)) => {
                let mut holder = String::new();
                let _unreadable = file.read_to_string(&mut holder);
                let holder = holder
                    .trim()
                    .parse::<u32>()
                    .map_or_else(|_| String::new(), |pid| format!(" (pid {pid})"));
                return Err(KernelError::AgentRuns { path, holder });
            }
            Err((_, errno)) => {
                return Err(KernelError::system(format!("locking {}", path.display()))(
                    errno.into(),
                ));
            }
        };
        // For the message above alone: what is locked is the file, not its content.
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()))
            .map_err(KernelError::system(format!("writing {}", path.display())))?;
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_agent_is_refused_and_told_who_runs() {
        let dir = tempfile::tempdir().unwrap();
        let first = HostLock::take(dir.path()).unwrap();
        let message = HostLock::take(dir.path()).unwrap_err().to_string();
        assert!(
            message.contains(&format!("pid {}", std::process::id())),
            "{message}"
        );
        drop(first);
        HostLock::take(dir.path()).unwrap();
    }
}
