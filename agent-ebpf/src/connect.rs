//! `connect4`, `connect6`: redirect, refuse or leave a connection alone.

use agent_common::{
    ConnectAnswer, ConnectQuestion, EventKind, FlowRecord, Ip128, Port, Standing, Stat, ip_protocol,
    on_connect,
};
use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::{
    bpf_sock_addr, bpf_sock_tuple, bpf_sock_tuple__bindgen_ty_1, bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1,
    bpf_sock_tuple__bindgen_ty_1__bindgen_ty_2,
};
use aya_ebpf::helpers::generated::{
    bpf_get_current_cgroup_id, bpf_get_netns_cookie, bpf_get_socket_cookie, bpf_ktime_get_boot_ns,
    bpf_set_retval, bpf_sk_lookup_tcp, bpf_sk_lookup_udp, bpf_sk_release, bpf_sk_storage_get,
};
use aya_ebpf::helpers::{bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_get_current_uid_gid};
use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use core::ffi::c_void;
use core::ptr::{addr_of, addr_of_mut};

use crate::maps::{LISTENERS, ORIGINAL};
use crate::wait::{self, Wait};
use crate::{ask, datagram, report};

pub(crate) const PROCEED: i32 = 1;
/// Without another value from `bpf_set_retval` the application sees EPERM.
pub(crate) const REFUSE: i32 = 0;
const ECONNREFUSED: i32 = 111;

/// `connect()` of an IPv4 socket.
#[cgroup_sock_addr(connect4)]
pub(crate) fn tollgate_connect4(ctx: SockAddrContext) -> i32 {
    connect::<false>(&ctx, || Ip128::from_v4_words(user_ip4(ctx.sock_addr)))
}

/// `connect()` of an IPv6 socket, to IPv6 or a v4-mapped address.
#[cgroup_sock_addr(connect6)]
pub(crate) fn tollgate_connect6(ctx: SockAddrContext) -> i32 {
    connect::<true>(&ctx, || Ip128(user_ip6(ctx.sock_addr)))
}

#[inline(always)]
fn connect<const V6_SOCKET: bool>(ctx: &SockAddrContext, asked: impl Fn() -> Ip128) -> i32 {
    let standing = ask::current_standing();
    if matches!(standing, Standing::Free) {
        return PROCEED;
    }
    let asked = asked();
    let destination = asked.effective();
    let port = Port::from_network(user_port(ctx.sock_addr));
    let protocol = protocol(ctx.sock_addr);
    let rules = ask::rules(standing);
    let answer = on_connect(ConnectQuestion {
        standing,
        protocol,
        port,
        protected: ask::protected(standing, destination, port),
        egress: rules.map(|rules| rules.egress()),
        steers_dns: rules.is_some_and(|rules| rules.steers_dns()),
    });
    let (policy, _) = owner(standing);
    match answer {
        ConnectAnswer::Pass => PROCEED,
        ConnectAnswer::PassReported => {
            report::by_process(
                EventKind::EgressObserved,
                policy,
                netns(ctx),
                asked,
                port,
                protocol,
            );
            PROCEED
        }
        ConnectAnswer::Refuse(kind) => {
            report::by_process(kind, policy, netns(ctx), asked, port, protocol);
            REFUSE
        }
        ConnectAnswer::Redirect => match redirect::<V6_SOCKET>(ctx, standing, asked, port) {
            Ok(()) => {
                report::count(Stat::REDIRECTED);
                PROCEED
            }
            Err(kind) => refuse_connection(ctx, kind, policy, asked, port, protocol),
        },
        ConnectAnswer::Steer => match datagram::steer::<V6_SOCKET>(ctx, standing, asked) {
            Ok(()) => {
                report::count(Stat::STEERED);
                PROCEED
            }
            Err(kind) => refuse_connection(ctx, kind, policy, asked, port, protocol),
        },
    }
}

/// Refuses as if nobody listened there: clients then try the next address, or the next nameserver, at once.
#[inline(always)]
pub(crate) fn refuse_connection(
    ctx: &SockAddrContext,
    kind: EventKind,
    policy: u32,
    asked: Ip128,
    port: Port,
    protocol: u32,
) -> i32 {
    report::by_process(kind, policy, netns(ctx), asked, port, protocol);
    // SAFETY: allowed for connect and sendmsg programs since Linux 5.18; the value is a negated errno.
    unsafe { bpf_set_retval(-ECONNREFUSED) };
    REFUSE
}

