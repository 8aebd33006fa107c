//! The agent's listening unix sockets: one for each protected path, so that it is known which one was asked for.
//!
//! They lie in a directory that root alone may write to, so that nobody takes their names while the agent is away. Their
//! mode lets everybody connect: whoever was not redirected there is closed again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::sockopt::{AcceptConn, PeerPidfd};
use nix::sys::socket::{UnixAddr, getsockname, getsockopt};
use parking_lot::Mutex;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::listener::Shared;
use super::{Flow, FlowError, Origin, store};
use crate::kernel::netns::Netns;
use crate::kernel::{UnixOrigin, process};
use crate::model::{Caller, Place, SocketPath};

/// What makes the agent listen on unix sockets.
#[derive(Debug)]
pub struct UnixListeners {
    shared: Arc<Shared>,
    host: Arc<Netns>,
    directory: PathBuf,
}

/// The listening unix sockets of an agent.
#[derive(Debug, Default)]
pub(super) struct UnixSockets {
    open: Mutex<BTreeMap<SocketPath, Open>>,
    /// Those of an agent before this one that are not used yet, by the path that they are bound to.
    handed: Mutex<BTreeMap<PathBuf, OwnedFd>>,
}

#[derive(Debug)]
struct Open {
    /// The socket once more, to be handed over.
    socket: OwnedFd,
    accepting: JoinHandle<()>,
}

impl UnixSockets {
    /// Takes the listening unix sockets out of what was handed over; gives the rest.
    pub(super) fn handed_over(sockets: Vec<OwnedFd>) -> (Self, Vec<OwnedFd>) {
        let (mut handed, mut rest) = (BTreeMap::new(), Vec::new());
        for socket in sockets {
            match bound_path(&socket) {
                Some(path) => drop(handed.insert(path, socket)),
                None => rest.push(socket),
            }
        }
        let all = Self {
            handed: Mutex::new(handed),
            ..Self::default()
        };
        (all, rest)
    }

    /// The sockets, to be handed over, and the tasks that accept on them, which end by themselves.
    pub(super) fn take(&self) -> (Vec<OwnedFd>, Vec<JoinHandle<()>>) {
        let open = std::mem::take(&mut *self.open.lock());
        open.into_values()
            .map(|open| (open.socket, open.accepting))
            .unzip()
    }
}

impl UnixListeners {
    /// None yet; they will be in `directory`, which is made.
    pub(super) fn new(shared: Arc<Shared>, host: Arc<Netns>, directory: PathBuf) -> Result<Self, FlowError> {
        prepare(&directory).map_err(|source| FlowError::Directory {
            path: directory.clone(),
            source,
        })?;
        Ok(Self {
            shared,
            host,
            directory,
        })
    }

    /// Where the agent listens for connections to `path`.
    pub fn listener(&self, path: &SocketPath) -> PathBuf {
        self.directory.join(format!("{:016x}.sock", path.slot()))
    }

    /// Listens for each of `paths`. Listening already is fine, and what it listens for besides stays. A socket of an agent
    /// before this one is used again: connections that wait in its queue become flows.
    pub fn listen_for(&self, paths: &BTreeSet<SocketPath>) -> Result<(), FlowError> {
        let mut open = self.shared.unix.open.lock();
        for path in paths {
            if open.contains_key(path) {
                continue;
            }
            let place = self.listener(path);
            let failed = |source| FlowError::Unix {
                path: place.clone(),
                source,
            };
            let handed = self.shared.unix.handed.lock().remove(&place);
            let socket = match handed.filter(|_| place.exists()) {
                Some(socket) => socket,
                None => bind(&place).map_err(failed)?,
            };
            let copy = socket.try_clone().map_err(failed)?;
            store::keep_unix(&copy, path);
            let listener = std::os::unix::net::UnixListener::from(socket);
            listener.set_nonblocking(true).map_err(failed)?;
            let accepting = accept_all(
                Arc::downgrade(&self.shared),
                UnixListener::from_std(listener).map_err(failed)?,
                path.clone(),
                Arc::clone(&self.host),
                self.shared.closing.subscribe(),
            );
            let new = Open {
                socket: copy,
                accepting: tokio::spawn(accepting),
            };
            open.insert(path.clone(), new);
        }
        Ok(())
    }

    /// Stops listening for all but `paths`.
    pub fn retain(&self, paths: &BTreeSet<SocketPath>) {
        self.shared.unix.handed.lock().clear();
        self.shared.unix.open.lock().retain(|path, open| {
            let kept = paths.contains(path);
            if !kept {
                open.accepting.abort();
                store::forget_unix(path);
                // Where it stays nobody listens, which is as good.
                let _gone = fs::remove_file(self.listener(path));
            }
            kept
        });
    }

