//! Throw-away cgroups.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::process::eventually;

/// Where cgroup2 is mounted, from `/proc/self/mountinfo`.
pub fn mount_point() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("read /proc/self/mountinfo")?;
    mounts
        .lines()
        .filter_map(|line| line.split_once(" - "))
        .find(|(_, file_system)| file_system.starts_with("cgroup2 "))
        .and_then(|(mount, _)| mount.split(' ').nth(4))
        .map(PathBuf::from)
        .context("no cgroup2 is mounted here")
}

/// A cgroup that is emptied and removed when dropped, with those below it.
#[derive(Debug)]
pub struct Cgroup {
    dir: PathBuf,
    path: String,
}

impl Cgroup {
    /// Makes the cgroup `path` (`/slice/job`), with its parents.
    pub fn create(path: &str) -> Result<Self> {
        let dir = mount_point()?.join(path.trim_start_matches('/'));
        fs::create_dir_all(&dir).with_context(|| format!("make the cgroup {path}"))?;
        Ok(Self {
            dir,
            path: path.to_owned(),
        })
    }

    /// Its path below the mount point, with a leading slash.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        remove(&self.dir);
        // The parent goes too if nobody else is in it: rmdir refuses otherwise.
        if let (Some(parent), Ok(root)) = (self.dir.parent(), mount_point())
            && parent != root
        {
            fs::remove_dir(parent).ok();
        }
    }
}

fn remove(dir: &Path) {
    for child in fs::read_dir(dir).into_iter().flatten().flatten() {
        if child.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&child.path());
        }
    }
    // Every process in it was started by its owner.
    eventually("the cgroup's processes to end", Duration::from_secs(10), || {
        for pid in fs::read_to_string(dir.join("cgroup.procs"))
            .unwrap_or_default()
            .lines()
        {
            if let Ok(pid) = pid.parse() {
                kill(Pid::from_raw(pid), Signal::SIGKILL).ok();
            }
        }
        (fs::remove_dir(dir).is_ok() || !dir.exists()).then_some(())
    })
    .ok();
}
