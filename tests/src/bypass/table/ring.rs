//! System calls that a ring (`io_uring`) carries out.

use super::super::vector::Outcome::{Proxied, Stopped};
use super::super::vector::Vector;
use super::by;

const RING: &str = "io_uring, switched on";

pub(super) const VECTORS: &[Vector] = &[
    Vector::new("ring/connect", "connect and send by io_uring", Proxied).needs(RING),
    Vector::new("ring/socket_too", "the socket as well made by io_uring", Proxied).needs(RING),
    Vector::new(
        "ring/kernel_thread",
        "io_uring with a thread of the kernel's that looks for requests",
        Proxied,
    )
    .needs(RING),
    Vector::new(
        "ring/kernel_thread_before_move",
        "such a ring from before the job was managed",
        Proxied,
    )
    .needs(RING),
    Vector::new(
        "ring/raw_socket",
        "a raw socket made by io_uring",
        Stopped(by::SOCKET),
    )
    .needs(RING)
    .root_only("CAP_NET_RAW"),
    Vector::new(
        "ring/sendmsg",
        "a datagram sent by io_uring",
        Stopped(by::DATAGRAM),
    )
    .needs(RING),
];
