//! What happens at security hooks, where the kernel asks programs there: the ways that go around sockets' addresses and
//! around cgroups.
//!
//! A process that is not classified yet is treated as a workload: what it keeps from that moment (a socket, a program in
//! the kernel, another cgroup) it would have afterwards.

use crate::{Port, ProxyPorts, SocketAnswer, Standing, is_slot_port, on_socket};

const AF_UNIX: u32 = 1;
const AF_INET: u32 = 2;
const AF_INET6: u32 = 10;
const AF_NETLINK: u32 = 16;
const AF_ALG: u32 = 38;

/// Whether a process that is not [`Standing::Free`] may have a socket of this family.
///
/// An allow-list: `AF_PACKET` and `AF_XDP` write frames that pass no program, vsock reaches hypervisors and other machines,
/// and nobody has looked at the rest.
#[inline(always)]
pub const fn has_family(family: u32) -> bool {
    matches!(family, AF_UNIX | AF_INET | AF_INET6 | AF_NETLINK | AF_ALG)
}

/// Whether sockets of this family have peers that a policy can protect.
#[inline(always)]
pub const fn has_addresses(family: u32) -> bool {
    matches!(family, AF_INET | AF_INET6)
}

/// Whether a `getsockopt()` takes bytes out of the socket: `TCP_ZEROCOPY_RECEIVE` (`linux/tcp.h`), which maps them, or copies
/// what is too little for a page. No hook of receiving is asked then.
#[inline(always)]
pub const fn option_receives(level: u32, option: u32) -> bool {
    const ZEROCOPY_RECEIVE: u32 = 35;
    level == crate::ip_protocol::TCP && option == ZEROCOPY_RECEIVE
}

/// A socket that a process sends to or receives from.
#[derive(Clone, Copy, Debug)]
pub struct UseQuestion {
    /// How the process stands; the socket may be older, or somebody else's.
    pub standing: Standing,
    /// `AF_*`.
    pub family: u32,
    /// `SOCK_*`.
    pub kind: u32,
    /// `IPPROTO_*`.
    pub protocol: u32,
    /// The peer's port; 0 where there is none.
    pub peer_port: Port,
    /// Whether the peer has one of the addresses that the agent listens on.
    pub peer_is_agents_loopback: bool,
    /// Whether the peer is protected for the process.
    pub peer_is_protected: bool,
    /// Where the agent listens.
    pub proxy: ProxyPorts,
}

/// Whether the process may use it.
///
/// Programs on cgroups go by what a socket was at its `connect()`, and by the cgroup that it was made in. What was
/// inherited from before the move, passed by somebody or stolen from him is seen here.
#[inline(always)]
pub const fn may_use(question: UseQuestion) -> bool {
    if matches!(question.standing, Standing::Free) {
        return true;
    }
    if !has_addresses(question.family) {
        return has_family(question.family);
    }
    if !matches!(
        on_socket(question.standing, question.kind, question.protocol),
        SocketAnswer::Pass
    ) {
        return false;
    }
    let ports = question.proxy;
    let peer = question.peer_port.0;
    let agents = question.peer_is_agents_loopback
        && peer != 0
        && (peer == ports.v4 || peer == ports.v6 || is_slot_port(ports, question.peer_port));
    peer == 0 || agents || !question.peer_is_protected
}

/// Whether a process may connect to the unix socket that it has found; `protected`: its server's name for it, or the last
/// component of it, is one that a policy of the process protects.
///
/// Connections that are redirected find the agent's listener, which has another name.
#[inline(always)]
pub const fn may_connect(standing: Standing, protected: bool) -> bool {
    matches!(standing, Standing::Free) || !protected
}

/// `PTRACE_MODE_ATTACH` (linux/ptrace.h): also for `/proc/PID/mem`, `pidfd_getfd` and `process_vm_writev`.
const ATTACH: u32 = 2;

/// Whether a process may look into or take over another one.
///
/// Taking over is for processes of the same workload. Looking (`/proc/PID/environ`) is as on any host, but for the agent,
/// whose environment may hold a credential.
#[inline(always)]
pub const fn may_trace(standing: Standing, target: Standing, target_is_agent: bool, mode: u32) -> bool {
    match standing {
        Standing::Free => true,
        _ if is_inside(standing, target) => true,
        _ => !target_is_agent && mode & ATTACH == 0,
    }
}

/// Whether a process may send the agent a signal; `target` is how the process with the agent's number stands. A number
/// that was the agent's may be a workload's own process later.
#[inline(always)]
pub const fn may_signal_agent(standing: Standing, target: Standing) -> bool {
    matches!(standing, Standing::Free) || is_inside(standing, target)
}

