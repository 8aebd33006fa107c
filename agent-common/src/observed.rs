//! What workloads reach, or try to, around the services of their policies: one entry a destination, for listings.

use crate::{Event, EventKind, Ip128, Port};

/// Key of `OBSERVED`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct ObservedKey {
    /// Number of the policy; never 0.
    pub policy: u32,
    /// An [`EventKind`] as its number: what became of it.
    pub kind: u32,
    /// Destination, as it was asked for.
    pub ip: Ip128,
    /// Destination port.
    pub port: Port,
    /// `IPPROTO_*`.
    pub protocol: u32,
}

/// Value of `OBSERVED`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Observed {
    /// How often, as exactly as two processors at a time count.
    pub count: u64,
    /// `CLOCK_BOOTTIME` of the first time, in nanoseconds.
    pub first: u64,
    /// `CLOCK_BOOTTIME` of the last time, in nanoseconds.
    pub last: u64,
    /// Cgroup of the last process, or of the last packet's socket.
    pub cgroup: u64,
    /// The last process, in the initial pid namespace; 0 for packets.
    pub tgid: u32,
    /// Its user, in the initial user namespace; 0 for packets.
    pub uid: u32,
    /// Name of its thread; zeros for packets.
    pub comm: [u8; 16],
}

/// Entries that `OBSERVED` can have. What is more is counted ([`crate::Stat::UNLISTED`]), not listed.
pub const MAX_OBSERVED: u32 = 16_384;

impl ObservedKey {
    /// Where an event is listed; `None`: it is about no destination, or about none that a policy decided on.
    #[inline(always)]
    pub const fn of(event: &Event) -> Option<Self> {
        if event.policy == 0 || !is_listed(event.kind) {
            return None;
        }
        Some(Self {
            policy: event.policy,
            kind: event.kind,
            ip: event.ip,
            port: event.port,
            protocol: event.protocol,
        })
    }
}

impl Observed {
    /// The entry of an event that is the first of its kind, before it is counted.
    #[inline(always)]
    pub const fn uncounted(event: &Event, now: u64) -> Self {
        Self {
            count: 0,
            first: now,
            last: now,
            cgroup: event.cgroup,
            tgid: event.tgid,
            uid: event.uid,
            comm: event.comm,
        }
    }
}

#[inline(always)]
const fn is_listed(kind: u32) -> bool {
    kind == EventKind::EgressRefused as u32
        || kind == EventKind::EgressObserved as u32
        || kind == EventKind::ProtocolRefused as u32
        || kind == EventKind::PacketDropped as u32
}

const _: () = assert!(size_of::<ObservedKey>() == 32 && align_of::<ObservedKey>() == 4);
const _: () = assert!(size_of::<Observed>() == 56 && align_of::<Observed>() == 8);

#[cfg(feature = "user")]
#[expect(
    unsafe_code,
    reason = "aya asks for the promise that a map value is plain data"
)]
mod user {
    use super::{Observed, ObservedKey};

    // SAFETY: `repr(C)`, integers alone, no padding (sizes asserted above): every bit pattern is a value.
    unsafe impl aya::Pod for ObservedKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Observed {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_policy_decided_about_a_destination_is_listed_and_nothing_else() {
        let event = |kind: EventKind, policy| Event {
            kind: kind as u32,
            policy,
            cgroup: 7,
            netns: 1,
            tgid: 2,
            uid: 3,
            tid: 2,
            reserved: 0,
            ip: Ip128::LOOPBACK_V4,
            port: Port(443),
            protocol: 17,
            comm: *b"curl\0\0\0\0\0\0\0\0\0\0\0\0",
        };
        let listed: Vec<_> = EventKind::ALL
            .into_iter()
            .filter(|kind| ObservedKey::of(&event(*kind, 1)).is_some())
            .collect();
        let expected = [
            EventKind::EgressRefused,
            EventKind::EgressObserved,
            EventKind::ProtocolRefused,
            EventKind::PacketDropped,
        ];
        assert_eq!(listed, expected);
        assert_eq!(ObservedKey::of(&event(EventKind::PacketDropped, 0)), None);
        let first = Observed::uncounted(&event(EventKind::EgressObserved, 1), 99);
        assert_eq!((first.count, first.first, first.last), (0, 99, 99));
        assert_eq!((first.cgroup, first.tgid, first.uid), (7, 2, 3));
    }
}
