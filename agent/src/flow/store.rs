//! Listeners in the keeping of the service manager (`FileDescriptorStoreMax=` of systemd), so that connections and questions
//! to nameservers wait, and are not refused, while the agent is restarted or has crashed. Nothing happens where there is none (`NOTIFY_SOCKET`).

use std::os::fd::{AsFd as _, OwnedFd};

use sd_notify::NotifyState;

use crate::model::{NetnsCookie, SocketPath};

/// Gives a copy of a listener into its keeping. One that it has already it does not take twice.
pub(super) fn keep(socket: &OwnedFd, netns: NetnsCookie) {
    keep_as(socket, &name(netns));
}

/// As [`keep`], for the sockets for DNS: questions wait in them, which whoever asks would ask again after seconds alone. All in one
/// message: a manager that is slow to read has room for ten.
pub(super) fn keep_datagrams(sockets: &[OwnedFd], netns: NetnsCookie) {
    if !sockets.is_empty() {
        keep_all(sockets, &datagrams_name(netns));
    }
}

/// As [`keep`], for the listener of a unix socket.
pub(super) fn keep_unix(socket: &OwnedFd, path: &SocketPath) {
    keep_as(socket, &unix_name(path));
}

fn keep_as(socket: &OwnedFd, name: &str) {
    keep_all(std::slice::from_ref(socket), name);
}

fn keep_all(sockets: &[OwnedFd], name: &str) {
    let state = [NotifyState::FdStore, NotifyState::FdName(name)];
    let sockets: Vec<_> = sockets.iter().map(OwnedFd::as_fd).collect();
    if let Err(error) = sd_notify::notify_with_fds(&state, &sockets) {
        tracing::warn!(%error, "the service manager does not keep a listener: connections are refused during a restart");
    }
}

/// Takes back what it keeps of a namespace.
pub(super) fn forget(netns: NetnsCookie) {
    forget_what_is(&name(netns));
    forget_what_is(&datagrams_name(netns));
}

/// Takes back the listener of a unix socket.
pub(super) fn forget_unix(path: &SocketPath) {
    forget_what_is(&unix_name(path));
}

fn forget_what_is(name: &str) {
    let state = [NotifyState::FdStoreRemove, NotifyState::FdName(name)];
    if let Err(error) = sd_notify::notify(&state) {
        tracing::warn!(%error, "the service manager goes on keeping a listener that nobody needs");
    }
}

/// Cookies are unique for the life of the host.
fn name(netns: NetnsCookie) -> String {
    format!("listener-{netns}")
}

fn datagrams_name(netns: NetnsCookie) -> String {
    format!("dns-{netns}")
}

/// Numbers of paths follow from the paths.
fn unix_name(path: &SocketPath) -> String {
    format!("unix-{:016x}", path.slot())
}
