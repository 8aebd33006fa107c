//! What the kernel side reports: events (advisory, lost when nobody reads) and counters (exact).

use crate::{Ip128, Port};

/// What happened. The numbers are shared by both sides of one build, and by nobody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum EventKind {
    /// A destination that no service names was refused (`egress = "deny"`).
    EgressRefused = 1,
    /// A destination that no service names was let through (`egress = "observe"`).
    EgressObserved = 2,
    /// A protected destination was refused because the socket is not TCP.
    ProtocolRefused = 3,
    /// A protected destination was refused because the cgroup is not classified yet.
    PendingRefused = 4,
    /// A protected destination was refused because no listener of the agent's is in the network namespace.
    NoListener = 5,
    /// A packet straight to a protected destination, or against `egress = "deny"`, was dropped.
    PacketDropped = 6,
    /// A socket of a kind that a workload may not have was refused.
    SocketRefused = 7,
    /// Somebody else than the agent tried to bind the proxy's port.
    BindRefused = 8,
    /// A connection was redirected to the proxy but its origin could not be stored; it was refused.
    StoreFailed = 9,
    /// A datagram to a protected destination was refused.
    DatagramRefused = 10,
    /// A connection that went around the proxy was destroyed. Counted by the agent, which does it.
    ConnectionDestroyed = 14,
    /// A connection to a unix socket that the policy protects, or refuses, was refused.
    UnixRefused = 12,
    /// A socket of a family that a workload may not have was refused.
    FamilyRefused = 16,
    /// Bytes on a socket that a workload must not use were refused: its peer is protected, or its kind is one that goes around.
    UseRefused = 17,
    /// A workload tried to take over a process that is not its own.
    TraceRefused = 18,
    /// A workload tried to send the agent a signal.
    SignalRefused = 19,
    /// A workload asked bpf(2) for something else than device rules.
    BpfRefused = 20,
    /// A workload tried what kernel lockdown refuses to root.
    UnlockRefused = 21,
    /// A workload tried to write to a cgroup outside its own.
    CgroupRefused = 22,
    /// A workload tried to change a bpffs, where the links and maps are pinned.
    PinRefused = 23,
    /// A connection to a unix socket was refused by the name that its server gave it.
    UnixLinkRefused = 24,
    /// A workload is in a network namespace where the agent does not listen yet: it has made its first socket there, or
    /// its connect waits for the agent.
    ListenerAwaited = 13,
}

impl EventKind {
    /// Every kind.
    pub const ALL: [Self; 22] = [
        Self::EgressRefused,
        Self::EgressObserved,
        Self::ProtocolRefused,
        Self::PendingRefused,
        Self::NoListener,
        Self::PacketDropped,
        Self::SocketRefused,
        Self::BindRefused,
        Self::StoreFailed,
        Self::DatagramRefused,
        Self::ConnectionDestroyed,
        Self::UnixRefused,
        Self::FamilyRefused,
        Self::UseRefused,
        Self::TraceRefused,
        Self::SignalRefused,
        Self::BpfRefused,
        Self::UnlockRefused,
        Self::CgroupRefused,
        Self::PinRefused,
        Self::UnixLinkRefused,
        Self::ListenerAwaited,
    ];

