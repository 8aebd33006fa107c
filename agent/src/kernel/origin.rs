//! Where a redirected connection came from.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use agent_common::FlowRecord;

use crate::model::{CgroupId, NetnsCookie, OriginalDst, PolicyId};

/// What the kernel side knows of a redirected connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowOrigin {
    /// Address that the workload asked for.
    pub original: OriginalDst,
    /// Policy under which it was redirected.
    pub policy: PolicyId,
    /// The managed cgroup: the process's own or an ancestor.
    pub managed_cgroup: CgroupId,
    /// The process's own cgroup.
    pub cgroup: CgroupId,
    /// Network namespace of the workload's socket.
    pub netns: NetnsCookie,
    /// `SO_COOKIE` of the workload's socket.
    pub socket_cookie: u64,
    /// Time of the connect, since boot (`CLOCK_BOOTTIME`).
    pub since_boot: Duration,
    /// Process that called connect, in the initial pid namespace.
    pub tgid: u32,
    /// Its thread.
    pub pid: u32,
    /// Its user, in the initial user namespace.
    pub uid: u32,
    /// Name of its thread, other than printable ASCII escaped. For people only: a process chooses it freely.
    pub comm: String,
}

impl From<&FlowRecord> for FlowOrigin {
    fn from(record: &FlowRecord) -> Self {
        // The kernel side reads the port from sixteen bits.
        let port = u16::try_from(record.port.0).unwrap_or(0);
        let name = record.comm.split(|byte| *byte == 0).next().unwrap_or_default();
        Self {
            original: OriginalDst(SocketAddr::new(IpAddr::from(record.ip), port)),
            policy: PolicyId(record.policy),
            managed_cgroup: CgroupId(record.managed_cgroup),
            cgroup: CgroupId(record.cgroup),
            netns: NetnsCookie(record.netns),
            socket_cookie: record.socket,
            since_boot: Duration::from_nanos(record.boottime),
            tgid: record.tgid,
            pid: record.pid,
            uid: record.uid,
            comm: name.escape_ascii().to_string(),
        }
    }
}
