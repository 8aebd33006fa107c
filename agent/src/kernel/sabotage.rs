//! For tests: a program of a loaded kernel side replaced by one that lets everything pass, behind everybody's back.
#![expect(unsafe_code, reason = "bpf(2), for commands that aya does not offer")]

use std::fs;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::path::Path;

use super::generation::Generation;
use super::link::PinnedLink;
use super::programs::{Hook, PROGRAMS};

/// `BPF_PROG_LOAD`, `BPF_PROG_GET_FD_BY_ID`, `BPF_LINK_GET_FD_BY_ID` (linux/bpf.h).
const PROG_LOAD: libc::c_long = 5;
const PROG_GET_FD_BY_ID: libc::c_long = 13;
const LINK_GET_FD_BY_ID: libc::c_long = 30;

/// A program that does nothing. Dropped, the true one is put back, where that is possible.
pub(crate) struct Disarmed {
    link: PinnedLink,
    original: OwnedFd,
}

/// The programs that are attached at all times: those of which [`disarm`] can put back the true one, and after them those of which it cannot.
pub(crate) fn all_programs() -> Vec<&'static str> {
    let all = PROGRAMS.iter().filter(|spec| spec.hook != Hook::SockOps);
    let (cgroup, other): (Vec<_>, Vec<_>) = all.partition(|spec| spec.hook.is_of_cgroup());
    cgroup.into_iter().chain(other).map(|spec| spec.name).collect()
}

/// Whether [`disarm`] cannot put back the true one.
pub(crate) fn is_for_good(program: &str) -> bool {
    PROGRAMS
        .iter()
        .any(|spec| spec.name == program && !spec.hook.is_of_cgroup())
}

/// Disarms `program` of the newest generation below `pin_dir`. `None`: it is gone for good.
pub(crate) fn disarm(pin_dir: &Path, program: &str) -> Option<Disarmed> {
    let pin = Generation::all(pin_dir).pop().unwrap().link(program);
    if is_for_good(program) {
        let link = [number(&PinnedLink::open(&pin).unwrap(), "link_id:"), 0];
        fs::remove_file(pin).unwrap();
        // The kernel lets go of it some time later; until then the number is taken.
        while !bpf(LINK_GET_FD_BY_ID, &link).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            std::thread::yield_now();
        }
        return None;
    }
    let link = PinnedLink::open(&pin).unwrap();
    let number = |name: &str| number(&link, name);
    let original = [number("prog_id:"), 0];
    let original = bpf(PROG_GET_FD_BY_ID, &original).unwrap();
    let idle = idle(number("attach_type:"));
    link.update(&idle).unwrap();
    Some(Disarmed { link, original })
}

/// What the kernel says of a link under `name`.
fn number(link: &PinnedLink, name: &str) -> u32 {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", link.as_raw_fd())).unwrap();
    let line = info.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim().parse().unwrap()
}

impl Drop for Disarmed {
    fn drop(&mut self) {
        self.link.update(&self.original).unwrap();
    }
}

/// `r0 = 1; exit`, for the attach point of that number.
fn idle(attach_type: u32) -> OwnedFd {
    /// The part of `union bpf_attr` for this command that is used.
    #[repr(C)]
    #[derive(Default)]
    struct Attributes {
        prog_type: u32,
        insn_cnt: u32,
        insns: u64,
        license: u64,
        rest: [u32; 11],
        expected_attach_type: u32,
    }
    let code: [u64; 2] = [0x1_0000_00b7, 0x95];
    let attributes = Attributes {
        // CGROUP_SKB, CGROUP_SOCK, SOCK_OPS, else CGROUP_SOCK_ADDR.
        prog_type: match attach_type {
            0 | 1 => 8,
            2 => 9,
            3 => 13,
            _ => 18,
        },
        insn_cnt: 2,
        insns: code.as_ptr().expose_provenance() as u64,
        license: c"GPL".as_ptr().expose_provenance() as u64,
        expected_attach_type: attach_type,
        ..Attributes::default()
    };
    bpf(PROG_LOAD, &attributes).unwrap()
}

/// A command that makes a descriptor.
fn bpf<T>(command: libc::c_long, attributes: &T) -> io::Result<OwnedFd> {
    // SAFETY: the attributes are those of the command, and live with what they point to until the call is over.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, command, &raw const *attributes, size_of::<T>()) };
    let fd = RawFd::try_from(fd).map_err(io::Error::other)?;
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
