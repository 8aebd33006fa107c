//! Processes under no policy notice nothing.

use std::net::{Ipv4Addr, SocketAddr};

use super::super::scene::{Scene, Trouble};
use super::super::workload::{Deed, Outcome, SocketKind};
use super::{Found, Promise};

const BROKEN: &str = "processes that no policy names are disturbed";

pub(super) const PROMISES: &[Promise] = &[
    Promise {
        title: "a process under no policy connects directly",
        programs: &[],
        broken: BROKEN,
        attempt: connects,
    },
    Promise {
        title: "a process under no policy sends datagrams, binds, and gets raw sockets",
        programs: &[],
        broken: BROKEN,
        attempt: everything_else,
    },
];

fn connects(scene: &mut Scene) -> Result<Found, Trouble> {
    let mut tried = Vec::new();
    for (name, v6) in [("IPv4", false), ("IPv6", true)] {
        let to = scene.target(v6);
        let outside = scene.outside()?;
        let (socket, outcome) = outside.connect(to)?;
        let peer = outside.tell(Deed::Peer { socket })?;
        let found = if outcome != Outcome::Done {
            Found::Broken(outcome.words())
        } else if scene.at_target(v6)?.is_none() {
            Found::Broken("it did not reach its destination".to_owned())
        } else if peer != Outcome::Peer(to) {
            Found::Broken(peer.words())
        } else {
            Found::Holds(format!("to {to}"))
        };
        tried.push((name, found));
    }
    Ok(Found::all(tried))
}

fn everything_else(scene: &mut Scene) -> Result<Found, Trouble> {
    let to = scene.target(false);
    let sent = scene.outside()?.datagram(to)?;
    if !scene.datagram_at_target()? {
        return Ok(Found::Broken(format!(
            "its datagram did not arrive: {}",
            sent.words()
        )));
    }
    let outside = scene.outside()?;
    let (_, raw) = outside.open(SocketKind::Raw, false)?;
    let (socket, _) = outside.open(SocketKind::Tcp, false)?;
    let to = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let bound = outside.tell(Deed::Bind { socket, to })?;
    Ok(Found::all([("raw", raw), ("bind", bound)].map(
        |(what, outcome)| {
            let found = if outcome == Outcome::Done {
                Found::Holds("as ever".to_owned())
            } else {
                Found::Broken(outcome.words())
            };
            (what, found)
        },
    )))
}
