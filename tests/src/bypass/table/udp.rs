//! Datagrams to a protected destination, and what travels in questions to name servers and pings.

use super::super::vector::Outcome::Stopped;
use super::super::vector::Vector;
use super::by;

const OTHER_KERNELS: &str = "programs on cgroups go by the cgroup that a socket was made in";

pub(super) const VECTORS: &[Vector] = &[
    Vector::new("udp/connected", "a connected UDP socket", Stopped(by::CONNECT)),
    Vector::new("udp/unconnected", "`sendto()` over IPv4", Stopped(by::DATAGRAM)),
    Vector::new("udp/unconnected6", "`sendto()` over IPv6", Stopped(by::DATAGRAM)),
    Vector::new(
        "udp/v4_mapped",
        "`sendto()` to `::ffff:a.b.c.d`",
        Stopped(by::DATAGRAM),
    ),
    Vector::new(
        "udp/connected_elsewhere",
        "a socket that is connected elsewhere",
        Stopped(by::DATAGRAM),
    ),
    Vector::new(
        "udp/quic",
        "QUIC: UDP to port 443 of a protected destination",
        Stopped(by::DATAGRAM),
    ),
    Vector::new(
        "udp/fragmented",
        "a datagram that goes in fragments",
        Stopped(by::DATAGRAM),
    ),
    Vector::new("udp/udp_lite", "UDP-Lite", Stopped(by::SOCKET)),
    Vector::new(
        "udp/made_before_move",
        "a UDP socket from before the job was managed",
        Stopped(by::DATAGRAM),
    ),
    Vector::open(
        "udp/connected_before_move",
        "the same, connected before as well",
        OTHER_KERNELS,
        "start jobs in their cgroup",
    )
    .with_lsm(Stopped(by::SECURITY)),
    Vector::new(
        "udp/source_route",
        "IPv4 source routing by way of a free address",
        Stopped(by::DATAGRAM),
    )
    .root_only("CAP_NET_RAW"),
    Vector::new(
        "udp/routing_header",
        "an IPv6 segment routing header by way of a free address",
        Stopped(by::DATAGRAM),
    ),
    Vector::new(
        "udp/destination_options",
        "IPv6 extension headers before the transport's",
        Stopped(by::DATAGRAM),
    )
    .root_only("CAP_NET_RAW"),
    Vector::open(
        "udp/ping",
        "bytes in an echo request",
        "ICMP has no port: it reaches the host's kernel, and not the service",
        "`egress = \"deny\"`",
    ),
    Vector::new(
        "udp/ping_under_deny",
        "the same under `egress = \"deny\"`",
        Stopped(by::PACKET),
    )
    .under_deny(),
    Vector::new(
        "udp/dns_tunnel",
        "bytes in a question to a name server of the attacker's, under `egress = \"deny\"`",
        Stopped(by::DNS),
    )
    .under_deny(),
    Vector::new("udp/dns_tunnel_tcp", "the same over TCP", Stopped(by::CONNECT)).under_deny(),
];
