//! One agent a host.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::KernelError;

/// Proof that no other agent uses the same run directory. Released when dropped, also by SIGKILL.
#[derive(Debug)]
pub struct HostLock {
    file: Flock<File>,
}

/// Proof that no other agent works with the same pins: one with another run directory would take this one's programs
/// for those of a predecessor and remove them. Released when dropped, also by SIGKILL.
#[derive(Debug)]
pub struct PinLock {
    directory: Flock<File>,
}

impl PinLock {
    /// As [`PinLock::take`]; `held`, from an agent that this one takes the place of, is the lock if it is that of `pin_dir`.
    pub fn keep(pin_dir: &Path, held: Option<OwnedFd>) -> Result<Self, KernelError> {
        super::bpffs::prepare(pin_dir)?;
        match held.map(File::from).filter(|held| is_at(held, pin_dir)) {
            Some(held) => Self::lock_file(held, pin_dir),
            None => Self::lock(pin_dir),
        }
    }

    /// Locks `pin_dir`, which is made, and a bpffs mounted on it, if that is missing. Does not wait.
    pub fn take(pin_dir: &Path) -> Result<Self, KernelError> {
        super::bpffs::prepare(pin_dir)?;
        Self::lock(pin_dir)
    }

    /// Locks `pin_dir` if it is there: where it is not, nothing is pinned.
    pub fn take_existing(pin_dir: &Path) -> Result<Option<Self>, KernelError> {
        if pin_dir.exists() {
            Self::lock(pin_dir).map(Some)
        } else {
            Ok(None)
        }
    }

    fn lock(pin_dir: &Path) -> Result<Self, KernelError> {
        let directory =
            File::open(pin_dir).map_err(KernelError::system(format!("opening {}", pin_dir.display())))?;
        Self::lock_file(directory, pin_dir)
    }

    fn lock_file(directory: File, pin_dir: &Path) -> Result<Self, KernelError> {
        match Flock::lock(directory, FlockArg::LockExclusiveNonblock) {
            Ok(directory) => Ok(Self { directory }),
            Err((_, Errno::EWOULDBLOCK)) => Err(KernelError::AgentRuns {
                path: pin_dir.to_owned(),
                holder: String::new(),
            }),
            Err((_, errno)) => Err(KernelError::system(format!("locking {}", pin_dir.display()))(
                errno.into(),
            )),
        }
    }
}

impl HostLock {
    /// Takes the lock `agent.lock` in `run_dir`, which is made if it is missing. Does not wait.
    pub fn take(run_dir: &Path) -> Result<Self, KernelError> {
        Self::keep(run_dir, None)
    }

    /// As [`HostLock::take`]; `held`, from an agent that this one takes the place of, is the lock if it is that of
    /// `run_dir`.
    pub fn keep(run_dir: &Path, held: Option<OwnedFd>) -> Result<Self, KernelError> {
        fs::create_dir_all(run_dir)
            .map_err(KernelError::system(format!("creating {}", run_dir.display())))?;
        let path = run_dir.join(LOCK);
        let mut file = match held.map(File::from).filter(|held| is_at(held, &path)) {
            Some(held) => lock_host(held, &path)?,
            None => loop {
                let file = OpenOptions::new()
                    .read(true)
                    .write(true)
                    .create(true)
                    .truncate(false)
                    .mode(0o600)
                    .open(&path)
                    .map_err(KernelError::system(format!("opening {}", path.display())))?;
                let file = lock_host(file, &path)?;
                // Else it was removed before it was locked (see `remove`), and another agent may lock the one that is
                // there now.
                if is_at(&file, &path) {
                    break file;
                }
            },
        };
        // For the message above alone: what is locked is the file, not its content.
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()))
            .map_err(KernelError::system(format!("writing {}", path.display())))?;
        Ok(Self { file })
    }

    /// Removes the file, and gives the lock up with that.
    pub fn remove(self, run_dir: &Path) -> Result<(), KernelError> {
        let path = run_dir.join(LOCK);
        fs::remove_file(&path).map_err(KernelError::system(format!("removing {}", path.display())))
    }
}

/// The file that is locked, in the run directory.
const LOCK: &str = "agent.lock";

fn lock_host(file: File, path: &Path) -> Result<Flock<File>, KernelError> {
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(file) => Ok(file),
        Err((mut file, Errno::EWOULDBLOCK)) => {
            let mut holder = String::new();
            let _unreadable = file.read_to_string(&mut holder);
            let holder = holder
                .trim()
                .parse::<u32>()
                .map_or_else(|_| String::new(), |pid| format!(" (pid {pid})"));
            Err(KernelError::AgentRuns {
                path: path.to_owned(),
                holder,
            })
        }
        Err((_, errno)) => Err(KernelError::system(format!("locking {}", path.display()))(
            errno.into(),
        )),
    }
}

impl AsFd for HostLock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl AsFd for PinLock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

/// Whether `file` is what is at `path` now.
fn is_at(file: &File, path: &Path) -> bool {
    let place = |found: fs::Metadata| (found.dev(), found.ino());
    match (file.metadata(), fs::metadata(path)) {
        (Ok(file), Ok(path)) => place(file) == place(path),
        _ => false,
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

    #[test]
    fn pins_are_one_agents_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        assert!(
            PinLock::take_existing(&dir.path().join("missing"))
                .unwrap()
                .is_none()
        );
        let first = PinLock::take_existing(dir.path()).unwrap();
        let message = PinLock::take_existing(dir.path()).unwrap_err().to_string();
        assert!(message.contains("another tollgate agent"), "{message}");
        assert!(message.contains(dir.path().to_str().unwrap()), "{message}");
        drop(first);
        assert!(PinLock::take_existing(dir.path()).unwrap().is_some());
    }

    #[test]
    fn a_lock_that_is_handed_on_is_never_free() {
        let dir = tempfile::tempdir().unwrap();
        let handed_on = |lock: &dyn AsFd| Some(lock.as_fd().try_clone_to_owned().unwrap());
        let host = HostLock::take(dir.path()).unwrap();
        let pins = PinLock::take_existing(dir.path()).unwrap().unwrap();
        let inherited = [handed_on(&host), handed_on(&pins)];
        // The program before is gone, as when another is executed in its place: nothing unlocks.
        std::mem::forget((host, pins));
        HostLock::take(dir.path()).unwrap_err();
        PinLock::take_existing(dir.path()).unwrap_err();
        let [host, pins] = inherited;
        let host = HostLock::keep(dir.path(), host).unwrap();
        HostLock::take(dir.path()).unwrap_err();
        // One of another directory is none.
        let other = tempfile::tempdir().unwrap();
        let elsewhere = HostLock::keep(other.path(), handed_on(&host)).unwrap();
        drop((elsewhere, pins));
        host.remove(dir.path()).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
