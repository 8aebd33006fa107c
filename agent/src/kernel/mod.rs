//! Kernel side: load, attach, pin, maps, events. The only importer of aya; the only `unsafe`.
//!
//! What is managed and protected is said by others ([`CgroupKeeper`] and the composition root); what becomes of a
//! connection is decided in `agent-common` and carried out in the kernel. Links and maps are pinned: an agent that
//! dies leaves managed cgroups closed for protected destinations, and its ports to nobody.
//!
//! Limits: a socket that was made outside a managed cgroup and connected before it was brought in (inherited,
//! `SCM_RIGHTS`) is seen by looking for it ([`existing`]), not when it is used. Packets without ports (ICMP) to a protected host pass unless the policy's egress denies.
//! The first connection to a protected destination from a network namespace waits until the agent listens there; where that
//! takes too long it is refused, and the agent listens there by the next attempt. Where the kernel refuses the program on `cgroup_mkdir`, nobody
//! classifies while the agent is away: cgroups made meanwhile where a pattern might match are refused what any policy
//! protects or refuses, workloads or not. Of unix sockets the path is seen that a process names, not the socket that is
//! found there: a link of another name gets past it. vsock and `AF_PACKET` are not covered.
//!
//! Where the kernel asks BPF programs at its security hooks ([`Tier::Lsm`]) the last two are, and so are sockets that
//! somebody else connected. Limits there: a unix socket that was connected before and passed on is not seen; nor is
//! what root gets by settings of the kernel's (`core_pattern`), by unmounting a bpffs, and by `release_agent` of a v1
//! hierarchy.

mod automaton;
mod bpffs;
mod btf;
pub mod cgroup2;
pub mod dial;
pub mod dump;
mod error;
mod events;
pub mod existing;
mod fields;
mod flows;
mod generation;
pub mod given;
mod host;
pub mod inhabitant;
mod keeper;
mod kfunc;
mod link;
pub mod local;
mod lock;
pub mod mapping;
mod maps;
mod members;
mod neighbours;
mod netlink;
pub mod netns;
mod observed;
mod origin;
mod pattern;
mod pinned;
pub mod process;
mod programs;
mod protected;
mod proxy;
mod requirements;
mod resend;
#[cfg(test)]
pub(crate) mod sabotage;
mod security;
mod sock_diag;
pub mod sockets;
mod standing;
mod stats;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod tier;
mod unix;
mod visit;
mod waiting;

pub use bpffs::is_bpffs;
pub use error::KernelError;
pub use events::{EventStream, KernelEvent};
pub use host::{Kernel, KernelOptions, Rules};
pub use keeper::{AwaitedCgroups, CgroupKeeper, ManagedCgroup, ManagedCgroups};
pub use kfunc::UnixHook;
pub use lock::{HostLock, PinLock};
pub use members::{Member, members};
pub use neighbours::{AttachPoint, Attached, Mode, OwnLink, attached_at, knows, own_links};
pub use observed::{Destination, DestinationKey};
pub use origin::FlowOrigin;
pub use pattern::{CgroupPattern, Decide, Decided, PatternError, Patterns};
pub use pinned::standing_by_pins;
pub use programs::{Hook, Lacking, Need, Trial, trial};
pub use protected::Protected;
pub use proxy::ProxyAddresses;
pub use requirements::{Requirement, check as check_requirements, survey as survey_requirements};
pub use standing::{ProcessStanding, Standing};
pub use stats::Stats;
pub use tier::{Tier, Weaker, open_without, weaker_without};
pub use unix::{UnixOrigin, UnixTier, UnixTreatment};
pub use visit::Visit;

pub use agent_common::EventKind;
