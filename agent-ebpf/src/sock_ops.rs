//! `sock_ops`: the first packet of a connection that awaits the agent is sent again soon.
//!
//! Attached only while workloads are in network namespaces that are new to the agent: it is run at many moments of every
//! TCP connection of the host.

use agent_common::{FlowRecord, Port};
use aya_ebpf::bindings::{BPF_SOCK_OPS_TIMEOUT_INIT, bpf_sock_ops};
use aya_ebpf::helpers::generated::bpf_sk_storage_get;
use aya_ebpf::macros::sock_ops;
use aya_ebpf::programs::SockOpsContext;
use core::ptr::addr_of;

use crate::maps::ORIGINAL;
use crate::{ask, wait};

/// Leaves at once unless TCP asks how long it shall wait for the answer to a first packet.
#[sock_ops]
pub(crate) fn tollgate_sockops(ctx: SockOpsContext) -> u32 {
    if ctx.op() == BPF_SOCK_OPS_TIMEOUT_INIT
        && let Some(record) = redirected(&ctx)
    {
        wait::resend_soon(&ctx, record);
    }
    1
}

/// The connection's record, if it goes to the proxy because it was redirected.
#[inline(always)]
fn redirected(ctx: &SockOpsContext) -> Option<&FlowRecord> {
    let ops = ctx.ops;
    let ports = ask::proxy_ports();
    let destination_port = Port::from_network(remote_port(ops) >> 16);
    if destination_port.0 != ports.v4 && destination_port.0 != ports.v6 {
        return None;
    }
    // SAFETY: the socket of the context; null is checked, and the verifier sees to it.
    let socket = unsafe { (*ops).__bindgen_anon_2.sk };
    if socket.is_null() {
        return None;
    }
    let originals = (&raw const ORIGINAL).cast_mut().cast();
    // SAFETY: the socket is not null; no storage is made.
    let record = unsafe { bpf_sk_storage_get(originals, socket.cast(), core::ptr::null_mut(), 0) };
    // SAFETY: null or the record on the socket, which is locked during the call.
    unsafe { record.cast::<FlowRecord>().as_ref() }
}

/// The field holds the port in network byte order, in its *upper* half on little-endian machines.
#[inline(always)]
fn remote_port(ops: *mut bpf_sock_ops) -> u32 {
    // SAFETY: a readable word of the context.
    unsafe { addr_of!((*ops).remote_port).read_volatile() }
}
