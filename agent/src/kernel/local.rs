//! Addresses of this host: whoever protects one of them means all of them.
//!
//! What counts is what the kernel delivers to itself, its routes of type `local`: the addresses of interfaces, the
//! whole network of an address on loopback, and ranges that somebody routed to loopback by hand.
//!
//! Limit: those of the agent's own network namespace. A server in a container that is reached from inside it by the
//! container's own address is no service on this host; a policy has to name that address. To take the addresses of every
//! container for the host's would be worse: a service of the host's, with its login, would then be taken for whatever
//! listens on the same port in somebody else's container.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;

use ipnet::IpNet;
use nix::sys::socket::SockProtocol;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::netlink::{Netlink, attributes};

/// The host's addresses, and the news that they changed.
#[derive(Debug)]
pub struct LocalAddresses {
    news: AsyncFd<Netlink>,
}

const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_GETROUTE: u16 = 26;

/// `struct rtmsg`: family, lengths of destination and source, tos, table, protocol, scope, type, flags.
const RTMSG: usize = 12;
const RTM_TYPE: usize = 7;
const RTN_LOCAL: u8 = 2;
const RTA_DST: u16 = 1;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// Multicast groups (`enum rtnetlink_groups`) as a mask. Addresses as well as routes: a route that goes with its
/// interface is not told of.
const GROUPS: u32 =
    1 << (IPV4_IFADDR - 1) | 1 << (IPV4_ROUTE - 1) | 1 << (IPV6_IFADDR - 1) | 1 << (IPV6_ROUTE - 1);
const IPV4_IFADDR: u32 = 5;
const IPV4_ROUTE: u32 = 7;
const IPV6_IFADDR: u32 = 9;
const IPV6_ROUTE: u32 = 11;

impl LocalAddresses {
    /// Listens for changes from now on. Needs a tokio runtime.
    pub fn watch() -> io::Result<Self> {
        let netlink = Netlink::open(SockProtocol::NetlinkRoute, GROUPS)?;
        #[expect(unsafe_code, reason = "tokio asks for a promise about the descriptor")]
        // SAFETY: the socket owns its descriptor, always gives the same one, and closes it only when it is dropped.
        let news = unsafe { AsyncFd::register_with_interest(netlink, Interest::READABLE) }?;
        Ok(Self { news })
    }

    /// Waits until the addresses may have changed. Safe to cancel: what it has not answered with yet, it answers with
    /// the next time.
    pub async fn changed(&self) -> io::Result<()> {
        loop {
            let mut ready = self.news.readable().await?;
            let changed = ready.get_inner().drain(is_about_local)?;
            ready.clear_ready();
            if changed {
                return Ok(());
            }
        }
    }
}

