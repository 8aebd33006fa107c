//! The one place where connections to targets are made: in the flow's own network namespace, outside managed cgroups.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream, UnixStream};

use super::netns::Netns;
use super::sockets::set_keepalive;
use crate::model::SocketPath;

/// Connects to `address` from `namespace`, or fails after `limit` with [`io::ErrorKind::TimedOut`].
///
/// The connection is made in the agent's cgroup, which [`super::Kernel`] refuses to manage, so the kernel side leaves
/// it alone. Nagle's algorithm is off, and keepalive finds a dead target in about two minutes.
pub async fn connect(namespace: &Netns, address: SocketAddr, limit: Duration) -> io::Result<TcpStream> {
    let socket = namespace.stream_socket(address.is_ipv6())?;
    let socket = TcpSocket::from_std_stream(std::net::TcpStream::from(socket));
    let stream = tokio::time::timeout(limit, socket.connect(address))
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    stream.set_nodelay(true)?;
    set_keepalive(&stream, Duration::from_mins(1), Duration::from_secs(15), 4)?;
    Ok(stream)
}

/// Connects to the unix socket at `path` in the agent's own mounts, or fails after `limit` with
/// [`io::ErrorKind::TimedOut`]. Its server sees the agent's user.
pub async fn connect_unix(path: &SocketPath, limit: Duration) -> io::Result<UnixStream> {
    tokio::time::timeout(limit, UnixStream::connect(path.as_path()))
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}
