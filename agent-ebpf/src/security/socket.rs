//! `socket_create`, `socket_sendmsg`, `socket_recvmsg`, `socket_getsockopt`: sockets of families without addresses, and sockets that were not
//! made or connected under the eyes of the programs on cgroups.

use agent_common::{
    EventKind, Ip128, Port, Standing, UseQuestion, has_addresses, has_family, may_use, option_receives,
};
use aya_ebpf::macros::lsm;
use aya_ebpf::programs::LsmContext;

use super::{Kernel, PROCEED, load, read, refuse, refuse_address};
use crate::ask;
use crate::fields::{
    FILE_PRIVATE, SOCK_FAMILY, SOCK_PEER_PORT, SOCK_PEER_V4, SOCK_PEER_V6, SOCK_PROTOCOL, SOCK_TYPE,
    SOCKET_SOCK, field,
};

/// `socket()` of any family.
#[lsm(hook = "socket_create")]
pub(crate) fn tollgate_family(ctx: LsmContext) -> i32 {
    let family: i32 = ctx.arg(0);
    let by_kernel: i32 = ctx.arg(3);
    // A new network namespace has sockets of the kernel's own, of families that the process may not have.
    if by_kernel != 0 || has_family(family as u32) {
        return PROCEED;
    }
    match ask::current_standing() {
        Standing::Free => PROCEED,
        standing => refuse(EventKind::FamilyRefused, standing),
    }
}

/// `send()`, `write()` and their kin.
#[lsm(hook = "socket_sendmsg")]
pub(crate) fn tollgate_sendmsg(ctx: LsmContext) -> i32 {
    let socket: Kernel = ctx.arg(0);
    judge_socket(socket)
}

/// `recv()`, `read()` and their kin.
#[lsm(hook = "socket_recvmsg")]
pub(crate) fn tollgate_recvmsg(ctx: LsmContext) -> i32 {
    let socket: Kernel = ctx.arg(0);
    judge_socket(socket)
}

/// `getsockopt()`, one of whose options receives.
#[lsm(hook = "socket_getsockopt")]
pub(crate) fn tollgate_option(ctx: LsmContext) -> i32 {
    let socket: Kernel = ctx.arg(0);
    let (level, option): (i32, i32) = (ctx.arg(1), ctx.arg(2));
    if option_receives(level as u32, option as u32) {
        judge_socket(socket)
    } else {
        PROCEED
    }
}

#[inline(always)]
fn judge_socket(socket: Kernel) -> i32 {
    let sock: Kernel = load(socket, field(&SOCKET_SOCK));
    // Closed, or not complete yet; the verifier (6.12) wants to see that it is not.
    if sock.is_null() {
        return PROCEED;
    }
    let family = u32::from(load::<u16>(sock, field(&SOCK_FAMILY)));
    // Unix and netlink sockets, of which hosts are full.
    if !has_addresses(family) && has_family(family) {
        return PROCEED;
    }
    match ask::current_standing() {
        Standing::Free => PROCEED,
        standing => judge(standing, sock, family),
    }
}

/// The use of a socket by a file of it, whose kind the verifier does not know. Who is free has paid for one walk then, and
/// for no read that the helper has to check.
#[inline(always)]
pub(super) fn judge_file(file: Kernel) -> i32 {
    let standing = ask::current_standing();
    if matches!(standing, Standing::Free) {
        return PROCEED;
    }
    let socket = read::<Kernel>(file, field(&FILE_PRIVATE));
    let sock = read::<Kernel>(socket, field(&SOCKET_SOCK));
    if sock.is_null() {
        return PROCEED;
    }
    judge(standing, sock, u32::from(read::<u16>(sock, field(&SOCK_FAMILY))))
}

#[inline(always)]
fn judge(standing: Standing, sock: Kernel, family: u32) -> i32 {
    let port = Port::from_network(u32::from(read::<u16>(sock, field(&SOCK_PEER_PORT))));
    let peer = peer(sock, family);
    let protocol = u32::from(read::<u16>(sock, field(&SOCK_PROTOCOL)));
    let question = UseQuestion {
        standing,
        family,
        kind: u32::from(read::<u16>(sock, field(&SOCK_TYPE))),
        protocol,
        peer_port: port,
        peer_is_agents_loopback: peer.is_agents_loopback(),
        peer_is_protected: has_addresses(family) && port.0 != 0 && ask::protected(standing, peer, port),
        proxy: ask::proxy_ports(),
    };
    if may_use(question) {
        PROCEED
    } else {
        refuse_address(EventKind::UseRefused, standing, peer, port, protocol)
    }
}

#[inline(always)]
fn peer(sock: Kernel, family: u32) -> Ip128 {
    const AF_INET6: u32 = 10;
    if family == AF_INET6 {
        Ip128(read::<[u32; 4]>(sock, field(&SOCK_PEER_V6))).effective()
    } else {
        Ip128::from_v4_words(read::<u32>(sock, field(&SOCK_PEER_V4))).effective()
    }
}
