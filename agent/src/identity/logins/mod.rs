//! Tokens that jobs registered themselves: `tollgate identity login`.
//!
//! A token counts for the cgroup that it was registered from, and for those below it that have none of their own: whoever is in
//! a cgroup may make others below, and speaks for them. It is kept in memory alone, until it ends or its cgroup does; an agent
//! that goes on in this one's place [takes it over](Logins::take_over).

mod written;

use std::collections::HashMap;
use std::fmt;
use std::time::SystemTime;

use parking_lot::Mutex;

use crate::model::{CgroupId, CgroupPath, Secret};

/// Finds the path of a cgroup; `None`: it is gone.
type PathOf = Box<dyn Fn(CgroupId) -> Option<CgroupPath> + Send + Sync>;

/// What was registered. One for the whole agent.
pub struct Logins {
    path_of: PathOf,
    kept: Mutex<HashMap<CgroupId, Login>>,
}

#[derive(Debug)]
struct Login {
    path: CgroupPath,
    token: Secret,
    until: SystemTime,
}

pub use written::Unreadable;

/// There are too many, and all of them still count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the agent keeps the tokens of {MOST} cgroups already, and all of them still count")]
pub struct TooMany;

impl Logins {
    /// An empty list.
    pub fn new(path_of: impl Fn(CgroupId) -> Option<CgroupPath> + Send + Sync + 'static) -> Self {
        Self {
            path_of: Box::new(path_of),
            kept: Mutex::default(),
        }
    }

    /// Registers a token that was found good, in the place of the cgroup's last one.
    pub fn register(
        &self,
        cgroup: CgroupId,
        path: CgroupPath,
        token: Secret,
        until: SystemTime,
    ) -> Result<(), TooMany> {
        // What is over makes room.
        self.prune();
        let mut kept = self.kept.lock();
        if kept.len() >= MOST && !kept.contains_key(&cgroup) {
            return Err(TooMany);
        }
        kept.insert(cgroup, Login { path, token, until });
        Ok(())
    }

    /// Forgets what has ended, and what is of cgroups that have. Gives whether there was any.
    pub fn prune(&self) -> bool {
        let mut kept = self.kept.lock();
        let (before, now) = (kept.len(), SystemTime::now());
        // That a cgroup is gone shows when its path is asked for.
        kept.retain(|id, login| login.until > now && (self.path_of)(*id).as_ref() == Some(&login.path));
        kept.len() < before
    }

    /// Whether nobody has logged in.
    pub fn is_empty(&self) -> bool {
        self.kept.lock().is_empty()
    }

    /// The token for a flow from `cgroup` at `path`: its own, else that of the nearest cgroup above it.
    pub(super) fn token_for(&self, cgroup: CgroupId, path: &CgroupPath) -> Option<Secret> {
        let kept = self.kept.lock();
        if let Some(own) = kept.get(&cgroup) {
            return Some(own.token.clone());
        }
        let above = kept.iter().filter(|(_, login)| is_below(path, &login.path));
        let (id, nearest) = above.max_by_key(|(_, login)| login.path.as_str().len())?;
        // Another cgroup may have its path by now.
        let same = (self.path_of)(*id).as_ref() == Some(&nearest.path);
        same.then(|| nearest.token.clone())
    }
}

fn is_below(path: &CgroupPath, above: &CgroupPath) -> bool {
    path.as_str()
        .strip_prefix(above.as_str())
        .is_some_and(|rest| rest.starts_with('/'))
}

impl fmt::Debug for Logins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Logins")
            .field("kept", &self.kept.lock().len())
            .finish_non_exhaustive()
    }
}

/// Most cgroups that tokens are kept of: far more than jobs run on a host.
const MOST: usize = 4096;

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Arc;
    use std::time::{Duration, SystemTime};

    use parking_lot::Mutex;

    use super::Logins;
    use crate::model::{CgroupId, CgroupPath, Secret};

    pub(super) fn path(text: &str) -> CgroupPath {
        CgroupPath(text.into())
    }

    /// Cgroups 1 to 4, and the map that says where they are.
    pub(super) fn stand() -> (Logins, Arc<Mutex<HashMap<CgroupId, CgroupPath>>>) {
        let paths = ["/ci/job-1", "/ci/job-1/sub", "/ci/job-1/sub/deep", "/ci/job-10"];
        let map: HashMap<_, _> = (1..).map(CgroupId).zip(paths.map(path)).collect();
        let there = Arc::new(Mutex::new(map));
        let of_logins = Arc::clone(&there);
        (Logins::new(move |id| of_logins.lock().get(&id).cloned()), there)
    }

    pub(super) fn register(logins: &Logins, id: u64, at: &str, token: &str, life: Duration) {
        let until = SystemTime::now() + life;
        let token = Secret::new(token.as_bytes().to_vec());
        logins.register(CgroupId(id), path(at), token, until).unwrap();
    }

    pub(super) fn found(logins: &Logins, id: u64, at: &str) -> Option<String> {
        let token = logins.token_for(CgroupId(id), &path(at))?;
        Some(String::from_utf8(token.expose().to_vec()).unwrap())
    }

    pub(super) const HOUR: Duration = Duration::from_hours(1);

    #[test]
    fn a_token_counts_for_its_cgroup_and_for_those_below_and_for_no_neighbour() {
        let (logins, _) = stand();
        register(&logins, 1, "/ci/job-1", "outer", HOUR);
        for (id, at, expected) in [
            (1, "/ci/job-1", Some("outer")),
            (2, "/ci/job-1/sub", Some("outer")),
            (3, "/ci/job-1/sub/deep", Some("outer")),
            (4, "/ci/job-10", None),
            (9, "/ci", None),
        ] {
            assert_eq!(found(&logins, id, at).as_deref(), expected, "{at}");
        }
        register(&logins, 2, "/ci/job-1/sub", "inner", HOUR);
        assert_eq!(found(&logins, 3, "/ci/job-1/sub/deep").as_deref(), Some("inner"));
        register(&logins, 2, "/ci/job-1/sub", "newer", HOUR);
        assert_eq!(found(&logins, 2, "/ci/job-1/sub").as_deref(), Some("newer"));
    }

    #[test]
    fn a_cgroup_made_anew_at_the_same_path_does_not_get_the_token_of_the_one_before() {
        let (logins, there) = stand();
        register(&logins, 1, "/ci/job-1", "old", HOUR);
        there.lock().remove(&CgroupId(1));
        there.lock().insert(CgroupId(7), path("/ci/job-1"));
        assert_eq!(found(&logins, 7, "/ci/job-1"), None);
        assert_eq!(found(&logins, 2, "/ci/job-1/sub"), None);
        register(&logins, 4, "/ci/job-10", "other", HOUR);
        assert!(!logins.kept.lock().contains_key(&CgroupId(1)), "it is forgotten");
    }
}
