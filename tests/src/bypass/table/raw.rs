//! Sockets that write headers of their own, or speak another transport.

use super::super::vector::Outcome::{Proxied, Stopped};
use super::super::vector::Vector;
use super::by;

pub(super) const VECTORS: &[Vector] = &[
    Vector::new("raw/ip_raw", "a raw IPv4 socket", Stopped(by::SOCKET)).root_only("CAP_NET_RAW"),
    Vector::new("raw/udp_raw6", "a raw IPv6 socket", Stopped(by::SOCKET)).root_only("CAP_NET_RAW"),
    Vector::open(
        "raw/made_before_move",
        "a raw socket from before the job was managed",
        "programs on cgroups go by the cgroup that a socket was made in",
        "start jobs in their cgroup; drop CAP_NET_RAW",
    )
    .root_only("CAP_NET_RAW")
    .with_lsm(Stopped(by::SECURITY)),
    Vector::open(
        "raw/packet_socket",
        "a packet socket (`AF_PACKET`)",
        "its frames pass no program on cgroups",
        "drop CAP_NET_RAW (`CapabilityBoundingSet=`); `RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6`",
    )
    .root_only("CAP_NET_RAW")
    .with_lsm(Stopped(by::SECURITY)),
    Vector::open(
        "raw/tun_device",
        "packets out of a TUN device of its own, which the host forwards",
        "the host takes them for a stranger's; needs a host that forwards, or root's right to make it one",
        "drop CAP_NET_ADMIN; `PrivateDevices=yes`",
    )
    .root_only("CAP_NET_ADMIN")
    .needs("/dev/net/tun"),
    Vector::new("raw/sctp", "SCTP", Stopped(by::SOCKET)).needs("SCTP in the kernel"),
    Vector::new("raw/sctp_seqpacket", "SCTP, one to many", Stopped(by::SOCKET)).needs("SCTP in the kernel"),
    Vector::new("raw/dccp", "DCCP", Stopped(by::SOCKET)).needs("DCCP in the kernel, which has it up to 6.15"),
    Vector::new(
        "raw/smc",
        "SMC, which falls back to a TCP connection of the kernel's own",
        Proxied,
    )
    .with_lsm(Stopped(by::SECURITY))
    .needs("SMC in the kernel"),
    Vector::open(
        "raw/vsock",
        "a service of this host, or of its hypervisor, over `AF_VSOCK`",
        "the family has no addresses that a policy could name",
        "`RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6`",
    )
    .needs("vsock_loopback in the kernel")
    .with_lsm(Stopped(by::SECURITY)),
];
