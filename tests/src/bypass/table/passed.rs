//! Sockets and memory that cross the border of the managed cgroup.

use super::super::vector::Outcome::{Open, Proxied, Stopped};
use super::super::vector::{ByTier, Vector};
use super::by;

const MADE_OUTSIDE: &str = "the connection was made by somebody who is not managed, and programs on cgroups go by the cgroup that a \
                            socket was made in";
const SHARE_NOTHING: &str = "no unmanaged process that passes sockets to the job: `PrivateUsers=yes`, a user of the job's own, no \
                             shared directory of sockets";
const OWN_USER: &str = "a user of the job's own: it may look into processes of its own user alone; `kernel.yama.ptrace_scope = 1`";

const fn brought_in(name: &'static str, title: &'static str) -> Vector {
    Vector::open(name, title, MADE_OUTSIDE, SHARE_NOTHING).with_lsm(Stopped(by::SECURITY))
}

pub(super) const VECTORS: &[Vector] = &[
    Vector::new(
        "passed/unconnected_in",
        "a socket passed in with `SCM_RIGHTS`, connected by the job",
        Proxied,
    ),
    brought_in(
        "passed/connected_in",
        "a connected socket passed in with `SCM_RIGHTS`",
    ),
    brought_in("passed/written", "the same, used with `write()`"),
    brought_in("passed/sendfile", "the same, used with `sendfile()`"),
    brought_in("passed/splice", "the same, used with `splice()`"),
    brought_in("passed/ring_send", "the same, used by io_uring").needs("io_uring, switched on"),
    brought_in(
        "passed/inherited",
        "a connected socket inherited from before the job was managed, over `execve()`",
    ),
    Vector::new(
        "passed/out_and_connected",
        "a socket of the job's passed out, connected and used by an outsider",
        Stopped(by::PACKET),
    ),
    Vector::open(
        "passed/pidfd_getfd",
        "an outsider's connected socket, copied with `pidfd_getfd()`",
        MADE_OUTSIDE,
        OWN_USER,
    )
    .with_lsm(Stopped(by::SECURITY)),
    Vector::open(
        "passed/ptrace",
        "an outsider made to send by `ptrace()`",
        "the outsider is not managed, and does what it is made to do",
        OWN_USER,
    )
    .with_lsm(Stopped(by::SECURITY)),
    Vector::open(
        "passed/relayed",
        "an outsider that relays what it gets over an abstract unix socket",
        "the outsider is not managed; nothing tells a relay from any other server",
        "do not run relays; `PrivateNetwork=` or a network namespace closes abstract sockets to the job",
    )
    .root(ByTier::both(Open)),
];
