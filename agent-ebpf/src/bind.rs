//! `bind4`, `bind6`: the proxy's ports belong to the agent, in every network namespace.

use agent_common::{EventKind, Ip128, Port, owns_proxy_port};
use aya_ebpf::EbpfContext as _;
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::helpers::generated::bpf_get_netns_cookie;
use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use core::ptr::addr_of;

use crate::connect::{user_ip4, user_ip6, user_port};
use crate::maps::BINDER;
use crate::{ask, report};

const PROCEED: i32 = 1;
const REFUSE: i32 = 0;

/// `bind()` of an IPv4 socket.
#[cgroup_sock_addr(bind4)]
pub(crate) fn tollgate_bind4(ctx: SockAddrContext) -> i32 {
    bind(&ctx, || Ip128::from_v4_words(user_ip4(ctx.sock_addr)))
}

/// `bind()` of an IPv6 socket.
#[cgroup_sock_addr(bind6)]
pub(crate) fn tollgate_bind6(ctx: SockAddrContext) -> i32 {
    bind(&ctx, || Ip128(user_ip6(ctx.sock_addr)))
}

#[inline(always)]
fn bind(ctx: &SockAddrContext, ip: impl Fn() -> Ip128) -> i32 {
    let port = Port::from_network(user_port(ctx.sock_addr));
    // SAFETY: a readable word of the context.
    let kind = unsafe { addr_of!((*ctx.sock_addr).type_).read_volatile() };
    let binder = BINDER.get(0).copied().unwrap_or(0);
    if owns_proxy_port(kind, port, ask::proxy_ports(), bpf_get_current_pid_tgid(), binder) {
        return PROCEED;
    }
    // SAFETY: a readable word of the context.
    let protocol = unsafe { addr_of!((*ctx.sock_addr).protocol).read_volatile() };
    // SAFETY: the context is this program's own.
    let netns = unsafe { bpf_get_netns_cookie(ctx.as_ptr()) };
    report::by_process(EventKind::BindRefused, 0, netns, ip(), port, protocol);
    REFUSE
}
