//! DNS over UDP: datagrams that the kernel side steered here become [`Query`]s, with the nameserver and the process that
//! they came from. Knows nothing of DNS itself.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};

use nix::sys::socket::sockopt::Ipv6V6Only;
use nix::sys::socket::{SockaddrStorage, bind, setsockopt};
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

use super::FlowError;
use super::listener::Shared;
use super::socket::is_without_ipv6;
use crate::kernel::netns::Netns;
use crate::kernel::{FlowOrigin, Kernel, KernelError, ProxyAddresses};
use crate::model::ClientAddr;

/// One datagram of a workload's to a nameserver.
#[derive(Debug)]
pub struct Query {
    /// The datagram.
    pub bytes: Vec<u8>,
    /// What the kernel side knows of it; its original destination is the nameserver.
    pub origin: FlowOrigin,
    /// The workload's network namespace, from which the nameserver has to be asked.
    pub netns: Arc<Netns>,
    client: ClientAddr,
    kernel: Arc<Kernel>,
    socket: Arc<UdpSocket>,
}

/// The longest query that is taken, bytes. Names have 255 at the most (RFC 1035 §2.3.4), and options follow.
const LONGEST_QUERY: usize = 4096;

/// How many places are tried for the ports.
const ATTEMPTS: usize = 64;

/// Below this, ports are assigned to other programs.
const LOWEST_PORT: u16 = 10_240;

impl Query {
    /// Sends the answer to the one who asked; the kernel side names the nameserver as its source. Dropped if the port that
    /// asked belongs to another socket by now, or to nobody.
    pub fn answer(&self, bytes: &[u8]) -> io::Result<()> {
        let local = self.socket.local_addr()?;
        let asks_now = self
            .kernel
            .query_origin(self.client.0, local, self.netns.cookie())
            .map_err(io::Error::other)?;
        if asks_now.is_some_and(|now| {
            now.socket_cookie == self.origin.socket_cookie && now.original == self.origin.original
        }) {
            self.socket.try_send_to(bytes, self.client.0)?;
        }
        Ok(())
    }
}

/// The sockets of `netns` at the ports for DNS that `addresses` names.
pub(super) fn bound_sockets(
    kernel: &Kernel,
    netns: &Netns,
    addresses: ProxyAddresses,
) -> Result<Vec<OwnedFd>, FlowError> {
    let mut sockets = Vec::new();
    for loopback in [addresses.v4_address(), addresses.v6_address()] {
        if loopback.is_ipv6() && addresses.v6 == 0 {
            continue;
        }
        for port in addresses.dns_ports() {
            match bound_socket(kernel, netns, SocketAddr::new(loopback.ip(), port)) {
                Err(FlowError::Listen { source, .. }) if is_without_ipv6(&source) => break,
                bound => sockets.push(bound?),
            }
        }
    }
    Ok(sockets)
}

/// Whether `sockets` are all that there are at the ports for DNS of `earlier`, where the agent listens at `addresses`.
pub(super) fn is_complete(sockets: &[OwnedFd], addresses: ProxyAddresses, earlier: ProxyAddresses) -> bool {
    let families = if addresses.v6 == 0 { 1 } else { 2 };
    earlier.dns != 0 && sockets.len() == earlier.dns_ports().count() * families
}

/// Chooses ports for DNS that are free in `netns`, and binds them: those of an earlier agent, which sockets of workloads
/// that ask already still know, else any. Not among those that the kernel gives to clients: one
/// of these would be taken, now or in another namespace, by a socket that no hook sees bind.
pub(super) fn choose_ports(
    kernel: &Kernel,
    netns: &Netns,
    addresses: ProxyAddresses,
) -> Result<(ProxyAddresses, Vec<OwnedFd>), FlowError> {
    let clients = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let lowest_of_clients: u16 = clients
        .split_whitespace()
        .next()
        .and_then(|low| low.parse().ok())
        .unwrap_or(32_768);
    let end = if lowest_of_clients > LOWEST_PORT + 1024 {
        lowest_of_clients
    } else {
        65_000
    };
    let mut earlier = Some(kernel.proxy()?.dns).filter(|dns| *dns != 0);
    let mut attempt = 0;
    loop {
        attempt += 1;
        let dns = earlier
            .take()
            .unwrap_or_else(|| rand::random_range(LOWEST_PORT..end - 8));
        let wanted = ProxyAddresses { dns, ..addresses };
        let overlaps = wanted
            .dns_ports()
            .any(|port| port == addresses.v4 || port == addresses.v6);
        match bound_sockets(kernel, netns, wanted) {
            Ok(_) if overlaps => {}
            Ok(sockets) => return Ok((wanted, sockets)),
            // EPERM: another agent's port.
            Err(FlowError::Listen { source, .. })
                if attempt < ATTEMPTS
                    && matches!(source.raw_os_error(), Some(libc::EADDRINUSE | libc::EPERM)) => {}
            Err(error) => return Err(error),
        }
    }
}

