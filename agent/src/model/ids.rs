//! Names and numbers that must not be confused with one another.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Id of a cgroup2 directory: its inode number, as `bpf_get_current_cgroup_id` gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CgroupId(pub u64);

/// Path of a cgroup below the cgroup2 mount, with a leading slash: `/actions.slice/report-1.service`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CgroupPath(pub Arc<str>);

/// Number of a policy in the kernel's maps; neither 0 nor the highest, which have meanings of their own there. It
/// follows from the workload's name alone, so that what is in the maps means the same to every agent that works with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PolicyId(pub u32);

/// `SO_NETNS_COOKIE` of a network namespace (Linux 5.14): unique for the life of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NetnsCookie(pub u64);

/// Address of the workload's end of a flow, in the workload's own network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ClientAddr(pub SocketAddr);

/// Address that the workload asked for, before the kernel side rewrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct OriginalDst(pub SocketAddr);

/// Id of one recorded session: a UUID version 7, so that ids sort by time of start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SessionId(pub uuid::Uuid);

impl PolicyId {
    /// The number of the policy of `workload`: the first four bytes of the BLAKE3 hash of its name. Two names may have the
    /// same number; `config` refuses the second.
    pub fn of(workload: &WorkloadName) -> Self {
        let hash = blake3::hash(workload.as_str().as_bytes());
        let [a, b, c, d, ..] = *hash.as_bytes();
        Self(u32::from_le_bytes([a, b, c, d]).clamp(1, u32::MAX - 1))
    }
}

impl SessionId {
    /// A new id, from the wall clock and the system's random source.
    pub fn new() -> Self {
        Self(uuid::Uuid::now_v7())
    }
}

impl Default for SessionId {
    fn default() -> Self {
        Self::new()
    }
}

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub struct $name(pub Arc<str>);

        impl From<&str> for $name {
            fn from(name: &str) -> Self {
                Self(name.into())
            }
        }

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    )*};
}

names! {
    /// Name of a workload, from `[workload] name`.
    WorkloadName;
    /// Name of a protected destination, from `[[service]] name`.
    ServiceName;
    /// Name of a rule, from `[[service.rule]] name`; shown to the client in a refusal.
    RuleName;
    /// Short id of a held command, typed by approvers: eight characters of lower-case base 32.
    HoldId;
}

impl CgroupPath {
    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

macro_rules! display_inner {
    ($($name:ident)*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    )*};
}

display_inner!(CgroupId CgroupPath PolicyId NetnsCookie ClientAddr OriginalDst SessionId);
