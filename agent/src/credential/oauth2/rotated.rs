//! Refresh tokens that a server replaces at each use.
//!
//! The successor is all that the server takes from then on, so it is kept in the agent's state directory, for root alone:
//! `tokens/ID.json`, written to a new file, synced and renamed. It counts for as long as the policy's source holds the
//! token that it descends from: who puts another one there begins anew.
//!
//! The place is made sure of before the server is asked: no room and no right to write are seen while the token that is
//! there is still good. Known limit: a crash between the server's answer and the rename loses the successor, and with many
//! servers the whole grant; a new refresh token has to be put into the policy's source then.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::OwnedMutexGuard;
use zeroize::Zeroizing;

use super::super::hidden::Hidden;
use super::super::issuer::IssuerError;
use crate::config::{Oauth2Grant, Oauth2Spec};
use crate::model::Secret;

/// Where the successors of one refresh token are.
#[derive(Clone, Debug)]
pub(super) struct Rotated {
    path: PathBuf,
    turn: Unwritten,
}

/// What could not be written down.
type Unwritten = Arc<tokio::sync::Mutex<Option<Kept>>>;

/// One use of it; nobody else has one meanwhile.
pub(super) struct Turn {
    path: PathBuf,
    /// In the order of trust: what could not be written is newer than what was.
    kept: Option<Kept>,
    unwritten: OwnedMutexGuard<Option<Kept>>,
    new: Option<File>,
}

#[derive(Clone, Debug)]
struct Kept {
    /// Hash of the token that the policy's source held.
    of: String,
    token: Secret,
}

#[derive(Serialize)]
struct Written<'a> {
    of: &'a str,
    token: &'a str,
}

#[derive(Deserialize)]
struct Read {
    of: String,
    token: Hidden,
}

impl Rotated {
    /// `None`: the grant has no refresh token.
    pub(super) fn of(spec: &Oauth2Spec, tokens: &Path) -> Option<Self> {
        let Oauth2Grant::RefreshToken(source) = &spec.grant else {
            return None;
        };
        let mut id = blake3::Hasher::new_derive_key("tollgate kept refresh token");
        for part in [&spec.issuer.endpoint, &spec.client_id, &format!("{source:?}")] {
            id.update(part.as_bytes()).update(&[0]);
        }
        let id = id.finalize().to_hex();
        let path = tokens.join(format!("{}.json", id.get(..32)?));
        let turn = Arc::clone(TURNS.lock().entry(path.clone()).or_default());
        Some(Self { path, turn })
    }

    /// Waits until nobody else asks, and makes sure that a successor can be kept.
    pub(super) async fn turn(&self) -> Result<Turn, IssuerError> {
        let unwritten = Arc::clone(&self.turn).lock_owned().await;
        let path = self.path.clone();
        let prepared = tokio::task::spawn_blocking(move || prepare(&path)).await;
        let (kept, new) = prepared.unwrap_or_else(|error| {
            Err(IssuerError::Keep {
                path: self.path.clone(),
                source: io::Error::other(error),
            })
        })?;
        Ok(Turn {
            path: self.path.clone(),
            kept,
            unwritten,
            new: Some(new),
        })
    }
}

impl Turn {
    /// The token to show, where the policy's source has `configured`.
    pub(super) fn current(&self, configured: &Secret) -> Secret {
        let of = hash(configured);
        let newest = [self.unwritten.as_ref(), self.kept.as_ref()];
        newest
            .into_iter()
            .flatten()
            .find(|kept| kept.of == of)
            .map_or_else(|| configured.clone(), |kept| kept.token.clone())
    }

    /// Keeps the successor. If that fails it is in memory, and the log says so: the server takes no other any more.
    pub(super) async fn keep(&mut self, configured: &Secret, token: &Secret) {
        let kept = Kept {
            of: hash(configured),
            token: token.clone(),
        };
        let Some(new) = self.new.take() else { return };
        let (path, written) = (self.path.clone(), kept.clone());
        let outcome = tokio::task::spawn_blocking(move || write(new, &path, &written)).await;
        let outcome = outcome.unwrap_or_else(|error| Err(io::Error::other(error)));
        *self.unwritten = match outcome {
            Ok(()) => None,
            Err(error) => {
                tracing::error!(
                    path = %self.path.display(), %error,
                    "a refresh token's successor is in memory alone: make room, or it is lost when the agent stops"
                );
                Some(kept)
            }
        };
    }
}

fn prepare(path: &Path) -> Result<(Option<Kept>, File), IssuerError> {
    let failed = |source| IssuerError::Keep {
        path: path.to_owned(),
        source,
    };
    let unreadable = || IssuerError::Kept {
        path: path.to_owned(),
    };
    let dir = path.parent().ok_or_else(unreadable)?;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(failed)?;
    let metadata = fs::metadata(dir).map_err(failed)?;
    if metadata.mode() & 0o077 != 0 || metadata.uid() != nix::unistd::geteuid().as_raw() {
        return Err(failed(io::ErrorKind::PermissionDenied.into()));
    }
    let kept = match fs::read(path).map(Zeroizing::new) {
        Ok(bytes) => {
            let read: Read = serde_json::from_slice(&bytes).map_err(|_| unreadable())?;
            Some(Kept {
                token: read.token.token().map_err(|_| unreadable())?,
                of: read.of,
            })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(failed(error)),
    };
    let mut new = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path.with_extension("new"))
        .map_err(failed)?;
    // Room for any token: a full disk is to be seen now.
    new.write_all(&vec![b' '; ROOM])
        .and_then(|()| new.sync_all())
        .map_err(failed)?;
    Ok((kept, new))
}

fn write(mut new: File, path: &Path, kept: &Kept) -> io::Result<()> {
    // Exposed to be kept; visible ASCII, as was checked when it came.
    let token = std::str::from_utf8(kept.token.expose()).map_err(io::Error::other)?;
    let text = Zeroizing::new(serde_json::to_vec(&Written { of: &kept.of, token })?);
    new.rewind()?;
    new.write_all(&text)?;
    new.set_len(text.len() as u64)?;
    new.sync_all()?;
    fs::rename(path.with_extension("new"), path)?;
    match path.parent() {
        Some(dir) => File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}

fn hash(token: &Secret) -> String {
    // Exposed to be hashed: what is kept names the token that it descends from.
    hex::encode(blake3::derive_key(
        "tollgate configured refresh token",
        token.expose(),
    ))
}

/// Those who wait for a turn, by file: services of several policies may share a token.
static TURNS: LazyLock<Mutex<HashMap<PathBuf, Unwritten>>> = LazyLock::new(Mutex::default);
/// No token with what stands around it is longer.
const ROOM: usize = 20 * 1024;
