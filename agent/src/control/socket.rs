//! A unix socket of the agent's: made where it belongs, with its rights, and served one line at a time.

use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::unistd::Group;
use serde::Serialize;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::ControlError;
use super::message::Response;
use super::peer::{Peer, Seats};

/// Who may connect.
#[derive(Clone, Copy, Debug)]
pub(super) enum Access<'a> {
    /// Root, and this group where there is such a one: mode 0660.
    Operators(Option<&'a str>),
    /// Everybody: mode 0666. What a peer may ask is decided by who it is.
    Everybody,
}

/// The listening socket. Removed from the file system when it is dropped.
#[derive(Debug)]
pub(super) struct Listening {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode: a successor may have put its own socket at the path.
    made: (u64, u64),
}

impl Listening {
    /// Listens at `path`. Makes the directory (0755) where it is missing, and takes the place of a socket that nobody listens
    /// on. Needs a tokio runtime.
    pub(super) fn bind(path: &Path, access: Access<'_>) -> Result<Self, ControlError> {
        check_place(path)?;
        let failed = |source| ControlError::Bind {
            path: path.to_owned(),
            source,
        };
        let directory = path.parent().unwrap_or(Path::new("/"));
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(directory)
            .map_err(failed)?;
        // Made where nobody else comes, and moved to its place once its rights are set: there is no moment at which
        // the socket is open to all.
        let workshop = tempdir_in(directory).map_err(failed)?;
        let made = make_socket(&workshop.join("socket"), path, access);
        let removed = std::fs::remove_dir(&workshop);
        let (listener, made) = made.map_err(failed)?;
        removed.map_err(failed)?;
        Ok(Self {
            listener,
            path: path.to_owned(),
            made,
        })
    }

    /// Has `converse` speak with each that connects, until `stop` resolves. Connections that are open then are closed.
    pub(super) async fn serve<C>(
        self,
        converse: impl Fn(UnixStream, Peer) -> C,
        stop: impl Future<Output = ()>,
    ) where
        C: Future<Output = io::Result<()>> + Send + 'static,
    {
        let seats = Arc::new(Seats::default());
        // Dropped with this future, and every connection with it.
        let mut connections = JoinSet::new();
        tokio::pin!(stop);
        loop {
            let accepted = tokio::select! {
                () = &mut stop => return,
                Some(_) = connections.join_next() => continue,
                accepted = self.listener.accept() => accepted,
            };
            let Ok((stream, _)) = accepted else {
                // Out of file descriptors: sessions will give some back.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let Some(peer) = Peer::of(&stream) else {
                turn_away(
                    &stream,
                    "the agent cannot see your process; ask from the host's own pid namespace",
                );
                continue;
            };
            let Some(seat) = seats.take(peer.uid) else {
                turn_away(&stream, "you have too many connections to the agent; close some");
                continue;
            };
            let conversation = converse(stream, peer);
            connections.spawn(async move {
                if let Err(error) = conversation.await {
                    tracing::debug!(?peer, %error, "control connection ended");
                }
                drop(seat);
            });
        }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let at_path = std::fs::symlink_metadata(&self.path);
        if at_path.is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == self.made) {
            // A socket that stays behind is taken over by the next agent.
            let _stays = std::fs::remove_file(&self.path);
        }
    }
}

fn check_place(path: &Path) -> Result<(), ControlError> {
    let path = path.to_owned();
    match std::fs::symlink_metadata(&path) {
        Ok(metadata) if !metadata.file_type().is_socket() => Err(ControlError::InTheWay { path }),
        Ok(_) if std::os::unix::net::UnixStream::connect(&path).is_ok() => {
            Err(ControlError::AlreadyRunning { path })
        }
        Ok(_) | Err(_) => Ok(()),
    }
}

fn tempdir_in(directory: &Path) -> io::Result<PathBuf> {
    let name = format!(".control-{:016x}", rand::random::<u64>());
    let path = directory.join(name);
    std::fs::DirBuilder::new().mode(0o700).create(&path)?;
    Ok(path)
}

fn make_socket(workplace: &Path, path: &Path, access: Access<'_>) -> io::Result<(UnixListener, (u64, u64))> {
    let listener = UnixListener::bind(workplace)?;
    let finish = || -> io::Result<(u64, u64)> {
        let mode = match access {
            Access::Everybody => 0o666,
            Access::Operators(group) => {
                if let Some(group) = group.map(Group::from_name).transpose()?.flatten() {
                    chown(workplace, None, Some(group.gid.as_raw()))?;
                } else {
                    tracing::info!(
                        group,
                        "there is no such group: only root can reach the control socket"
                    );
                }
                0o660
            }
        };
        std::fs::set_permissions(workplace, std::fs::Permissions::from_mode(mode))?;
        let metadata = std::fs::symlink_metadata(workplace)?;
        std::fs::rename(workplace, path)?;
        Ok((metadata.dev(), metadata.ino()))
    };
    let made = finish().inspect_err(|_| {
        let _already_moved = std::fs::remove_file(workplace);
    })?;
    Ok((listener, made))
}

/// Says so without waiting: a fresh socket's buffer takes one line, and if not, closing says enough.
fn turn_away(stream: &UnixStream, why: &str) {
    if let Ok(mut line) = serde_json::to_vec(&refused(why)) {
        line.push(b'\n');
        let _unheard = stream.try_write(&line);
    }
}

pub(super) fn refused(message: &str) -> Response {
    Response::Refused {
        message: message.to_owned(),
    }
}

/// The next line; `None` at the end, or at a line that is too long.
pub(super) async fn read_line(reader: &mut BufReader<OwnedReadHalf>) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let mut reader = reader.take(LONGEST_REQUEST);
    timeout(IDLE, reader.read_until(b'\n', &mut line))
        .await
        .map_err(|_| io::ErrorKind::TimedOut)??;
    Ok(line.ends_with(b"\n").then_some(line))
}

pub(super) async fn send(writer: &mut OwnedWriteHalf, response: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(response)?;
    line.push(b'\n');
    timeout(PATIENCE, writer.write_all(&line))
        .await
        .map_err(|_| io::ErrorKind::TimedOut)?
}

/// A token with its JSON around it is the longest.
const LONGEST_REQUEST: u64 = 96 * 1024;
/// How long a peer may take to read an answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// How long a connection may stay without a request.
const IDLE: Duration = Duration::from_mins(5);
