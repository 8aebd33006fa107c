//! Namespaces, and the host's network as root may change it.

use super::super::vector::Outcome::{Proxied, Race, Stopped};
use super::super::vector::Vector;
use super::by;

const NET_ADMIN: &str = "CAP_NET_ADMIN";
const HEARD_LATER: &str = "the agent hears of a new address a moment after the kernel has it";
const NO_ADMIN: &str = "drop CAP_NET_ADMIN";

pub(super) const VECTORS: &[Vector] = &[
    Vector::new(
        "space/socket_kept",
        "a socket of the host's network namespace, connected from another one",
        Proxied,
    ),
    Vector::new(
        "space/mounts_and_pids",
        "mount and pid namespaces of its own",
        Proxied,
    ),
    Vector::new(
        "space/own_network",
        "a network namespace of its own, wired to the host",
        Proxied,
    )
    .root_only("CAP_SYS_ADMIN"),
    Vector::new(
        "space/servers_network",
        "into the network namespace of the server, to its address",
        Proxied,
    )
    .root_only("CAP_SYS_ADMIN"),
    Vector::open(
        "space/servers_loopback",
        "into the network namespace of the server, to 127.0.0.1",
        "what 127.0.0.1 is depends on the namespace, and the policy names the server by another address",
        "drop CAP_SYS_ADMIN; name `127.0.0.1` in the policy too",
    )
    .root_only("CAP_SYS_ADMIN"),
    Vector::new(
        "space/new_address",
        "another address for this host, used at once",
        Race,
    )
    .root_only(NET_ADMIN)
    .because(HEARD_LATER, NO_ADMIN),
    Vector::new(
        "space/new_local_route",
        "a network that is routed to this host, used at once",
        Race,
    )
    .root_only(NET_ADMIN)
    .because(HEARD_LATER, NO_ADMIN),
    Vector::new(
        "space/translated_address",
        "nobody's address, translated into the protected one by netfilter",
        Stopped(by::PACKET),
    )
    .root_only(NET_ADMIN)
    .needs("nft"),
];
