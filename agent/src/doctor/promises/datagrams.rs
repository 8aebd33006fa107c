//! Datagrams of a workload to what is protected: QUIC, and whatever else is not TCP.

use std::net::SocketAddr;

use nix::errno::Errno;

use super::super::scene::{Scene, TARGET, Trouble};
use super::super::workload::{Deed, Outcome, SocketKind};
use super::{Found, Promise, refused};

const OPEN: &str = "workloads reach what is protected over UDP (QUIC, DNS), past the proxy";

pub(super) const PROMISES: &[Promise] = &[
    Promise {
        title: "a UDP socket cannot be connected to what is protected",
        programs: &["tollgate_connect4", "tollgate_connect6"],
        broken: OPEN,
        attempt: connected,
    },
    Promise {
        title: "a datagram to what is protected does not arrive",
        programs: &[],
        broken: OPEN,
        attempt: sent,
    },
];

fn connected(scene: &mut Scene) -> Result<Found, Trouble> {
    let mut tried = Vec::new();
    for (name, v6) in [("IPv4", false), ("IPv6", true)] {
        let to = scene.target(v6);
        let inside = scene.inside()?;
        let (socket, _) = inside.open(SocketKind::Udp, v6)?;
        tried.push((
            name,
            refused(&inside.tell(Deed::Connect { socket, to })?, Errno::EPERM),
        ));
    }
    Ok(Found::all(tried))
}

fn sent(scene: &mut Scene) -> Result<Found, Trouble> {
    let mapped = SocketAddr::from((TARGET.to_ipv6_mapped(), scene.port));
    let mut tried = Vec::new();
    for (name, to) in [
        ("IPv4", scene.target(false)),
        ("IPv4 from an IPv6 socket", mapped),
    ] {
        let outcome = scene.inside()?.datagram(to)?;
        let found = if scene.datagram_at_target()? {
            Found::Broken("it arrived".to_owned())
        } else if outcome == Outcome::Done {
            Found::Holds("it is dropped".to_owned())
        } else {
            refused(&outcome, Errno::EPERM)
        };
        tried.push((name, found));
    }
    Ok(Found::all(tried))
}
