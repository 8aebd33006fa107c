//! Addresses as the maps hold them: IPv4 and IPv6 alike in 128 bits.

/// An IP address in network byte order, as four words as they lie in memory; IPv4 as `::ffff:a.b.c.d` (RFC 4291).
///
/// One form for both families, so that a v4-mapped destination of an IPv6 socket cannot get past a rule on the IPv4
/// address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct Ip128(pub [u32; 4]);

/// A transport port in host byte order, widened so that keys have no padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct Port(pub u32);

const MAPPED: u32 = 0xffff_u32.to_be();

impl Ip128 {
    /// 127.0.0.1.
    pub const LOOPBACK_V4: Self = Self::from_v4_words(0x7f00_0001_u32.to_be());
    /// `::1`.
    pub const LOOPBACK_V6: Self = Self([0, 0, 0, 1_u32.to_be()]);

    /// From an IPv4 address in network byte order, as it lies in memory.
    #[inline(always)]
    pub const fn from_v4_words(word: u32) -> Self {
        Self([0, 0, MAPPED, word])
    }

    /// From the sixteen bytes of an IPv6 address.
    pub const fn from_octets(octets: [u8; 16]) -> Self {
        let [a0, a1, a2, a3, b0, b1, b2, b3, c0, c1, c2, c3, d0, d1, d2, d3] = octets;
        Self([
            u32::from_ne_bytes([a0, a1, a2, a3]),
            u32::from_ne_bytes([b0, b1, b2, b3]),
            u32::from_ne_bytes([c0, c1, c2, c3]),
            u32::from_ne_bytes([d0, d1, d2, d3]),
        ])
    }

    /// The sixteen bytes of the address in its IPv6 form.
    pub const fn octets(self) -> [u8; 16] {
        let [first, second, third, fourth] = self.0;
        let [[a0, a1, a2, a3], [b0, b1, b2, b3]] = [first.to_ne_bytes(), second.to_ne_bytes()];
        let [[c0, c1, c2, c3], [d0, d1, d2, d3]] = [third.to_ne_bytes(), fourth.to_ne_bytes()];
        [a0, a1, a2, a3, b0, b1, b2, b3, c0, c1, c2, c3, d0, d1, d2, d3]
    }

    /// The IPv4 address in network byte order, if it is one.
    #[inline(always)]
    pub const fn v4_word(self) -> Option<u32> {
        match self.0 {
            [0, 0, MAPPED, word] => Some(word),
            _ => None,
        }
    }

    /// The address under which a nameserver is remembered: as asked, but `::`, which is all zeros, as the loopback address
    /// that it means.
    #[inline(always)]
    #[must_use]
    pub const fn nameserver(self) -> Self {
        match self.0 {
            [0, 0, 0, 0] => Self::LOOPBACK_V6,
            _ => self,
        }
    }

    /// Whether this is one of the two addresses that the agent listens on.
    #[inline(always)]
    pub const fn is_agents_loopback(self) -> bool {
        let [v4_0, v4_1, v4_2, v4_3] = Self::LOOPBACK_V4.0;
        let [v6_0, v6_1, v6_2, v6_3] = Self::LOOPBACK_V6.0;
        let [a, b, c, d] = self.0;
        (a == v4_0 && b == v4_1 && c == v4_2 && d == v4_3)
            || (a == v6_0 && b == v6_1 && c == v6_2 && d == v6_3)
    }

    /// Where the kernel really connects to: the unspecified address means this host's loopback.
    #[inline(always)]
    #[must_use]
    pub const fn effective(self) -> Self {
        match self.0 {
            [0, 0, 0, 0] => Self::LOOPBACK_V6,
            [0, 0, MAPPED, 0] => Self::LOOPBACK_V4,
            _ => self,
        }
    }
}

impl Port {
    /// From the port field of the kernel's contexts: network byte order in the low sixteen bits.
    #[inline(always)]
    pub const fn from_network(raw: u32) -> Self {
        // Truncation wanted: the field is sixteen bits wide in a word of thirty-two.
        Self(u16::from_be((raw & 0xffff) as u16) as u32)
    }

    /// The port as the kernel's contexts hold it.
    #[inline(always)]
    pub const fn to_network(self) -> u32 {
        ((self.0 & 0xffff) as u16).to_be() as u32
    }
}

const _: () = assert!(size_of::<Ip128>() == 16 && align_of::<Ip128>() == 4);
const _: () = assert!(size_of::<Port>() == 4);

#[cfg(feature = "user")]
mod user {
    use core::net::{IpAddr, Ipv6Addr};

    use super::Ip128;

    impl From<IpAddr> for Ip128 {
        fn from(ip: IpAddr) -> Self {
            match ip {
                IpAddr::V4(ip) => Self::from_octets(ip.to_ipv6_mapped().octets()),
                IpAddr::V6(ip) => Self::from_octets(ip.octets()),
            }
        }
    }

    impl From<Ip128> for IpAddr {
        fn from(ip: Ip128) -> Self {
            Ipv6Addr::from(ip.octets()).to_canonical()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    #[test]
    fn an_ipv4_address_and_its_mapped_form_are_the_same_key() {
        let v4 = Ipv4Addr::new(10, 0, 4, 7);
        let from_v4_socket = Ip128::from_v4_words(u32::from_ne_bytes(v4.octets()));
        assert_eq!(from_v4_socket, Ip128::from_octets(v4.to_ipv6_mapped().octets()));
        assert_eq!(from_v4_socket.v4_word(), Some(u32::from_ne_bytes(v4.octets())));
        assert_eq!(from_v4_socket.octets(), v4.to_ipv6_mapped().octets());
    }

    #[test]
    fn an_ipv6_address_is_not_taken_for_ipv4() {
        for text in ["::1", "::", "2001:db8::1", "::fffe:10.0.0.1", "1::ffff:10.0.0.1"] {
            let ip = Ip128::from_octets(text.parse::<Ipv6Addr>().unwrap().octets());
            assert_eq!(ip.v4_word(), None, "{text}");
        }
    }

    #[test]
    fn the_unspecified_address_is_judged_as_loopback() {
        let of = |text: &str| Ip128::from_octets(text.parse::<Ipv6Addr>().unwrap().octets()).effective();
        assert_eq!(of("::"), Ip128::LOOPBACK_V6);
        assert_eq!(of("::ffff:0.0.0.0"), Ip128::LOOPBACK_V4);
        assert_eq!(of("::1"), Ip128::LOOPBACK_V6);
        assert_eq!(of("::ffff:127.0.0.1"), Ip128::LOOPBACK_V4);
    }

    #[test]
    fn ports_survive_the_way_to_network_order_and_back() {
        for port in [0, 1, 53, 5432, 65535] {
            assert_eq!(Port::from_network(Port(port).to_network()), Port(port));
        }
        assert_eq!(Port(0x1234).to_network().to_ne_bytes()[..2], [0x12, 0x34]);
    }
}
