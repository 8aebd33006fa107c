//! The process behind a flow, from `/proc`.
//!
//! Known limits: what is read is what the process is now. One that executes another program between its connect and
//! here is shown as that program; start time, uid and cgroup do not change by that. `/proc` shows the command line
//! that the process wants to show.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use chrono::{DateTime, Utc};
use nix::fcntl::{OFlag, open, openat, readlinkat};
use nix::sys::stat::Mode;
use nix::time::{ClockId, clock_gettime};
use serde::Serialize;
use zeroize::Zeroizing;

use super::FlowFacts;
use super::scrub;
use crate::kernel::process::{Stat, parse_stat, since_boot};
use crate::model::CgroupPath;

/// The process that opened a flow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Process {
    /// Its pid (thread group id) in the agent's pid namespace.
    pub pid: u32,
    /// Start in clock ticks since boot, field 22 of `/proc/PID/stat`: with the pid, unique for the life of the host.
    pub start_ticks: u64,
    /// Start by the wall clock, as far as the clock has not been set since.
    pub started_at: DateTime<Utc>,
    /// Executable, as the process's own root shows it; ` (deleted)` at its end if it is gone. `None`: it may not be read.
    pub executable: Option<PathBuf>,
    /// Command line, secrets replaced by `***`, cut at 4 KiB.
    pub command_line: Vec<String>,
    /// Account that logged in to start it; `None` for what no login started.
    pub login_uid: Option<u32>,
    /// What its environment and that of its ancestors in the cgroup say of its CI job. Its own claim, which nobody has proven.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub claims: BTreeMap<String, String>,
}

/// Holds a process's directory in `/proc`.
///
/// Reads through it are of this very process: once it is gone they fail with ESRCH, also when its pid is taken again.
#[derive(Debug)]
pub(super) struct ProcessHandle {
    pub(super) pid: u32,
    directory: OwnedFd,
}

