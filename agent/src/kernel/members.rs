//! The processes of managed cgroups.

use std::fs;
use std::path::Path;

use super::cgroup2::{Cgroup2, id_of_directory};
use super::keeper::ManagedCgroup;
use crate::model::{CgroupId, CgroupPath, PolicyId};

/// A process of a managed cgroup, or of one below.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its pid, in the agent's pid namespace.
    pub pid: u32,
    /// The policy that it is under.
    pub policy: PolicyId,
    /// Its cgroup.
    pub cgroup: CgroupId,
    /// Where that is.
    pub cgroup_path: CgroupPath,
}

/// Every process in `managed` and below. Where one of these is below another, its processes come twice.
pub fn members<'m>(cgroup2: &Cgroup2, managed: impl IntoIterator<Item = &'m ManagedCgroup>) -> Vec<Member> {
    let mut found = Vec::new();
    for cgroup in managed {
        let mut paths = vec![cgroup.path.clone()];
        while let Some(path) = paths.pop() {
            let directory = cgroup2.directory(&path);
            let Some(id) = id_of_directory(&directory) else {
                continue;
            };
            found.extend(of_one(&directory).into_iter().map(|pid| Member {
                pid,
                policy: cgroup.policy,
                cgroup: id,
                cgroup_path: path.clone(),
            }));
            let below = fs::read_dir(&directory).into_iter().flatten().flatten();
            paths.extend(
                below
                    .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
                    .filter_map(|entry| {
                        Some(CgroupPath(
                            format!("{path}/{}", entry.file_name().to_str()?).into(),
                        ))
                    }),
            );
        }
    }
    found
}

/// Processes of one cgroup; of a threaded one, which lists no processes, the threads, which have the same memory and
/// descriptors.
fn of_one(directory: &Path) -> Vec<u32> {
    let listed = fs::read_to_string(directory.join("cgroup.procs"))
        .or_else(|_| fs::read_to_string(directory.join("cgroup.threads")));
    let listed = listed.unwrap_or_default();
    listed.lines().filter_map(|pid| pid.parse().ok()).collect()
}
