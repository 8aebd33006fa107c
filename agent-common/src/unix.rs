//! What happens to a `connect()` to a unix socket.
//!
//! The hook sees a name, not a socket: what the process wrote, before the kernel has looked it up. So a protected path
//! stands in the map twice: whole, as the policy has it, and by its last component, which relative paths, `..`, doubled
//! slashes and links to its directory have in common with it. A link of another name is not seen here; the security
//! hook, where there is one, sees the socket that is found behind it.

use crate::{EventKind, Standing};

/// Bytes of `sun_path` (unix(7)).
pub const UNIX_PATH_MAX: usize = 108;

/// Policy number under which the agent's listeners stand, each with the path that it listens for. No policy has it.
pub const UNIX_LISTENERS: u32 = u32::MAX;

/// Functions of the kernel that programs on unix sockets call, and the places of the fields that they read.
pub mod kfunc {
    /// Stands for `bpf_cast_to_kern_ctx` in a call, until the agent puts the kernel's own number there. No helper has it.
    pub const CAST_TO_KERN_CTX: i32 = 0x7f00_0001;
    /// Stands for `bpf_sock_addr_set_sun_path`.
    pub const SET_SUN_PATH: i32 = 0x7f00_0002;
    /// Byte at which `uaddr` stands in `struct bpf_sock_addr_kern`.
    pub const UADDR: usize = 8;
    /// Byte at which `uaddrlen` stands in it.
    pub const UADDRLEN: usize = 32;
}

/// A path of a unix socket, padded with zeros.
pub type UnixPath = [u8; UNIX_PATH_MAX];

/// Key of `UNIX_NAMES`: what a policy says of a path, or of every path with a last component.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct UnixKey {
    /// Number of the policy.
    pub policy: u32,
    /// A path from `/`, or a last component, which has no `/`: so the two cannot be taken for one another.
    pub name: UnixPath,
}

/// Value of `UNIX_NAMES`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct UnixRule {
    /// A [`UnixAction`] as its number.
    pub action: u32,
    /// Length of `listener` without the zeros.
    pub length: u32,
    /// Number of the protected path, the same for every policy that protects it; 0 where nothing is redirected.
    pub slot: u64,
    /// Where the agent listens for it.
    pub listener: UnixPath,
    /// Zero.
    pub reserved: u32,
}

/// What a policy says of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum UnixAction {
    /// To the agent's listener.
    Redirect = 1,
    /// Not permitted.
    Refuse = 2,
    /// Refused as if nobody listened there, so that a library tries its next way.
    Absent = 3,
}

impl UnixRule {
    /// The action; what is not known is [`UnixAction::Refuse`].
    #[inline(always)]
    pub const fn action(&self) -> UnixAction {
        match self.action {
            1 => UnixAction::Redirect,
            3 => UnixAction::Absent,
            _ => UnixAction::Refuse,
        }
    }
}

/// A `connect()` to a unix socket as the decision sees it.
#[derive(Clone, Copy, Debug)]
pub struct UnixQuestion {
    /// How the process stands.
    pub standing: Standing,
    /// What its policy says of the whole path; that of any policy if it is pending.
    pub whole: Option<UnixAction>,
    /// What it says of the last component.
    pub last: Option<UnixAction>,
}

/// What to do with such a `connect()`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnixAnswer {
    /// Nothing.
    Pass,
    /// Rewrite the path to the agent's listener.
    Redirect,
    /// Refuse as not permitted, and report it.
    Refuse(EventKind),
    /// Refuse as if nobody listened there, and report it.
    Absent(EventKind),
}

/// Decides a `connect()` to a unix socket.
///
/// The same last component in another directory is refused and not redirected: it may be another server, and a job must
/// not speak to one that it did not ask for.
#[inline(always)]
pub const fn on_unix_connect(question: UnixQuestion) -> UnixAnswer {
    match (question.standing, question.whole, question.last) {
        (Standing::Free, _, _) | (_, None, None) => UnixAnswer::Pass,
        (Standing::Pending, _, _) => UnixAnswer::Refuse(EventKind::PendingRefused),
        (Standing::Managed { .. }, Some(UnixAction::Redirect), _) => UnixAnswer::Redirect,
        (Standing::Managed { .. }, Some(UnixAction::Absent), _) => UnixAnswer::Absent(EventKind::UnixRefused),
        (Standing::Managed { .. }, Some(UnixAction::Refuse), _)
        | (Standing::Managed { .. }, None, Some(_)) => UnixAnswer::Refuse(EventKind::UnixRefused),
    }
}

/// Where the last component of a path begins: behind its last slash.
#[inline(always)]
pub fn last_component(path: &UnixPath) -> usize {
    path.iter()
        .rposition(|byte| *byte == b'/')
        .map_or(0, |slash| slash + 1)
}

/// Key of `UNIX_FLOWS`: the agent knows of an accepted connection which of its listeners it came to, and the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct UnixFlowKey {
    /// The protected path's number.
    pub slot: u64,
    /// Thread group (process) in the initial pid namespace.
    pub tgid: u32,
    /// Zero.
    pub reserved: u32,
}

