//! What happens to a packet that leaves a socket of a managed cgroup: the second wall.
//!
//! It sees what `connect()` does not: datagrams of unconnected sockets, and connections from before the cgroup was
//! managed. It goes by the *socket's* cgroup, so a socket that was made elsewhere and brought in gets past it.

use crate::{DNS_PORT, EgressMode, EventKind, Port, Standing, ip_protocol};

/// A packet as the decision sees it.
#[derive(Clone, Copy, Debug)]
pub struct PacketQuestion {
    /// How the socket stands.
    pub standing: Standing,
    /// Transport protocol; `None` if it could not be found (extension headers, a fragment).
    pub protocol: Option<u32>,
    /// Destination port; 0 if the protocol has none.
    pub port: Port,
    /// Whether the packet goes to the agent's own listener.
    pub to_proxy: bool,
    /// Whether the packet goes to one of the agent's slots for nameservers.
    pub to_slot: bool,
    /// Whether it is a reset that carries nothing ([`is_bare_reset`]).
    pub reset: bool,
    /// Whether the destination is protected: by the socket's policy, or by any if it is pending.
    pub protected: bool,
    /// What the policy does with the rest: the strictest policy if the socket is pending; `None` if the policy is not in
    /// the map.
    pub egress: Option<EgressMode>,
    /// Whether the policy steers DNS through the agent.
    pub steers_dns: bool,
}

/// What to do with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketAnswer {
    /// Let it go.
    Pass,
    /// Drop it, and report it.
    Drop(EventKind),
}

/// Decides a packet.
///
/// Where DNS is steered, a packet to port 53 has passed neither `connect()` nor the hook on datagrams as it should: its
/// socket was connected before.
///
/// A bare reset passes: a connection that is cut off should not go on at the server, with its locks.
///
/// Under `egress = "deny"` datagrams to what no service names are dropped, also the answers of a UDP server in the
/// cgroup. TCP is not: a connection out has passed `connect()`, and the rest are answers of a server.
#[inline(always)]
pub const fn on_packet(question: PacketQuestion) -> PacketAnswer {
    match question.standing {
        _ if question.reset => PacketAnswer::Pass,
        Standing::Free => PacketAnswer::Pass,
        Standing::Pending | Standing::Managed { .. } => match question.protocol {
            None => PacketAnswer::Drop(EventKind::PacketDropped),
            Some(ip_protocol::TCP) if question.to_proxy => PacketAnswer::Pass,
            Some(ip_protocol::UDP) if question.to_slot => PacketAnswer::Pass,
            Some(_) if question.protected => PacketAnswer::Drop(EventKind::PacketDropped),
            Some(ip_protocol::TCP | ip_protocol::UDP)
                if question.steers_dns
                    && question.port.0 == DNS_PORT.0
                    && matches!(question.standing, Standing::Managed { .. }) =>
            {
                PacketAnswer::Drop(EventKind::PacketDropped)
            }
            // A connection out has passed `connect()`, and the rest are answers of a server.
            Some(ip_protocol::TCP) => PacketAnswer::Pass,
            Some(_) => match question.egress {
                Some(EgressMode::Allow | EgressMode::Observe) => PacketAnswer::Pass,
                Some(EgressMode::Deny) | None => PacketAnswer::Drop(EventKind::PacketDropped),
            },
        },
    }
}

/// Whether the flags of a TCP segment (RFC 9293 §3.1) are those of a connection's first: SYN without ACK.
#[inline(always)]
pub const fn opens(flags: u8) -> bool {
    const SYN: u8 = 0x02;
    const ACK: u8 = 0x10;
    flags & (SYN | ACK) == SYN
}

/// Whether a transport's first four bytes are source and destination port.
#[inline(always)]
pub const fn has_ports(protocol: u32) -> bool {
    matches!(
        protocol,
        ip_protocol::TCP | ip_protocol::UDP | ip_protocol::UDP_LITE | ip_protocol::DCCP | ip_protocol::SCTP
    )
}

