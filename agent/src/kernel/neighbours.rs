//! Programs on cgroups: Tollgate's own by their pinned links, and everybody else's by asking the kernel.
#![expect(unsafe_code, reason = "BPF_PROG_QUERY, which aya does not offer for cgroups")]

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use super::KernelError;
use super::cgroup2::Cgroup2;
use super::generation::Generation;
use super::link::PinnedLink;
use super::programs::{Hook, PROGRAMS};
use crate::model::CgroupPath;

/// A place where programs hang on a cgroup: number and name of `enum bpf_attach_type` (linux/bpf.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AttachPoint {
    number: u32,
    /// Its name, as the kernel's documentation has it.
    pub name: &'static str,
    /// Whether a program there can change the address of a connection or a datagram.
    pub rewrites: bool,
}

impl AttachPoint {
    const fn new(number: u32, name: &'static str, rewrites: bool) -> Self {
        Self {
            number,
            name,
            rewrites,
        }
    }

    /// Those that concern what sockets do and send.
    pub const ALL: [Self; 21] = [
        Self::new(0, "cgroup_skb/ingress", false),
        Self::new(1, "cgroup_skb/egress", false),
        Self::new(2, "cgroup/sock_create", false),
        Self::new(3, "sockops", false),
        Self::new(8, "cgroup/bind4", true),
        Self::new(9, "cgroup/bind6", true),
        Self::new(10, "cgroup/connect4", true),
        Self::new(11, "cgroup/connect6", true),
        Self::new(12, "cgroup/post_bind4", false),
        Self::new(13, "cgroup/post_bind6", false),
        Self::new(14, "cgroup/sendmsg4", true),
        Self::new(15, "cgroup/sendmsg6", true),
        Self::new(19, "cgroup/recvmsg4", true),
        Self::new(20, "cgroup/recvmsg6", true),
        Self::new(29, "cgroup/getpeername4", true),
        Self::new(30, "cgroup/getpeername6", true),
        Self::new(34, "cgroup/sock_release", false),
        Self::new(43, "lsm_cgroup", false),
        Self::new(49, "cgroup/connect_unix", true),
        Self::new(50, "cgroup/sendmsg_unix", true),
        Self::new(52, "cgroup/getpeername_unix", true),
    ];
}

/// How a program hangs on its cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Nobody else's program can be attached there, and none below.
    Alone,
    /// Likewise, but one below takes its place.
    Override,
    /// Beside others; all of them are run.
    Multi,
}

/// A program on a cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// Id of the program, for as long as it is loaded.
    pub id: u32,
    /// Its name, of which the kernel keeps fifteen characters; empty where it was loaded without one.
    pub name: String,
    /// Where it hangs.
    pub point: AttachPoint,
    /// How.
    pub mode: Mode,
}

/// Programs that hang on `cgroup` itself, in the order in which they are run there. Points that this kernel does not
/// know have none.
pub fn attached_at(cgroup: &File) -> io::Result<Vec<Attached>> {
    let mut found = Vec::new();
    let mut names: Option<HashMap<u32, String>> = None;
    for point in AttachPoint::ALL {
        let (mode, ids) = match query(cgroup, point.number) {
            Ok(answer) => answer,
            // EINVAL: the kernel does not have this point.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => continue,
            Err(error) => return Err(error),
        };
        for id in ids {
            let names = names.get_or_insert_with(program_names);
            found.push(Attached {
                id,
                name: names.get(&id).cloned().unwrap_or_default(),
                point,
                mode,
            });
        }
    }
    Ok(found)
}

/// Whether this kernel has the attach point of that name.
pub fn knows(cgroup: &File, name: &str) -> bool {
    AttachPoint::ALL
        .iter()
        .find(|point| point.name == name)
        .is_some_and(|point| query(cgroup, point.number).is_ok())
}

fn program_names() -> HashMap<u32, String> {
    aya::programs::loaded_programs()
        .flatten()
        .map(|program| (program.id(), program.name_as_str().unwrap_or_default().to_owned()))
        .collect()
}

/// Mode, and ids of the programs.
fn query(cgroup: &File, point: u32) -> io::Result<(Mode, Vec<u32>)> {
    /// `BPF_PROG_QUERY` (linux/bpf.h).
    const PROG_QUERY: libc::c_long = 16;
    /// `BPF_F_ALLOW_OVERRIDE`.
    const ALLOW_OVERRIDE: u32 = 1;
    /// `BPF_F_ALLOW_MULTI`.
    const ALLOW_MULTI: u32 = 2;
    /// The kernel takes no more than 64 programs at one place (`BPF_CGROUP_MAX_PROGS`).
    const MOST: usize = 64;

    /// The part of `union bpf_attr` for this command that is used.
    #[repr(C)]
    struct Attributes {
        target_fd: u32,
        attach_type: u32,
        query_flags: u32,
        attach_flags: u32,
        prog_ids: u64,
        prog_cnt: u32,
        reserved: u32,
    }

    let mut ids = vec![0_u32; MOST];
    let mut attributes = Attributes {
        target_fd: u32::try_from(cgroup.as_raw_fd()).map_err(io::Error::other)?,
        attach_type: point,
        query_flags: 0,
        attach_flags: 0,
        prog_ids: ids.as_mut_ptr().expose_provenance() as u64,
        prog_cnt: u32::try_from(MOST).map_err(io::Error::other)?,
        reserved: 0,
    };
    // SAFETY: the attributes live until the call is over, and so do the ids, of which there is room for `prog_cnt`.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            PROG_QUERY,
            &raw mut attributes,
            size_of::<Attributes>(),
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    ids.truncate(usize::try_from(attributes.prog_cnt).unwrap_or(0));
    let mode = match attributes.attach_flags {
        flags if flags & ALLOW_MULTI != 0 => Mode::Multi,
        flags if flags & ALLOW_OVERRIDE != 0 => Mode::Override,
        _ => Mode::Alone,
    };
    Ok((mode, ids))
}

/// One of Tollgate's own links, as it should be.
#[derive(Clone, Debug)]
pub struct OwnLink {
    /// The program.
    pub program: &'static str,
    /// Where its link is pinned.
    pub pin: PathBuf,
    /// Id of the program, if the link is there and still attached.
    pub attached: Option<u32>,
    /// What it hangs on.
    pub hook: Hook,
    /// Whether the agent does without the program where the kernel refuses it.
    pub optional: bool,
}

/// The links of the newest programs pinned below `pin_dir`; empty if nothing is pinned there.
pub fn own_links(pin_dir: &Path) -> Result<Vec<OwnLink>, KernelError> {
    let Some(generation) = Generation::all(pin_dir).pop() else {
        return Ok(Vec::new());
    };
    let root = Cgroup2::discover()?
        .id_of(&CgroupPath("/".into()))
        .ok_or(KernelError::NoCgroup2)?;
    Ok(PROGRAMS
        .iter()
        .map(|spec| {
            let pin = generation.link(spec.name);
            let attached = PinnedLink::open(&pin).and_then(|link| {
                let attached = match spec.hook {
                    Hook::Cgroup | Hook::SockOps | Hook::Unix(_) => link.is_attached_to(root.0)?,
                    Hook::Tracepoint(_) | Hook::Lsm(_) => true,
                };
                Ok(if attached { link.program()? } else { None })
            });
            OwnLink {
                program: spec.name,
                hook: spec.hook,
                pin,
                attached: attached.unwrap_or(None),
                optional: spec.need == super::Need::WhereTheKernelCan,
            }
        })
        .collect())
}