    /// Who is at the other end of a connection to the listener of `path`.
    #[cfg(test)]
    pub(super) fn who(&self, stream: &UnixStream, path: &SocketPath) -> io::Result<UnixOrigin> {
        who(&self.shared, stream, path)
    }

    /// Stops listening. The names stay, so that connections are refused as on a server that is down, and not as on one
    /// that never was.
    #[cfg(test)]
    pub(super) async fn close(&self) {
        for task in self.shared.unix.take().1 {
            task.abort();
            let _aborted = task.await;
        }
    }
}

/// The path of a listening unix socket; `None`: it is something else.
fn bound_path(socket: &OwnedFd) -> Option<PathBuf> {
    let name: UnixAddr = getsockname(socket.as_raw_fd()).ok()?;
    let listens = getsockopt(socket, AcceptConn).ok()?;
    name.path().filter(|_| listens).map(Path::to_owned)
}

/// Makes the directory: everybody may enter it, root alone may make names in it or list them.
fn prepare(directory: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o711).create(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let found = fs::symlink_metadata(directory)?;
    if !found.is_dir() || found.uid() != 0 {
        return Err(io::Error::other(
            "it is there already, and no directory of root's",
        ));
    }
    fs::set_permissions(directory, Permissions::from_mode(0o711))
}

/// A listener in the place of the one that an earlier agent left. It is not made elsewhere and renamed: a socket goes by
/// the name that it was bound to, and that is what the kernel side knows it by.
fn bind(place: &Path) -> io::Result<OwnedFd> {
    match fs::remove_file(place) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = std::os::unix::net::UnixListener::bind(place)?;
    fs::set_permissions(place, Permissions::from_mode(0o666))?;
    Ok(listener.into())
}

async fn accept_all(
    shared: Weak<Shared>,
    listener: UnixListener,
    path: SocketPath,
    host: Arc<Netns>,
    mut closing: watch::Receiver<bool>,
) {
    loop {
        let accepted = tokio::select! {
            // Looked at first: what is not accepted waits for the agent that takes over.
            biased;
            _ = closing.wait_for(|closing| *closing) => return,
            accepted = listener.accept() => accepted,
        };
        let Some(shared) = shared.upgrade() else {
            return;
        };
        match accepted {
            Ok((stream, _)) => {
                if let Some(flow) = explain(&shared, stream, &path, &host)
                    && !shared.hand_on(flow).await
                {
                    return;
                }
            }
            Err(error) => {
                // Descriptors or memory are short; that is over in a while.
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// The flow of an accepted connection, or nothing if it was closed.
fn explain(shared: &Shared, stream: UnixStream, path: &SocketPath, host: &Arc<Netns>) -> Option<Flow> {
    match who(shared, &stream, path) {
        Ok(origin) => Some(Flow {
            stream: stream.into(),
            client: Caller::Process(origin.tgid),
            original: Place::Unix(path.clone()),
            origin: Origin::from(origin),
            netns: Arc::clone(host),
        }),
        Err(error) => {
            shared.count_unexplained();
            tracing::warn!(%path, %error, "closed a connection of unknown origin");
            None
        }
    }
}

/// Who is at the other end, if it was redirected here.
///
/// The process has to live, and to have lived when it was redirected: so its number is its own and not one that was
/// given away again.
fn who(shared: &Shared, stream: &UnixStream, path: &SocketPath) -> io::Result<UnixOrigin> {
    let peer = stream.peer_cred()?;
    let tgid = peer.pid().and_then(|pid| u32::try_from(pid).ok()).unwrap_or(0);
    let unknown = || io::Error::other(format!("process {tgid} was not redirected here"));
    let holder = match getsockopt(stream, PeerPidfd) {
        // Of a process that is gone, Linux gives a handle from 6.16 on; before, it says one of these.
        Err(Errno::EINVAL | Errno::ESRCH) => return Err(unknown()),
        holder => holder?,
    };
    let origin = shared
        .kernel
        .unix_flow(path, tgid)
        .map_err(io::Error::other)?
        .ok_or_else(unknown)?;
    let started = process::started(tgid)?;
    if started > origin.since_boot || has_ended(holder.as_fd())? {
        return Err(unknown());
    }
    Ok(origin)
}

/// Whether the process of a pidfd has ended.
fn has_ended(process: BorrowedFd<'_>) -> io::Result<bool> {
    let mut sources = [PollFd::new(process, PollFlags::POLLIN)];
    Ok(poll(&mut sources, PollTimeout::ZERO)? > 0)
}
