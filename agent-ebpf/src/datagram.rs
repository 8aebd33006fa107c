//! `sendmsg4`, `sendmsg6`: datagrams that name their destination. `recvmsg4`, `recvmsg6`: where an answer is from.
//!
//! A datagram to a nameserver goes to the agent's slot for it; its answer is named as the nameserver's. What a connected
//! socket sends is judged when it connects.

use agent_common::{
    ConnectAnswer, ConnectQuestion, DNS_PORT, EventKind, Ip128, Port, Standing, Stat, nameserver_of,
    on_connect, slot_address, slot_at, take_slot,
};
use aya_ebpf::EbpfContext as _;
use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;

use crate::connect::{
    Listener, PROCEED, REFUSE, flow_record, listener, netns, owner, protocol, refuse_connection,
    set_user_ip4, set_user_ip6, set_user_port, user_ip4, user_ip6, user_port,
};
use crate::maps::{ASKED, Destination, REPORTED};
use crate::wait::{self, Wait};
use crate::{ask, report};

/// A datagram to an IPv4 address; also of an IPv6 socket to a v4-mapped one.
#[cgroup_sock_addr(sendmsg4)]
pub(crate) fn tollgate_send4(ctx: SockAddrContext) -> i32 {
    send::<false>(&ctx, || Ip128::from_v4_words(user_ip4(ctx.sock_addr)))
}

/// A datagram to an IPv6 address.
#[cgroup_sock_addr(sendmsg6)]
pub(crate) fn tollgate_send6(ctx: SockAddrContext) -> i32 {
    send::<true>(&ctx, || Ip128(user_ip6(ctx.sock_addr)))
}

/// The source of a datagram that an IPv4 socket received.
#[cgroup_sock_addr(recvmsg4)]
pub(crate) fn tollgate_receive4(ctx: SockAddrContext) -> i32 {
    let source = Ip128::from_v4_words(user_ip4(ctx.sock_addr));
    if let Some(nameserver) = answering(&ctx, source) {
        set_user_ip4(ctx.sock_addr, nameserver);
        set_user_port(ctx.sock_addr, DNS_PORT);
    }
    PROCEED
}

/// The source of a datagram that an IPv6 socket received, v4-mapped ones too.
#[cgroup_sock_addr(recvmsg6)]
pub(crate) fn tollgate_receive6(ctx: SockAddrContext) -> i32 {
    let source = Ip128(user_ip6(ctx.sock_addr));
    if let Some(nameserver) = answering(&ctx, source) {
        set_user_ip6(ctx.sock_addr, nameserver);
        set_user_port(ctx.sock_addr, DNS_PORT);
    }
    PROCEED
}

#[inline(always)]
fn send<const V6_SOCKET: bool>(ctx: &SockAddrContext, asked: impl Fn() -> Ip128) -> i32 {
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
            if reported_first(ctx, destination, port) {
                report::by_process(
                    EventKind::EgressObserved,
                    policy,
                    netns(ctx),
                    asked,
                    port,
                    protocol,
                );
            }
            PROCEED
        }
        ConnectAnswer::Steer => match steer::<V6_SOCKET>(ctx, standing, asked) {
            Ok(()) => {
                report::count(Stat::STEERED);
                PROCEED
            }
            Err(kind) => refuse_connection(ctx, kind, policy, asked, port, protocol),
        },
        // A datagram cannot go to a listener for connections.
        ConnectAnswer::Refuse(EventKind::ProtocolRefused) | ConnectAnswer::Redirect => {
            report::by_process(
                EventKind::DatagramRefused,
                policy,
                netns(ctx),
                asked,
                port,
                protocol,
            );
            REFUSE
        }
        ConnectAnswer::Refuse(kind) => {
            report::by_process(kind, policy, netns(ctx), asked, port, protocol);
            REFUSE
        }
    }
}

/// Whether the socket's last report was of another destination: a report of every datagram would drown the others.
#[inline(always)]
fn reported_first(ctx: &SockAddrContext, ip: Ip128, port: Port) -> bool {
    // SAFETY: the context is this program's own; the storage belongs to its socket.
    let last = unsafe { REPORTED.get_or_insert_ptr_mut(ctx, None) };
    if last.is_null() {
        return true;
    }
    // SAFETY: checked for null; lives as long as the socket, which is locked by this call.
    let last = unsafe { &mut *last };
    let now = Destination { ip, port };
    let first = *last != now;
    *last = now;
    first
}

/// Points a datagram socket, or one datagram, at the agent's slot for `nameserver` in the socket's own network namespace.
#[inline(always)]
pub(crate) fn steer<const V6_SOCKET: bool>(
    ctx: &SockAddrContext,
    standing: Standing,
    asked: Ip128,
) -> Result<(), EventKind> {
    let ports = ask::proxy_ports();
    let nameserver = asked.nameserver();
    // SAFETY: the context is this program's own; the storage belongs to its socket.
    let stored = unsafe { ASKED.get_or_insert_ptr_mut(ctx, None) };
    if stored.is_null() {
        return Err(EventKind::StoreFailed);
    }
    // SAFETY: checked for null; lives as long as the socket, which is locked by this call.
    let stored = unsafe { &mut *stored };
    let Some(slot) = take_slot(&mut stored.nameservers, nameserver) else {
        return Err(EventKind::StoreFailed);
    };
    stored.record = flow_record(ctx, standing, nameserver, DNS_PORT);
    let (ip, port) = slot_address(ports, nameserver, slot);
    if ports.dns == 0 {
        return Err(EventKind::NoListener);
    }
    let v4 = nameserver.v4_word().is_some();
    let listens = match listener::<true>(ctx.as_ptr(), v4, port) {
        Listener::TheAgents => true,
        Listener::SomebodyElses => false,
        // The kernel holds no datagram back: whoever asks gets an answer, or asks again.
        Listener::None => {
            wait::until_the_agent_listens::<true>(ctx, standing, (asked, DNS_PORT), v4, port) == Wait::Over
        }
    };
    if !listens {
        return Err(EventKind::NoListener);
    }
    if V6_SOCKET {
        set_user_ip6(ctx.sock_addr, ip);
    } else {
        set_user_ip4(ctx.sock_addr, ip);
    }
    set_user_port(ctx.sock_addr, port);
    Ok(())
}

/// The nameserver that a datagram from `source` is the answer of, if it comes from the agent's slot for it.
#[inline(always)]
fn answering(ctx: &SockAddrContext, source: Ip128) -> Option<Ip128> {
    let port = Port::from_network(user_port(ctx.sock_addr));
    nameserver(ctx, slot_at(ask::proxy_ports(), source, port)?)
}

/// The nameserver for which the socket has a slot.
#[inline(always)]
pub(crate) fn nameserver(ctx: &SockAddrContext, slot: u32) -> Option<Ip128> {
    // SAFETY: the context is this program's own; no storage is made.
    let asked = unsafe { ASKED.get_ptr_mut(ctx) };
    // SAFETY: null or the storage of this program's own socket, which is locked by the caller.
    let asked = unsafe { asked.as_ref() }?;
    nameserver_of(&asked.nameservers, slot)
}
