//! Another version of the agent in the place of this one, in the same process: listeners, locks and pins are kept, and
//! connections wait meanwhile.
//!
//! Nothing is given up before the other version has said that it could start; if it cannot be executed after all, this one
//! goes on.

use std::ffi::{CString, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use tokio::sync::mpsc;

use crate::kernel::given::{HANDOVER, handover};
use crate::kernel::{HostLock, PinLock};

use super::signals;

/// How long the other version may take to say whether it could start.
const PATIENCE: Duration = Duration::from_mins(1);

/// The program that this process runs, as it was started.
#[derive(Clone, Debug)]
pub(super) struct Program {
    /// Where its file was at the start; another version may be there by now.
    path: PathBuf,
    arguments: Vec<OsString>,
}

impl Program {
    /// This one.
    pub(super) fn current() -> io::Result<Self> {
        Ok(Self {
            path: std::env::current_exe()?,
            arguments: std::env::args_os().collect(),
        })
    }

    /// Has the version that is there now say whether it could start.
    pub(super) async fn check(&self) -> Result<(), String> {
        let mut command = tokio::process::Command::new(&self.path);
        command
            .args(self.arguments.iter().skip(1))
            .arg("--check")
            .env_remove("NOTIFY_SOCKET")
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let path = self.path.display();
        match tokio::time::timeout(PATIENCE, command.output()).await {
            Ok(Ok(output)) if output.status.success() => Ok(()),
            Ok(Ok(output)) => {
                let said = String::from_utf8_lossy(&output.stderr);
                Err(format!(
                    "{path} could not start ({}): {}",
                    output.status,
                    said.trim()
                ))
            }
            Ok(Err(error)) => Err(format!("{path} cannot be executed: {error}")),
            Err(_) => Err(format!(
                "{path} did not say within {} s whether it could start",
                PATIENCE.as_secs()
            )),
        }
    }

    /// Executes it in the place of this one. Returns only when that fails.
    pub(super) fn execute(&self, host_lock: &HostLock, left: &Left) -> io::Error {
        let kept: Vec<BorrowedFd<'_>> = left
            .sockets
            .iter()
            .map(AsFd::as_fd)
            .chain([
                host_lock.as_fd(),
                left.pins.as_fd(),
                left.policies.as_fd(),
                left.logins.as_fd(),
            ])
            .collect();
        let failed = inheritable(&kept, true)
            .and_then(|()| self.replace(host_lock, left))
            .err()
            .unwrap_or_else(|| io::Error::other("it returned"));
        if let Err(error) = inheritable(&kept, false) {
            tracing::warn!(%error, "descriptors stay open for children");
        }
        failed
    }

    fn replace(&self, host_lock: &HostLock, left: &Left) -> io::Result<()> {
        let text = |bytes: &[u8]| CString::new(bytes).map_err(io::Error::from);
        let path = text(self.path.as_os_str().as_bytes())?;
        let arguments: Vec<CString> = self
            .arguments
            .iter()
            .map(|argument| text(argument.as_bytes()))
            .collect::<Result<_, _>>()?;
        let sockets: Vec<_> = left.sockets.iter().map(AsRawFd::as_raw_fd).collect();
        let numbers = handover(
            host_lock.as_fd().as_raw_fd(),
            left.pins.as_fd().as_raw_fd(),
            left.policies.as_raw_fd(),
            &sockets,
            left.logins.as_raw_fd(),
        );
        // What the service manager gave this process at its start is not what these numbers are now.
        let old = [HANDOVER, "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"];
        let environment: Vec<CString> = std::env::vars_os()
            .filter(|(name, _)| !old.iter().any(|old| name == old))
            .map(|(name, value)| text(&[name.as_bytes(), b"=", value.as_bytes()].concat()))
            .chain([text(format!("{HANDOVER}={numbers}").as_bytes())])
            .collect::<Result<_, _>>()?;
        // A signal that comes between the two versions waits for the second one.
        signals::hold_back()?;
        let refused = nix::unistd::execve(&path, &arguments, &environment);
        signals::let_through()?;
        match refused {
            Ok(never) => match never {},
            Err(errno) => Err(errno.into()),
        }
    }

    /// Where its file is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// What an agent leaves to the one after it.
#[derive(Debug)]
pub(super) struct Left {
    /// Its sockets, on which connections wait.
    pub(super) sockets: Vec<OwnedFd>,
    /// The lock of the pins.
    pub(super) pins: PinLock,
    /// The policies that counted last.
    pub(super) policies: OwnedFd,
    /// What jobs have logged in with.
    pub(super) logins: OwnedFd,
}

fn inheritable(descriptors: &[BorrowedFd<'_>], inheritable: bool) -> io::Result<()> {
    let flag = if inheritable {
        FdFlag::empty()
    } else {
        FdFlag::FD_CLOEXEC
    };
    for descriptor in descriptors {
        fcntl(descriptor, FcntlArg::F_SETFD(flag))?;
    }
    Ok(())
}

/// Asks for an upgrade, from whatever asks.
#[derive(Debug)]
pub(super) struct Upgrader {
    program: Program,
    begin: mpsc::Sender<()>,
}

impl Upgrader {
    /// The second value gets a message when everything is to be handed over.
    pub(super) fn new(program: Program) -> (Self, mpsc::Receiver<()>) {
        let (begin, begun) = mpsc::channel(1);
        (Self { program, begin }, begun)
    }

    /// Begins, if the other version could start.
    pub(super) async fn begin(&self) -> Result<(), String> {
        self.program.check().await?;
        tracing::info!(program = %self.program.path().display(), "another version takes over");
        // Full: it has begun already.
        let _begins = self.begin.try_send(());
        Ok(())
    }
}
