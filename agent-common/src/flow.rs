//! A redirected connection, as the kernel side hands it to the agent.

use crate::{Ip128, Port};

/// Everything that is known of a redirected connection at the time of its `connect()`.
///
/// Value of `ORIGINAL` (socket storage of the workload's socket) and of `TUPLES`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct FlowRecord {
    /// Address that the workload asked for.
    pub ip: Ip128,
    /// Port that the workload asked for.
    pub port: Port,
    /// Number of the policy.
    pub policy: u32,
    /// The managed ancestor of the process's cgroup.
    pub managed_cgroup: u64,
    /// The process's own cgroup.
    pub cgroup: u64,
    /// `SO_NETNS_COOKIE` of the workload's socket.
    pub netns: u64,
    /// `SO_COOKIE` of the workload's socket.
    pub socket: u64,
    /// Time of the connect, nanoseconds of `CLOCK_BOOTTIME`.
    pub boottime: u64,
    /// Thread group (process) in the initial pid namespace. `io_uring`'s workers carry their owner's.
    pub tgid: u32,
    /// Thread in the initial pid namespace.
    pub pid: u32,
    /// User in the initial user namespace.
    pub uid: u32,
    /// 1: nobody listened in the network namespace at the time of the connect. The kernel holds the connection back until
    /// the agent does, and sets 0.
    pub awaited: u32,
    /// Name of the thread, padded with zeros. For people only: a process chooses it freely.
    pub comm: [u8; 16],
}

/// Key of `TUPLES`: the redirected connection as its two ends see it in their network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct TupleKey {
    /// `SO_NETNS_COOKIE`: two namespaces may have the same addresses and ports.
    pub netns: u64,
    /// The workload's address.
    pub source: Ip128,
    /// The proxy's address.
    pub destination: Ip128,
    /// The workload's port.
    pub source_port: Port,
    /// The proxy's port.
    pub destination_port: Port,
}

const _: () = assert!(size_of::<FlowRecord>() == 96 && align_of::<FlowRecord>() == 8);
const _: () = assert!(core::mem::offset_of!(FlowRecord, managed_cgroup) == 24);
const _: () = assert!(core::mem::offset_of!(FlowRecord, comm) == 80);
const _: () = assert!(size_of::<TupleKey>() == 48 && align_of::<TupleKey>() == 8);

#[cfg(feature = "user")]
#[expect(
    unsafe_code,
    reason = "aya asks for the promise that a map value is plain data"
)]
mod user {
    use super::{FlowRecord, TupleKey};

    // SAFETY: `repr(C)`, integers alone, no padding (sizes asserted above): every bit pattern is a value.
    unsafe impl aya::Pod for FlowRecord {}
    // SAFETY: as above.
    unsafe impl aya::Pod for TupleKey {}
}
