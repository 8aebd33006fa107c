//! The file system for pins: found, or mounted.

use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::Path;

use nix::mount::{MntFlags, MsFlags};
use nix::sys::statfs::statfs;

use super::KernelError;

/// `BPF_FS_MAGIC` (linux/magic.h).
const BPF_FS_MAGIC: nix::libc::__fsword_t = 0xcafe_4a11;

/// Where a host's bpffs is by convention.
const STANDARD: &str = "/sys/fs/bpf";

/// What a bpffs that the agent mounted has for its source in `/proc/self/mountinfo`; the kernel takes any word.
const SOURCE: &str = "tollgate";

/// Makes `dir` exist on a bpffs, for root alone. Where it would lie on another file system, a bpffs is mounted on it.
pub(super) fn prepare(dir: &Path) -> Result<(), KernelError> {
    if dir.starts_with(STANDARD) && !is_bpffs(Path::new(STANDARD))? {
        // sysfs has the directory on every kernel with BPF and no file can be made in it; systemd mounts it likewise.
        mount(Path::new(STANDARD))?;
    }
    if dir.is_symlink() {
        return Err(refused(dir, "it is a symbolic link".to_owned()));
    }
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(KernelError::system(format!("creating {}", dir.display())))?;
    let owner = fs::metadata(dir).map_err(KernelError::system(format!("reading {}", dir.display())))?;
    if owner.uid() != 0 {
        return Err(refused(
            dir,
            format!("it belongs to uid {}, not to root", owner.uid()),
        ));
    }
    if is_bpffs(dir)? {
        return Ok(());
    }
    if fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(refused(dir, "it is not on a bpffs and not empty".to_owned()));
    }
    mount(dir)
}

fn mount(dir: &Path) -> Result<(), KernelError> {
    // A mount in a namespace of the agent alone would go with the agent, and the pins with it: managed cgroups would
    // be open when the agent is not there. Where pid 1 does not let itself be asked, kthreadd tells: both are of the
    // host. Where neither does, it cannot be told, and is refused.
    let namespace = |process: &str| fs::read_link(format!("/proc/{process}/ns/mnt")).ok();
    let host = namespace("1").or_else(|| namespace("2"));
    if host.is_none() || host != namespace("self") {
        let reason = "no bpffs is mounted on the host, and the agent is not known to share the host's mount namespace: mount \
                      one with `mount -t bpf bpf /sys/fs/bpf` on the host";
        return Err(refused(dir, reason.to_owned()));
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    nix::mount::mount(Some(SOURCE), dir, Some("bpf"), flags, Some("mode=0700"))
        .map_err(|errno| refused(dir, format!("a bpffs could not be mounted there: {errno}")))
}

/// Removes `dir`, and the bpffs if [`prepare`] mounted one on it, or for it and nobody else uses it. A directory of the
/// host's bpffs has to be empty.
pub(super) fn remove(dir: &Path) -> Result<(), KernelError> {
    if is_mount_point(dir)? {
        nix::mount::umount2(dir, MntFlags::MNT_DETACH)
            .map_err(|errno| refused(dir, format!("it could not be unmounted: {errno}")))?;
    }
    fs::remove_dir(dir).map_err(KernelError::system(format!("removing {}", dir.display())))?;
    if dir.starts_with(STANDARD) && is_own_and_unused(Path::new(STANDARD)) {
        nix::mount::umount2(STANDARD, MntFlags::MNT_DETACH)
            .map_err(|errno| refused(Path::new(STANDARD), format!("it could not be unmounted: {errno}")))?;
    }
    Ok(())
}

fn is_own_and_unused(mount: &Path) -> bool {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    // The kernel has files of its own in the root of every bpffs.
    let unused = fs::read_dir(mount).is_ok_and(|entries| {
        entries.flatten().all(|entry| {
            entry
                .file_type()
                .is_ok_and(|kind| kind.is_file() && entry.file_name().as_encoded_bytes().ends_with(b".debug"))
        })
    });
    unused
        && mount
            .to_str()
            .is_some_and(|mount| source_of(&mounts, mount) == Some(SOURCE))
}

/// The source of what was mounted last on `path`.
fn source_of<'a>(mounts: &'a str, path: &str) -> Option<&'a str> {
    mounts
        .lines()
        .filter_map(|line| line.split_once(" - "))
        .rfind(|(mount, _)| mount.split(' ').nth(4) == Some(path))
        .and_then(|(_, kind)| kind.split(' ').nth(1))
}

/// Whether `dir` is on a bpffs.
pub fn is_bpffs(dir: &Path) -> Result<bool, KernelError> {
    let found = statfs(dir)
        .map_err(|errno| KernelError::system(format!("statfs {}", dir.display()))(errno.into()))?;
    Ok(found.filesystem_type().0 == BPF_FS_MAGIC)
}

/// Whether a file system is mounted on `dir`.
pub(super) fn is_mount_point(dir: &Path) -> Result<bool, KernelError> {
    let device = |path: &Path| {
        fs::metadata(path)
            .map(|found| found.dev())
            .map_err(KernelError::system(format!("reading {}", path.display())))
    };
    match dir.parent() {
        Some(parent) => Ok(device(dir)? != device(parent)?),
        None => Ok(true),
    }
}

fn refused(path: &Path, reason: String) -> KernelError {
    KernelError::PinDirectory {
        path: path.to_owned(),
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bpffs_of_somebody_else_is_not_taken_for_the_agents() {
        let mounts = "31 23 0:28 / /sys/fs/bpf rw,nosuid shared:9 - bpf bpf rw,mode=700\n\
            32 23 0:29 / /run/bpf rw - bpf tollgate rw\n33 31 0:30 / /sys/fs/bpf rw - bpf tollgate rw\n";
        assert_eq!(source_of(mounts, "/sys/fs/bpf"), Some(SOURCE));
        assert_eq!(
            source_of(mounts.lines().next().unwrap(), "/sys/fs/bpf"),
            Some("bpf")
        );
        assert_eq!(source_of(mounts, "/sys/fs"), None);
    }
}
