//! `getpeername4`, `getpeername6`: a redirected socket names the address that its application asked for.

use agent_common::{DNS_PORT, Ip128, Port, slot_at};
use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;

use crate::connect::{set_user_ip4, set_user_ip6, set_user_port, user_ip4, user_ip6, user_port};
use crate::maps::ORIGINAL;
use crate::{ask, datagram};

const PROCEED: i32 = 1;

/// `getpeername()` of an IPv4 socket.
#[cgroup_sock_addr(getpeername4)]
pub(crate) fn tollgate_peer4(ctx: SockAddrContext) -> i32 {
    let peer = Ip128::from_v4_words(user_ip4(ctx.sock_addr));
    if let Some((ip, port)) = original(&ctx, peer) {
        set_user_ip4(ctx.sock_addr, ip);
        set_user_port(ctx.sock_addr, port);
    }
    PROCEED
}

/// `getpeername()` of an IPv6 socket.
#[cgroup_sock_addr(getpeername6)]
pub(crate) fn tollgate_peer6(ctx: SockAddrContext) -> i32 {
    let peer = Ip128(user_ip6(ctx.sock_addr));
    if let Some((ip, port)) = original(&ctx, peer) {
        set_user_ip6(ctx.sock_addr, ip);
        set_user_port(ctx.sock_addr, port);
    }
    PROCEED
}

/// The address that was asked for, if the socket's peer is the proxy: a socket that was redirected once and has
/// connected elsewhere since still has its record.
#[inline(always)]
fn original(ctx: &SockAddrContext, peer: Ip128) -> Option<(Ip128, Port)> {
    let ports = ask::proxy_ports();
    let port = Port::from_network(user_port(ctx.sock_addr));
    if let Some(slot) = slot_at(ports, peer, port) {
        return datagram::nameserver(ctx, slot).map(|ip| (ip, DNS_PORT));
    }
    let is_proxy = (peer == Ip128::LOOPBACK_V4 && port.0 == ports.v4)
        || (peer == Ip128::LOOPBACK_V6 && port.0 == ports.v6);
    if !is_proxy {
        return None;
    }
    // SAFETY: the context is this program's own; no storage is made.
    let record = unsafe { ORIGINAL.get_ptr_mut(ctx) };
    // SAFETY: null or the record of this program's own socket, which is locked by the caller.
    unsafe { record.as_ref() }.map(|record| (record.ip, record.port))
}
