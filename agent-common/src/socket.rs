//! What happens to `socket()` and `bind()`.

use crate::{Port, ProxyPorts, Standing, ip_protocol, is_slot_port};

/// What to do with a new socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketAnswer {
    /// Nothing.
    Pass,
    /// Refuse as if the kernel did not have the protocol, so that a client falls back to TCP.
    NotSupported,
    /// Refuse as not permitted.
    Refuse,
}

const SOCK_STREAM: u32 = 1;
const SOCK_DGRAM: u32 = 2;

/// Decides a `socket()` of family `AF_INET` or `AF_INET6`.
///
/// An allow-list: raw sockets write their own headers, and MPTCP, SCTP and DCCP connect on ways that the
/// redirection does not see (MPTCP shows the proxy's address to its application besides).
#[inline(always)]
pub const fn on_socket(standing: Standing, kind: u32, protocol: u32) -> SocketAnswer {
    if matches!(standing, Standing::Free) {
        return SocketAnswer::Pass;
    }
    match (kind, protocol) {
        (SOCK_STREAM, ip_protocol::TCP)
        | (SOCK_DGRAM, ip_protocol::UDP | ip_protocol::ICMP | ip_protocol::ICMPV6) => SocketAnswer::Pass,
        (SOCK_STREAM, ip_protocol::MPTCP) => SocketAnswer::NotSupported,
        _ => SocketAnswer::Refuse,
    }
}

/// Whether a thread may bind a socket to `port`: the agent's ports belong to the one thread of the agent that is binding
/// at this moment, and to nobody while there is none.
#[inline(always)]
pub const fn owns_proxy_port(kind: u32, port: Port, ports: ProxyPorts, thread: u64, binder: u64) -> bool {
    let reserved = match kind {
        SOCK_DGRAM => is_slot_port(ports, port),
        _ => port.0 != 0 && (port.0 == ports.v4 || port.0 == ports.v6),
    };
    !reserved || (binder != 0 && thread == binder)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANAGED: Standing = Standing::Managed { policy: 1, cgroup: 2 };

    #[test]
    fn workloads_get_tcp_udp_and_ping_sockets_alone() {
        for (standing, kind, protocol, expected) in [
            (MANAGED, 1, ip_protocol::TCP, SocketAnswer::Pass),
            (MANAGED, 2, ip_protocol::UDP, SocketAnswer::Pass),
            (MANAGED, 2, ip_protocol::ICMP, SocketAnswer::Pass),
            (MANAGED, 1, ip_protocol::MPTCP, SocketAnswer::NotSupported),
            (MANAGED, 3, ip_protocol::ICMP, SocketAnswer::Refuse),
            (MANAGED, 3, 255, SocketAnswer::Refuse),
            (MANAGED, 1, ip_protocol::SCTP, SocketAnswer::Refuse),
            (MANAGED, 6, ip_protocol::DCCP, SocketAnswer::Refuse),
            (Standing::Pending, 3, 255, SocketAnswer::Refuse),
            (Standing::Free, 3, 255, SocketAnswer::Pass),
            (Standing::Free, 1, ip_protocol::MPTCP, SocketAnswer::Pass),
        ] {
            assert_eq!(
                on_socket(standing, kind, protocol),
                expected,
                "{standing:?} {kind} {protocol}"
            );
        }
    }

    #[test]
    fn the_proxys_ports_are_the_binding_threads_alone() {
        let ports = ProxyPorts {
            v4: 7000,
            v6: 7001,
            dns: 6000,
            reserved: 0,
        };
        for (kind, port, thread, binder, expected) in [
            (1, 7000, 42, 42, true),
            (1, 7001, 42, 42, true),
            (1, 7000, 43, 42, false),
            (1, 7000, 42, 0, false),
            (1, 7000, 0, 0, false),
            (5, 7001, 43, 42, false),
            (2, 7000, 43, 42, true),
            (2, 6000, 43, 42, false),
            (2, 6007, 43, 42, false),
            (2, 6007, 42, 42, true),
            (2, 6008, 43, 42, true),
            (2, 6000, 42, 0, false),
            (1, 6000, 43, 42, true),
            (1, 7002, 43, 42, true),
            (1, 0, 43, 42, true),
        ] {
            assert_eq!(
                owns_proxy_port(kind, Port(port), ports, thread, binder),
                expected,
                "{kind} {port}"
            );
        }
        assert!(owns_proxy_port(1, Port(0), ProxyPorts::default(), 1, 0));
    }
}