/// Number of the policy and the managed cgroup; zeros where there is none.
#[inline(always)]
pub(crate) fn owner(standing: Standing) -> (u32, u64) {
    match standing {
        Standing::Managed { policy, cgroup } => (policy, cgroup),
        Standing::Free | Standing::Pending => (0, 0),
    }
}

/// Points the connection at the agent's listener in the socket's own network namespace.
#[inline(always)]
fn redirect<const V6_SOCKET: bool>(
    ctx: &SockAddrContext,
    standing: Standing,
    asked: Ip128,
    port: Port,
) -> Result<(), EventKind> {
    let ports = ask::proxy_ports();
    let v4 = asked.v4_word().is_some();
    let (proxy, proxy_port) = if v4 {
        (Ip128::LOOPBACK_V4, Port(ports.v4))
    } else {
        (Ip128::LOOPBACK_V6, Port(ports.v6))
    };
    if proxy_port.0 == 0 {
        return Err(EventKind::NoListener);
    }
    let awaited = match listener::<false>(ctx.as_ptr(), v4, proxy_port) {
        Listener::TheAgents => false,
        Listener::SomebodyElses => return Err(EventKind::NoListener),
        Listener::None => {
            match wait::until_the_agent_listens::<false>(ctx, standing, (asked, port), v4, proxy_port) {
                Wait::Over => false,
                Wait::GoesOn => true,
                Wait::InVain => return Err(EventKind::NoListener),
            }
        }
    };

    let mut record = flow_record(ctx, standing, asked, port);
    record.awaited = u32::from(awaited);
    // SAFETY: the context is this program's own; the storage belongs to its socket.
    let stored = unsafe { ORIGINAL.get_or_insert_ptr_mut(ctx, Some(&mut record)) };
    if stored.is_null() {
        return Err(EventKind::StoreFailed);
    }
    // SAFETY: checked for null; lives as long as the socket, which is locked by this connect. A socket that connects
    // for a second time has the first record, so it is written in any case.
    unsafe { *stored = record };

    if V6_SOCKET {
        set_user_ip6(ctx.sock_addr, proxy);
    } else {
        set_user_ip4(ctx.sock_addr, proxy);
    }
    set_user_port(ctx.sock_addr, proxy_port);
    Ok(())
}

/// What is known of the current process and what it asks for.
#[inline(always)]
pub(crate) fn flow_record(ctx: &SockAddrContext, standing: Standing, asked: Ip128, port: Port) -> FlowRecord {
    let (policy, managed_cgroup) = owner(standing);
    let pid_tgid = bpf_get_current_pid_tgid();
    FlowRecord {
        ip: asked,
        port,
        policy,
        managed_cgroup,
        // SAFETY: takes nothing, always has an answer.
        cgroup: unsafe { bpf_get_current_cgroup_id() },
        netns: netns(ctx),
        // SAFETY: the context is this program's own.
        socket: unsafe { bpf_get_socket_cookie(ctx.as_ptr()) },
        // SAFETY: takes nothing.
        boottime: unsafe { bpf_ktime_get_boot_ns() },
        tgid: (pid_tgid >> 32) as u32,
        pid: pid_tgid as u32,
        uid: bpf_get_current_uid_gid() as u32,
        awaited: 0,
        comm: bpf_get_current_comm().unwrap_or_default(),
    }
}

/// Who would accept, or take the datagram.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Listener {
    /// Nobody.
    None,
    /// A socket that the agent has not marked. The port alone proves nothing: while the agent is away anybody could get it
    /// from `listen()` on an unbound socket, or from the first datagram of an unbound one, which no bind program sees.
    SomebodyElses,
    /// The agent.
    TheAgents,
}

