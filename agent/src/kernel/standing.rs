//! How cgroups stand to the policies: what the agent says of them, and what that makes of a process.

use std::collections::BTreeSet;

use agent_common::{CgroupClass, HostFacts, MAX_DEPTH};
use aya::maps::MapError;

use super::host::check_number;
use super::maps::ignore_missing;
use super::{Kernel, KernelError, Patterns, pinned};
use crate::model::{CgroupId, CgroupPath, PolicyId};

/// What is said of one cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It and everything below it is under a policy.
    Managed(PolicyId),
    /// It is under none.
    Unmanaged {
        /// A cgroup made directly below it may have to be managed: until it is classified, it is refused what any
        /// policy protects.
        watched: bool,
    },
}

/// How a process stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessStanding {
    /// Under no policy.
    Free,
    /// In a cgroup that is not classified yet: it may turn out to be a workload.
    Pending,
    /// Under a policy.
    Managed(PolicyId),
}

/// `BPF_NOEXIST` (`linux/bpf.h`): only where nothing is said yet.
const WHERE_NOTHING_IS: u64 = 1;

impl Kernel {
    /// Says how the cgroup at `path` with the id `id` stands. Refuses to manage the agent's own. What a visitor said of a
    /// cgroup of its own stays.
    pub fn classify(&self, id: CgroupId, path: &CgroupPath, standing: Standing) -> Result<(), KernelError> {
        let class = self.class(path, standing)?;
        let mut maps = self.maps.lock();
        // In one step, so that a visitor's mark does not come in between. What is there already is overwritten only where
        // it says something else, which for a new cgroup the kernel side does not: it goes by the same patterns.
        if maps.cgroups.insert(id.0, class, WHERE_NOTHING_IS).is_err() {
            match maps.cgroups.get(&id.0, 0) {
                Ok(known) if known == class || known.is_visitors() => {}
                _ => maps
                    .cgroups
                    .insert(id.0, class, 0)
                    .map_err(KernelError::map("CGROUPS", "an insert"))?,
            }
        }
        if id == self.root {
            maps.set_host(|facts| facts.with_root(class.is_watched()))?;
        }
        Ok(())
    }

    fn class(&self, path: &CgroupPath, standing: Standing) -> Result<CgroupClass, KernelError> {
        let policy = match standing {
            Standing::Managed(policy) => policy,
            Standing::Unmanaged { watched } => return Ok(CgroupClass::unmanaged(watched)),
        };
        check_number(policy)?;
        if contains(path, &self.own) {
            return Err(KernelError::OwnCgroup {
                path: self.own.to_string(),
            });
        }
        let depth = path.as_str().split('/').filter(|part| !part.is_empty()).count();
        if depth > usize::try_from(MAX_DEPTH).unwrap_or(0) {
            return Err(KernelError::TooDeep {
                path: path.to_string(),
            });
        }
        Ok(CgroupClass::managed(policy.0))
    }

    /// Says which cgroups that are made from now on are under which policy. The kernel side classifies them before
    /// anybody is in them, also while no agent runs.
    ///
    /// Gives the patterns that it has no room for: cgroups that they may match are pending until they are classified
    /// by [`Kernel::classify`], as all are where the kernel refuses the program.
    pub fn set_patterns(&self, patterns: &Patterns) -> Result<Vec<String>, KernelError> {
        let compiled = patterns.compile();
        self.maps.lock().patterns.set(&compiled.table)?;
        Ok(compiled.undecided)
    }

    /// Forgets a cgroup that is gone.
    pub fn forget(&self, id: CgroupId) -> Result<(), KernelError> {
        let mut maps = self.maps.lock();
        if id == self.root {
            maps.set_host(HostFacts::without_root)?;
        }
        ignore_missing(maps.cgroups.remove(&id.0)).map_err(KernelError::map("CGROUPS", "a removal"))
    }

    /// The policy that is said of this very cgroup.
    pub(super) fn policy_of(&self, id: CgroupId) -> Result<Option<PolicyId>, KernelError> {
        match self.maps.lock().cgroups.get(&id.0, 0) {
            Ok(class) => Ok((class.policy != 0).then_some(PolicyId(class.policy))),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(KernelError::map("CGROUPS", "a look-up")(error)),
        }
    }

    /// Whether a visitor made the cgroup, so that neither it nor what is below it is the agent's to classify.
    pub(super) fn is_visitors(&self, id: CgroupId) -> Result<bool, KernelError> {
        match self.maps.lock().cgroups.get(&id.0, 0) {
            Ok(class) => Ok(class.is_visitors()),
            Err(MapError::KeyNotFound) => Ok(false),
            Err(error) => Err(KernelError::map("CGROUPS", "a look-up")(error)),
        }
    }

    /// Every cgroup that is classified, also by an earlier agent; those of visitors when they are gone.
    pub fn classified(&self) -> Result<BTreeSet<CgroupId>, KernelError> {
        let maps = self.maps.lock();
        let mut classified = BTreeSet::new();
        for entry in &maps.cgroups {
            let (id, class) = entry.map_err(KernelError::map("CGROUPS", "a listing"))?;
            let id = CgroupId(id);
            if !class.is_visitors() || self.cgroup2.path_of(id).is_none() {
                classified.insert(id);
            }
        }
        Ok(classified)
    }

    /// How a process in the cgroup at `path` stands, by the same walk that the kernel side does at its `connect()`.
    /// A cgroup that is gone stands like its parent.
    pub fn standing_of(&self, path: &CgroupPath) -> Result<ProcessStanding, KernelError> {
        pinned::walk(&self.cgroup2, path, &self.maps.lock().cgroups)
    }
}

/// Whether `inner` is `outer` or lies below it.
fn contains(outer: &CgroupPath, inner: &CgroupPath) -> bool {
    let outer = outer.as_str().trim_end_matches('/');
    inner
        .as_str()
        .strip_prefix(outer)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cgroup_contains_itself_and_what_lies_below() {
        let contains =
            |outer: &str, inner: &str| contains(&CgroupPath(outer.into()), &CgroupPath(inner.into()));
        assert!(contains("/", "/"));
        assert!(contains("/", "/system.slice/tollgate.service"));
        assert!(contains("/system.slice", "/system.slice/tollgate.service"));
        assert!(contains("/system.slice", "/system.slice"));
        assert!(!contains("/system.slic", "/system.slice"));
        assert!(!contains("/system.slice/tollgate.service", "/system.slice"));
        assert!(!contains("/actions.slice", "/"));
    }
}
