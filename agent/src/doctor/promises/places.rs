//! Cgroups that are new, network namespaces without a listener, and the proxy's ports.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::super::Tried;
use super::super::scene::{Scene, Trouble};
use super::super::workload::{Deed, Outcome, SocketKind, Workload};
use super::{Found, Promise, refused};
use crate::kernel::Standing;
use crate::kernel::netns::Netns;

pub(super) const PROMISES: &[Promise] = &[
    Promise {
        title: "a cgroup is classified as it is made",
        programs: &["tollgate_mkdir"],
        broken: "the first connections of a new job are refused until the agent has seen its cgroup; while the agent is away, \
                 nothing that is new gets through",
        attempt: new_cgroup,
    },
    Promise {
        title: "a cgroup is forgotten as it is removed",
        programs: &["tollgate_rmdir"],
        broken: "while the agent is away, what is known of cgroups that are gone stays, until there is no room for new ones",
        attempt: removed_cgroup,
    },
    Promise {
        title: "a process in a cgroup that is not classified yet is refused",
        programs: &["tollgate_connect4", "tollgate_connect6"],
        broken: "a job that starts fast reaches what is protected before the agent has seen its cgroup",
        attempt: pending,
    },
    Promise {
        title: "without the agent's listener a connection is refused",
        programs: &["tollgate_connect4", "tollgate_connect6"],
        broken: "where the agent does not listen, workloads reach what is protected",
        attempt: no_listener,
    },
    Promise {
        title: "the agent listens in a new network namespace",
        programs: &[],
        broken: "jobs in network namespaces of their own (containers) cannot reach their services",
        attempt: new_namespace,
    },
    Promise {
        title: "the agent takes connections of this host, or they are refused",
        programs: &["tollgate_connect4"],
        broken: "connections of workloads go somewhere else than to the agent",
        attempt: this_host,
    },
    Promise {
        title: "nobody else can bind the proxy's port on IPv4",
        programs: &["tollgate_bind4"],
        broken: "while the agent is away, somebody else can take the connections of workloads",
        attempt: |scene| bound(scene, false),
    },
    Promise {
        title: "nobody else can bind the proxy's port on IPv6",
        programs: &["tollgate_bind6"],
        broken: "while the agent is away, somebody else can take the connections of workloads",
        attempt: |scene| bound(scene, true),
    },
];

fn new_cgroup(scene: &mut Scene) -> Result<Found, Trouble> {
    if !scene.visit.patterns_watch_the_root()? {
        return Ok(Found::NotHere("there is no policy".to_owned()));
    }
    let made = scene.cgroups.beside();
    std::fs::create_dir(&made)?;
    let standing = scene.cgroups.id_of(&made).map(|id| scene.visit.standing_of(id));
    std::fs::remove_dir(&made)?;
    Ok(match standing.transpose()?.flatten() {
        Some(Standing::Managed(_)) => Found::Holds("it is managed".to_owned()),
        Some(Standing::Unmanaged { .. }) => Found::Holds("it is not managed".to_owned()),
        None => Found::Broken("nothing is known of it".to_owned()),
    })
}

fn removed_cgroup(scene: &mut Scene) -> Result<Found, Trouble> {
    let made = scene.cgroups.beside();
    std::fs::create_dir(&made)?;
    let id = scene.cgroups.id_of(&made);
    let told = id.map(|id| scene.visit.leave_free(id, false));
    std::fs::remove_dir(&made)?;
    told.transpose()?;
    let left = id.map(|id| scene.visit.standing_of(id)).transpose()?.flatten();
    Ok(match left {
        None => Found::Holds("nothing is known of it any more".to_owned()),
        Some(_) => Found::Broken("it is still known".to_owned()),
    })
}

fn pending(scene: &mut Scene) -> Result<Found, Trouble> {
    for destination in scene.destinations() {
        scene.visit.protect_for_pending(&destination)?;
    }
    let cgroup = scene.cgroups.nursery.join("new");
    if !cgroup.exists() {
        std::fs::create_dir(&cgroup)?;
    }
    // It has been classified as it was made, if a pattern leads here.
    if let Some(id) = scene.cgroups.id_of(&cgroup) {
        scene.visit.forget(id)?;
    }
    let mut workload = Workload::start(&scene.launcher, &scene.stage, Some(&cgroup))?;
    let mut tried = Vec::new();
    for (name, v6) in [("IPv4", false), ("IPv6", true)] {
        let (_, outcome) = workload.connect(scene.target(v6))?;
        tried.push((name, refused(&outcome, Errno::EPERM)));
    }
    Ok(Found::all(tried))
}

