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
    nix::mount::mount(Some("bpf"), dir, Some("bpf"), flags, Some("mode=0700"))
        .map_err(|errno| refused(dir, format!("a bpffs could not be mounted there: {errno}")))
}

/// Removes `dir`, and the bpffs if [`prepare`] mounted one on it. The directory has to be empty.
pub(super) fn remove(dir: &Path) -> Result<(), KernelError> {
    if is_mount_point(dir)? {
        nix::mount::umount2(dir, MntFlags::MNT_DETACH)
            .map_err(|errno| refused(dir, format!("it could not be unmounted: {errno}")))?;
    }
    fs::remove_dir(dir).map_err(KernelError::system(format!("removing {}", dir.display())))
}

/// Whether `dir` is on a bpffs.
pub(super) fn is_bpffs(dir: &Path) -> Result<bool, KernelError> {
    let found = statfs(dir)
        .map_err(|errno| KernelError::system(format!("statfs {}", dir.display()))(errno.into()))?;
    Ok(found.filesystem_type().0 == BPF_FS_MAGIC)
}

fn is_mount_point(dir: &Path) -> Result<bool, KernelError> {
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
