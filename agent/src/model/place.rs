//! Where connections begin and where they go.

use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::{ClientAddr, SocketPath};

/// Where a connection goes: an address of a network, or a unix socket of this host.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// An address.
    Network(SocketAddr),
    /// A unix socket.
    Unix(SocketPath),
}

/// Where a connection comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// An address in the workload's network namespace.
    Network(ClientAddr),
    /// A unix socket of this process; clients seldom give theirs a name.
    Process(u32),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(address) => fmt::Display::fmt(address, f),
            Self::Unix(path) => fmt::Display::fmt(path, f),
        }
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(address) => fmt::Display::fmt(address, f),
            Self::Process(pid) => write!(f, "unix:pid {pid}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_and_callers_are_named_as_records_have_them() {
        let address: SocketAddr = "10.0.4.7:5432".parse().unwrap();
        assert_eq!(Place::Network(address).to_string(), "10.0.4.7:5432");
        let path = SocketPath::parse("/run/postgresql/.s.PGSQL.5432").unwrap();
        assert_eq!(
            Place::Unix(path).to_string(),
            "unix:/run/postgresql/.s.PGSQL.5432"
        );
        assert_eq!(Caller::Network(ClientAddr(address)).to_string(), "10.0.4.7:5432");
        assert_eq!(Caller::Process(7).to_string(), "unix:pid 7");
    }
}
