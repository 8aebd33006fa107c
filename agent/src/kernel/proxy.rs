//! Where the agent listens.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Where the agent listens, in every network namespace where it does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProxyAddresses {
    /// Port on 127.0.0.1; 0: none, and everything protected is refused.
    pub v4: u16,
    /// Port on `::1`; 0 likewise.
    pub v6: u16,
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
}
