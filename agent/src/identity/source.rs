//! Where a workload's token is: a variable of its processes, or a file as its processes see it.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::unistd::{Gid, Uid, setfsgid, setfsuid};
use zeroize::Zeroizing;

use super::process::{ProcessHandle, root_of, variable};
use super::{FlowFacts, IdentityError};
use crate::kernel::dump;
use crate::model::Secret;

/// The token in variable `name` of the connecting process, else of its nearest ancestor that has it. The search ends at the first
/// ancestor that is in another cgroup: what is outside speaks for somebody else. Blocks on the workload.
pub(super) fn from_environment(facts: &FlowFacts, name: &str) -> Result<Secret, IdentityError> {
    let gone = |error: io::Error| {
        if super::process::is_gone(&error) {
            IdentityError::ProcessGone { pid: facts.pid }
        } else {
            IdentityError::Unreadable {
                what: format!("the environment of process {}", facts.pid),
                source: error,
            }
        }
    };
    let mut handle = ProcessHandle::of_flow(facts).map_err(gone)?;
    let mut in_cgroup = handle.cgroup().map_err(gone)? == facts.cgroup_path;
    for _ in 0..MOST_ANCESTORS {
        if !in_cgroup {
            break;
        }
        match variable(&handle, name) {
            Ok(Some(value)) if !value.trim_ascii().is_empty() => {
                return secret(&value, || format!("${name}"));
            }
            Ok(_) => {}
            Err(error) if handle.pid == facts.pid => return Err(gone(error)),
            // An ancestor that ended meanwhile, or that may not be read, has no say; nor have those above it.
            Err(_) => break,
        }
        let Ok(Some(parent)) = parent_of(&handle) else {
            break;
        };
        in_cgroup = parent.cgroup().is_ok_and(|cgroup| cgroup == facts.cgroup_path);
        handle = parent;
    }
    Err(IdentityError::NoVariable {
        name: name.to_owned(),
        pid: facts.pid,
        cgroup: facts.cgroup_path.clone(),
    })
}

pub(super) fn parent_of(child: &ProcessHandle) -> io::Result<Option<ProcessHandle>> {
    let pid = child.stat()?.parent;
    if pid == 0 {
        return Ok(None);
    }
    let parent = ProcessHandle::open(pid)?;
    // The child is given to another parent before its own parent's pid can be taken again, so if it still names this
    // pid, the handle is its parent's.
    Ok((child.stat()?.parent == pid).then_some(parent))
}

/// The token in a file, as the connecting process sees it: below its root directory, with its user's rights. If the
/// process is gone, the host's root stands in for its own, except for containers, whose root is another one.
///
/// Symbolic links are followed inside the root alone. The kernel checks the access for the process's uid and primary
/// group, so a workload that may place links cannot have the agent read for it what it may not read itself. Files
/// that only a supplementary group may read are refused. Call it on a thread that ends afterwards: it gives up
/// rights for good. Blocks on the workload.
pub(super) fn from_file(facts: &FlowFacts, container: bool, path: &Path) -> Result<Secret, IdentityError> {
    let unreadable = |source| IdentityError::Unreadable {
        what: format!("the token file {}", path.display()),
        source,
    };
    let (root, gid) = match ProcessHandle::of_flow(facts) {
        Ok(handle) => (
            root_of(&handle).map_err(unreadable)?,
            handle.file_gid().map_err(unreadable)?,
        ),
        Err(error) if super::process::is_gone(&error) && !container => {
            let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
            let root = open(c"/", flags, Mode::empty()).map_err(|error| unreadable(error.into()))?;
            (root, NOBODY)
        }
        Err(error) if super::process::is_gone(&error) => {
            return Err(IdentityError::ProcessGone { pid: facts.pid });
        }
        Err(error) => return Err(unreadable(error)),
    };
    read_as(&root, path, facts.uid, gid)
        .map_err(unreadable)
        .and_then(|bytes| secret(&bytes, || format!("the token file {}", path.display())))
}

pub(super) fn read_as(root: &OwnedFd, path: &Path, uid: u32, gid: u32) -> io::Result<Zeroizing<Vec<u8>>> {
    become_user(uid, gid)?;
    let inside = path.strip_prefix("/").unwrap_or(path);
    // By path first: opening a device or a pipe to read would do something to it.
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let found = openat2(root.as_fd(), inside, how)?;
    let kind = SFlag::from_bits_truncate(fstat(&found)?.st_mode) & SFlag::S_IFMT;
    if kind != SFlag::S_IFREG {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let again = format!("/proc/thread-self/fd/{}", found.as_raw_fd());
    let file = open(
        again.as_str(),
        OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC,
        Mode::empty(),
    )?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(LONGEST_TOKEN + 1));
    File::from(file)
        .take(LONGEST_TOKEN as u64 + 1)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Gives this thread, and no other, the file rights of a user. Linux drops the capabilities that override file
/// permissions with it (`cap_task_fix_setuid`).
fn become_user(uid: u32, gid: u32) -> io::Result<()> {
    // The calls answer with the old id and do not fail; the second call says whether the first worked.
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    setfsgid(gid);
    setfsuid(uid);
    // A change of user has the kernel ask its own setting again whether the process may be dumped.
    dump::forbid_again()?;
    if setfsuid(uid) == uid && setfsgid(gid) == gid {
        Ok(())
    } else {
        Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "the agent may not take on the rights of the process's user (CAP_SETUID and CAP_SETGID)",
        ))
    }
}

fn secret(bytes: &[u8], origin: impl Fn() -> String) -> Result<Secret, IdentityError> {
    if bytes.len() > LONGEST_TOKEN {
        return Err(IdentityError::TokenTooLong { origin: origin() });
    }
    let token = bytes.trim_ascii();
    if token.is_empty() {
        return Err(IdentityError::TokenEmpty { origin: origin() });
    }
    Ok(Secret::new(token.to_vec()))
}

/// Tokens of CI systems have 1 to 4 KiB.
pub(super) const LONGEST_TOKEN: usize = 64 * 1024;
pub(super) const MOST_ANCESTORS: usize = 64;
/// `nogroup`: what is known of a process that is gone is its user alone.
const NOBODY: u32 = 65_534;
