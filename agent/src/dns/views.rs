//! The resolv.conf of the host and those of workloads, as far as they can be believed.
//!
//! A workload could name a nameserver of its own there, and with `egress = "deny"` it may ask those that its system is
//! configured with. So its file counts as it was when its cgroup asked for the first time, if it is root's alone to
//! write, and if its process is in the host's user namespace: in one of its own anybody can mount another file over it.
//! What a container's root writes before its first question counts; `resolvers` in the policy leaves nothing to it.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use parking_lot::Mutex;

use super::resolv_conf::ResolvConf;
use crate::identity::read_beside;
use crate::model::CgroupId;

/// What systems are configured with.
#[derive(Debug, Default)]
pub(super) struct Configured {
    host: Mutex<Option<(Instant, Arc<ResolvConf>)>>,
    workloads: Mutex<HashMap<CgroupId, Option<Arc<ResolvConf>>>>,
}

/// The host's file is read again after this.
const FRESH: Duration = Duration::from_secs(1);

/// Cgroups whose file is remembered. When there are more, all are read again.
const MOST: usize = 4096;

/// Longest file that is read, bytes.
const LONGEST: u64 = 64 * 1024;

impl Configured {
    /// The host's file as it is now; a file that cannot be read is one that names nobody.
    pub(super) fn host(&self) -> Arc<ResolvConf> {
        let mut host = self.host.lock();
        if let Some((read, conf)) = &*host
            && read.elapsed() < FRESH
        {
            return Arc::clone(conf);
        }
        let text = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
        let conf = Arc::new(ResolvConf::parse(&text));
        *host = Some((Instant::now(), Arc::clone(&conf)));
        conf
    }

    /// The file of the workload in the managed cgroup `cgroup`, seen by its process `pid` when it is read for the first
    /// time.
    pub(super) async fn of_workload(&self, cgroup: CgroupId, pid: u32) -> Option<Arc<ResolvConf>> {
        if let Some(known) = self.workloads.lock().get(&cgroup) {
            return known.clone();
        }
        // A file system may be the workload's own, and let a read of it hang.
        let read = read_beside(cgroup, move || read(pid)).await;
        let conf = match read {
            Ok(Ok(text)) => Some(Arc::new(ResolvConf::parse(&text))),
            // The process is gone, or something else that passes: asked again by the next.
            Ok(Err(error)) if error.kind() != io::ErrorKind::PermissionDenied => return None,
            Ok(Err(error)) => {
                tracing::info!(pid, %error, "the resolv.conf of a workload does not count");
                None
            }
            Err(_) => None,
        };
        let mut workloads = self.workloads.lock();
        if workloads.len() >= MOST {
            workloads.clear();
        }
        workloads.entry(cgroup).or_insert(conf).clone()
    }
}

fn read(pid: u32) -> io::Result<String> {
    let own = fs::metadata("/proc/self/ns/user")?.ino();
    if fs::metadata(format!("/proc/{pid}/ns/user"))?.ino() != own {
        return Err(refused(
            "its process is in another user namespace, where anybody can mount over it",
        ));
    }
    read_below(Path::new(&format!("/proc/{pid}/root")))
}

fn read_below(root: &Path) -> io::Result<String> {
    let root = fs::File::open(root)?;
    // Symbolic links lead to what is below the workload's root, never to a file of the host's.
    let how = OpenHow::new()
        .flags(OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let file = fs::File::from(openat2(&root, "etc/resolv.conf", how)?);
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.uid() != 0 || metadata.mode() & 0o022 != 0 {
        return Err(refused("others than root may write it"));
    }
    let mut text = String::new();
    file.take(LONGEST).read_to_string(&mut text)?;
    Ok(text)
}

fn refused(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, why)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn a_file_counts_if_it_is_roots_alone_and_below_the_workloads_root() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        fs::create_dir_all(path("etc")).unwrap();
        fs::create_dir_all(path("run/resolve")).unwrap();
        assert_eq!(
            read_below(root.path()).unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
        fs::write(path("run/resolve/stub.conf"), "nameserver 10.0.0.2\n").unwrap();
        // Absolute, as in many containers: from the workload's root.
        symlink("/run/resolve/stub.conf", path("etc/resolv.conf")).unwrap();
        if nix::unistd::Uid::effective().is_root() {
            assert_eq!(read_below(root.path()).unwrap(), "nameserver 10.0.0.2\n");
        }
        fs::set_permissions(path("run/resolve/stub.conf"), fs::Permissions::from_mode(0o666)).unwrap();
        assert_eq!(
            read_below(root.path()).unwrap_err().kind(),
            io::ErrorKind::PermissionDenied
        );
    }

    #[tokio::test]
    async fn what_a_workload_changes_after_its_first_question_does_not_count() {
        let configured = Configured::default();
        let pid = std::process::id();
        let first = configured.of_workload(CgroupId(1), pid).await;
        configured.workloads.lock().insert(CgroupId(2), None);
        assert_eq!(configured.of_workload(CgroupId(1), pid).await, first);
        assert_eq!(configured.of_workload(CgroupId(2), pid).await, None);
    }
}
