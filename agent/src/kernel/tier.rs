//! What is weaker where the kernel refuses programs that the agent can do without: a list for the start-up log, the
//! status, and whoever looks a host over.

use std::fmt;

use super::Kernel;
use super::programs::{Hook, Lacking, PROGRAMS};

/// A group of programs that a policy can demand (`require` in `[workload]`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// Programs on security hooks: Linux with `bpf` among its active security modules.
    Lsm,
}

impl Tier {
    /// Its name in a policy.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Lsm => "lsm",
        }
    }

    /// The first of `lacking` that makes it incomplete; `None`: it is complete.
    pub fn lack(self, lacking: &[Lacking]) -> Option<&Lacking> {
        lacking.iter().find(|lack| {
            let spec = PROGRAMS.iter().find(|spec| spec.name == lack.program);
            spec.is_some_and(|spec| self.has(spec.hook))
        })
    }

    fn has(self, hook: Hook) -> bool {
        match self {
            Self::Lsm => matches!(hook, Hook::Lsm(_)),
        }
    }
}

/// A promise that is weaker, because a program is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weaker {
    /// The program.
    pub program: &'static str,
    /// Why it is not there.
    pub reason: String,
    /// What a workload can do without it.
    pub open: &'static str,
    /// What closes it by other means.
    pub closes: &'static str,
}

impl fmt::Display for Weaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "weaker here, for want of {}: {}; what closes it otherwise: {}",
            self.program, self.open, self.closes
        )
    }
}

/// What is open without the program on a hook, and what closes it.
fn without(hook: Hook) -> Option<(&'static str, &'static str)> {
    let Hook::Lsm(hook) = hook else {
        return None;
    };
    Some(match hook {
        "socket_create" => (
            "a workload can use packet sockets (as root) and vsock, which pass no program on cgroups",
            "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK; no CAP_NET_RAW",
        ),
        "file_permission" => (
            "a workload can freeze other cgroups and change their limits by files that somebody opened for it, take bytes by \
             splice() from a socket that somebody else connected, and before Linux 6.5 send a file on it",
            "start jobs in their cgroup, without descriptors of others; a user of its own",
        ),
        "socket_sendmsg" | "socket_recvmsg" | "socket_getsockopt" => (
            "a workload can use a socket that somebody else connected, or made before the workload was managed, until it is \
             destroyed",
            "start jobs in their cgroup; no helper outside it that passes sockets on",
        ),
        "unix_stream_connect" => (
            "a workload can reach the unix socket of a local service by a link of another name, and before Linux 6.7 by \
             any name",
            "permissions of the socket's directory; a server that listens on TCP alone",
        ),
        "ptrace_access_check" => (
            "root in a workload can take over processes outside it, and their sockets (ptrace, pidfd_getfd)",
            "no CAP_SYS_PTRACE; a user of its own",
        ),
        "task_kill" => (
            "root in a workload can kill the agent; managed cgroups then stay closed until it is started again",
            "no CAP_KILL; a user of its own",
        ),
        "bpf" => (
            "root in a workload can detach the agent's programs and change its maps",
            "no CAP_BPF, no CAP_SYS_ADMIN; a user of its own",
        ),
        "locked_down" => (
            "root in a workload can load modules that nobody signed, and read and write the kernel's memory",
            "lockdown=confidentiality on the kernel's command line; no CAP_SYS_MODULE, CAP_SYS_RAWIO, CAP_PERFMON",
        ),
        "inode_permission" => (
            "root in a workload can move itself to a cgroup that is not managed, and remove the agent's pins",
            "a user of its own; ProtectControlGroups=yes; InaccessiblePaths=/sys/fs/bpf",
        ),
        _ => return None,
    })
}

/// What a workload can do without `program`; `None`: it is none that the agent can do without.
pub fn open_without(program: &str) -> Option<&'static str> {
    let spec = PROGRAMS.iter().find(|spec| spec.name == program)?;
    without(spec.hook).map(|(open, _)| open)
}

/// What is weaker where the kernel refuses `program` for `reason`; `None`: nothing that has to be said here.
pub fn weaker_without(program: &'static str, reason: &str) -> Option<Weaker> {
    let spec = PROGRAMS.iter().find(|spec| spec.name == program)?;
    let (open, closes) = without(spec.hook)?;
    Some(Weaker {
        program,
        reason: reason.to_owned(),
        open,
        closes,
    })
}

/// What is weaker for want of `lacking`, each sentence once.
fn weaker(lacking: &[Lacking]) -> Vec<Weaker> {
    let mut list: Vec<Weaker> = Vec::new();
    for lack in lacking {
        let weaker = weaker_without(lack.program, &lack.reason);
        list.extend(weaker.filter(|weaker| list.iter().all(|known| known.open != weaker.open)));
    }
    list
}

impl Kernel {
    /// Why `tier` is not complete on this host; `None`: it is.
    pub fn lacks_tier(&self, tier: Tier) -> Option<&Lacking> {
        tier.lack(self.lacking())
    }

    /// What is weaker on this host than on one whose kernel takes every program.
    pub fn weaker(&self) -> Vec<Weaker> {
        weaker(self.lacking())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_program_on_a_security_hook_says_what_is_open_without_it() {
        for spec in PROGRAMS {
            match spec.hook {
                Hook::Lsm(hook) => assert!(without(spec.hook).is_some(), "{hook}"),
                Hook::Cgroup | Hook::SockOps | Hook::Unix(_) | Hook::Tracepoint(_) => {}
            }
        }
        let lacking: Vec<_> = PROGRAMS
            .iter()
            .filter(|spec| Tier::Lsm.has(spec.hook))
            .map(|spec| Lacking {
                program: spec.name,
                reason: "not active".to_owned(),
            })
            .collect();
        let list = weaker(&lacking);
        assert_eq!(list.len(), 9, "{list:?}");
        assert!(list.iter().any(|weaker| weaker.to_string().contains("AF_INET6")));
    }
}
