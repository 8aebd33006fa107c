//! What the kernel side and the agent share: keys and values of the maps, events, and the decisions themselves.
//!
//! The decisions are pure functions, so that what runs in the kernel is tested on the host. Nothing here calls a
//! helper, reads a map or knows a clock. Every shared structure is `repr(C)`, without implicit padding, and its
//! size is fixed by an assertion: the two sides are built by different compilers' back ends.
#![cfg_attr(not(test), no_std)]
#![expect(
    clippy::inline_always,
    reason = "programs of the kernel side are one function each: what is not inlined costs a call that the verifier \
              has to follow"
)]

mod address;
mod connect;
mod datagram;
mod egress;
mod event;
mod flow;
mod host;
mod maps;
mod observed;
mod pattern;
mod security;
mod socket;
mod standing;
mod unix;
mod wait;

pub use address::{Ip128, Port};
pub use connect::{ConnectAnswer, ConnectQuestion, on_connect};
pub use datagram::{
    AskedNameservers, DNS_PORT, DNS_SLOTS, is_slot_port, nameserver_of, slot_address, slot_at, take_slot,
};
pub use egress::{
    Ipv6Next, PacketAnswer, PacketQuestion, has_ports, ipv4_is_plain, ipv6_next, is_bare_reset, on_packet,
    opens,
};
pub use event::{Event, EventKind, Stat};
pub use flow::{FlowRecord, TupleKey};
pub use host::HostFacts;
pub use maps::{
    CgroupClass, EgressMode, PENDING_POLICY, PROTECTED_FIXED_BITS, PolicyRules, ProtectedKey, ProxyPorts,
};
pub use observed::{MAX_OBSERVED, Observed, ObservedKey};
pub use pattern::{MAX_STATES, MAX_TRANSITIONS, Outcome, PATH_BYTES, PatternTable, PatternTurn};
pub use security::{
    UseQuestion, has_addresses, has_family, may_bpf, may_connect, may_signal_agent, may_trace, may_unlock,
    may_use, may_write_cgroup, option_receives,
};
pub use socket::{SocketAnswer, on_socket, owns_proxy_port};
pub use standing::{MAX_DEPTH, Standing, Step, step};
#[cfg(feature = "user")]
pub use unix::unix_path;
pub use unix::{
    UNIX_LISTENERS, UNIX_PATH_MAX, UnixAction, UnixAnswer, UnixFlowKey, UnixFlowRecord, UnixKey, UnixPath,
    UnixQuestion, UnixRule, kfunc, last_component, on_unix_connect,
};

/// Version of what the pinned maps mean: to be raised when a key or a value gets another shape or another meaning, so
/// that an agent does not take the entries of another version for its own. A new map or program needs no new version.
pub const LAYOUT: u32 = 1;
pub use wait::{
    LONGEST_WAIT, SIGN_OF_LIFE, TOLD, WAIT_BUDGET, WAIT_WINDOW, Waited, after_wait, is_alive, is_news,
    may_wait,
};

/// Transport protocols as `IPPROTO_*` numbers.
pub mod ip_protocol {
    /// ICMP (RFC 792).
    pub const ICMP: u32 = 1;
    /// TCP (RFC 9293).
    pub const TCP: u32 = 6;
    /// UDP (RFC 768).
    pub const UDP: u32 = 17;
    /// DCCP (RFC 4340).
    pub const DCCP: u32 = 33;
    /// ICMP for IPv6 (RFC 4443).
    pub const ICMPV6: u32 = 58;
    /// SCTP (RFC 9260).
    pub const SCTP: u32 = 132;
    /// UDP-Lite (RFC 3828).
    pub const UDP_LITE: u32 = 136;
    /// Multipath TCP (RFC 8684); a number of Linux's own, beyond a byte.
    pub const MPTCP: u32 = 262;
}
