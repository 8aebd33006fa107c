//! `cgroup_skb/egress`: the second wall, by the socket's cgroup. Pinned first, removed last.

use agent_common::{
    Ip128, Ipv6Next, PacketAnswer, PacketQuestion, Port, Standing, has_ports, ipv4_is_plain, ipv6_next,
    on_packet,
};
use aya_ebpf::helpers::generated::{bpf_skb_ancestor_cgroup_id, bpf_skb_cgroup_id};
use aya_ebpf::macros::cgroup_skb;
use aya_ebpf::programs::SkBuffContext;

use crate::{ask, report};

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
    if matches!(standing, Standing::Free) {
        return PASS;
    }
    // What cannot be read goes nowhere, and is counted as what it might have been.
    let packet = parse(&ctx).unwrap_or(Packet {
        destination: Ip128([0; 4]),
        protocol: None,
        port: Port(0),
    });
    let ports = ask::proxy_ports();
    let to_proxy = (packet.destination == Ip128::LOOPBACK_V4 && packet.port.0 == ports.v4)
        || (packet.destination == Ip128::LOOPBACK_V6 && packet.port.0 == ports.v6);
    let answer = on_packet(PacketQuestion {
        standing,
        protocol: packet.protocol,
        port: packet.port,
        to_proxy,
        protected: ask::protected(standing, packet.destination, packet.port),
        egress: ask::egress_mode(standing),
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

struct Packet {
    destination: Ip128,
    protocol: Option<u32>,
    port: Port,
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
    let destination = Ip128::from_v4_words(ctx.load(16).ok()?);
    let protocol = ipv4_is_plain(first, fragment).then_some(u32::from(number));
    let header = u32::from(first & 0x0f) * 4;
    let port = port(ctx, protocol, header)?;
    Some(Packet {
        destination,
        protocol,
        port,
    })
}

/// RFC 8200 §3.
#[inline(always)]
fn parse_v6(ctx: &SkBuffContext) -> Option<Packet> {
    let mut number: u8 = ctx.load(6).ok()?;
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
    let port = port(ctx, protocol, header)?;
    Some(Packet {
        destination,
        protocol,
        port,
    })
}

#[inline(always)]
fn port(ctx: &SkBuffContext, protocol: Option<u32>, header: u32) -> Option<Port> {
    match protocol {
        Some(protocol) if has_ports(protocol) => {
            let raw: u16 = ctx.load(header as usize + 2).ok()?;
            Some(Port::from_network(u32::from(raw)))
        }
        _ => Some(Port(0)),
    }
}
