//! TCP by other doors than a plain `connect()`.

use super::super::vector::Outcome::{Proxied, Stopped};
use super::super::vector::{Vector, When};
use super::by;

const BROUGHT_IN: &str = "programs on cgroups go by the cgroup that a socket was made in, and this one was made, or connected, \
                          before the job was managed; the agent looks every five seconds, ends what it finds, and records it";
const START_IN_IT: &str = "start jobs in their cgroup, as systemd does, and pass no connected socket into it";

pub(super) const VECTORS: &[Vector] = &[
    Vector::new("tcp/plain", "a plain connection over IPv4", Proxied),
    Vector::new("tcp/plain6", "a plain connection over IPv6", Proxied),
    Vector::new("tcp/v4_mapped", "an IPv4 address as `::ffff:a.b.c.d`", Proxied),
    Vector::new(
        "tcp/own_addresses",
        "a service of this host under each of its addresses, `0.0.0.0`, `127/8`, `::`, `::1`, link-local",
        Proxied,
    ),
    Vector::new(
        "tcp/bound_source",
        "a source address that is bound first",
        Proxied,
    ),
    Vector::new("tcp/bind_to_device", "`SO_BINDTODEVICE`", Stopped(by::CONNECT)),
    Vector::new(
        "tcp/unspec_reconnect",
        "connect elsewhere, disconnect with `AF_UNSPEC`, connect again",
        Proxied,
    ),
    Vector::new(
        "tcp/flipping_address",
        "an address that another process changes while the kernel reads it",
        Proxied,
    ),
    Vector::new(
        "tcp/fastopen_sendto",
        "TCP Fast Open with `sendto(MSG_FASTOPEN)`",
        Proxied,
    ),
    Vector::new(
        "tcp/fastopen_connect",
        "TCP Fast Open with `TCP_FASTOPEN_CONNECT`",
        Proxied,
    ),
    Vector::new(
        "tcp/fastopen_unspec",
        "TCP Fast Open to an address without a family",
        Proxied,
    ),
    Vector::new("tcp/mptcp", "MPTCP", Stopped(by::SOCKET)),
    Vector::new(
        "tcp/mptcp_before_move",
        "an MPTCP socket from before the job was managed",
        Proxied,
    )
    .with_lsm(Stopped(by::SECURITY)),
    Vector::new(
        "tcp/tcp_repair",
        "`TCP_REPAIR`: a connection that is put together instead of made",
        Stopped(by::CONNECT),
    )
    .root_only("CAP_NET_ADMIN"),
    Vector::new(
        "tcp/made_before_move",
        "a socket from before the job was managed",
        Proxied,
    ),
    Vector::open(
        "tcp/fastopen_before_move",
        "`TCP_FASTOPEN_CONNECT` before the job was managed, the first byte after it",
        BROUGHT_IN,
        START_IN_IT,
    )
    .with_lsm(Stopped(by::SECURITY)),
    Vector::open(
        "tcp/connected_before_move",
        "a connection from before the job was managed",
        BROUGHT_IN,
        START_IN_IT,
    )
    .with_lsm(Stopped(by::SECURITY)),
    Vector::new(
        "tcp/connected_before_agent",
        "a connection from before the agent was started",
        Stopped(by::EARLIER),
    )
    .with_lsm(Stopped(by::EARLIER_OR_USED))
    .when(When::Across),
    Vector::open(
        "tcp/unlisted_address",
        "another address of the protected host that no policy names",
        "addresses are what is protected, and nothing tells that two of them are one host",
        "name every address of the service; `egress = \"deny\"`",
    ),
    Vector::new(
        "tcp/unlisted_address_under_deny",
        "the same under `egress = \"deny\"`",
        Stopped(by::CONNECT),
    )
    .under_deny(),
];
