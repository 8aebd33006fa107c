//! DNS over UDP: which of the agent's ports stands for which nameserver, and what a socket has asked.
//!
//! A datagram to a nameserver is sent to the agent instead, and its answer must come from the nameserver. A socket may
//! ask several at a time, with the same query (musl does), so each nameserver that a socket asks gets a port of the
//! agent's of its own, a *slot*, for as long as the socket lives. Slots belong to the socket: two sockets never share
//! an assignment, and none is ever given to another nameserver.

use crate::{FlowRecord, Ip128, Port, ProxyPorts};

/// Nameservers that one socket can ask. Stub resolvers know three (resolv.conf(5)).
pub const DNS_SLOTS: u32 = 8;

/// Port of DNS (RFC 1035).
pub const DNS_PORT: Port = Port(53);

const SLOTS: usize = DNS_SLOTS as usize;
const NOBODY: Ip128 = Ip128([0; 4]);

/// Value of `ASKED`, on a workload's datagram socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct AskedNameservers {
    /// The process that asked last; address and port are those of its nameserver.
    pub record: FlowRecord,
    /// The nameserver of each slot; zeros: free.
    pub nameservers: [Ip128; SLOTS],
}

/// The slot of `nameserver` among those that a socket has asked, taken if it is new. `None`: all are taken.
#[inline(always)]
pub fn take_slot(asked: &mut [Ip128; SLOTS], nameserver: Ip128) -> Option<u32> {
    for (slot, known) in (0..DNS_SLOTS).zip(asked.iter_mut()) {
        if *known == nameserver {
            return Some(slot);
        }
        if *known == NOBODY {
            *known = nameserver;
            return Some(slot);
        }
    }
    None
}

/// The nameserver that stands behind a slot of a socket.
#[inline(always)]
pub fn nameserver_of(asked: &[Ip128; SLOTS], slot: u32) -> Option<Ip128> {
    // No index: the verifier of Linux 6.18 loses its bound between the check and the use.
    for (number, known) in (0..DNS_SLOTS).zip(asked) {
        if number == slot && *known != NOBODY {
            return Some(*known);
        }
    }
    None
}

/// The slot whose port and address these are.
#[inline(always)]
pub const fn slot_at(ports: ProxyPorts, ip: Ip128, port: Port) -> Option<u32> {
    if !is_slot_port(ports, port) || !ip.is_agents_loopback() {
        return None;
    }
    Some(port.0 - ports.dns)
}

/// Where the datagram for `nameserver` goes: the agent's loopback address of its family, and the slot's port.
#[inline(always)]
pub const fn slot_address(ports: ProxyPorts, nameserver: Ip128, slot: u32) -> (Ip128, Port) {
    let ip = match nameserver.v4_word() {
        Some(_) => Ip128::LOOPBACK_V4,
        None => Ip128::LOOPBACK_V6,
    };
    (ip, Port(ports.dns + slot))
}

/// Whether a datagram port is one of the agent's.
#[inline(always)]
pub const fn is_slot_port(ports: ProxyPorts, port: Port) -> bool {
    ports.dns != 0 && port.0 >= ports.dns && port.0 - ports.dns < DNS_SLOTS
}

const _: () = assert!(size_of::<AskedNameservers>() == 96 + 8 * 16 && align_of::<AskedNameservers>() == 8);

#[cfg(test)]
mod tests {
    use super::*;

    const PORTS: ProxyPorts = ProxyPorts {
        v4: 7000,
        v6: 7001,
        dns: 6000,
        reserved: 0,
    };

    fn server(number: u32) -> Ip128 {
        Ip128::from_v4_words((0x0a00_0000 + number).to_be())
    }

    #[test]
    fn a_socket_keeps_a_slot_for_each_nameserver_and_gives_none_away() {
        let mut asked = [NOBODY; SLOTS];
        for number in 0..DNS_SLOTS {
            assert_eq!(take_slot(&mut asked, server(number)), Some(number));
            assert_eq!(take_slot(&mut asked, server(number)), Some(number));
        }
        assert_eq!(take_slot(&mut asked, server(DNS_SLOTS)), None);
        for number in 0..DNS_SLOTS {
            assert_eq!(nameserver_of(&asked, number), Some(server(number)));
        }
        assert_eq!(nameserver_of(&asked, DNS_SLOTS), None);
        assert_eq!(nameserver_of(&[NOBODY; SLOTS], 0), None);
    }

    #[test]
    fn a_slots_address_leads_back_to_it() {
        let v6 = Ip128([0x20, 1, 2, 3]);
        for slot in 0..DNS_SLOTS {
            for (nameserver, loopback) in [(server(1), Ip128::LOOPBACK_V4), (v6, Ip128::LOOPBACK_V6)] {
                let (ip, port) = slot_address(PORTS, nameserver, slot);
                assert_eq!(ip, loopback);
                assert_eq!(slot_at(PORTS, ip, port), Some(slot));
            }
        }
    }

    #[test]
    fn other_ports_and_addresses_are_no_slots() {
        for (ip, port) in [
            (Ip128::LOOPBACK_V4, 5999),
            (Ip128::LOOPBACK_V4, 6008),
            (Ip128::LOOPBACK_V4, 7000),
            (Ip128::LOOPBACK_V4, 0),
            (server(1), 6000),
        ] {
            assert_eq!(slot_at(PORTS, ip, Port(port)), None, "{port}");
        }
        for port in 0..10 {
            assert!(!is_slot_port(ProxyPorts::default(), Port(port)));
        }
    }
}
