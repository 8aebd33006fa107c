//! Sockets of an agent before this one, which it or the service manager handed over: connections that wait in their queues
//! are this agent's.
//!
//! Whatever else is handed over is closed: a socket that is not the agent's own must not become one that workloads are
//! sent to.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::Arc;

use nix::sys::socket::sockopt::{AcceptConn, SockType as KindOption};
use nix::sys::socket::{SockType, SockaddrIn, SockaddrIn6, SockaddrStorage, getsockname, getsockopt};

use crate::kernel::netns::Netns;
use crate::kernel::sockets::netns_cookie;
use crate::kernel::{Kernel, ProxyAddresses};
use crate::model::NetnsCookie;

/// The sockets of one network namespace.
#[derive(Debug)]
pub(super) struct Handed {
    /// Where they are.
    pub(super) netns: Arc<Netns>,
    /// The listener on 127.0.0.1.
    pub(super) v4: Option<OwnedFd>,
    /// The listener on `::1`.
    pub(super) v6: Option<OwnedFd>,
    /// Sockets for DNS.
    pub(super) datagrams: Vec<OwnedFd>,
}

/// Where a socket is bound, and what it is.
struct Described {
    address: SocketAddr,
    stream: bool,
    netns: NetnsCookie,
}

/// The ports at which the handed sockets listen, and the sockets by namespace.
///
/// `wanted` are the ports that the agent has to listen at; 0: it may be any.
pub(super) fn sort(
    kernel: &Kernel,
    wanted: ProxyAddresses,
    sockets: Vec<OwnedFd>,
) -> (ProxyAddresses, HashMap<NetnsCookie, Handed>) {
    let mut ports = kernel.proxy().unwrap_or_default();
    let mut all: HashMap<NetnsCookie, Handed> = HashMap::new();
    let mut strangers = 0;
    for socket in sockets {
        let found = describe(&socket).ok().filter(|found| {
            if kernel.is_adopted() {
                return kernel.is_marked(&socket) && is_at(ports, found);
            }
            // Pins of another layout: where the sockets are tells the ports.
            is_loopback(found.address) && learn(&mut ports, found)
        });
        let Some(found) = found.filter(|found| is_wanted(wanted, found)) else {
            strangers += 1;
            continue;
        };
        let handed = match all.entry(found.netns) {
            std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::hash_map::Entry::Vacant(entry) => match Netns::of_socket(&socket) {
                Ok(netns) => entry.insert(Handed {
                    netns: Arc::new(netns),
                    v4: None,
                    v6: None,
                    datagrams: Vec::new(),
                }),
                Err(error) => {
                    tracing::warn!(%error, netns = %found.netns, "a socket was handed over whose namespace cannot be entered");
                    continue;
                }
            },
        };
        match (found.stream, found.address.is_ipv4()) {
            (true, true) => handed.v4 = Some(socket),
            (true, false) => handed.v6 = Some(socket),
            (false, _) => handed.datagrams.push(socket),
        }
    }
    if strangers > 0 {
        tracing::warn!(
            strangers,
            "descriptors were handed over that are not listeners of this agent's; they were closed"
        );
    }
    (ports, all)
}

fn describe(socket: &OwnedFd) -> io::Result<Described> {
    let name: SockaddrStorage = getsockname(socket.as_raw_fd())?;
    let address = name
        .as_sockaddr_in()
        .map(|name: &SockaddrIn| SocketAddr::from((name.ip(), name.port())))
        .or_else(|| {
            name.as_sockaddr_in6()
                .map(|name: &SockaddrIn6| SocketAddr::from((name.ip(), name.port())))
        })
        .ok_or_else(|| io::Error::other("a socket of another family"))?;
    let stream = match getsockopt(socket, KindOption)? {
        SockType::Stream if getsockopt(socket, AcceptConn)? => true,
        SockType::Datagram => false,
        _ => return Err(io::Error::other("a socket that does not listen")),
    };
    Ok(Described {
        address,
        stream,
        netns: netns_cookie(socket)?,
    })
}

fn is_loopback(address: SocketAddr) -> bool {
    let addresses = ProxyAddresses::default();
    address.ip() == addresses.v4_address().ip() || address.ip() == addresses.v6_address().ip()
}

/// Whether a socket is where the agent listens.
fn is_at(ports: ProxyAddresses, found: &Described) -> bool {
    let port = found.address.port();
    if !found.stream {
        return is_loopback(found.address) && ports.dns_ports().any(|dns| dns == port);
    }
    found.address == ports.v4_address() || found.address == ports.v6_address()
}

/// Takes the port of a listener for the agent's, unless another one has told it already.
fn learn(ports: &mut ProxyAddresses, found: &Described) -> bool {
    let port = match (found.stream, found.address.is_ipv4()) {
        (true, true) => &mut ports.v4,
        (true, false) => &mut ports.v6,
        // Which of them is the first is not known; they are made anew.
        (false, _) => return false,
    };
    if *port == 0 {
        *port = found.address.port();
    }
    *port == found.address.port()
}

/// Whether the agent may listen there, as its configuration is now.
fn is_wanted(wanted: ProxyAddresses, found: &Described) -> bool {
    let wanted = match (found.stream, found.address.is_ipv4()) {
        (true, true) => wanted.v4,
        (true, false) => wanted.v6,
        (false, _) => 0,
    };
    wanted == 0 || wanted == found.address.port()
}
