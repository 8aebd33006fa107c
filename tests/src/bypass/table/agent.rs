//! Against the agent itself, its ports, its programs and its maps.

use super::super::vector::Outcome::{Open, Proxied, Stopped};
use super::super::vector::{ByTier, Vector, When};
use super::by;

const ROOT_OWNS_IT: &str = "root owns the agent's files and may load and unload programs of the kernel";
const NO_ROOT: &str = "run jobs without root; drop CAP_BPF, CAP_SYS_ADMIN and CAP_NET_ADMIN";

/// A job without privileges is refused the first step, and its connection goes the usual way.
const fn harm(name: &'static str, title: &'static str, root: ByTier) -> Vector {
    Vector::new(name, title, Proxied).root(root).when(When::Last)
}

const OPEN: ByTier = ByTier {
    without: Open,
    lsm: Proxied,
};
const CLOSED: ByTier = ByTier {
    without: Stopped(by::CONNECT),
    lsm: Proxied,
};

pub(super) const VECTORS: &[Vector] = &[
    Vector::new(
        "agent/share_port",
        "listens on the proxy's ports beside it, with `SO_REUSEPORT`",
        Stopped(by::BIND),
    ),
    Vector::new(
        "agent/program_of_its_own",
        "a program on a cgroup of its own that changes the destination",
        Proxied,
    )
    .root_only("CAP_BPF")
    .with_lsm(Stopped(by::SECURITY)),
    Vector::open(
        "agent/read_memory",
        "reads the logins out of the agent's memory",
        ROOT_OWNS_IT,
        "run jobs without root; drop CAP_SYS_PTRACE",
    )
    .root_only("CAP_SYS_PTRACE")
    .with_lsm(Stopped(by::SECURITY)),
    Vector::new(
        "agent/while_down",
        "connects while the agent is down",
        Stopped(by::CONNECT),
    )
    .when(When::Down),
    Vector::new(
        "agent/squat_while_down",
        "takes the proxy's ports while the agent is down",
        Stopped(by::BIND),
    )
    .when(When::Down),
    Vector::new(
        "agent/listen_without_bind",
        "gets the proxy's port from the kernel, without asking for it, while the agent is down",
        Stopped(by::CONNECT),
    )
    .when(When::Down),
    harm("agent/kill", "kills the agent, then connects", CLOSED),
    harm(
        "agent/freeze",
        "stops the agent with SIGSTOP, then connects",
        CLOSED,
    ),
    harm(
        "agent/change_map",
        "writes into the map of cgroups that its own is under no policy",
        OPEN,
    )
    .because(ROOT_OWNS_IT, NO_ROOT),
    harm(
        "agent/detach",
        "detaches the programs with `BPF_LINK_DETACH`",
        OPEN,
    )
    .because(ROOT_OWNS_IT, NO_ROOT),
    harm(
        "agent/unpin",
        "removes the pins that hold the programs, and kills the agent",
        OPEN,
    )
    .because(ROOT_OWNS_IT, NO_ROOT),
];
