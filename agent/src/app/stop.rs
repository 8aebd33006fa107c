//! When the agent ends.

use std::io;

use tokio::signal::unix::{SignalKind, signal};

/// Resolves when the agent is asked to stop: SIGTERM by systemd, SIGINT by a person.
pub(super) async fn asked() -> io::Result<&'static str> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    })
}
