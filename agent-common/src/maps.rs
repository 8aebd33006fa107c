//! Keys and values of the maps that the agent writes and the kernel side reads.

use crate::{Ip128, Port};

/// Policy number under which every policy's protected destinations stand a second time, and the rules of the strictest,
/// for processes whose cgroup the agent has not classified yet ([`crate::Standing::Pending`]). No policy has this number.
pub const PENDING_POLICY: u32 = 0;

/// Value of `CGROUPS`: what the agent knows of one cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct CgroupClass {
    /// Policy of the cgroup and everything below it; 0: none.
    pub policy: u32,
    /// [`Self::WATCHED`] and [`Self::VISITOR`], each set or not.
    marks: u32,
}

impl CgroupClass {
    /// A policy's glob might match a cgroup below, so children that are not in the map are pending. Without it nothing
    /// below is looked at.
    const WATCHED: u32 = 1;
    /// Said by a visitor of a cgroup that it made, and not by the agent, which leaves it alone. The kernel side makes no
    /// difference: who can write this can write anything.
    const VISITOR: u32 = 2;

    /// Under `policy`.
    pub const fn managed(policy: u32) -> Self {
        Self { policy, marks: 0 }
    }

    /// Under none.
    pub const fn unmanaged(watched: bool) -> Self {
        Self {
            policy: 0,
            marks: if watched { Self::WATCHED } else { 0 },
        }
    }

    /// The same, said by a visitor.
    #[must_use]
    pub const fn of_visitor(self) -> Self {
        Self {
            policy: self.policy,
            marks: self.marks | Self::VISITOR,
        }
    }

    /// Whether a policy's glob might match a cgroup below.
    #[inline(always)]
    pub const fn is_watched(self) -> bool {
        self.marks & Self::WATCHED != 0
    }

    /// Whether a visitor said it.
    pub const fn is_visitors(self) -> bool {
        self.marks & Self::VISITOR != 0
    }
}

/// Key of `PROTECTED`, after the prefix length: exact policy, exact port (0: any), then the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct ProtectedKey {
    /// Number of the policy.
    pub policy: u32,
    /// Port, or 0 for every port.
    pub port: Port,
    /// Address or network.
    pub ip: Ip128,
}

/// Bits of [`ProtectedKey`] before the address, all of which every prefix covers.
pub const PROTECTED_FIXED_BITS: u32 = 64;

/// What a policy does with destinations that it does not protect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum EgressMode {
    /// Passed, untouched.
    Allow = 1,
    /// Refused.
    Deny = 2,
    /// Passed and reported.
    Observe = 3,
}

/// Value of `POLICIES`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct PolicyRules {
    /// An [`EgressMode`] as its number; a plain number, because the kernel side must not trust a map to hold a
    /// valid discriminant.
    pub egress: u32,
    /// 1: what goes to port 53 goes to the agent instead, which asks the nameserver and hears its answer first.
    pub dns: u32,
}

impl PolicyRules {
    /// The mode; what is not known is [`EgressMode::Deny`].
    #[inline(always)]
    pub const fn egress(self) -> EgressMode {
        match self.egress {
            1 => EgressMode::Allow,
            3 => EgressMode::Observe,
            _ => EgressMode::Deny,
        }
    }

    /// Whether DNS is steered through the agent.
    #[inline(always)]
    pub const fn steers_dns(self) -> bool {
        self.dns != 0
    }
}

/// The one value of `PROXY`: ports of the agent's sockets on 127.0.0.1 and `::1`, the same in every network
/// namespace. 0: none, so that what would go there is refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct ProxyPorts {
    /// Port on 127.0.0.1.
    pub v4: u32,
    /// Port on `::1`.
    pub v6: u32,
    /// The first of the [`crate::DNS_SLOTS`] datagram ports on both addresses.
    pub dns: u32,
    /// Zero.
    pub reserved: u32,
}

const _: () = assert!(size_of::<CgroupClass>() == 8);
const _: () = assert!(size_of::<ProtectedKey>() == 24 && align_of::<ProtectedKey>() == 4);
const _: () = assert!(core::mem::offset_of!(ProtectedKey, ip) * 8 == PROTECTED_FIXED_BITS as usize);
const _: () = assert!(size_of::<PolicyRules>() == 8);
const _: () = assert!(size_of::<ProxyPorts>() == 16);

#[cfg(feature = "user")]
#[expect(
    unsafe_code,
    reason = "aya asks for the promise that a map value is plain data"
)]
mod user {
    use super::{CgroupClass, PolicyRules, ProtectedKey, ProxyPorts};

    // SAFETY: `repr(C)`, words alone, no padding (asserted above): every bit pattern is a value.
    unsafe impl aya::Pod for CgroupClass {}
    // SAFETY: as above.
    unsafe impl aya::Pod for ProtectedKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for PolicyRules {}
    // SAFETY: as above.
    unsafe impl aya::Pod for ProxyPorts {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_visitors_mark_changes_nothing_else() {
        for class in [
            CgroupClass::managed(7),
            CgroupClass::unmanaged(true),
            CgroupClass::unmanaged(false),
        ] {
            let marked = class.of_visitor();
            assert!(marked.is_visitors() && !class.is_visitors());
            assert_eq!(
                (marked.policy, marked.is_watched()),
                (class.policy, class.is_watched())
            );
        }
    }

    #[test]
    fn an_unknown_egress_mode_denies() {
        let rules = |egress| PolicyRules { egress, dns: 0 };
        for number in [0, 2, 4, u32::MAX] {
            assert_eq!(rules(number).egress(), EgressMode::Deny);
        }
        for mode in [EgressMode::Allow, EgressMode::Deny, EgressMode::Observe] {
            assert_eq!(rules(mode as u32).egress(), mode);
        }
    }
}
