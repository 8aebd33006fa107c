//! `cgroup_skb/egress`: the second wall, by the socket's cgroup. Pinned first, removed last.
//!
//! It also hands the record of a redirected connection to the agent, with the first packet: its source is chosen then, and
//! the agent cannot accept before the entry is there. A program on TCP's own moments (`sock_ops`) would be run nine times
//! for every connection of the host.

use agent_common::{
    AskedNameservers, DNS_PORT, FlowRecord, Ip128, Ipv6Next, PacketAnswer, PacketQuestion, Port, Standing,
    TupleKey, has_ports, ip_protocol, ipv4_is_plain, ipv6_next, is_bare_reset, nameserver_of, on_packet,
    opens, slot_at,
};
use aya_ebpf::bindings::{__sk_buff, bpf_sock};
use aya_ebpf::helpers::generated::{
    bpf_sk_fullsock, bpf_sk_storage_get, bpf_skb_ancestor_cgroup_id, bpf_skb_cgroup_id,
};
use aya_ebpf::macros::cgroup_skb;
use aya_ebpf::programs::SkBuffContext;
use core::ptr::addr_of;

use crate::maps::{ASKED, ORIGINAL, QUERIES, TUPLES};
use crate::{ask, report, wait};

const PASS: i32 = 1;
const DROP: i32 = 0;

/// Extension headers of one packet that are looked through.
const MAX_EXTENSIONS: u32 = 4;

/// Every packet that leaves a socket of the host.
#[cgroup_skb(egress)]
pub(crate) fn tollgate_egress(ctx: SkBuffContext) -> i32 {
    let skb = ctx.skb.skb;
    // SAFETY: the context is this program's own; the helper answers 0 beyond the socket's own level.
    let standing = ask::standing(|level| unsafe { bpf_skb_ancestor_cgroup_id(skb, level) });
    // A process of a managed cgroup may ask with a socket that is not the cgroup's own.
    let asked = match standing {
        Standing::Free if !ask::host().steers_dns() => None,
        _ => asked_by(skb),
    };
    if matches!(standing, Standing::Free) && asked.is_none() && !connects_to_proxy(skb) {
        return PASS;
    }
    // What cannot be read goes nowhere, and is counted as what it might have been.
    let packet = parse(&ctx).unwrap_or(Packet {
        source: Ip128([0; 4]),
        destination: Ip128([0; 4]),
        protocol: None,
        source_port: Port(0),
        port: Port(0),
        flags: None,
        reset: false,
    });
    let ports = ask::proxy_ports();
    let to_proxy = (packet.destination == Ip128::LOOPBACK_V4 && packet.port.0 == ports.v4)
        || (packet.destination == Ip128::LOOPBACK_V6 && packet.port.0 == ports.v6);
    if to_proxy && packet.flags.is_some_and(opens) {
        let v4 = packet.destination == Ip128::LOOPBACK_V4;
        if let Some(record) = redirected(skb) {
            if wait::holds_back(skb, record, v4, packet.port) {
                return DROP;
            }
            // A failed insert needs nothing: the agent closes a connection that it finds no entry for. Of one that never
            // comes to be, the agent sweeps the entry.
            let _inserted = TUPLES.insert(packet.tuple(record.netns), record, 0);
        }
    }
    let slot = match packet.protocol {
        Some(ip_protocol::UDP) => slot_at(ports, packet.destination, packet.port),
        _ => None,
    };
    if let (Some(slot), Some(asked)) = (slot, asked) {
        announce(asked, slot, &packet);
    }
    let rules = ask::rules(standing);
    let answer = on_packet(PacketQuestion {
        standing,
        protocol: packet.protocol,
        port: packet.port,
        to_proxy,
        to_slot: slot.is_some(),
        reset: packet.reset,
        protected: ask::protected(standing, packet.destination, packet.port),
        egress: rules.map(|rules| rules.egress()),
        steers_dns: rules.is_some_and(|rules| rules.steers_dns()),
    });
    match answer {
        PacketAnswer::Pass => PASS,
        PacketAnswer::Drop(kind) => {
            let policy = match standing {
                Standing::Managed { policy, .. } => policy,
                Standing::Free | Standing::Pending => 0,
            };
            // SAFETY: the context is this program's own.
            let cgroup = unsafe { bpf_skb_cgroup_id(skb) };
            let protocol = packet.protocol.unwrap_or(0);
            report::packet(kind, policy, cgroup, packet.destination, packet.port, protocol);
            DROP
        }
    }
}