/// Whether the transport of an IPv4 packet can be read, and the packet's destination is its last (RFC 791 §3.1).
///
/// `first` is the first byte, `fragment` the word of flags and offset in host order. A header with options is opaque: a
/// source route among them names another destination than the one where the packet goes first. A later fragment has no
/// ports; the kernel fragments after this hook, so it was made by hand.
#[inline(always)]
pub const fn ipv4_is_plain(first: u8, fragment: u16) -> bool {
    const WORDS_WITHOUT_OPTIONS: u8 = 5;
    const OFFSET: u16 = 0x1fff;
    first & 0x0f == WORDS_WITHOUT_OPTIONS && fragment & OFFSET == 0
}

/// Whether a TCP segment of `length` bytes is a reset and nothing else. `offset` and `flags` are its bytes 12 and 13
/// (RFC 9293 §3.1).
#[inline(always)]
pub const fn is_bare_reset(offset: u8, flags: u8, length: u32) -> bool {
    const RST: u8 = 0x04;
    const ACK: u8 = 0x10;
    (flags == RST || flags == RST | ACK) && (offset >> 4) as u32 * 4 == length
}

/// What follows in an IPv6 packet (RFC 8200 §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ipv6Next {
    /// The transport.
    Transport,
    /// An option header of so many bytes; the next header's number is its first byte.
    Skip(u32),
    /// Something that hides the transport or the destination.
    Opaque,
}