fn bound_socket(kernel: &Kernel, netns: &Netns, address: SocketAddr) -> Result<OwnedFd, FlowError> {
    let failed = |source| FlowError::Listen {
        address,
        netns: netns.cookie(),
        source,
    };
    let socket = netns.datagram_socket(address.is_ipv6()).map_err(failed)?;
    if address.is_ipv6() {
        setsockopt(&socket, Ipv6V6Only, &true).map_err(|errno| failed(errno.into()))?;
    }
    kernel
        .with_proxy_ports(|| {
            let name = SockaddrStorage::from(address);
            bind(std::os::fd::AsRawFd::as_raw_fd(&socket), &name)
        })?
        .map_err(|errno| failed(errno.into()))?;
    Ok(socket)
}

/// Marks the sockets as the agent's and takes what comes to them.
pub(super) fn serve(
    shared: &Arc<Shared>,
    netns: &Arc<Netns>,
    sockets: Vec<OwnedFd>,
) -> Result<Vec<JoinHandle<()>>, FlowError> {
    let mut tasks = Vec::new();
    for socket in sockets {
        shared.kernel.mark_listener(&socket)?;
        let socket = UdpSocket::from_std(std::net::UdpSocket::from(socket))
            .map_err(KernelError::system("polling a socket for DNS"))?;
        tasks.push(tokio::spawn(receive_all(
            Arc::downgrade(shared),
            Arc::new(socket),
            Arc::clone(netns),
        )));
    }
    Ok(tasks)
}

async fn receive_all(shared: Weak<Shared>, socket: Arc<UdpSocket>, netns: Arc<Netns>) {
    let mut buffer = vec![0; LONGEST_QUERY + 1];
    loop {
        let received = socket.recv_from(&mut buffer).await;
        let Some(shared) = shared.upgrade() else {
            return;
        };
        match received {
            Ok((length, peer)) => {
                let bytes = buffer.get(..length).filter(|bytes| bytes.len() <= LONGEST_QUERY);
                if let Some(bytes) = bytes
                    && let Some(query) = explain(&shared, bytes, peer, &socket, &netns)
                    && shared.queries.try_send(query).is_err()
                {
                    // Whoever asks will ask again.
                    tracing::warn!("more DNS queries wait than the agent answers; one was dropped");
                }
            }
            // What the workload's socket said to an answer that came too late (ICMP) is told here.
            Err(error) => tracing::debug!(%error, "a socket for DNS"),
        }
    }
}

/// The query of a datagram, or nothing if it was not steered here.
fn explain(
    shared: &Shared,
    bytes: &[u8],
    peer: SocketAddr,
    socket: &Arc<UdpSocket>,
    netns: &Arc<Netns>,
) -> Option<Query> {
    let origin = socket
        .local_addr()
        .map_err(KernelError::system("getsockname"))
        .and_then(|local| shared.kernel.query_origin(peer, local, netns.cookie()));
    match origin {
        Ok(Some(origin)) => Some(Query {
            bytes: bytes.to_vec(),
            origin,
            netns: Arc::clone(netns),
            client: ClientAddr(peer),
            kernel: Arc::clone(&shared.kernel),
            socket: Arc::clone(socket),
        }),
        unexplained => {
            shared.count_unexplained();
            let error = unexplained.err();
            tracing::debug!(%peer, error = error.map(|error| error.to_string()), "dropped a datagram of unknown origin");
            None
        }
    }
}

#[cfg(test)]
mod tests;