    /// The kind of number `number`.
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u32 == number)
    }

    /// Its name, for people and scripts: words with hyphens.
    pub const fn name(self) -> &'static str {
        match self {
            Self::EgressRefused => "egress-refused",
            Self::EgressObserved => "egress-observed",
            Self::ProtocolRefused => "protocol-refused",
            Self::PendingRefused => "pending-refused",
            Self::NoListener => "no-listener",
            Self::PacketDropped => "packet-dropped",
            Self::SocketRefused => "socket-refused",
            Self::BindRefused => "bind-refused",
            Self::StoreFailed => "store-failed",
            Self::DatagramRefused => "datagram-refused",
            Self::ConnectionDestroyed => "connection-destroyed",
            Self::UnixRefused => "unix-refused",
            Self::FamilyRefused => "family-refused",
            Self::UseRefused => "use-refused",
            Self::TraceRefused => "trace-refused",
            Self::SignalRefused => "signal-refused",
            Self::BpfRefused => "bpf-refused",
            Self::UnlockRefused => "unlock-refused",
            Self::CgroupRefused => "cgroup-refused",
            Self::PinRefused => "pin-refused",
            Self::UnixLinkRefused => "unix-link-refused",
            Self::ListenerAwaited => "listener-awaited",
        }
    }

    /// The program, or pair of programs, that saw it.
    pub const fn program(self) -> &'static str {
        match self {
            Self::EgressRefused
            | Self::EgressObserved
            | Self::ProtocolRefused
            | Self::PendingRefused
            | Self::NoListener
            | Self::ListenerAwaited
            | Self::StoreFailed => "connect4/6",
            Self::PacketDropped => "cgroup_skb/egress",
            Self::SocketRefused => "sock_create",
            Self::BindRefused => "bind4/6",
            Self::DatagramRefused => "sendmsg4/6",
            Self::ConnectionDestroyed => "sock_diag",
            Self::UnixRefused => "connect_unix",
            Self::FamilyRefused => "lsm",
            Self::UseRefused => "lsm",
            Self::TraceRefused => "lsm",
            Self::SignalRefused => "lsm",
            Self::BpfRefused => "lsm",
            Self::UnlockRefused => "lsm",
            Self::CgroupRefused => "lsm",
            Self::PinRefused => "lsm",
            Self::UnixLinkRefused => "lsm",
        }
    }
}

/// One event in the ring buffer `EVENTS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Event {
    /// An [`EventKind`] as its number.
    pub kind: u32,
    /// Number of the policy; 0 where there is none.
    pub policy: u32,
    /// The process's or the socket's own cgroup.
    pub cgroup: u64,
    /// `SO_NETNS_COOKIE`; 0 where the program cannot ask for it.
    pub netns: u64,
    /// Process in the initial pid namespace; 0 for packets, which may leave in anybody's context.
    pub tgid: u32,
    /// User in the initial user namespace; 0 for packets.
    pub uid: u32,
    /// Thread in the initial pid namespace, which may be in another network namespace than its process; 0 for packets.
    pub tid: u32,
    /// Keeps the size a multiple of eight.
    pub reserved: u32,
    /// Destination.
    pub ip: Ip128,
    /// Destination port, or the port that was to be bound.
    pub port: Port,
    /// `IPPROTO_*`.
    pub protocol: u32,
    /// Name of the thread, for people only; zeros for packets.
    pub comm: [u8; 16],
}

/// Index into `STATS`: events by their kind's number, and redirected connections at 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat(pub u32);

impl Stat {
    /// Connections that were redirected to the proxy.
    pub const REDIRECTED: Self = Self(0);
    /// Destinations that were not listed, because the list was full.
    pub const UNLISTED: Self = Self(15);
    /// Sockets and datagrams that were sent to the agent instead of a nameserver.
    pub const STEERED: Self = Self(11);
    /// How many counters there are.
    pub const COUNT: u32 = 32;

    /// The counter of `kind`.
    #[inline(always)]
    pub const fn of(kind: EventKind) -> Self {
        Self(kind as u32)
    }
}

const _: () = assert!(size_of::<Event>() == 80 && align_of::<Event>() == 8);
const _: () = assert!(core::mem::offset_of!(Event, comm) == 64);

#[cfg(feature = "user")]
#[expect(
    unsafe_code,
    reason = "aya asks for the promise that a map value is plain data"
)]
mod user {
    use super::Event;

    // SAFETY: `repr(C)`, integers alone, no padding (size asserted above): every bit pattern is a value.
    unsafe impl aya::Pod for Event {}

    impl Event {
        /// Reads an event from the bytes of a ring buffer entry.
        pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
            if bytes.len() != size_of::<Self>() {
                return None;
            }
            // SAFETY: the length is checked, every bit pattern is a value, and the read asks for no alignment.
            Some(unsafe { bytes.as_ptr().cast::<Self>().read_unaligned() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_number_and_a_counter_of_its_own() {
        for kind in EventKind::ALL {
            assert_eq!(EventKind::from_number(kind as u32), Some(kind));
            assert!(Stat::of(kind).0 > Stat::REDIRECTED.0 && Stat::of(kind).0 < Stat::COUNT);
            assert!(Stat::of(kind) != Stat::UNLISTED, "{kind:?}");
            const { assert!(Stat::UNLISTED.0 < Stat::COUNT) };
        }
        assert_eq!(EventKind::from_number(0), None);
    }
}