fn no_listener(scene: &mut Scene) -> Result<Found, Trouble> {
    if scene.tried == Tried::RunningAgent {
        // The first connect would wait for it.
        return Ok(Found::NotHere("the agent is there to listen".to_owned()));
    }
    let namespace = Netns::create()?;
    let mut workload = Workload::start(&scene.launcher, &namespace, Some(&scene.cgroups.job))?;
    let mut tried = Vec::new();
    for (name, v6) in [("IPv4", false), ("IPv6", true)] {
        let (_, outcome) = workload.connect(scene.target(v6))?;
        // An agent that has just been killed is waited for, in vain, until TCP or the workload gives up.
        let errno = [Errno::ETIMEDOUT, Errno::EINPROGRESS]
            .into_iter()
            .find(|errno| outcome.is(*errno))
            .unwrap_or(Errno::ECONNREFUSED);
        tried.push((name, refused(&outcome, errno)));
    }
    Ok(Found::all(tried))
}

fn new_namespace(scene: &mut Scene) -> Result<Found, Trouble> {
    const LIMIT: Duration = Duration::from_secs(2);
    if scene.tried != Tried::RunningAgent {
        return Ok(Found::NotHere("no agent is running".to_owned()));
    }
    let to = scene.target(false);
    let since = Instant::now();
    let mut attempts = 0_u32;
    loop {
        attempts += 1;
        let inside = scene.inside_elsewhere()?;
        let (socket, outcome) = inside.connect(to)?;
        match outcome {
            Outcome::Done => {
                let peer = inside.tell(Deed::Peer { socket })?;
                return Ok(if peer == Outcome::Peer(to) {
                    Found::Holds(format!("by the connection number {attempts}"))
                } else {
                    Found::Broken(peer.words())
                });
            }
            refused if since.elapsed() > LIMIT => return Ok(Found::Broken(refused.words())),
            _ => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// A running agent accepts, finds no service behind the doctor's policy, and closes.
fn this_host(scene: &mut Scene) -> Result<Found, Trouble> {
    let host = Netns::own()?;
    let to = scene.target(false);
    let mut workload = Workload::start(&scene.launcher, &host, Some(&scene.cgroups.job))?;
    let (socket, outcome) = workload.connect(to)?;
    if scene.tried != Tried::RunningAgent {
        return Ok(refused(&outcome, Errno::ECONNREFUSED));
    }
    if outcome != Outcome::Done {
        return Ok(Found::Broken(outcome.words()));
    }
    Ok(match workload.tell(Deed::AwaitEnd { socket })? {
        Outcome::Done => Found::Holds("the agent takes them".to_owned()),
        other => Found::Broken(format!("the agent does not accept: {}", other.words())),
    })
}

fn bound(scene: &mut Scene, v6: bool) -> Result<Found, Trouble> {
    let ip = if v6 {
        IpAddr::from(Ipv6Addr::LOCALHOST)
    } else {
        IpAddr::from(Ipv4Addr::LOCALHOST)
    };
    let stream = if v6 { scene.proxy.v6 } else { scene.proxy.v4 };
    let mut tried = Vec::new();
    for (name, kind, port) in [
        ("TCP", SocketKind::Tcp, stream),
        ("UDP", SocketKind::Udp, scene.proxy.dns),
    ] {
        if port == 0 {
            tried.push((name, Found::NotHere("the agent has no port there".to_owned())));
            continue;
        }
        // In another namespace than the agent's, by somebody who is no workload.
        let outside = scene.outside_elsewhere()?;
        let (socket, _) = outside.open(kind, v6)?;
        let to = SocketAddr::new(ip, port);
        tried.push((
            name,
            refused(&outside.tell(Deed::Bind { socket, to })?, Errno::EPERM),
        ));
    }
    Ok(Found::all(tried))
}