/// Whether a process may write to a file of the cgroup2 hierarchy that belongs to a cgroup which stands so: to move
/// itself, to make children, to set limits.
///
/// Its own subtree is the workload's, so that container managers inside work.
#[inline(always)]
pub const fn may_write_cgroup(standing: Standing, target: Standing) -> bool {
    matches!(standing, Standing::Free) || is_inside(standing, target)
}

/// Whether `target` is under the same managed cgroup as `standing`; of two that are not classified nothing better is
/// known than that neither is free.
const fn is_inside(standing: Standing, target: Standing) -> bool {
    match (standing, target) {
        (Standing::Managed { cgroup: one, .. }, Standing::Managed { cgroup: other, .. }) => one == other,
        (Standing::Pending, Standing::Pending | Standing::Managed { .. }) => true,
        _ => false,
    }
}

/// `BPF_CGROUP_DEVICE` (linux/bpf.h): the place for device rules of a cgroup.
const CGROUP_DEVICE: u32 = 6;
/// `BPF_PROG_TYPE_CGROUP_DEVICE`.
const CGROUP_DEVICE_PROGRAM: u32 = 15;

/// Whether a process may make this call of bpf(2). `words` are the first three of its attributes.
///
/// A workload loads and attaches device rules, as container runtimes do for each container, and nothing else: it does not
/// see the agent's maps, and puts no program beside its programs. What such a rule could read of the kernel's memory is
/// refused elsewhere ([`may_unlock`]).
#[inline(always)]
pub const fn may_bpf(standing: Standing, command: u32, words: [u32; 3]) -> bool {
    const PROG_LOAD: u32 = 5;
    const PROG_ATTACH: u32 = 8;
    const PROG_DETACH: u32 = 9;
    const PROG_GET_FD_BY_ID: u32 = 13;
    const PROG_QUERY: u32 = 16;
    if matches!(standing, Standing::Free) {
        return true;
    }
    let [first, second, third] = words;
    match command {
        PROG_LOAD => first == CGROUP_DEVICE_PROGRAM,
        PROG_ATTACH | PROG_DETACH => third == CGROUP_DEVICE,
        PROG_QUERY => second == CGROUP_DEVICE,
        // What a runtime asks for after PROG_QUERY, to replace a rule. It gives no map.
        PROG_GET_FD_BY_ID => true,
        _ => false,
    }
}