/// Whether the packet's socket is connected to the proxy, or about to be. It need not be of a managed cgroup: that is the
/// process which connects.
#[inline(always)]
fn connects_to_proxy(skb: *mut __sk_buff) -> bool {
    // SAFETY: a readable word of the context, which becomes a pointer to a socket, or null.
    let socket = unsafe { (*skb).__bindgen_anon_2.sk };
    if socket.is_null() {
        return false;
    }
    // SAFETY: a readable field of any socket; 0 where it has no peer.
    let port = Port::from_network(u32::from(unsafe { addr_of!((*socket).dst_port).read_volatile() }));
    let ports = ask::proxy_ports();
    port.0 != 0 && (port.0 == ports.v4 || port.0 == ports.v6)
}

/// The packet's socket.
#[inline(always)]
fn full_socket(skb: *mut __sk_buff) -> Option<*mut bpf_sock> {
    // SAFETY: a readable word of the context, which becomes a pointer to a socket, or null.
    let socket = unsafe { (*skb).__bindgen_anon_2.sk };
    if socket.is_null() {
        return None;
    }
    // SAFETY: not null; the answer is null where it is no full socket.
    let socket = unsafe { bpf_sk_fullsock(socket) };
    (!socket.is_null()).then_some(socket)
}

/// What the packet's socket was redirected from, if it was.
#[inline(always)]
fn redirected(skb: *mut __sk_buff) -> Option<&'static mut FlowRecord> {
    let socket = full_socket(skb)?;
    let originals = (&raw const ORIGINAL).cast_mut().cast();
    // SAFETY: the socket is not null; no storage is made.
    let record = unsafe { bpf_sk_storage_get(originals, socket.cast(), core::ptr::null_mut(), 0) };
    // SAFETY: null or the record on the packet's socket, which the packet holds for as long as this program runs.
    unsafe { record.cast::<FlowRecord>().as_mut() }
}

/// What the socket has asked of nameservers, if it has.
#[inline(always)]
fn asked_by(skb: *mut __sk_buff) -> Option<&'static AskedNameservers> {
    let socket = full_socket(skb)?;
    // SAFETY: a readable word of a full socket. Queries over TCP are redirected like any connection.
    if unsafe { addr_of!((*socket).protocol).read_volatile() } != ip_protocol::UDP {
        return None;
    }
    let asked = (&raw const ASKED).cast_mut().cast();
    // SAFETY: the socket is not null; no storage is made.
    let asked = unsafe { bpf_sk_storage_get(asked, socket.cast(), core::ptr::null_mut(), 0) };
    // SAFETY: null or the storage of the packet's socket, which the packet holds for as long as this program runs. Words
    // that a program beside this one writes give the one or the other of two nameservers of the same socket's.
    unsafe { asked.cast::<AskedNameservers>().as_ref() }
}

/// Tells the agent whose query this is and for which nameserver, under the name that the agent will see. A query that it
/// is not told of, it drops.
#[inline(always)]
fn announce(asked: &AskedNameservers, slot: u32, packet: &Packet) {
    let Some(nameserver) = nameserver_of(&asked.nameservers, slot) else {
        return;
    };
    let record = FlowRecord {
        ip: nameserver,
        port: DNS_PORT,
        ..asked.record
    };
    let _inserted = QUERIES.insert(packet.tuple(record.netns), record, 0);
}

struct Packet {
    source: Ip128,
    destination: Ip128,
    protocol: Option<u32>,
    source_port: Port,
    port: Port,
    /// Of TCP.
    flags: Option<u8>,
    reset: bool,
}

