//! What the kernel says of a process in `/proc/PID`, as far as it is asked.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use nix::unistd::{SysconfVar, sysconf};

use super::cgroup2::named_in;
use super::netns::Netns;
use crate::model::CgroupPath;

/// A process by its directory in `/proc`: whoever gets its number after it has ended is not taken for it.
#[derive(Debug)]
pub struct ProcessDirectory(File);

impl ProcessDirectory {
    /// The directory of the process that has the number `pid` now.
    ///
    /// # Errors
    /// There is none.
    pub fn open(pid: u32) -> io::Result<Self> {
        File::open(format!("/proc/{pid}")).map(Self)
    }

    /// Its cgroup.
    ///
    /// # Errors
    /// It has ended, is in no cgroup2, or in one that is not seen from here (`cgroup_namespaces(7)`).
    pub fn cgroup(&self) -> io::Result<CgroupPath> {
        let mut text = String::new();
        self.file("cgroup")?.read_to_string(&mut text)?;
        let path = named_in(&text).ok_or_else(|| io::Error::other("it is in no cgroup2 hierarchy"))?;
        if path.as_str().split('/').any(|name| name == "..") {
            return Err(io::Error::other(
                "its cgroup is not seen from this cgroup namespace",
            ));
        }
        Ok(path)
    }

    /// Its network namespace.
    ///
    /// # Errors
    /// It has ended, or the namespace cannot be entered.
    pub fn netns(&self) -> io::Result<Netns> {
        Netns::of_file(self.file("ns/net")?)
    }

    fn file(&self, name: &str) -> io::Result<File> {
        File::open(format!("/proc/self/fd/{}/{name}", self.0.as_raw_fd()))
    }
}

/// Whether process `pid`, a number of this pid namespace, is in this pid namespace itself, so that the numbers that it knows
/// are the same.
pub fn counts_as_this_one(pid: u32) -> io::Result<bool> {
    let namespace =
        |process: &str| Ok::<_, io::Error>(std::fs::metadata(format!("/proc/{process}/ns/pid"))?.ino());
    Ok(namespace(&pid.to_string())? == namespace("self")?)
}

/// What `/proc/PID/stat` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// The parent's pid.
    pub parent: u32,
    /// Start in clock ticks since boot.
    pub start_ticks: u64,
    /// Addresses at which stack, arguments and environment begin; 0 where they are not told, for one because nobody may see
    /// them.
    pub memory: [u64; 3],
}

/// When the process that has the number `pid` now was started, since boot; not later than it was.
///
/// # Errors
/// It is gone, or does not let itself be read.
pub fn started(pid: u32) -> io::Result<Duration> {
    let text = std::fs::read(format!("/proc/{pid}/stat"))?;
    let stat = parse_stat(&text).ok_or(io::ErrorKind::InvalidData)?;
    Ok(since_boot(stat.start_ticks))
}

/// Text after the last parenthesis: the name before it may itself hold parentheses, spaces and newlines.
pub fn parse_stat(bytes: &[u8]) -> Option<Stat> {
    let after_name = memchr::memrchr(b')', bytes)?;
    let fields = std::str::from_utf8(bytes.get(after_name + 1..)?).ok()?;
    let mut fields = fields.split_ascii_whitespace();
    // Fields 4, 22, 28, 48 and 50 of proc_pid_stat(5); the iterator starts at field 3.
    let (parent, start_ticks) = (fields.nth(1)?.parse().ok()?, fields.nth(17)?.parse().ok()?);
    let memory = [5, 19, 1].map(|further| {
        let field = fields.nth(further).and_then(|field| field.parse().ok());
        field.unwrap_or_default()
    });
    Some(Stat {
        parent,
        start_ticks,
        memory,
    })
}

/// Clock ticks since boot as a time.
pub fn since_boot(ticks: u64) -> Duration {
    let per_second = sysconf(SysconfVar::CLK_TCK)
        .ok()
        .flatten()
        .and_then(|ticks| u64::try_from(ticks).ok())
        .filter(|ticks| *ticks != 0)
        .unwrap_or(USER_HZ);
    let nanos = u128::from(ticks) * NANOS_PER_SECOND / u128::from(per_second);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// What the kernel reports in on every architecture, whatever it counts in.
const USER_HZ: u64 = 100;
const NANOS_PER_SECOND: u128 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_move_the_fields() {
        let line = |name: &str| {
            format!("42 ({name}) S 7 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 1 2 3\n").into_bytes()
        };
        let expected = Stat {
            parent: 7,
            start_ticks: 987_654,
            memory: [0; 3],
        };
        for name in ["psql", "a) R 1 1", "((", "new\nline) S 0"] {
            assert_eq!(parse_stat(&line(name)), Some(expected), "{name}");
        }
        for broken in [&b""[..], b"42 (psql", b"42 (psql) S 7", b"42 (psql) S x 1"] {
            assert_eq!(parse_stat(broken), None);
        }
    }

    #[test]
    fn the_memory_of_a_process_is_where_the_manual_has_it() {
        let fields: Vec<String> = (4..=52).map(|field| field.to_string()).collect();
        let stat = parse_stat(format!("1 (a) R {}\n", fields.join(" ")).as_bytes()).unwrap();
        assert_eq!((stat.parent, stat.start_ticks), (4, 22));
        assert_eq!(stat.memory, [28, 48, 50]);
    }

    #[test]
    fn a_process_that_has_ended_is_nobody() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let directory = ProcessDirectory::open(child.id()).unwrap();
        assert_eq!(
            directory.cgroup().unwrap(),
            ProcessDirectory::open(std::process::id())
                .unwrap()
                .cgroup()
                .unwrap()
        );
        assert!(counts_as_this_one(child.id()).unwrap());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(directory.cgroup().is_err());
        assert!(directory.netns().is_err());
    }

    #[test]
    fn this_process_was_started_before_now() {
        let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).unwrap();
        assert!(started(std::process::id()).unwrap() <= Duration::from(now));
        assert!(started(u32::MAX).is_err());
    }

    proptest::proptest! {
        #[test]
        fn nothing_in_proc_stops_it(raw in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            parse_stat(&raw);
        }
    }
}
