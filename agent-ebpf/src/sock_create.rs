//! `sock_create`: workloads get sockets of the kinds that the redirection covers.

use agent_common::{EventKind, Ip128, Port, SocketAnswer, Standing, on_socket};
use aya_ebpf::EbpfContext as _;
use aya_ebpf::helpers::generated::{bpf_get_netns_cookie, bpf_set_retval};
use aya_ebpf::macros::cgroup_sock;
use aya_ebpf::programs::SockContext;
use core::ptr::addr_of;

use crate::{ask, report};

const PROCEED: i32 = 1;
const REFUSE: i32 = 0;
const EPROTONOSUPPORT: i32 = 93;

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
    if matches!(answer, SocketAnswer::Pass) {
        return PROCEED;
    }
    let policy = match standing {
        Standing::Managed { policy, .. } => policy,
        Standing::Free | Standing::Pending => 0,
    };
    // SAFETY: the context is this program's own.
    let netns = unsafe { bpf_get_netns_cookie(ctx.as_ptr()) };
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
