//! Addresses of this host: whoever protects one of them means all of them.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net};
use nix::ifaddrs::getifaddrs;

use super::Protected;

/// The addresses of this host's interfaces, as they are now; loopback's are not among them.
pub fn addresses() -> io::Result<BTreeSet<IpAddr>> {
    let found = getifaddrs()?
        .filter_map(|interface| {
            let address = interface.address?;
            let v4 = address.as_sockaddr_in().map(|ip| IpAddr::V4(ip.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|ip| IpAddr::V6(ip.ip())))
        })
        .filter(|ip| !ip.is_loopback())
        .collect();
    Ok(found)
}

/// Adds to `wanted` what reaches the same server by another of the host's addresses.
///
/// A server on this host mostly listens on every address; a rule on one that left the others open would protect
/// nothing. Networks that merely contain one of the host's addresses (`10.0.0.0/8`) are spread like the address.
pub fn spread(wanted: &BTreeSet<Protected>, host: &BTreeSet<IpAddr>) -> BTreeSet<Protected> {
    let mut all = wanted.clone();
    for entry in wanted {
        let local = is_loopback(&entry.network) || host.iter().any(|ip| entry.network.contains(ip));
        if local {
            let port = entry.port;
            all.extend(loopback().into_iter().map(|network| Protected { network, port }));
            all.extend(host.iter().map(|ip| Protected {
                network: IpNet::from(*ip),
                port,
            }));
        }
    }
    all
}

fn is_loopback(network: &IpNet) -> bool {
    loopback()
        .iter()
        .any(|own| own.contains(network) || network.contains(own))
}

/// Everything that means this host itself. The unspecified addresses are judged as loopback by the kernel side.
fn loopback() -> [IpNet; 3] {
    [
        IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8)),
        IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 8)),
        IpNet::from(IpAddr::V6(Ipv6Addr::LOCALHOST)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(entries: &[&str]) -> BTreeSet<Protected> {
        let entry = |text: &&str| Protected {
            network: text.parse().unwrap(),
            port: 5432,
        };
        entries.iter().map(entry).collect()
    }

    #[test]
    fn one_address_of_the_host_stands_for_all_of_them() {
        let host = BTreeSet::from(["192.0.2.7".parse().unwrap(), "2001:db8::7".parse().unwrap()]);
        let everything = [
            "127.0.0.0/8",
            "0.0.0.0/8",
            "::1/128",
            "192.0.2.7/32",
            "2001:db8::7/128",
        ];
        for named in [
            "127.0.0.1/32",
            "::1/128",
            "192.0.2.7/32",
            "2001:db8::7/128",
            "192.0.2.0/24",
        ] {
            let spread = spread(&set(&[named]), &host);
            assert!(spread.is_superset(&set(&everything)), "{named}: {spread:?}");
        }
        let elsewhere = set(&["198.51.100.0/24", "2001:db8:1::/64"]);
        assert_eq!(spread(&elsewhere, &host), elsewhere);
    }
}