/// Whether a process may do what kernel lockdown refuses to root (`kernel_lockdown(7)`): unsigned modules, `/dev/mem`, kexec,
/// kprobes, BPF that reads the kernel's memory. Each of them would put an end to everything else here.
#[inline(always)]
pub const fn may_unlock(standing: Standing) -> bool {
    matches!(standing, Standing::Free)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANAGED: Standing = Standing::Managed { policy: 1, cgroup: 2 };
    const SAME: Standing = Standing::Managed { policy: 1, cgroup: 2 };
    const OTHER: Standing = Standing::Managed { policy: 1, cgroup: 3 };

    #[test]
    fn workloads_have_sockets_of_known_families_alone() {
        for (family, expected) in [
            (AF_UNIX, true),
            (AF_INET, true),
            (AF_INET6, true),
            (AF_NETLINK, true),
            (AF_ALG, true),
            (17, false),
            (40, false),
            (44, false),
            (43, false),
            (0, false),
            (u32::MAX, false),
        ] {
            assert_eq!(has_family(family), expected, "{family}");
        }
    }

    #[test]
    fn a_socket_is_judged_by_its_peer_when_it_is_used() {
        let proxy = ProxyPorts {
            v4: 7000,
            v6: 7001,
            dns: 7002,
            reserved: 0,
        };
        let question = UseQuestion {
            standing: MANAGED,
            family: AF_INET,
            kind: 1,
            protocol: 6,
            peer_port: Port(5432),
            peer_is_agents_loopback: false,
            peer_is_protected: true,
            proxy,
        };
        let peer = |port, peer_is_agents_loopback, peer_is_protected| UseQuestion {
            peer_port: Port(port),
            peer_is_agents_loopback,
            peer_is_protected,
            ..question
        };
        for (question, expected) in [
            (question, false),
            (
                UseQuestion {
                    standing: Standing::Pending,
                    ..question
                },
                false,
            ),
            (
                UseQuestion {
                    standing: Standing::Free,
                    ..question
                },
                true,
            ),
            (peer(5432, false, false), true),
            // Neither connected nor a peer: its destinations are judged one by one.
            (peer(0, false, true), true),
            // The redirection's own, also where every port of this host is protected.
            (peer(7000, true, true), true),
            (peer(7001, true, true), true),
            (peer(7002, true, true), true),
            (peer(7000, false, true), false),
            (peer(5432, true, true), false),
            // Kinds that a workload cannot make.
            (
                UseQuestion {
                    kind: 3,
                    ..peer(0, false, false)
                },
                false,
            ),
            (
                UseQuestion {
                    protocol: 262,
                    ..peer(80, false, false)
                },
                false,
            ),
            (
                UseQuestion {
                    family: 17,
                    ..peer(0, false, false)
                },
                false,
            ),
            (
                UseQuestion {
                    family: AF_UNIX,
                    ..question
                },
                true,
            ),
        ] {
            assert_eq!(may_use(question), expected, "{question:?}");
        }
    }

    #[test]
    fn of_options_one_receives() {
        assert!(option_receives(6, 35));
        // TCP_INFO; SO_PEERCRED and an option of IP that have the same numbers.
        assert!(!option_receives(6, 11) && !option_receives(1, 35) && !option_receives(0, 35));
    }

    #[test]
    fn a_unix_socket_of_a_protected_name_is_not_connected_to() {
        assert!(may_connect(Standing::Free, true));
        assert!(may_connect(MANAGED, false));
        assert!(!may_connect(MANAGED, true));
        assert!(!may_connect(Standing::Pending, true));
    }

    #[test]
    fn a_workload_takes_over_its_own_processes_alone() {
        const READ: u32 = 1;
        for (standing, target, agent, mode, expected) in [
            (Standing::Free, Standing::Free, true, ATTACH, true),
            (MANAGED, SAME, false, ATTACH | 8, true),
            (MANAGED, OTHER, false, ATTACH, false),
            (MANAGED, Standing::Free, false, ATTACH, false),
            (MANAGED, Standing::Pending, false, ATTACH, false),
            (MANAGED, Standing::Free, false, READ, true),
            (MANAGED, Standing::Free, true, READ, false),
            (Standing::Pending, Standing::Pending, false, ATTACH, true),
            (Standing::Pending, Standing::Free, false, ATTACH, false),
        ] {
            assert_eq!(
                may_trace(standing, target, agent, mode),
                expected,
                "{standing:?} {target:?} {agent} {mode}"
            );
        }
    }

    #[test]
    fn the_agent_gets_no_signals_from_workloads() {
        assert!(may_signal_agent(Standing::Free, Standing::Free));
        assert!(!may_signal_agent(MANAGED, Standing::Free));
        assert!(!may_signal_agent(Standing::Pending, Standing::Free));
        // An agent that was killed, and its number given to a process of the job's.
        assert!(may_signal_agent(MANAGED, SAME));
    }

    #[test]
    fn a_workload_has_its_own_cgroups_alone() {
        for (standing, target, expected) in [
            (Standing::Free, MANAGED, true),
            (MANAGED, SAME, true),
            (MANAGED, OTHER, false),
            (MANAGED, Standing::Free, false),
            (MANAGED, Standing::Pending, false),
            (Standing::Pending, Standing::Free, false),
            (Standing::Pending, Standing::Pending, true),
        ] {
            assert_eq!(
                may_write_cgroup(standing, target),
                expected,
                "{standing:?} {target:?}"
            );
        }
    }

    #[test]
    fn of_bpf_a_workload_has_device_rules() {
        for (command, words, expected) in [
            (5, [15, 2, 0], true),
            // A socket filter, a program on a cgroup's sockets.
            (5, [1, 2, 0], false),
            (5, [8, 2, 0], false),
            (8, [3, 4, CGROUP_DEVICE], true),
            (8, [3, 4, 1], false),
            (9, [3, 4, CGROUP_DEVICE], true),
            (16, [3, CGROUP_DEVICE, 0], true),
            (16, [3, 1, 0], false),
            (13, [7, 0, 0], true),
            // MAP_CREATE, MAP_LOOKUP_ELEM, OBJ_GET, MAP_GET_FD_BY_ID, LINK_CREATE, LINK_DETACH, and what is not known yet.
            (0, [0, 0, 0], false),
            (1, [0, 0, 0], false),
            (7, [0, 0, 0], false),
            (14, [0, 0, 0], false),
            (28, [0, 0, 0], false),
            (34, [0, 0, 0], false),
            (99, [CGROUP_DEVICE_PROGRAM; 3], false),
        ] {
            assert_eq!(may_bpf(MANAGED, command, words), expected, "{command} {words:?}");
            assert_eq!(may_bpf(Standing::Pending, command, words), expected);
            assert!(may_bpf(Standing::Free, command, words));
        }
        assert!(!may_unlock(MANAGED) && may_unlock(Standing::Free));
    }
}
