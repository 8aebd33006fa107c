//! Where the agent listens.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use agent_common::DNS_SLOTS;

/// Where the agent listens, in every network namespace where it does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProxyAddresses {
    /// Port on 127.0.0.1; 0: none, and everything protected is refused.
    pub v4: u16,
    /// Port on `::1`; 0 likewise.
    pub v6: u16,
    /// First of the datagram ports for DNS, the same on both addresses; 0: none, and DNS that is steered is refused.
    pub dns: u16,
}

impl ProxyAddresses {
    /// The address on 127.0.0.1.
    pub fn v4_address(self) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), self.v4)
    }

    /// The address on `::1`.
    pub fn v6_address(self) -> SocketAddr {
        SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), self.v6)
    }

    /// The datagram ports for DNS, beginning with [`Self::dns`]. Each stands for one nameserver of a socket's.
    pub fn dns_ports(self) -> impl Iterator<Item = u16> {
        let slots = u16::try_from(DNS_SLOTS).unwrap_or(0);
        let count = if self.dns == 0 { 0 } else { slots };
        (0..count).map(move |slot| self.dns.saturating_add(slot))
    }
}
