//! What the agent is asked from outside.

use std::io;

use nix::sys::signal::{SigSet, Signal as Name};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// To stop: SIGTERM by systemd, SIGINT by a person.
    Stop(&'static str),
    /// To read the policies again: SIGHUP.
    Reload,
    /// To let another version take over: SIGUSR2.
    Upgrade,
}

/// Signals that came and have not been looked at.
#[derive(Debug)]
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    user: Signal,
}

impl Signals {
    /// From here on these signals do not end the process; those that came while it was replaced come now. Needs a tokio
    /// runtime; to be called on the thread that the process began with.
    pub(super) fn catch() -> io::Result<Self> {
        let signals = Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
            user: signal(SignalKind::user_defined2())?,
        };
        let_through()?;
        Ok(signals)
    }

    /// The next one. Safe to cancel.
    pub(super) async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::Stop("SIGTERM"),
            _ = self.interrupt.recv() => Asked::Stop("SIGINT"),
            _ = self.hang_up.recv() => Asked::Reload,
            _ = self.user.recv() => Asked::Upgrade,
        }
    }
}

fn all() -> SigSet {
    [Name::SIGTERM, Name::SIGINT, Name::SIGHUP, Name::SIGUSR2]
        .into_iter()
        .collect()
}

/// Has signals wait, over an execution as well: their default is to end the process.
pub(super) fn hold_back() -> io::Result<()> {
    Ok(all().thread_block()?)
}

/// Lets signals through that [`hold_back`] had wait.
pub(super) fn let_through() -> io::Result<()> {
    Ok(all().thread_unblock()?)
}
