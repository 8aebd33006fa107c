//! DNS of a workload: the agent is asked first, so that it knows what a name stands for before the workload does.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use super::super::scene::{Scene, Trouble};
use super::super::workload::{Deed, Outcome, SocketKind};
use super::{Found, Promise};
use crate::config::Egress;
use crate::kernel::Rules;

const OPEN: &str = "the agent does not learn what names stand for: a service that moves to another address is not \
                    protected there until the agent looks itself, and DNS is a way out";
const DNS: u16 = 53;

pub(super) const PROMISES: &[Promise] = &[
    Promise {
        title: "a DNS query over IPv4 goes to the agent, the answer seems the nameserver's",
        programs: &["tollgate_send4", "tollgate_receive4"],
        broken: OPEN,
        attempt: |scene| {
            steered(
                scene,
                SocketAddr::from((Ipv4Addr::new(127, 84, 71, 53), DNS)),
                false,
            )
        },
    },
    Promise {
        title: "so it is over IPv6",
        programs: &["tollgate_send6", "tollgate_receive6"],
        broken: OPEN,
        attempt: |scene| steered(scene, SocketAddr::from((Ipv6Addr::LOCALHOST, DNS)), true),
    },
];

fn steered(scene: &mut Scene, nameserver: SocketAddr, v6: bool) -> Result<Found, Trouble> {
    if scene.proxy.dns == 0 || (v6 && !scene.has_v6()) {
        return Ok(Found::NotHere("the agent has no port for DNS there".to_owned()));
    }
    scene.visit.set_policy(Rules {
        egress: Egress::Deny,
        dns: true,
    })?;
    let inside = scene.inside()?;
    let (socket, _) = inside.open(SocketKind::Udp, v6)?;
    let sent = inside.tell(Deed::SendTo {
        socket,
        to: nameserver,
    })?;
    if scene.query_at_agent(v6)?.is_none() {
        return Ok(Found::Broken(format!(
            "it does not reach the agent: {}",
            sent.words()
        )));
    }
    let source = scene.inside()?.tell(Deed::Receive { socket })?;
    Ok(if source == Outcome::Peer(nameserver) {
        Found::Holds(source.words())
    } else {
        Found::Broken(format!("the answer: {}", source.words()))
    })
}
