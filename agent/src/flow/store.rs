//! Listeners in the keeping of the service manager (`FileDescriptorStoreMax=` of systemd), so that connections wait, and are
//! not refused, while the agent is restarted or has crashed. Nothing happens where there is none (`NOTIFY_SOCKET`).

use std::os::fd::{AsFd as _, OwnedFd};

use sd_notify::NotifyState;

use crate::model::NetnsCookie;

/// Gives a copy of a listener into its keeping. One that it has already it does not take twice.
pub(super) fn keep(socket: &OwnedFd, netns: NetnsCookie) {
    let name = name(netns);
    let state = [NotifyState::FdStore, NotifyState::FdName(&name)];
    if let Err(error) = sd_notify::notify_with_fds(&state, &[socket.as_fd()]) {
        tracing::warn!(%error, "the service manager does not keep a listener: connections are refused during a restart");
    }
}

/// Takes back what it keeps of a namespace.
pub(super) fn forget(netns: NetnsCookie) {
    let name = name(netns);
    let state = [NotifyState::FdStoreRemove, NotifyState::FdName(&name)];
    if let Err(error) = sd_notify::notify(&state) {
        tracing::warn!(%error, "the service manager goes on keeping a listener that nobody needs");
    }
}

/// Cookies are unique for the life of the host.
fn name(netns: NetnsCookie) -> String {
    format!("listener-{netns}")
}
