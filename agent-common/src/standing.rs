//! How a process stands to the policies: the walk over its cgroup's ancestors, from the root down.
//!
//! The outermost managed ancestor wins: a workload cannot leave its policy by making a nested cgroup whose path
//! another policy matches. A cgroup that is under none, and below which no glob can match, ends the walk.

use crate::CgroupClass;

/// How deep the walk goes below the root. The agent refuses to manage a cgroup that lies deeper.
pub const MAX_DEPTH: u32 = 32;

/// How a process or a socket stands to the policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// No policy: must notice nothing.
    Free,
    /// In a cgroup that the agent has not looked at yet and that a policy's glob might match.
    Pending,
    /// Under a policy.
    Managed {
        /// Number of the policy.
        policy: u32,
        /// The managed ancestor.
        cgroup: u64,
    },
}

/// What one level of the walk says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The walk is over.
    Done(Standing),
    /// Go one level down.
    Down {
        /// Whether a glob might match a child of this level.
        watched: bool,
    },
}

/// One level of the walk: the cgroup `cgroup`, what the agent said of it, and whether its parent is watched.
#[inline(always)]
pub const fn step(parent_watched: bool, cgroup: u64, class: Option<CgroupClass>) -> Step {
    match class {
        Some(class) if class.policy != 0 => Step::Done(Standing::Managed {
            policy: class.policy,
            cgroup,
        }),
        // No glob can match below. Most processes of a host are found to be free here, a level or two below the root: they
        // pay for these look-ups at every connect, every socket and every packet; that of the root is in `HostFacts`.
        Some(class) if !class.is_watched() => Step::Done(Standing::Free),
        Some(_) => Step::Down { watched: true },
        None if parent_watched => Step::Done(Standing::Pending),
        None => Step::Down { watched: false },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(classes: &[Option<CgroupClass>]) -> Standing {
        let mut watched = false;
        for (cgroup, class) in (1..).zip(classes) {
            match step(watched, cgroup, *class) {
                Step::Done(standing) => return standing,
                Step::Down { watched: next } => watched = next,
            }
        }
        Standing::Free
    }

    const MANAGED_7: Option<CgroupClass> = Some(CgroupClass::managed(7));
    const MANAGED_8: Option<CgroupClass> = Some(CgroupClass::managed(8));
    const WATCHED: Option<CgroupClass> = Some(CgroupClass::unmanaged(true));
    const VISITED: Option<CgroupClass> = Some(CgroupClass::unmanaged(true).of_visitor());
    const SEEN: Option<CgroupClass> = Some(CgroupClass::unmanaged(false));

    #[test]
    fn standing_follows_the_outermost_decision() {
        let seven = |cgroup| Standing::Managed { policy: 7, cgroup };
        for (classes, expected) in [
            (&[][..], Standing::Free),
            (&[None, None], Standing::Free),
            (&[WATCHED, SEEN, None, None], Standing::Free),
            (&[WATCHED, SEEN, MANAGED_7], Standing::Free),
            (&[SEEN], Standing::Free),
            (&[WATCHED, None], Standing::Pending),
            (&[WATCHED, None, MANAGED_7], Standing::Pending),
            (&[WATCHED, WATCHED, None], Standing::Pending),
            (&[WATCHED, WATCHED, MANAGED_7], seven(3)),
            (&[WATCHED, MANAGED_7, None, None], seven(2)),
            (&[None, MANAGED_7, MANAGED_8], seven(2)),
            (&[VISITED, None], Standing::Pending),
            (
                &[VISITED, MANAGED_8, MANAGED_7],
                Standing::Managed { policy: 8, cgroup: 2 },
            ),
        ] {
            assert_eq!(walk(classes), expected, "{classes:?}");
        }
    }
}
