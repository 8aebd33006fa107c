//! `unix` of a service: paths of its unix sockets.

use crate::config::policy::{Endpoint, EndpointHost, Protocol};
use crate::config::reader::Wrong;
use crate::model::SocketPath;

/// One entry of `unix`.
pub(super) fn path(text: &str) -> Result<SocketPath, Wrong> {
    SocketPath::parse(text).ok_or_else(|| {
        if text.starts_with('@') {
            Wrong::new(
                format!("\"{text}\" is a name without a file, which cannot be protected"),
                "have the server listen on a path, and name that",
            )
        } else {
            Wrong::new(
                format!("\"{text}\" is no path of a unix socket"),
                "write the whole path of the socket, from / and without \"//\", \".\" and \"..\"; at most 108 bytes",
            )
        }
    })
}

/// Where PostgreSQL listens by custom beside its TCP port: Debian's directory, and the one of its authors.
const DIRECTORIES: [&str; 2] = ["/run/postgresql", "/tmp"];

/// The paths of a service that names none: a server on loopback is this host's, so its unix sockets are a way round.
pub(super) fn customary(protocol: Option<Protocol>, addresses: &[Endpoint]) -> Vec<SocketPath> {
    if protocol != Some(Protocol::Postgres) {
        return Vec::new();
    }
    let mut ports: Vec<u16> = addresses
        .iter()
        .filter(|endpoint| is_loopback(&endpoint.host))
        .map(|endpoint| endpoint.port)
        .collect();
    ports.sort_unstable();
    ports.dedup();
    ports
        .into_iter()
        .flat_map(|port| DIRECTORIES.map(|directory| format!("{directory}/.s.PGSQL.{port}")))
        .filter_map(|path| SocketPath::parse(&path))
        .collect()
}

fn is_loopback(host: &EndpointHost) -> bool {
    match host {
        EndpointHost::Name(name) => name == "localhost" || name.ends_with(".localhost"),
        EndpointHost::Net(net) => net.addr().is_loopback() || net.addr().is_unspecified(),
    }
}
