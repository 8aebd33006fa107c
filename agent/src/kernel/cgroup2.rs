//! The cgroup2 hierarchy: where it is mounted, paths and ids of cgroups.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::KernelError;
use super::sockets::open_by_kernfs_id;
use crate::model::{CgroupId, CgroupPath};

/// The mounted hierarchy.
#[derive(Clone, Debug)]
pub struct Cgroup2 {
    mount: PathBuf,
}

impl Cgroup2 {
    /// Finds the hierarchy in `/proc/self/mountinfo`: hybrid hosts have it beside the v1 controllers.
    pub fn discover() -> Result<Self, KernelError> {
        let mounts =
            fs::read("/proc/self/mountinfo").map_err(KernelError::system("reading /proc/self/mountinfo"))?;
        let mount = mounted_at(&mounts)
            .find(|mount| is_cgroup2(mount))
            .ok_or(KernelError::NoCgroup2)?;
        Ok(Self { mount })
    }

    /// Where it is mounted.
    pub fn mount(&self) -> &Path {
        &self.mount
    }

    /// Opens the root, to attach programs to.
    pub fn open_root(&self) -> Result<File, KernelError> {
        File::open(&self.mount).map_err(KernelError::system(format!("opening {}", self.mount.display())))
    }

    /// The directory of `path`.
    pub fn directory(&self, path: &CgroupPath) -> PathBuf {
        self.mount.join(path.as_str().trim_start_matches('/'))
    }

    /// The id of the cgroup at `path`; `None` if there is none.
    pub fn id_of(&self, path: &CgroupPath) -> Option<CgroupId> {
        id_of_directory(&self.directory(path))
    }

    /// The path of the cgroup with the id `id`; `None` if it is gone. Needs `CAP_DAC_READ_SEARCH`.
    pub fn path_of(&self, id: CgroupId) -> Option<CgroupPath> {
        let root = self.open_root().ok()?;
        let directory = open_by_kernfs_id(&root, id.0).ok()?;
        let path = fs::read_link(format!(
            "/proc/self/fd/{}",
            std::os::fd::AsRawFd::as_raw_fd(&directory)
        ))
        .ok()?;
        let below = path.strip_prefix(&self.mount).ok()?;
        // A path that is not UTF-8 has no CgroupPath; the caller gets what it would get for a dead cgroup.
        Some(CgroupPath(format!("/{}", below.to_str()?).into()))
    }

    /// The cgroup of process `pid`; `None` if the process is gone.
    pub fn of_process(&self, pid: u32) -> Option<CgroupPath> {
        named_in(&fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?)
    }

    /// This process's cgroup.
    pub fn own(&self) -> Result<CgroupPath, KernelError> {
        self.of_process(std::process::id()).ok_or(KernelError::NoCgroup2)
    }
}

/// The cgroup that `/proc/PID/cgroup` names; `None` if it names none of this hierarchy.
pub(super) fn named_in(text: &str) -> Option<CgroupPath> {
    let path = text.lines().find_map(|line| line.strip_prefix("0::"))?;
    Some(CgroupPath(path.strip_suffix(" (deleted)").unwrap_or(path).into()))
}

/// The id of a cgroup is the inode number of its directory.
pub(super) fn id_of_directory(directory: &Path) -> Option<CgroupId> {
    let found = fs::symlink_metadata(directory).ok()?;
    found.is_dir().then(|| CgroupId(found.ino()))
}

/// Mount points of cgroup2 whose root is the hierarchy's (`/`): inside a container others can be seen.
fn mounted_at(mounts: &[u8]) -> impl Iterator<Item = PathBuf> {
    mounts.split(|byte| *byte == b'\n').filter_map(|line| {
        let mut fields = line.split(|byte| *byte == b' ');
        let root = fields.nth(3)?;
        let mount = fields.next()?;
        let kind = fields.skip_while(|field| *field != b"-").nth(1)?;
        (root == b"/" && kind == b"cgroup2").then(|| PathBuf::from(OsStr::from_bytes(&unescape(mount))))
    })
}

/// Whether a cgroup2 is what is found there: something else may have been mounted over it, or above it.
fn is_cgroup2(mount: &Path) -> bool {
    nix::sys::statfs::statfs(mount)
        .is_ok_and(|found| found.filesystem_type() == nix::sys::statfs::CGROUP2_SUPER_MAGIC)
}

/// `/proc/PID/mountinfo` has blank, tab, newline and backslash as three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let octal = after
            .get(..3)
            .filter(|_| *first == b'\\')
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        if let Some(byte) = octal {
            plain.push(byte);
            rest = after.get(3..).unwrap_or_default();
        } else {
            plain.push(*first);
            rest = after;
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_is_found_wherever_it_is() {
        let hybrid = b"31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
            40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd\n\
            41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:9 master:2 - cgroup2 cgroup2 rw\n";
        let odd = b"41 31 0:38 /a /elsewhere rw - cgroup2 none rw\n41 31 0:38 / /mnt/c\\040g rw - cgroup2 none rw\n";
        let none = b"31 23 0:28 / /sys/fs/cgroup rw - tmpfs cgroup2 rw\n";
        let first = |mounts: &[u8]| mounted_at(mounts).next();
        assert_eq!(first(hybrid), Some(PathBuf::from("/sys/fs/cgroup/unified")));
        assert_eq!(first(odd), Some(PathBuf::from("/mnt/c g")));
        assert_eq!(first(none), None);
    }

    /// A mount above hid the hierarchy, and every cgroup below was taken for one that is gone.
    #[test]
    fn a_mount_that_is_hidden_is_passed_over() {
        let found = Cgroup2::discover().unwrap();
        assert!(is_cgroup2(found.mount()));
        for other in ["/proc", "/nonexistent", "/"] {
            assert!(!is_cgroup2(Path::new(other)), "{other}");
        }
    }
}
