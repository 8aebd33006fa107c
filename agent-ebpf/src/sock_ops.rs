//! `sock_ops`: hands the record of a redirected connection to the agent, under the name that the agent will see.

use agent_common::{FlowRecord, Ip128, Port, TupleKey};
use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::{
    BPF_SOCK_OPS_STATE_CB, BPF_SOCK_OPS_STATE_CB_FLAG, BPF_SOCK_OPS_TCP_CONNECT_CB,
    BPF_SOCK_OPS_TIMEOUT_INIT, BPF_TCP_CLOSE, BPF_TCP_SYN_SENT, bpf_sock_ops,
};
use aya_ebpf::helpers::generated::{bpf_get_netns_cookie, bpf_sk_storage_get};
use aya_ebpf::macros::sock_ops;
use aya_ebpf::programs::SockOpsContext;
use core::ptr::addr_of;

use crate::maps::{ORIGINAL, TUPLES};
use crate::{ask, wait};

/// Called at many moments of every TCP connection of the host; leaves at once unless it is one of three.
#[sock_ops]
pub(crate) fn tollgate_sockops(ctx: SockOpsContext) -> u32 {
    let op = ctx.op();
    let concerned = match op {
        BPF_SOCK_OPS_TCP_CONNECT_CB | BPF_SOCK_OPS_TIMEOUT_INIT => true,
        BPF_SOCK_OPS_STATE_CB => ctx.arg(0) == BPF_TCP_SYN_SENT && ctx.arg(1) == BPF_TCP_CLOSE,
        _ => false,
    };
    if !concerned {
        return 1;
    }
    // Asked for at one place: LLVM would share parts of several, and the verifier takes no pointer that is computed so.
    let Some((key, record)) = redirected(&ctx) else {
        return 1;
    };
    match op {
        // The source port is chosen and the SYN not sent yet: the agent cannot accept before the entry is there. A failed
        // insert needs nothing: the agent closes a connection that it finds no entry for.
        BPF_SOCK_OPS_TCP_CONNECT_CB => {
            let _inserted = TUPLES.insert(key, record, 0);
            let _set = ctx.set_cb_flags((ctx.cb_flags() | BPF_SOCK_OPS_STATE_CB_FLAG) as i32);
        }
        BPF_SOCK_OPS_TIMEOUT_INIT => wait::resend_soon(&ctx, record),
        // The connection never came to be, so the agent will never take its entry.
        _ => {
            let _removed = TUPLES.remove(key);
        }
    }
    1
}

/// The connection's name and record, if it goes to the proxy because it was redirected.
#[inline(always)]
fn redirected(ctx: &SockOpsContext) -> Option<(TupleKey, &FlowRecord)> {
    const AF_INET: u32 = 2;
    let ops = ctx.ops;
    let ports = ask::proxy_ports();
    let destination_port = Port::from_network(remote_port(ops) >> 16);
    if destination_port.0 != ports.v4 && destination_port.0 != ports.v6 {
        return None;
    }
    // SAFETY: readable words of the context, here and below; volatile, see `connect`.
    let family = unsafe { addr_of!((*ops).family).read_volatile() };
    // SAFETY: as above.
    let remote_v6 = Ip128(unsafe {
        [
            addr_of!((*ops).remote_ip6[0]).read_volatile(),
            addr_of!((*ops).remote_ip6[1]).read_volatile(),
            addr_of!((*ops).remote_ip6[2]).read_volatile(),
            addr_of!((*ops).remote_ip6[3]).read_volatile(),
        ]
    });
    let (source, destination) = if family == AF_INET || remote_v6.v4_word().is_some() {
        // SAFETY: as above.
        unsafe {
            (
                Ip128::from_v4_words(addr_of!((*ops).local_ip4).read_volatile()),
                Ip128::from_v4_words(addr_of!((*ops).remote_ip4).read_volatile()),
            )
        }
    } else {
        // SAFETY: as above.
        let local = unsafe {
            [
                addr_of!((*ops).local_ip6[0]).read_volatile(),
                addr_of!((*ops).local_ip6[1]).read_volatile(),
                addr_of!((*ops).local_ip6[2]).read_volatile(),
                addr_of!((*ops).local_ip6[3]).read_volatile(),
            ]
        };
        (Ip128(local), remote_v6)
    };
    // SAFETY: the socket of the context; null is checked, and the verifier sees to it.
    let socket = unsafe { (*ops).__bindgen_anon_2.sk };
    if socket.is_null() {
        return None;
    }
    let originals = (&raw const ORIGINAL).cast_mut().cast();
    // SAFETY: the socket is not null; no storage is made.
    let record = unsafe { bpf_sk_storage_get(originals, socket.cast(), core::ptr::null_mut(), 0) };
    // SAFETY: null or the record on the socket, which is locked during the call.
    let record = unsafe { record.cast::<FlowRecord>().as_ref() }?;
    let key = TupleKey {
        // SAFETY: the context is this program's own.
        netns: unsafe { bpf_get_netns_cookie(ctx.as_ptr()) },
        source,
        destination,
        // The local port alone is in host byte order.
        // SAFETY: a readable word of the context.
        source_port: Port(unsafe { addr_of!((*ops).local_port).read_volatile() }),
        destination_port,
    };
    Some((key, record))
}

/// The field holds the port in network byte order, in its *upper* half on little-endian machines.
#[inline(always)]
fn remote_port(ops: *mut bpf_sock_ops) -> u32 {
    // SAFETY: a readable word of the context.
    unsafe { addr_of!((*ops).remote_port).read_volatile() }
}
