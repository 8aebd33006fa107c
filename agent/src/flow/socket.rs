//! Sockets at the proxy's ports.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use nix::sys::socket::sockopt::{Ipv6V6Only, ReuseAddr};
use nix::sys::socket::{SockaddrStorage, bind, setsockopt};

use super::FlowError;
use crate::kernel::netns::Netns;
use crate::kernel::{Kernel, KernelError};

/// A socket of `netns` bound to `address`, as the thread that may.
pub(super) fn bound_socket(
    kernel: &Kernel,
    netns: &Netns,
    address: SocketAddr,
) -> Result<OwnedFd, FlowError> {
    let failed = |source| FlowError::Listen {
        address,
        netns: netns.cookie(),
        source,
    };
    let socket = netns.stream_socket(address.is_ipv6()).map_err(failed)?;
    setsockopt(&socket, ReuseAddr, &true).map_err(|errno| failed(errno.into()))?;
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

/// As [`bound_socket`]. Where `wanted` names no port, `earlier` (0: none) is tried first: connections that an agent before
/// this one redirected there name it.
pub(super) fn bound_as_before(
    kernel: &Kernel,
    netns: &Netns,
    wanted: SocketAddr,
    earlier: u16,
) -> Result<OwnedFd, FlowError> {
    if wanted.port() == 0 && earlier != 0 {
        match bound_socket(kernel, netns, SocketAddr::new(wanted.ip(), earlier)) {
            // Somebody has got it meanwhile; EPERM: another agent.
            Err(FlowError::Listen { source, .. })
                if matches!(source.raw_os_error(), Some(libc::EADDRINUSE | libc::EPERM)) => {}
            bound => return bound,
        }
    }
    bound_socket(kernel, netns, wanted)
}

pub(super) fn advice(error: &io::Error) -> &'static str {
    if error.kind() == io::ErrorKind::AddrInUse {
        "; stop the program that listens there, or leave `port` out of [listen]: then a free one is taken"
    } else {
        ""
    }
}

pub(super) fn is_without_ipv6(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EADDRNOTAVAIL | libc::EAFNOSUPPORT)
    )
}

pub(super) fn port_of(socket: &OwnedFd) -> Result<u16, FlowError> {
    let name: SockaddrStorage = nix::sys::socket::getsockname(std::os::fd::AsRawFd::as_raw_fd(socket))
        .map_err(|errno| KernelError::system("getsockname")(errno.into()))?;
    let port = name
        .as_sockaddr_in()
        .map(nix::sys::socket::SockaddrIn::port)
        .or_else(|| name.as_sockaddr_in6().map(nix::sys::socket::SockaddrIn6::port));
    port.ok_or_else(|| {
        KernelError::system("getsockname")(io::Error::other("an address of another family")).into()
    })
}