/// The networks that the kernel of this host delivers to itself, as they are now.
pub fn networks() -> io::Result<BTreeSet<IpNet>> {
    let mut netlink = Netlink::open(SockProtocol::NetlinkRoute, 0)?;
    // Without the filter a router would hand over every route that it knows.
    netlink.filter_dumps()?;
    let mut found = BTreeSet::new();
    for family in [AF_INET, AF_INET6] {
        let request = [family, 0, 0, 0, 0, 0, 0, RTN_LOCAL, 0, 0, 0, 0];
        match netlink.dump(RTM_GETROUTE, &request, local_route) {
            Ok(routes) => found.extend(routes),
            // A host without IPv6.
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

fn is_about_local(kind: u16, payload: &[u8]) -> bool {
    match kind {
        RTM_NEWADDR | RTM_DELADDR => true,
        RTM_NEWROUTE | RTM_DELROUTE => local_route(RTM_NEWROUTE, payload).is_some(),
        _ => false,
    }
}

/// The destination of a route of type `local`.
fn local_route(kind: u16, payload: &[u8]) -> Option<IpNet> {
    let (header, rest) = payload.split_at_checked(RTMSG)?;
    if kind != RTM_NEWROUTE || header.get(RTM_TYPE) != Some(&RTN_LOCAL) {
        return None;
    }
    let prefix = *header.get(1)?;
    let destination = attributes(rest).find(|(kind, _)| *kind == RTA_DST)?.1;
    let address = match header.first() {
        Some(&AF_INET) => IpAddr::from(<[u8; 4]>::try_from(destination).ok()?),
        Some(&AF_INET6) => IpAddr::from(<[u8; 16]>::try_from(destination).ok()?),
        _ => return None,
    };
    IpNet::new(address, prefix).ok()
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;
    use std::process::Command;
    use std::time::{Duration, Instant};

    use super::super::testing::privileged;
    use super::*;

    #[test]
    fn loopback_is_a_network_of_the_host_and_documentation_is_not() {
        let found = networks().unwrap();
        let has = |text: &str| {
            found
                .iter()
                .any(|net| net.contains(&text.parse::<IpAddr>().unwrap()))
        };
        assert!(has("127.0.0.1") && has("127.1.2.3"), "{found:?}");
        assert!(!has("192.0.2.1") && !has("2001:db8::1"), "{found:?}");
    }

    #[test]
    fn a_route_that_is_cut_off_or_of_another_type_is_none() {
        let header = [AF_INET, 24, 0, 0, 255, 2, 254, RTN_LOCAL, 0, 0, 0, 0];
        let route = [&header[..], &[8, 0, 1, 0, 198, 51, 100, 0]].concat();
        assert_eq!(
            local_route(RTM_NEWROUTE, &route),
            Some("198.51.100.0/24".parse().unwrap())
        );
        for length in 0..route.len() {
            assert_eq!(local_route(RTM_NEWROUTE, &route[..length]), None, "{length}");
        }
        let mut other = route;
        other[RTM_TYPE] = 1;
        assert_eq!(local_route(RTM_NEWROUTE, &other), None);
    }

    /// In a network namespace of the test's own, on a thread that ends with it.
    #[test]
    fn an_address_is_known_within_milliseconds_of_being_added() {
        if !privileged() {
            return;
        }
        let ip = |arguments: &str| {
            let status = Command::new("ip").args(arguments.split(' ')).status().unwrap();
            assert!(status.success(), "ip {arguments}");
        };
        std::thread::spawn(move || {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            ip("link set lo up");
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let watch = LocalAddresses::watch().unwrap();
                let has = |text: &str| networks().unwrap().contains(&text.parse::<IpNet>().unwrap());
                for (add, remove, net) in [
                    (
                        "addr add 198.51.100.7/32 dev lo",
                        "addr del 198.51.100.7/32 dev lo",
                        "198.51.100.7/32",
                    ),
                    (
                        "addr add 198.51.100.7/24 dev lo",
                        "addr del 198.51.100.7/24 dev lo",
                        "198.51.100.0/24",
                    ),
                    (
                        "addr add 2001:db8::7/128 dev lo",
                        "addr del 2001:db8::7/128 dev lo",
                        "2001:db8::7/128",
                    ),
                    (
                        "route add local 203.0.113.0/24 dev lo",
                        "route del local 203.0.113.0/24 dev lo",
                        "203.0.113.0/24",
                    ),
                ] {
                    for (command, there) in [(add, true), (remove, false)] {
                        ip(command);
                        let since = Instant::now();
                        loop {
                            tokio::time::timeout(Duration::from_secs(20), watch.changed())
                                .await
                                .expect("no news of the address")
                                .unwrap();
                            if has(net) == there {
                                break;
                            }
                        }
                        assert!(
                            since.elapsed() < Duration::from_secs(5),
                            "{command}: {:?}",
                            since.elapsed()
                        );
                    }
                }
            });
        })
        .join()
        .unwrap();
    }

    #[test]
    fn news_that_did_not_fit_count_as_news() {
        if !privileged() {
            return;
        }
        std::thread::spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            let netlink = Netlink::open(SockProtocol::NetlinkRoute, GROUPS).unwrap();
            assert!(!netlink.drain(|_, _| false).unwrap());
            nix::sys::socket::setsockopt(&netlink, nix::sys::socket::sockopt::RcvBuf, &1).unwrap();
            let mut batch = String::new();
            for number in 1..=200 {
                writeln!(batch, "addr add 198.51.100.{number}/32 dev lo").unwrap();
            }
            let dir = tempfile::tempdir().unwrap();
            let file = dir.path().join("batch");
            std::fs::write(&file, batch).unwrap();
            let status = Command::new("ip").arg("-batch").arg(&file).status().unwrap();
            assert!(status.success());
            // None of the messages is wanted: only the loss tells.
            assert!(netlink.drain(|_, _| false).unwrap());
        })
        .join()
        .unwrap();
    }
}
