//! Who a flow came from.

use std::time::Duration;

use crate::kernel::{FlowOrigin, UnixOrigin};
use crate::model::{CgroupId, PolicyId};

/// What the kernel side knows of the process that a flow came from, at the time of its connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Policy under which it was redirected.
    pub policy: PolicyId,
    /// The managed cgroup: the process's own or an ancestor.
    pub managed_cgroup: CgroupId,
    /// The process's own cgroup.
    pub cgroup: CgroupId,
    /// Time of the connect, since boot (`CLOCK_BOOTTIME`).
    pub since_boot: Duration,
    /// The process, in the initial pid namespace.
    pub tgid: u32,
    /// Its user, in the initial user namespace.
    pub uid: u32,
    /// Name of its thread, other than printable ASCII escaped. For people only: a process chooses it freely.
    pub comm: String,
}

impl From<FlowOrigin> for Origin {
    fn from(origin: FlowOrigin) -> Self {
        Self {
            policy: origin.policy,
            managed_cgroup: origin.managed_cgroup,
            cgroup: origin.cgroup,
            since_boot: origin.since_boot,
            tgid: origin.tgid,
            uid: origin.uid,
            comm: origin.comm,
        }
    }
}

impl From<UnixOrigin> for Origin {
    fn from(origin: UnixOrigin) -> Self {
        Self {
            policy: origin.policy,
            managed_cgroup: origin.managed_cgroup,
            cgroup: origin.cgroup,
            since_boot: origin.since_boot,
            tgid: origin.tgid,
            uid: origin.uid,
            comm: origin.comm,
        }
    }
}
