//! `sock_create`: workloads get sockets of the kinds that the redirection covers.

use agent_common::{EventKind, Ip128, Port, SocketAnswer, Standing, is_news, on_socket};
use aya_ebpf::EbpfContext as _;
use aya_ebpf::helpers::generated::{
    bpf_get_netns_cookie, bpf_ktime_get_ns, bpf_set_retval, bpf_sk_storage_get,
};
use aya_ebpf::macros::cgroup_sock;
use aya_ebpf::programs::SockContext;
use core::ptr::addr_of;

use crate::maps::{BORN, NAMESPACES};
use crate::{ask, report};

const PROCEED: i32 = 1;
const REFUSE: i32 = 0;
const EPROTONOSUPPORT: i32 = 93;
/// linux/bpf.h.
const BPF_SK_STORAGE_GET_F_CREATE: u64 = 1;

/// `socket()` of an IPv4 or IPv6 family.
#[cgroup_sock(sock_create)]
pub(crate) fn tollgate_socket(ctx: SockContext) -> i32 {
    let standing = ask::current_standing();
    if matches!(standing, Standing::Free) {
        return PROCEED;
    }
    // SAFETY: readable words of the context.
    let (kind, protocol) = unsafe {
        (
            addr_of!((*ctx.sock).type_).read_volatile(),
            addr_of!((*ctx.sock).protocol).read_volatile(),
        )
    };
    let answer = on_socket(standing, kind, protocol);
    let policy = match standing {
        Standing::Managed { policy, .. } => policy,
        Standing::Free | Standing::Pending => 0,
    };
    // SAFETY: the context is this program's own.
    let netns = unsafe { bpf_get_netns_cookie(ctx.as_ptr()) };
    if matches!(answer, SocketAnswer::Pass) {
        if policy != 0 {
            look_at_namespace(&ctx, netns, policy, protocol);
        }
        return PROCEED;
    }
    report::by_process(
        EventKind::SocketRefused,
        policy,
        netns,
        Ip128([0; 4]),
        Port(0),
        protocol,
    );
    if matches!(answer, SocketAnswer::NotSupported) {
        // SAFETY: allowed for socket programs since Linux 5.18; the value is a negated errno.
        unsafe { bpf_set_retval(-EPROTONOSUPPORT) };
    }
    REFUSE
}

/// Has the agent listen in the socket's network namespace, before the first connect. Where that takes longer than the
/// workload, the connect waits, which the socket is marked for.
#[inline(always)]
fn look_at_namespace(ctx: &SockContext, netns: u64, policy: u32, protocol: u32) {
    // SAFETY: an entry that is replaced meanwhile gives the old or the new time.
    let told = unsafe { NAMESPACES.get(netns) }.copied();
    if told == Some(0) {
        return;
    }
    let born = (&raw const BORN).cast_mut().cast();
    let mut mark: u32 = 1;
    let value = (&raw mut mark).cast();
    // SAFETY: the context's socket is this program's own, and the value is the map's. Refused, the connect does not wait long.
    let _none = unsafe { bpf_sk_storage_get(born, ctx.sock.cast(), value, BPF_SK_STORAGE_GET_F_CREATE) };
    // SAFETY: takes nothing.
    let now = unsafe { bpf_ktime_get_ns() };
    if is_news(now, told) {
        let _full = NAMESPACES.insert(netns, now, 0);
        report::urgent(
            EventKind::ListenerAwaited,
            policy,
            netns,
            Ip128([0; 4]),
            Port(0),
            protocol,
        );
    }
}