impl Packet {
    #[inline(always)]
    fn tuple(&self, netns: u64) -> TupleKey {
        TupleKey {
            netns,
            source: self.source,
            destination: self.destination,
            source_port: self.source_port,
            destination_port: self.port,
        }
    }
}

/// The packet begins at its network header. `None`: neither IPv4 nor IPv6, or cut short.
#[inline(always)]
fn parse(ctx: &SkBuffContext) -> Option<Packet> {
    let first: u8 = ctx.load(0).ok()?;
    match first >> 4 {
        4 => parse_v4(ctx, first),
        6 => parse_v6(ctx),
        _ => None,
    }
}

/// RFC 791 §3.1.
#[inline(always)]
fn parse_v4(ctx: &SkBuffContext, first: u8) -> Option<Packet> {
    let fragment = u16::from_be(ctx.load(6).ok()?);
    let number: u8 = ctx.load(9).ok()?;
    let source = Ip128::from_v4_words(ctx.load(12).ok()?);
    let destination = Ip128::from_v4_words(ctx.load(16).ok()?);
    let protocol = ipv4_is_plain(first, fragment).then_some(u32::from(number));
    let header = u32::from(first & 0x0f) * 4;
    let (source_port, port) = ports(ctx, protocol, header)?;
    let flags = flags(ctx, protocol, header);
    Some(Packet {
        source,
        destination,
        protocol,
        source_port,
        port,
        flags,
        reset: flags.is_some_and(|flags| reset(ctx, flags, header)),
    })
}

/// RFC 8200 §3.
#[inline(always)]
fn parse_v6(ctx: &SkBuffContext) -> Option<Packet> {
    let mut number: u8 = ctx.load(6).ok()?;
    let source = Ip128([
        ctx.load(8).ok()?,
        ctx.load(12).ok()?,
        ctx.load(16).ok()?,
        ctx.load(20).ok()?,
    ]);
    let destination = Ip128([
        ctx.load(24).ok()?,
        ctx.load(28).ok()?,
        ctx.load(32).ok()?,
        ctx.load(36).ok()?,
    ]);
    let mut header = 40;
    let mut protocol = None;
    for _ in 0..=MAX_EXTENSIONS {
        let length: u8 = match ctx.load(header as usize + 1) {
            Ok(length) => length,
            Err(_) => break,
        };
        match ipv6_next(number, length) {
            Ipv6Next::Transport => {
                protocol = Some(u32::from(number));
                break;
            }
            Ipv6Next::Skip(bytes) => {
                number = ctx.load(header as usize).ok()?;
                header += bytes;
            }
            Ipv6Next::Opaque => break,
        }
    }
    let (source_port, port) = ports(ctx, protocol, header)?;
    let flags = flags(ctx, protocol, header);
    Some(Packet {
        source,
        destination,
        protocol,
        source_port,
        port,
        flags,
        reset: flags.is_some_and(|flags| reset(ctx, flags, header)),
    })
}

/// Source and destination port.
#[inline(always)]
fn ports(ctx: &SkBuffContext, protocol: Option<u32>, header: u32) -> Option<(Port, Port)> {
    match protocol {
        Some(protocol) if has_ports(protocol) => {
            let raw: [u16; 2] = ctx.load(header as usize).ok()?;
            let [source, destination] = raw.map(u32::from);
            Some((Port::from_network(source), Port::from_network(destination)))
        }
        _ => Some((Port(0), Port(0))),
    }
}

/// Flags of a TCP segment.
#[inline(always)]
fn flags(ctx: &SkBuffContext, protocol: Option<u32>, header: u32) -> Option<u8> {
    match protocol {
        Some(ip_protocol::TCP) => ctx.load(header as usize + 13).ok(),
        _ => None,
    }
}

#[inline(always)]
fn reset(ctx: &SkBuffContext, flags: u8, header: u32) -> bool {
    match ctx.load(header as usize + 12) {
        Ok(offset) => is_bare_reset(offset, flags, ctx.len().wrapping_sub(header)),
        Err(_) => false,
    }
}
