//! A process as `/proc` shows it.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// What of a process says what it can do.
#[derive(Clone, Debug)]
pub(super) struct Process {
    pub(super) pid: u32,
    /// Name of its program, for people.
    pub(super) name: String,
    /// Path below the cgroup2 root.
    pub(super) cgroup: String,
    /// Effective user and groups.
    pub(super) uid: u32,
    pub(super) groups: Vec<u32>,
    /// Effective capabilities over the host: none, if it is in a user namespace of its own.
    pub(super) capabilities: u64,
    /// Where its cgroup2 is mounted so that it can write there, as it sees it.
    pub(super) writable_cgroup2: Option<PathBuf>,
}

/// Inode of the host's user namespace (`PROC_USER_INIT_INO` in the kernel).
const INITIAL_USER_NAMESPACE: u64 = 4_026_531_837;

/// Every process of the host.
pub(super) fn all() -> Vec<Process> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(read)
        .collect()
}

/// `None`: it is gone, or a thread of the kernel.
fn read(pid: u32) -> Option<Process> {
    let of = |name: &str| Path::new("/proc").join(pid.to_string()).join(name);
    let status = fs::read_to_string(of("status")).ok()?;
    let cgroup = fs::read_to_string(of("cgroup")).ok()?;
    let cgroup = cgroup.lines().find_map(|line| line.strip_prefix("0::"))?;
    let namespace = fs::metadata(of("ns/user")).ok().map(|namespace| namespace.ino());
    let mounts = fs::read_to_string(of("mountinfo")).unwrap_or_default();
    let mut process = parse(pid, &status)?;
    cgroup.clone_into(&mut process.cgroup);
    if namespace != Some(INITIAL_USER_NAMESPACE) {
        process.capabilities = 0;
    }
    process.writable_cgroup2 = writable_cgroup2(&mounts);
    Some(process)
}

fn parse(pid: u32, status: &str) -> Option<Process> {
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
    // Real, effective, saved, of the file system.
    let effective = |name: &str| field(name)?.split_whitespace().nth(1)?.parse().ok();
    let mut groups: Vec<u32> = field("Groups:")
        .unwrap_or_default()
        .split_whitespace()
        .filter_map(|group| group.parse().ok())
        .collect();
    groups.extend(effective("Gid:"));
    Some(Process {
        pid,
        name: field("Name:")?.trim().to_owned(),
        cgroup: String::new(),
        uid: effective("Uid:")?,
        groups,
        capabilities: u64::from_str_radix(field("CapEff:")?.trim(), 16).ok()?,
        writable_cgroup2: None,
    })
}

/// Both the mount and the file system have to be writable: the options before and behind the dash.
fn writable_cgroup2(mounts: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let (mount, file_system) = line.split_once(" - ")?;
        let writable =
            |options: Option<&str>| options.is_some_and(|all| all.split(',').any(|one| one == "rw"));
        let mut mount = mount.split(' ').skip(4);
        let place = mount.next()?;
        let mut file_system = file_system.split(' ');
        let is_cgroup2 = file_system.next() == Some("cgroup2");
        (is_cgroup2 && writable(mount.next()) && writable(file_system.nth(1))).then(|| place.into())
    })
}

impl Process {
    /// Whether it holds the capability of number `bit` (linux/capability.h).
    pub(super) const fn holds(&self, bit: u32) -> bool {
        self.capabilities & (1 << bit) != 0
    }

    /// Whether it can write to the file at `path`, or connect to the socket there, as it sees the file system.
    pub(super) fn can_write(&self, path: &str) -> bool {
        const DAC_OVERRIDE: u32 = 1;
        const READ: u32 = 0o2;
        const ENTER: u32 = 0o1;
        let root = Path::new("/proc").join(self.pid.to_string()).join("root");
        let path = Path::new(path);
        let permitted = |path: &Path, wanted: u32| {
            let inside = root.join(path.strip_prefix("/").unwrap_or(path));
            let Ok(found) = fs::metadata(inside) else {
                return false;
            };
            let shift = if found.uid() == self.uid {
                6
            } else if self.groups.contains(&found.gid()) {
                3
            } else {
                0
            };
            self.holds(DAC_OVERRIDE) || (found.mode() >> shift) & wanted != 0
        };
        permitted(path, READ) && path.ancestors().skip(1).all(|dir| permitted(dir, ENTER))
    }

    #[cfg(test)]
    pub(super) fn test(pid: u32, uid: u32, capabilities: u64) -> Self {
        Self {
            pid,
            name: "test".to_owned(),
            cgroup: "/test".to_owned(),
            uid,
            groups: vec![uid],
            capabilities,
            writable_cgroup2: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_read_from_its_status() {
        let status = "Name:\tpython3\nUid:\t1\t1000\t2\t3\nGid:\t5\t100\t6\t7\nGroups:\t27 998 \nCapEff:\t0000000000200001\n";
        let process = parse(7, status).unwrap();
        assert_eq!(
            (process.uid, process.groups.as_slice()),
            (1000, &[27, 998, 100][..])
        );
        assert!(process.holds(21) && process.holds(0) && !process.holds(39));
        assert!(parse(7, "Name:\tx\n").is_none());
    }

    #[test]
    fn a_cgroup2_that_is_mounted_read_only_is_not_writable() {
        let mount = |options: &str, file_system: &str| {
            writable_cgroup2(&format!(
                "31 23 0:28 / /proc rw - proc proc rw\n41 31 0:38 / /sys/fs/cgroup {options} shared:9 - cgroup2 cgroup2 {file_system}\n"
            ))
        };
        assert_eq!(mount("rw,nosuid", "rw,nsdelegate"), Some("/sys/fs/cgroup".into()));
        assert_eq!(mount("ro,nosuid", "rw"), None);
        assert_eq!(mount("rw", "ro"), None);
    }

    #[test]
    fn permissions_are_those_of_the_process_and_not_of_the_doctor() {
        use std::os::unix::fs::PermissionsExt as _;
        let me = std::process::id();
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("socket");
        fs::write(&file, "").unwrap();
        let owner = fs::metadata(&file).unwrap().uid();
        let allow = |dir_mode, mode| {
            fs::set_permissions(dir.path(), fs::Permissions::from_mode(dir_mode)).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        };
        let stranger = Process::test(me, owner + 4711, 0);
        let path = file.to_str().unwrap();
        allow(0o755, 0o660);
        assert!(!stranger.can_write(path));
        allow(0o755, 0o666);
        assert!(stranger.can_write(path));
        allow(0o700, 0o666);
        assert!(!stranger.can_write(path), "its folder cannot be entered");
        assert!(Process::test(me, owner + 4711, 1 << 1).can_write(path));
        assert!(!stranger.can_write("/nonexistent"));
    }
}