/// Value of `UNIX_FLOWS`: everything that is known of a redirected connection at the time of its `connect()`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct UnixFlowRecord {
    /// The managed ancestor of the process's cgroup.
    pub managed_cgroup: u64,
    /// The process's own cgroup.
    pub cgroup: u64,
    /// `SO_COOKIE` of the workload's socket.
    pub socket: u64,
    /// Time of the connect, nanoseconds of `CLOCK_BOOTTIME`.
    pub boottime: u64,
    /// Number of the policy.
    pub policy: u32,
    /// Thread in the initial pid namespace.
    pub pid: u32,
    /// User in the initial user namespace.
    pub uid: u32,
    /// Zero.
    pub reserved: u32,
    /// Name of the thread, padded with zeros. For people only: a process chooses it freely.
    pub comm: [u8; 16],
}

const _: () = assert!(size_of::<UnixKey>() == 112 && align_of::<UnixKey>() == 4);
const _: () = assert!(size_of::<UnixRule>() == 128 && align_of::<UnixRule>() == 8);
const _: () = assert!(core::mem::offset_of!(UnixRule, listener) == 16);
const _: () = assert!(size_of::<UnixFlowKey>() == 16);
const _: () = assert!(size_of::<UnixFlowRecord>() == 64 && align_of::<UnixFlowRecord>() == 8);

#[cfg(feature = "user")]
#[expect(
    unsafe_code,
    reason = "aya asks for the promise that a map key or value is plain data"
)]
mod user {
    use super::{UNIX_PATH_MAX, UnixFlowKey, UnixFlowRecord, UnixKey, UnixPath, UnixRule};

    // SAFETY: `repr(C)`, integers alone, no padding (sizes asserted above): every bit pattern is a value.
    unsafe impl aya::Pod for UnixKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for UnixRule {}
    // SAFETY: as above.
    unsafe impl aya::Pod for UnixFlowKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for UnixFlowRecord {}

    /// `name` as the maps hold it; `None` if it is empty, too long for a socket, or has a zero in it.
    pub fn unix_path(name: &[u8]) -> Option<UnixPath> {
        if name.is_empty() || name.len() > UNIX_PATH_MAX || name.contains(&0) {
            return None;
        }
        let mut path = [0; UNIX_PATH_MAX];
        for (to, from) in path.iter_mut().zip(name) {
            *to = *from;
        }
        Some(path)
    }
}
#[cfg(feature = "user")]
pub use user::unix_path;

#[cfg(test)]
mod tests {
    use super::*;
    use UnixAction::{Absent, Redirect, Refuse};

    #[test]
    fn every_connect_to_a_unix_socket_has_its_answer() {
        const MANAGED: Standing = Standing::Managed { policy: 1, cgroup: 2 };
        let refused = UnixAnswer::Refuse(EventKind::UnixRefused);
        let pending = UnixAnswer::Refuse(EventKind::PendingRefused);
        for (standing, whole, last, expected) in [
            (Standing::Free, Some(Redirect), Some(Refuse), UnixAnswer::Pass),
            (Standing::Free, None, None, UnixAnswer::Pass),
            (Standing::Pending, None, None, UnixAnswer::Pass),
            (Standing::Pending, Some(Refuse), Some(Refuse), pending),
            (Standing::Pending, Some(Redirect), None, pending),
            (Standing::Pending, None, Some(Refuse), pending),
            (MANAGED, None, None, UnixAnswer::Pass),
            (MANAGED, Some(Redirect), Some(Refuse), UnixAnswer::Redirect),
            (MANAGED, Some(Refuse), Some(Refuse), refused),
            (MANAGED, None, Some(Refuse), refused),
            (MANAGED, None, Some(Redirect), refused),
            (MANAGED, None, Some(Absent), refused),
            (
                MANAGED,
                Some(Absent),
                None,
                UnixAnswer::Absent(EventKind::UnixRefused),
            ),
        ] {
            let question = UnixQuestion {
                standing,
                whole,
                last,
            };
            assert_eq!(on_unix_connect(question), expected, "{question:?}");
        }
    }

    #[test]
    fn an_unknown_action_refuses() {
        for (number, action) in [
            (0, Refuse),
            (1, Redirect),
            (2, Refuse),
            (3, Absent),
            (u32::MAX, Refuse),
        ] {
            let rule = UnixRule {
                action: number,
                length: 0,
                slot: 0,
                listener: [0; UNIX_PATH_MAX],
                reserved: 0,
            };
            assert_eq!(rule.action(), action);
        }
    }

    #[test]
    fn the_last_component_is_what_follows_the_last_slash() {
        for (path, last) in [
            ("/run/postgresql/.s.PGSQL.5432", ".s.PGSQL.5432"),
            (".s.PGSQL.5432", ".s.PGSQL.5432"),
            ("./.s.PGSQL.5432", ".s.PGSQL.5432"),
            ("//a//b", "b"),
            ("/a/", ""),
            ("/", ""),
        ] {
            let mut padded = [0; UNIX_PATH_MAX];
            padded[..path.len()].copy_from_slice(path.as_bytes());
            let at = last_component(&padded);
            assert_eq!(&path[at..], last, "{path}");
        }
        assert_eq!(last_component(&[b'x'; UNIX_PATH_MAX]), 0);
        assert_eq!(last_component(&[b'/'; UNIX_PATH_MAX]), UNIX_PATH_MAX);
    }
}
