//! A process that was not seen to open anything, and what tells it from itself before it executed another program.

use std::io;

use nix::fcntl::AtFlags;
use nix::sys::stat::fstatat;
use nix::time::{ClockId, clock_gettime};

use super::FlowFacts;
use super::process::{ProcessHandle, parse_whose};
use crate::model::{CgroupId, CgroupPath};

/// A process of a managed cgroup.
#[derive(Clone, Debug)]
pub struct Resident {
    /// As of a flow that it opens now.
    pub facts: FlowFacts,
    /// What it runs.
    pub image: Image,
}

/// The image of a process: another one when the number belongs to another process, or this one has executed a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Image {
    start_ticks: u64,
    /// Where its stack, arguments and environment begin: at random at each `execve`, unless it has that turned off.
    memory: [u64; 3],
    /// Device and inode of the executable.
    executable: (u64, u64),
}

impl Resident {
    /// The process of `pid`, or of the thread of that number, which is in that cgroup. Reads nothing that the workload could stop.
    ///
    /// # Errors
    /// It is gone, has ended and is not waited for, or is in another cgroup by now.
    pub fn of(pid: u32, cgroup: CgroupId, cgroup_path: &CgroupPath) -> io::Result<Self> {
        let mut process = ProcessHandle::open(pid)?;
        let status = process.read("status", 64 * 1024)?;
        let (leader, uid) = parse_whose(&status).ok_or(io::ErrorKind::InvalidData)?;
        if process.cgroup()? != *cgroup_path {
            return Err(io::ErrorKind::NotFound.into());
        }
        // A threaded cgroup has threads, whose memory is their process's.
        if leader != pid {
            process = ProcessHandle::open(leader)?;
        }
        let stat = process.stat()?;
        let executable = fstatat(process.fd(), c"exe", AtFlags::empty())?;
        let now = std::time::Duration::from(clock_gettime(ClockId::CLOCK_BOOTTIME)?);
        Ok(Self {
            facts: FlowFacts {
                cgroup,
                cgroup_path: cgroup_path.clone(),
                pid: leader,
                uid,
                says_engine: None,
                selected_by: None,
                variables: Vec::new(),
                connected_at_boottime_ns: u64::try_from(now.as_nanos()).unwrap_or(u64::MAX),
            },
            image: Image {
                start_ticks: stat.start_ticks,
                memory: stat.memory,
                executable: (executable.st_dev, executable.st_ino),
            },
        })
    }
}
