//! TCP connections of a workload to what is protected.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use nix::errno::Errno;

use super::super::scene::{Scene, TARGET, Trouble};
use super::super::workload::{Deed, Outcome, Workload};
use super::{Found, Promise, refused};
use crate::config::Egress;
use crate::kernel::Rules;

const OPEN: &str = "workloads reach what is protected without the proxy";

pub(super) const PROMISES: &[Promise] = &[
    Promise {
        title: "a connection over IPv4 goes to the proxy",
        programs: &["tollgate_connect4"],
        broken: OPEN,
        attempt: |scene| redirected(scene, SocketAddr::from((TARGET, scene.port)), false),
    },
    Promise {
        title: "a connection over IPv6 goes to the proxy",
        programs: &["tollgate_connect6"],
        broken: OPEN,
        attempt: |scene| redirected(scene, SocketAddr::from((Ipv6Addr::LOCALHOST, scene.port)), true),
    },
    Promise {
        title: "so does one to an IPv4 address from an IPv6 socket",
        programs: &["tollgate_connect6"],
        broken: OPEN,
        attempt: |scene| {
            redirected(
                scene,
                SocketAddr::from((TARGET.to_ipv6_mapped(), scene.port)),
                false,
            )
        },
    },
    Promise {
        title: "so do those to 0.0.0.0 and ::, which mean this host",
        programs: &["tollgate_connect4", "tollgate_connect6"],
        broken: OPEN,
        attempt: unspecified,
    },
    Promise {
        title: "its program sees the IPv4 address that it asked for",
        programs: &["tollgate_peer4"],
        broken: "programs that compare the address that they are connected to fail",
        attempt: |scene| peer_name(scene, false),
    },
    Promise {
        title: "its program sees the IPv6 address that it asked for",
        programs: &["tollgate_peer6"],
        broken: "programs that compare the address that they are connected to fail",
        attempt: |scene| peer_name(scene, true),
    },
    Promise {
        title: "the proxy is told who connects, and where to",
        programs: &["tollgate_egress"],
        broken: "the agent closes every redirected connection, because it cannot know whose it is",
        attempt: explained,
    },
    Promise {
        title: "a connection from before the cgroup was managed is cut off",
        programs: &["tollgate_egress"],
        broken: "connections that are open when a policy begins to count go on past the proxy",
        attempt: from_before,
    },
    Promise {
        title: "what no service names is refused under egress = \"deny\"",
        programs: &["tollgate_connect4", "tollgate_connect6"],
        broken: "workloads reach what no service names",
        attempt: unnamed,
    },
];

fn redirected(scene: &mut Scene, to: SocketAddr, v6: bool) -> Result<Found, Trouble> {
    let (_, outcome) = scene.inside()?.connect(to)?;
    if v6 && !scene.has_v6() {
        return Ok(refused(&outcome, Errno::ECONNREFUSED));
    }
    if outcome != Outcome::Done {
        return Ok(Found::Broken(outcome.words()));
    }
    if scene.at_target(v6)?.is_some() {
        return Ok(Found::Broken(format!("{to} was reached directly")));
    }
    Ok(match scene.at_proxy(v6)? {
        Some(_) => Found::Holds(format!("tried with {to}")),
        None => Found::Broken("it reached neither the proxy nor its destination".to_owned()),
    })
}

fn unspecified(scene: &mut Scene) -> Result<Found, Trouble> {
    let port = scene.port;
    let v4 = redirected(scene, SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)), false)?;
    let v6 = redirected(scene, SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)), true)?;
    Ok(Found::all([("0.0.0.0", v4), ("::", v6)]))
}

fn peer_name(scene: &mut Scene, v6: bool) -> Result<Found, Trouble> {
    if v6 && !scene.has_v6() {
        return Ok(Found::NotHere("the agent does not listen on IPv6".to_owned()));
    }
    let to = scene.target(v6);
    let inside = scene.inside()?;
    let (socket, connected) = inside.connect(to)?;
    if connected != Outcome::Done {
        return Ok(Found::Broken(connected.words()));
    }
    let peer = inside.tell(Deed::Peer { socket })?;
    // Where nothing is redirected the name is right as well, and says nothing.
    if scene.at_proxy(v6)?.is_none() {
        return Ok(Found::Broken("the connection did not go to the proxy".to_owned()));
    }
    Ok(if peer == Outcome::Peer(to) {
        Found::Holds(peer.words())
    } else {
        Found::Broken(format!("{}; it asked for {to}", peer.words()))
    })
}

fn explained(scene: &mut Scene) -> Result<Found, Trouble> {
    let to = scene.target(false);
    let (_, connected) = scene.inside()?.connect(to)?;
    let Some((stream, peer)) = scene.at_proxy(false)? else {
        return Ok(Found::Broken(connected.words()));
    };
    let flow = scene
        .visit
        .take_flow(peer, stream.local_addr()?, scene.stage.cookie())?;
    let policy = scene.visit.policy();
    Ok(match flow {
        Some(flow) if flow.original.0 == to && flow.policy == policy => {
            Found::Holds(format!("process {}, to {to}", flow.tgid))
        }
        Some(flow) => Found::Broken(format!(
            "it is told {} under the policy {}",
            flow.original, flow.policy
        )),
        None => Found::Broken("nothing is told of the connection".to_owned()),
    })
}

fn from_before(scene: &mut Scene) -> Result<Found, Trouble> {
    let to = scene.target(false);
    let mut workload = Workload::start(&scene.launcher, &scene.stage, Some(&scene.cgroups.job))?;
    scene.visit.release()?;
    let (socket, connected) = workload.connect(to)?;
    let Some((stream, _)) = scene.at_target(false)? else {
        return Ok(Found::Broken(format!(
            "the connection did not come about: {}",
            connected.words()
        )));
    };
    for destination in scene.destinations() {
        scene.visit.protect(&destination)?;
    }
    // A socket stays its cgroup's. Who is free may use it, also where security hooks judge each use.
    workload.enter(&scene.cgroups.nursery)?;
    workload.tell(Deed::Send { socket })?;
    Ok(
        if super::super::scene::wait(&stream, std::time::Duration::from_millis(50))? {
            Found::Broken("what it sent arrived".to_owned())
        } else {
            Found::Holds("nothing that it sends arrives".to_owned())
        },
    )
}

fn unnamed(scene: &mut Scene) -> Result<Found, Trouble> {
    scene.visit.release()?;
    scene.visit.set_policy(Rules {
        egress: Egress::Deny,
        dns: false,
    })?;
    let mut tried = Vec::new();
    for (name, ip) in [
        ("IPv4", IpAddr::V4(TARGET)),
        ("IPv6", IpAddr::V6(Ipv6Addr::LOCALHOST)),
    ] {
        let to = SocketAddr::new(ip, scene.port);
        let (_, outcome) = scene.inside()?.connect(to)?;
        tried.push((name, refused(&outcome, Errno::EPERM)));
    }
    Ok(Found::all(tried))
}
