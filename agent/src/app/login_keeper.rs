//! What jobs have logged in with, over an upgrade, a restart and a crash.
//!
//! Tokens in clear are for no disk. They lie in anonymous memory, sealed, which the version that takes over gets with the
//! listeners, and which the service manager keeps meanwhile as it keeps those (`FileDescriptorStoreMax=`). Root that sees the
//! host's processes can look into that keeping: the security hooks guard the agent's descriptors, and not the service
//! manager's. The same root reads the files that secrets are in. Where there is no such keeping, jobs log in again after a crash.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use parking_lot::Mutex;
use sd_notify::NotifyState;
use zeroize::Zeroizing;

use super::accept::Reception;
use crate::identity::Logins;
use crate::kernel::given::LOGINS;

/// How often what has ended is taken out of the keeping.
const PERIOD: Duration = Duration::from_mins(1);

/// Nothing can be written to it, nor can it be cut or its seals be broken.
const SEALS: SealFlag = SealFlag::F_SEAL_SEAL
    .union(SealFlag::F_SEAL_SHRINK)
    .union(SealFlag::F_SEAL_GROW)
    .union(SealFlag::F_SEAL_WRITE);

/// Keeps them. Holds no token.
pub(super) struct LoginKeeper {
    /// Number of what is kept now: each is another memory, under another name, and the last one counts.
    number: Mutex<u64>,
}

impl LoginKeeper {
    /// Takes over what agents before this one left.
    pub(super) fn start(logins: &Logins, left: Vec<OwnedFd>) -> Self {
        let mut found: Vec<_> = left.into_iter().filter_map(|left| match read(left) {
            Ok(found) => Some(found),
            Err(error) => {
                tracing::warn!(%error, "what jobs have logged in with cannot be read: they have to log in again");
                None
            }
        }).collect();
        found.sort_by_key(|(number, _)| *number);
        if let Some((number, written)) = found.last() {
            match logins.take_over(written) {
                Ok(0) => {}
                Ok(jobs) => tracing::info!(jobs, "jobs that logged in before are logged in still"),
                Err(error) => {
                    tracing::warn!(number, %error, "logins of jobs are not taken over: they have to log in again");
                }
            }
        }
        let keeper = Self {
            number: Mutex::new(found.last().map_or(0, |(number, _)| *number)),
        };
        for (number, _) in found.iter().rev().skip(1) {
            forget(*number);
        }
        if !found.is_empty() {
            keeper.keep(logins);
        }
        keeper
    }

    /// Gives what counts now into the keeping of the service manager, in the place of what it had.
    pub(super) fn keep(&self, logins: &Logins) {
        let mut number = self.number.lock();
        let before = *number;
        if !logins.is_empty() {
            *number += 1;
            let name = name(*number);
            let state = [NotifyState::FdStore, NotifyState::FdName(&name)];
            let kept = write(*number, logins).and_then(|memory| {
                sd_notify::notify_with_fds(&state, &[memory.as_fd()]).map_err(io::Error::other)
            });
            if let Err(error) = kept {
                tracing::warn!(%error, "logins of jobs are not kept: after a crash of the agent jobs have to log in again");
            }
        }
        // Not before the other one is there.
        forget(before);
    }

    /// What the version that takes over gets.
    pub(super) fn leave(&self, logins: &Logins) -> io::Result<OwnedFd> {
        write(*self.number.lock(), logins)
    }

    /// Takes out of the keeping what has ended, for as long as the agent runs.
    pub(super) async fn follow(self: Arc<Self>, reception: Arc<Reception>) {
        let mut tick = tokio::time::interval(PERIOD);
        loop {
            tick.tick().await;
            let logins = &reception.tokens.logins;
            if logins.prune() {
                self.keep(logins);
            }
        }
    }
}

fn write(number: u64, logins: &Logins) -> io::Result<OwnedFd> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let mut file = File::from(memfd_create("tollgate-logins", flags)?);
    file.write_all(&number.to_le_bytes())?;
    file.write_all(&logins.written())?;
    fcntl(&file, FcntlArg::F_ADD_SEALS(SEALS))?;
    Ok(file.into())
}

/// Number and content of what [`write`] has made, and nobody else.
fn read(left: OwnedFd) -> io::Result<(u64, Zeroizing<Vec<u8>>)> {
    let mut file = File::from(left);
    let seals = SealFlag::from_bits_retain(fcntl(&file, FcntlArg::F_GET_SEALS)?);
    if !seals.contains(SEALS) {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "it is not sealed",
        ));
    }
    file.rewind()?;
    let mut number = [0; 8];
    file.read_exact(&mut number)?;
    // As long as it is: a buffer that grows leaves copies of itself behind.
    let length = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
    let mut written = Zeroizing::new(Vec::with_capacity(length));
    file.read_to_end(&mut written)?;
    Ok((u64::from_le_bytes(number), written))
}

fn forget(number: u64) {
    let name = name(number);
    let state = [NotifyState::FdStoreRemove, NotifyState::FdName(&name)];
    if let Err(error) = sd_notify::notify(&state) {
        tracing::warn!(%error, "the service manager goes on keeping logins that are over");
    }
}

fn name(number: u64) -> String {
    format!("{LOGINS}{number}")
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::fd::OwnedFd;
    use std::time::{Duration, SystemTime};

    use nix::sys::memfd::{MFdFlags, memfd_create};

    use super::{File, LoginKeeper, Logins, read, write};
    use crate::model::{CgroupId, CgroupPath, Secret};

    fn logins(token: Option<&str>) -> Logins {
        let path = |id: CgroupId| CgroupPath(format!("/job-{}", id.0).into());
        let logins = Logins::new(move |id| Some(path(id)));
        if let Some(token) = token {
            let (id, until) = (CgroupId(1), SystemTime::now() + Duration::from_mins(1));
            let token = Secret::new(token.as_bytes().to_vec());
            logins.register(id, path(id), token, until).unwrap();
        }
        logins
    }

    #[test]
    fn of_several_that_were_left_the_last_one_counts_and_what_is_not_sealed_does_not() {
        let unsealed = memfd_create("x", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING).unwrap();
        let mut file = File::from(unsealed);
        file.write_all(&[&9_u64.to_le_bytes()[..], &logins(Some("forged")).written()].concat())
            .unwrap();
        let left: Vec<OwnedFd> = vec![
            write(2, &logins(Some("newer"))).unwrap(),
            write(1, &logins(Some("older"))).unwrap(),
            file.into(),
            File::open("/dev/null").unwrap().into(),
        ];
        let after = logins(None);
        let keeper = LoginKeeper::start(&after, left);
        let handed = keeper.leave(&after).unwrap();
        assert!(
            File::from(handed.try_clone().unwrap()).write_all(b"x").is_err(),
            "it is sealed"
        );
        let (number, written) = read(handed).unwrap();
        assert_eq!(number, 3);
        assert!(written.windows(5).any(|bytes| bytes == b"newer"));
        assert!(
            !written
                .windows(5)
                .any(|bytes| bytes == b"older" || bytes == b"forge")
        );
    }
}
