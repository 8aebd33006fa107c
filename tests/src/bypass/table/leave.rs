//! Out of the managed cgroup, or into another one.

use super::super::vector::Outcome::{Proxied, Shut, Stopped};
use super::super::vector::Vector;
use super::by;

const NO_BOUNDARY: &str = "to whoever may write to it, the cgroup tree is no boundary";
const WRITE: &str = "the right to write to another cgroup";
const READ_ONLY: &str =
    "run jobs without root; drop CAP_SYS_ADMIN and CAP_DAC_OVERRIDE; `ProtectControlGroups=yes`";

pub(super) const VECTORS: &[Vector] = &[
    Vector::new(
        "leave/nested",
        "a cgroup of the job's own below its cgroup",
        Proxied,
    ),
    Vector::new(
        "leave/fresh",
        "the first connection in a cgroup that was made this moment",
        Shut(by::CONNECT),
    ),
    Vector::open(
        "leave/cgroup_procs",
        "moves itself out through `cgroup.procs`",
        NO_BOUNDARY,
        READ_ONLY,
    )
    .root_only(WRITE)
    .with_lsm(Stopped(by::SECURITY)),
    Vector::open(
        "leave/own_mount",
        "the same through a mount of cgroup2 of its own",
        NO_BOUNDARY,
        READ_ONLY,
    )
    .root_only("CAP_SYS_ADMIN")
    .with_lsm(Stopped(by::SECURITY)),
    Vector::open(
        "leave/clone_into",
        "a child born in another cgroup: `clone3(CLONE_INTO_CGROUP)`",
        NO_BOUNDARY,
        READ_ONLY,
    )
    .root_only(WRITE)
    .with_lsm(Stopped(by::SECURITY)),
    Vector::open(
        "leave/forked_before_move",
        "a child from before the job was moved into its cgroup",
        "a move takes one process along, and not its children",
        "start jobs in their cgroup, as systemd does, instead of moving them there",
    ),
];