/// Judges the extension header of number `number`, whose second byte is `length`.
///
/// Routing headers are opaque, since the packet's destination is not its last; so are fragments: the kernel
/// fragments after this hook, so a fragment here was made by hand.
#[inline(always)]
pub const fn ipv6_next(number: u8, length: u8) -> Ipv6Next {
    match number {
        0 | 60 => Ipv6Next::Skip((length as u32 + 1) * 8),
        51 => Ipv6Next::Skip((length as u32 + 2) * 4),
        43 | 44 | 50 | 59 | 135 | 139 | 140 => Ipv6Next::Opaque,
        _ => Ipv6Next::Transport,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use EgressMode::{Allow, Deny, Observe};
    use PacketAnswer::Pass;

    const DROP: PacketAnswer = PacketAnswer::Drop(EventKind::PacketDropped);
    const MANAGED: Standing = Standing::Managed { policy: 1, cgroup: 2 };
    const TCP: Option<u32> = Some(ip_protocol::TCP);
    const UDP: Option<u32> = Some(ip_protocol::UDP);

    #[test]
    fn options_and_later_fragments_hide_the_transport_of_ipv4() {
        for (first, fragment, plain) in [
            (0x45, 0, true),
            (0x45, 0x4000, true),
            (0x45, 0x2000, true),
            (0x45, 0x2001, false),
            (0x45, 0x1fff, false),
            (0x46, 0, false),
            (0x48, 0x4000, false),
            (0x4f, 0, false),
            (0x44, 0, false),
        ] {
            assert_eq!(ipv4_is_plain(first, fragment), plain, "{first:#x} {fragment:#x}");
        }
    }

    #[test]
    fn every_packet_has_its_answer() {
        for (standing, protocol, port, to_proxy, protected, egress, expected) in [
            (Standing::Free, TCP, 5432, false, true, None, Pass),
            (Standing::Free, None, 0, false, true, None, Pass),
            (Standing::Pending, TCP, 5432, false, true, None, DROP),
            (Standing::Pending, UDP, 80, false, false, Some(Allow), Pass),
            (Standing::Pending, None, 0, false, false, Some(Allow), DROP),
            (Standing::Pending, UDP, 80, false, false, Some(Deny), DROP),
            (Standing::Pending, None, 0, false, false, Some(Deny), DROP),
            (Standing::Pending, UDP, 53, false, false, Some(Deny), DROP),
            (Standing::Pending, UDP, 80, false, false, None, DROP),
            (Standing::Pending, TCP, 80, false, false, Some(Deny), Pass),
            (MANAGED, TCP, 5432, false, true, Some(Allow), DROP),
            (MANAGED, UDP, 5432, false, true, Some(Allow), DROP),
            (MANAGED, TCP, 7000, true, true, Some(Deny), Pass),
            (MANAGED, UDP, 7000, true, true, Some(Allow), DROP),
            (MANAGED, None, 0, false, false, Some(Allow), DROP),
            (MANAGED, TCP, 40000, false, false, Some(Deny), Pass),
            (MANAGED, UDP, 53, false, false, Some(Deny), DROP),
            (MANAGED, UDP, 443, false, false, Some(Deny), DROP),
            (MANAGED, UDP, 443, false, false, None, DROP),
            (MANAGED, UDP, 443, false, false, Some(Observe), Pass),
            (
                MANAGED,
                Some(ip_protocol::ICMP),
                0,
                false,
                false,
                Some(Deny),
                DROP,
            ),
            (
                MANAGED,
                Some(ip_protocol::ICMP),
                0,
                false,
                false,
                Some(Allow),
                Pass,
            ),
        ] {
            let question = PacketQuestion {
                standing,
                protocol,
                port: Port(port),
                to_proxy,
                to_slot: false,
                reset: false,
                protected,
                egress,
                steers_dns: false,
            };
            assert_eq!(on_packet(question), expected, "{question:?}");
        }
    }

    #[test]
    fn packets_of_dns_go_to_the_agent_or_nowhere() {
        for (standing, protocol, port, to_slot, egress, expected) in [
            (MANAGED, UDP, 6000, true, Some(Allow), Pass),
            (MANAGED, UDP, 6000, true, Some(Deny), Pass),
            (MANAGED, UDP, 53, false, Some(Allow), DROP),
            (MANAGED, UDP, 53, false, Some(Deny), DROP),
            (MANAGED, TCP, 53, false, Some(Allow), DROP),
            (MANAGED, TCP, 6000, true, Some(Allow), Pass),
            (MANAGED, UDP, 5353, false, Some(Allow), Pass),
            (Standing::Pending, UDP, 53, false, Some(Deny), DROP),
            (Standing::Pending, TCP, 53, false, Some(Allow), Pass),
            (Standing::Free, UDP, 53, false, None, Pass),
        ] {
            let question = PacketQuestion {
                standing,
                protocol,
                port: Port(port),
                to_proxy: false,
                to_slot,
                reset: false,
                protected: false,
                egress,
                steers_dns: true,
            };
            assert_eq!(on_packet(question), expected, "{question:?}");
            let reset = PacketQuestion {
                reset: true,
                ..question
            };
            assert_eq!(on_packet(reset), Pass, "{reset:?}");
        }
    }

    #[test]
    fn a_reset_that_carries_anything_is_no_bare_reset() {
        for (offset, flags, length, bare) in [
            (0x50, 0x04, 20, true),
            (0x50, 0x14, 20, true),
            (0x80, 0x14, 32, true),
            (0x50, 0x14, 21, false),
            (0x50, 0x14, 19, false),
            (0x50, 0x10, 20, false),
            (0x50, 0x18, 20, false),
            (0x50, 0x06, 20, false),
            (0x50, 0x34, 20, false),
        ] {
            assert_eq!(
                is_bare_reset(offset, flags, length),
                bare,
                "{offset:x} {flags:x} {length}"
            );
        }
    }

    #[test]
    fn the_first_segment_of_a_connection_is_known_by_its_flags() {
        // SYN; with ECN; answered; data; an end; a reset.
        for (flags, first) in [
            (0x02, true),
            (0xc2, true),
            (0x12, false),
            (0x18, false),
            (0x11, false),
            (0x04, false),
        ] {
            assert_eq!(opens(flags), first, "{flags:x}");
        }
    }

    #[test]
    fn headers_that_hide_the_destination_are_opaque() {
        assert_eq!(ipv6_next(6, 0), Ipv6Next::Transport);
        assert_eq!(ipv6_next(0, 0), Ipv6Next::Skip(8));
        assert_eq!(ipv6_next(60, 3), Ipv6Next::Skip(32));
        assert_eq!(ipv6_next(51, 4), Ipv6Next::Skip(24));
        for number in [43, 44, 50, 59] {
            assert_eq!(ipv6_next(number, 1), Ipv6Next::Opaque, "{number}");
        }
    }
}
