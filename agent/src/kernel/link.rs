//! Pinned links, as far as aya does not go: putting another program into one, detaching one at once, and asking whether
//! it is still attached.
#![expect(unsafe_code, reason = "bpf(2), for commands that aya does not offer")]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use super::kfunc::descriptor;

/// `BPF_OBJ_PIN` (linux/bpf.h).
const OBJ_PIN: libc::c_long = 6;
/// `BPF_OBJ_GET` (linux/bpf.h).
const OBJ_GET: libc::c_long = 7;
/// `BPF_LINK_CREATE` (linux/bpf.h), Linux 5.7.
const LINK_CREATE: libc::c_long = 28;
/// `BPF_LINK_UPDATE` (linux/bpf.h), Linux 5.7.
const LINK_UPDATE: libc::c_long = 29;
/// `BPF_LINK_DETACH` (linux/bpf.h), Linux 5.9.
const LINK_DETACH: libc::c_long = 34;

/// The part of `union bpf_attr` for `BPF_OBJ_*` that is used.
#[repr(C)]
struct ObjectAttributes {
    pathname: u64,
    bpf_fd: i32,
    file_flags: u32,
}

/// A pinned link.
#[derive(Debug)]
pub(super) struct PinnedLink(OwnedFd);

impl PinnedLink {
    /// Attaches a loaded program to the cgroup whose directory `cgroup` is, at the attach point of that number
    /// (`enum bpf_attach_type`); other programs there stay. The link is not pinned yet.
    pub(super) fn attach(
        program: BorrowedFd<'_>,
        cgroup: BorrowedFd<'_>,
        attach_type: u32,
    ) -> io::Result<Self> {
        /// The part of `union bpf_attr` for `BPF_LINK_CREATE` that is used.
        #[repr(C)]
        struct Attributes {
            prog_fd: i32,
            target_fd: i32,
            attach_type: u32,
            flags: u32,
        }

        let attributes = Attributes {
            prog_fd: program.as_raw_fd(),
            target_fd: cgroup.as_raw_fd(),
            attach_type,
            flags: 0,
        };
        // SAFETY: the attributes and both descriptors live until the call is over, which reads them alone.
        let fd = unsafe {
            libc::syscall(
                libc::SYS_bpf,
                LINK_CREATE,
                &raw const attributes,
                size_of::<Attributes>(),
            )
        };
        descriptor(fd).map(Self)
    }

    /// Pins it at `path`, where nothing may be yet.
    pub(super) fn pin(&self, path: &Path) -> io::Result<()> {
        let path = CString::new(path.as_os_str().as_bytes())?;
        let attributes = ObjectAttributes {
            pathname: path.as_ptr().addr() as u64,
            bpf_fd: self.0.as_raw_fd(),
            file_flags: 0,
        };
        // SAFETY: the attributes, and the path and the descriptor that they name, live until the call is over.
        let result = unsafe {
            libc::syscall(
                libc::SYS_bpf,
                OBJ_PIN,
                &raw const attributes,
                size_of::<ObjectAttributes>(),
            )
        };
        if result == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }

    /// Opens the link pinned at `path`.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let path = CString::new(path.as_os_str().as_bytes())?;
        let attributes = ObjectAttributes {
            pathname: path.as_ptr().addr() as u64,
            bpf_fd: 0,
            file_flags: 0,
        };
        // SAFETY: the attributes and the path that they point to live until the call is over, which reads them alone.
        let fd = unsafe {
            libc::syscall(
                libc::SYS_bpf,
                OBJ_GET,
                &raw const attributes,
                size_of::<ObjectAttributes>(),
            )
        };
        descriptor(fd).map(Self)
    }

    /// Puts `program` in the place of the one that is attached, with no moment in which neither is. Links on tracepoints
    /// and security hooks refuse it; so does a link that is not attached any more.
    pub(super) fn update(&self, program: impl AsFd) -> io::Result<()> {
        /// The part of `union bpf_attr` for `BPF_LINK_UPDATE`.
        #[repr(C)]
        struct Attributes {
            link_fd: i32,
            new_prog_fd: i32,
            flags: u32,
            old_prog_fd: u32,
        }

        let attributes = Attributes {
            link_fd: self.0.as_raw_fd(),
            new_prog_fd: program.as_fd().as_raw_fd(),
            flags: 0,
            old_prog_fd: 0,
        };
        // SAFETY: the attributes and both descriptors live until the call is over, which reads them alone.
        let result = unsafe {
            libc::syscall(
                libc::SYS_bpf,
                LINK_UPDATE,
                &raw const attributes,
                size_of::<Attributes>(),
            )
        };
        if result == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }

    /// Detaches the program. Removing the pin would do that too, but some time later: the kernel frees the file when
    /// every reader is through with it.
    pub(super) fn detach(&self) -> io::Result<()> {
        let attributes = self.0.as_raw_fd();
        // SAFETY: the attributes of this command are one word, the descriptor, which lives until the call is over.
        let result = unsafe {
            libc::syscall(
                libc::SYS_bpf,
                LINK_DETACH,
                &raw const attributes,
                size_of_val(&attributes),
            )
        };
        if result == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }

    /// Id of the program.
    pub(super) fn program(&self) -> io::Result<Option<u32>> {
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", self.0.as_raw_fd()))?;
        let found = info.lines().find_map(|line| line.strip_prefix("prog_id:"));
        Ok(found.and_then(|id| id.trim().parse().ok()))
    }

    /// Whether the program is attached to the cgroup `cgroup`. A link can outlive its attachment.
    pub(super) fn is_attached_to(&self, cgroup: u64) -> io::Result<bool> {
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", self.0.as_raw_fd()))?;
        let found = info.lines().find_map(|line| line.strip_prefix("cgroup_id:"));
        Ok(found.is_some_and(|id| id.trim().parse() == Ok(cgroup)))
    }
}

impl AsRawFd for PinnedLink {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