/// Who has the port in the network namespace of the context, of a program on addresses or on packets.
#[inline(always)]
pub(crate) fn listener<const DATAGRAM: bool>(ctx: *mut c_void, v4: bool, port: Port) -> Listener {
    const CURRENT_NETNS: u64 = u64::MAX;
    let dport = port.to_network() as u16;
    let (mut tuple, size) = if v4 {
        let ipv4 = bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1 {
            saddr: Ip128::LOOPBACK_V4.0[3],
            daddr: Ip128::LOOPBACK_V4.0[3],
            sport: 0,
            dport,
        };
        (bpf_sock_tuple__bindgen_ty_1 { ipv4 }, size_of_val(&ipv4) as u32)
    } else {
        let ipv6 = bpf_sock_tuple__bindgen_ty_1__bindgen_ty_2 {
            saddr: Ip128::LOOPBACK_V6.0,
            daddr: Ip128::LOOPBACK_V6.0,
            sport: 0,
            dport,
        };
        (bpf_sock_tuple__bindgen_ty_1 { ipv6 }, size_of_val(&ipv6) as u32)
    };
    let tuple = (&raw mut tuple).cast::<bpf_sock_tuple>();
    // SAFETY: the tuple lives on this stack with `size` bytes of it written; the reference taken is released below.
    let socket = unsafe {
        if DATAGRAM {
            bpf_sk_lookup_udp(ctx, tuple, size, CURRENT_NETNS, 0)
        } else {
            bpf_sk_lookup_tcp(ctx, tuple, size, CURRENT_NETNS, 0)
        }
    };
    if socket.is_null() {
        return Listener::None;
    }
    let listeners = (&raw const LISTENERS).cast_mut().cast();
    // SAFETY: `socket` is referenced; the map's address is what the loader relocates.
    let mark = unsafe { bpf_sk_storage_get(listeners, socket.cast(), core::ptr::null_mut(), 0) };
    let marked = !mark.is_null();
    // SAFETY: referenced by the look-up above, and not used after this.
    unsafe { bpf_sk_release(socket.cast()) };
    if marked {
        Listener::TheAgents
    } else {
        Listener::SomebodyElses
    }
}

#[inline(always)]
pub(crate) fn netns(ctx: &SockAddrContext) -> u64 {
    // SAFETY: the context is this program's own.
    unsafe { bpf_get_netns_cookie(ctx.as_ptr()) }
}

// Volatile, here and below: LLVM merges neighbouring words into one wide load, and the verifier takes words alone.

#[inline(always)]
pub(crate) fn user_ip4(address: *mut bpf_sock_addr) -> u32 {
    // SAFETY: a readable word of the context.
    unsafe { addr_of!((*address).user_ip4).read_volatile() }
}

#[inline(always)]
pub(crate) fn user_ip6(address: *mut bpf_sock_addr) -> [u32; 4] {
    // SAFETY: readable words of the context.
    unsafe {
        [
            addr_of!((*address).user_ip6[0]).read_volatile(),
            addr_of!((*address).user_ip6[1]).read_volatile(),
            addr_of!((*address).user_ip6[2]).read_volatile(),
            addr_of!((*address).user_ip6[3]).read_volatile(),
        ]
    }
}

#[inline(always)]
pub(crate) fn user_port(address: *mut bpf_sock_addr) -> u32 {
    // SAFETY: a readable word of the context.
    unsafe { addr_of!((*address).user_port).read_volatile() }
}

#[inline(always)]
pub(crate) fn protocol(address: *mut bpf_sock_addr) -> u32 {
    // SAFETY: a readable word of the context.
    let protocol = unsafe { addr_of!((*address).protocol).read_volatile() };
    // The verifier knows nothing of the values, but a stream socket of protocol 0 does not exist by this time.
    if protocol == 0 { ip_protocol::TCP } else { protocol }
}

#[inline(always)]
pub(crate) fn set_user_ip4(address: *mut bpf_sock_addr, ip: Ip128) {
    // SAFETY: a word of the context that programs on IPv4 addresses may write.
    unsafe { addr_of_mut!((*address).user_ip4).write_volatile(ip.0[3]) };
}

#[inline(always)]
pub(crate) fn set_user_ip6(address: *mut bpf_sock_addr, ip: Ip128) {
    let [a, b, c, d] = ip.0;
    // SAFETY: words of the context that programs on IPv6 addresses may write.
    unsafe {
        addr_of_mut!((*address).user_ip6[0]).write_volatile(a);
        addr_of_mut!((*address).user_ip6[1]).write_volatile(b);
        addr_of_mut!((*address).user_ip6[2]).write_volatile(c);
        addr_of_mut!((*address).user_ip6[3]).write_volatile(d);
    }
}

#[inline(always)]
pub(crate) fn set_user_port(address: *mut bpf_sock_addr, port: Port) {
    // SAFETY: a word of the context that all programs on addresses may write.
    unsafe { addr_of_mut!((*address).user_port).write_volatile(port.to_network()) };
}
