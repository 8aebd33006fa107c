//! Who is in a network namespace. The agent's own sockets would keep that of an ended container alive forever, so it has to
//! know when nobody else is in it.
//!
//! A namespace that nobody is in may be kept by others: by a mount (`ip netns`), or by a socket that was made in it and is
//! used elsewhere. It is no namespace of a workload's any more until somebody enters it again.
#![expect(
    unsafe_code,
    reason = "pidfd_open of Linux, which nix does not wrap, and tokio's promise about a descriptor"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::c_int;
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::{fs, io};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A thread that was in a network namespace when it was looked at.
#[derive(Debug)]
pub struct Inhabitant {
    pid: u32,
    tid: u32,
    process: OwnedFd,
}

impl Inhabitant {
    /// Thread `tid` of process `pid`.
    pub fn of_thread(pid: u32, tid: u32) -> io::Result<Self> {
        Ok(Self {
            pid,
            tid,
            process: pidfd_open(pid)?,
        })
    }

    /// Its process.
    #[cfg(test)]
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether the thread is in the namespace with this inode. A thread with the same number may have taken its place.
    pub fn is_in(&self, inode: u64) -> bool {
        inode_at(&thread(self.pid, self.tid)) == Some(inode)
    }

    /// Resolves when its process has ended (`pidfd_open(2)`). Needs a tokio runtime.
    pub fn end(&self) -> io::Result<impl Future<Output = ()> + Send + use<>> {
        let process = self.process.try_clone()?;
        // SAFETY: an owned descriptor is always the same one, and is closed only when it is dropped.
        let process = unsafe { AsyncFd::register_with_interest(process, Interest::READABLE) }?;
        Ok(async move {
            // An error: the runtime ends.
            let _ended = process.readable().await;
        })
    }

    /// For each of the namespaces with these inodes somebody who is in it; those that nobody is in are left out. Threads of
    /// this process do not count.
    ///
    /// # Errors
    /// Processes cannot be listed.
    pub fn find(wanted: &BTreeSet<u64>) -> io::Result<BTreeMap<u64, Self>> {
        let mut found = BTreeMap::new();
        let own = std::process::id();
        let processes: Vec<u32> = numbered(Path::new("/proc"))?.filter(|pid| *pid != own).collect();
        let missing = |found: &BTreeMap<u64, Self>| wanted.len() > found.len();
        let look = |pid: u32, tid: u32, found: &mut BTreeMap<u64, Self>| {
            let Some(inode) = inode_at(&thread(pid, tid)) else {
                return;
            };
            if wanted.contains(&inode)
                && !found.contains_key(&inode)
                && let Ok(inhabitant) = Self::of_thread(pid, tid)
            {
                found.insert(inode, inhabitant);
            }
        };
        for pid in &processes {
            if missing(&found) {
                look(*pid, *pid, &mut found);
            }
        }
        // Few threads leave the namespace of their process, so the others are looked at last.
        for pid in &processes {
            if !missing(&found) {
                break;
            }
            // Of one that is gone meanwhile there are none.
            for tid in numbered(&PathBuf::from(format!("/proc/{pid}/task")))
                .into_iter()
                .flatten()
            {
                look(*pid, tid, &mut found);
            }
        }
        Ok(found)
    }
}

fn thread(pid: u32, tid: u32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/task/{tid}"))
}

fn inode_at(place: &Path) -> Option<u64> {
    fs::metadata(place.join("ns/net"))
        .ok()
        .map(|namespace| namespace.ino())
}

fn numbered(directory: &Path) -> io::Result<impl Iterator<Item = u32>> {
    Ok(fs::read_dir(directory)?
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok()))
}

fn pidfd_open(pid: u32) -> io::Result<OwnedFd> {
    let pid = c_int::try_from(pid).map_err(io::Error::other)?;
    // SAFETY: takes two numbers, of which the kernel judges every value. The descriptor is closed on exec.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let fd = c_int::try_from(fd).map_err(io::Error::other)?;
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::kernel::netns::Netns;

    #[test]
    fn somebody_is_found_in_each_namespace_that_anybody_else_is_in() {
        if !crate::kernel::testing::privileged() {
            return;
        }
        let mut child = Command::new("unshare")
            .args(["--net", "sleep", "60"])
            .spawn()
            .unwrap();
        let own = Netns::own().unwrap();
        let empty = Netns::create().unwrap();
        let its = loop {
            let its = Netns::of_process(child.id()).unwrap();
            if its.inode() != own.inode() {
                break its;
            }
        };
        let wanted = BTreeSet::from([own.inode(), empty.inode(), its.inode()]);
        let found = Inhabitant::find(&wanted).unwrap();
        assert_eq!(found[&its.inode()].pid, child.id());
        assert!(found[&its.inode()].is_in(its.inode()));
        assert!(!found[&its.inode()].is_in(own.inode()));
        assert!(found.contains_key(&own.inode()), "who started this test");
        assert!(!found.contains_key(&empty.inode()));
        // A thread of this process that is in it for a moment is nobody.
        let visited = empty.run(|| Inhabitant::find(&wanted)).unwrap().unwrap();
        assert!(!visited.contains_key(&empty.inode()));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!found[&its.inode()].is_in(its.inode()));
    }
}