impl ProcessHandle {
    /// The process of `pid`, whichever that is.
    pub(super) fn open(pid: u32) -> io::Result<Self> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let directory = open(format!("/proc/{pid}").as_str(), flags, Mode::empty())?;
        Ok(Self { pid, directory })
    }

    /// The process that opened the flow, or an error of kind `NotFound` if it is gone.
    ///
    /// Whoever has its pid after it died started after the connect, so the start time tells the two apart.
    pub(super) fn of_flow(facts: &FlowFacts) -> io::Result<Self> {
        let handle = Self::open(facts.pid)?;
        let started = since_boot(handle.stat()?.start_ticks);
        if started > Duration::from_nanos(facts.connected_at_boottime_ns) {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(handle)
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    /// Up to `limit` bytes of a file below the directory.
    pub(super) fn read(&self, name: &str, limit: u64) -> io::Result<Vec<u8>> {
        let file = openat(
            &self.directory,
            name,
            OFlag::O_RDONLY | OFlag::O_CLOEXEC,
            Mode::empty(),
        )?;
        let mut bytes = Vec::new();
        File::from(file).take(limit).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// As [`read`](Self::read), for what may hold secrets: no copy is left behind, as a vector that grows leaves them.
    pub(super) fn read_secret(&self, name: &str, limit: usize) -> io::Result<Zeroizing<Vec<u8>>> {
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        let mut file = File::from(openat(&self.directory, name, flags, Mode::empty())?);
        let mut bytes = Zeroizing::new(vec![0; limit.min(FIRST_READ)]);
        let mut length = 0;
        loop {
            match file.read(bytes.get_mut(length..).unwrap_or_default()) {
                Ok(0) if length < bytes.len() || length >= limit => break,
                Ok(0) => {
                    let mut larger = Zeroizing::new(vec![0; length.saturating_mul(2).min(limit)]);
                    if let Some(head) = larger.get_mut(..length) {
                        head.copy_from_slice(&bytes);
                    }
                    bytes = larger;
                }
                Ok(read) => length += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        bytes.truncate(length);
        Ok(bytes)
    }

    pub(super) fn stat(&self) -> io::Result<Stat> {
        let bytes = self.read("stat", 4096)?;
        parse_stat(&bytes).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// The cgroup2 path that the process is in now.
    pub(super) fn cgroup(&self) -> io::Result<CgroupPath> {
        let bytes = self.read("cgroup", 64 * 1024)?;
        parse_cgroup(&bytes).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// The group that the process's file accesses are checked with.
    pub(super) fn file_gid(&self) -> io::Result<u32> {
        let bytes = self.read("status", 64 * 1024)?;
        parse_file_gid(&bytes).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    fn login_uid(&self) -> Option<u32> {
        // The file is not there where the kernel was built without audit.
        let bytes = self.read("loginuid", 32).ok()?;
        let uid = std::str::from_utf8(&bytes).ok()?.trim().parse().ok()?;
        (uid != u32::MAX).then_some(uid)
    }

    /// What the record says of the process.
    pub(super) fn describe(&self) -> io::Result<Process> {
        let start_ticks = self.stat()?.start_ticks;
        let process = Process {
            pid: self.pid,
            start_ticks,
            started_at: wall_clock_at(since_boot(start_ticks))?.into(),
            executable: readlinkat(&self.directory, "exe").ok().map(PathBuf::from),
            command_line: scrub::command_line(&self.read_secret("cmdline", LONGEST_COMMAND_LINE)?),
            login_uid: self.login_uid(),
            claims: BTreeMap::new(),
        };
        // A zombie has no memory to show; one that ended while it was read is gone like any other.
        self.stat()?;
        Ok(process)
    }
}

/// The line of the unified hierarchy: `0::/path`.
fn parse_cgroup(bytes: &[u8]) -> Option<CgroupPath> {
    let text = std::str::from_utf8(bytes).ok()?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::"))?;
    let path = path.strip_suffix(" (deleted)").unwrap_or(path);
    Some(CgroupPath(path.into()))
}

/// Thread group and effective user: `Tgid:`, and `Uid:` real, effective, saved, file system.
pub(super) fn parse_whose(bytes: &[u8]) -> Option<(u32, u32)> {
    let text = std::str::from_utf8(bytes.get(memchr::memmem::find(bytes, b"\nTgid:")?..)?).ok()?;
    let of = |name: &str, nth: usize| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_ascii_whitespace().nth(nth)?.parse().ok()
    };
    Some((of("Tgid:", 0)?, of("Uid:", 1)?))
}

/// `Gid:` real, effective, saved, file system.
fn parse_file_gid(bytes: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(bytes.get(memchr::memmem::find(bytes, b"\nGid:")? + 1..)?).ok()?;
    text.lines().next()?.split_ascii_whitespace().nth(4)?.parse().ok()
}

fn wall_clock_at(since_boot: Duration) -> io::Result<SystemTime> {
    let uptime = Duration::from(clock_gettime(ClockId::CLOCK_BOOTTIME)?);
    let now = SystemTime::now();
    now.checked_sub(uptime.saturating_sub(since_boot))
        .ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Whether this error says that there is no such process any more.
pub fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH)
}

/// The root directory of the process: its mount namespace, its chroot.
pub(super) fn root_of(handle: &ProcessHandle) -> io::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    Ok(openat(handle.fd(), c"root", flags, Mode::empty())?)
}

/// The value of a variable in the environment that the process was started with; the first, as `getenv` has it.
pub(super) fn variable(handle: &ProcessHandle, name: &str) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    let environment = handle.read_secret("environ", LONGEST_ENVIRONMENT)?;
    let prefix = CString::new(format!("{name}=")).map_err(|_| io::ErrorKind::InvalidInput)?;
    let value = environment
        .split(|byte| *byte == 0)
        .find_map(|entry| entry.strip_prefix(prefix.as_bytes()));
    Ok(value.map(|value| Zeroizing::new(value.to_vec())))
}

/// A quarter of the largest stack that `execve` takes arguments and environment on, doubled.
pub(super) const LONGEST_ENVIRONMENT: usize = 4 * 1024 * 1024;
/// As much of a command line as is read.
pub(super) const LONGEST_COMMAND_LINE: usize = 64 * 1024;
/// Bytes that are made room for at first.
const FIRST_READ: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::{parse_cgroup, parse_file_gid, parse_whose};

    #[test]
    fn the_unified_hierarchy_is_found_among_others() {
        let lines = b"9:name=systemd:/x\n1:cpu:/0::/y\n0::/actions.slice/report-1.service\n";
        assert_eq!(
            parse_cgroup(lines).unwrap().as_str(),
            "/actions.slice/report-1.service"
        );
        assert_eq!(parse_cgroup(b"0::/gone (deleted)\n").unwrap().as_str(), "/gone");
        assert_eq!(parse_cgroup(b"1:cpu:/\n"), None);
    }

    proptest::proptest! {
        #[test]
        fn nothing_in_proc_stops_it(raw in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            parse_cgroup(&raw);
            parse_file_gid(&raw);
            parse_whose(&raw);
        }
    }

    #[test]
    fn the_group_of_file_accesses_is_the_fourth() {
        let status = b"Name:\tx\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nGroups:\t9\n";
        assert_eq!(parse_file_gid(status), Some(8));
        assert_eq!(parse_file_gid(b"Name:\tx\n"), None);
    }

    #[test]
    fn a_thread_says_whose_it_is_and_as_whom_it_runs() {
        let status = b"Name:\tTgid:\nUmask:\t0022\nTgid:\t12\nNgid:\t0\nPid:\t13\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\n";
        assert_eq!(parse_whose(status), Some((12, 2)));
        assert_eq!(parse_whose(b"Name:\tx\nTgid:\t12\n"), None);
    }
}
