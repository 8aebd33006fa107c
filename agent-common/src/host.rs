//! What holds for the whole host. Most processes and packets are those of nobody's workload, and one look here is what
//! they pay first.

use crate::{Standing, Step};

/// Values of [`HostFacts::root`].
const ROOT_UNKNOWN: u32 = 0;
const ROOT_UNWATCHED: u32 = 1;
const ROOT_WATCHED: u32 = 2;

/// The one value of `HOST`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct HostFacts {
    /// What is said of the root of the hierarchy, as a number: the kernel side must not trust a map to hold a valid
    /// discriminant. It stands in `CGROUPS` like every other cgroup as well; here it costs no hash.
    root: u32,
    /// 1: some policy steers DNS, so a workload's query may be on anybody's socket.
    dns: u32,
}

impl HostFacts {
    /// The same, with the root unmanaged: it can be nothing else, since the agent is below it.
    #[must_use]
    pub const fn with_root(self, watched: bool) -> Self {
        let root = if watched { ROOT_WATCHED } else { ROOT_UNWATCHED };
        Self { root, ..self }
    }

    /// The same, with nothing said of the root.
    #[must_use]
    pub const fn without_root(self) -> Self {
        Self {
            root: ROOT_UNKNOWN,
            ..self
        }
    }

    /// The same, with or without a policy that steers DNS.
    #[must_use]
    pub const fn with_dns(self, steered: bool) -> Self {
        Self {
            dns: steered as u32,
            ..self
        }
    }

    /// The first step of the walk over a process's cgroups. A number that is not known is taken for a watched root, below
    /// which nobody is free who is not classified.
    #[inline(always)]
    pub const fn root(self) -> Step {
        match self.root {
            ROOT_UNKNOWN => Step::Down { watched: false },
            ROOT_UNWATCHED => Step::Done(Standing::Free),
            _ => Step::Down { watched: true },
        }
    }

    /// Whether any policy steers DNS.
    #[inline(always)]
    pub const fn steers_dns(self) -> bool {
        self.dns != 0
    }
}

const _: () = assert!(size_of::<HostFacts>() == 8);

#[cfg(feature = "user")]
#[expect(
    unsafe_code,
    reason = "aya asks for the promise that a map value is plain data"
)]
mod user {
    // SAFETY: `repr(C)`, words alone, no padding (asserted above): every bit pattern is a value.
    unsafe impl aya::Pod for super::HostFacts {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CgroupClass, step};

    #[test]
    fn the_root_is_what_the_walk_would_find_in_the_map() {
        let nothing = HostFacts::default();
        for (facts, class) in [
            (nothing, None),
            (nothing.with_root(true), Some(CgroupClass::unmanaged(true))),
            (nothing.with_root(false), Some(CgroupClass::unmanaged(false))),
            (nothing.with_root(true).without_root(), None),
        ] {
            for facts in [facts, facts.with_dns(true)] {
                assert_eq!(facts.root(), step(false, 1, class), "{facts:?}");
            }
        }
        let torn = HostFacts {
            root: u32::MAX,
            dns: 0,
        };
        assert_eq!(torn.root(), Step::Down { watched: true });
    }

    #[test]
    fn dns_is_kept_apart_from_the_root() {
        let steered = HostFacts::default().with_dns(true);
        assert!(steered.with_root(false).without_root().steers_dns());
        assert!(!steered.with_dns(false).steers_dns());
    }
}
