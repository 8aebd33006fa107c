//! The credential of a session, for as many exchanges as it has at a time.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, HeaderValue};
use http::{HeaderMap, request};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::finding::Sighting;
use crate::model::Material;
use crate::policy::Authorized;
use crate::protocol::{SessionEnd, Stages};

use super::inject::{BodyWork, Echo, InjectError, Injection, Kept, Read, Stripped, Way};
use super::session::Link;

/// How long a credential is used before its source is asked again: a rotated file counts from then on, in a session too that has
/// begun long before.
const FRESH: Duration = Duration::from_secs(30);

/// Fewest seconds between two times that a target's refusal has the source asked again: a workload can make it refuse.
const BETWEEN: Duration = Duration::from_secs(5);

/// Secrets of a workload that one session notes at most.
const MOST_FOUND: usize = 64;

/// What a session has to do with its credential.
#[derive(Default)]
pub(super) struct Credential {
    injection: Injection,
    current: tokio::sync::Mutex<Option<Arc<Held>>>,
    /// Secrets that have been noted, by their hashes: a session says of each once that it is there.
    found: Mutex<HashSet<[u8; 32]>>,
}

/// A credential that requests get.
pub(super) struct Held {
    material: Option<Material>,
    echo: Option<Arc<Echo>>,
    since: Instant,
}

/// The credential, taken out of an answer on its way.
pub(super) struct Unechoed {
    echo: Arc<Echo>,
    kept: Kept,
}

impl Credential {
    pub(super) fn new(injection: Injection) -> Self {
        Self {
            injection,
            ..Self::default()
        }
    }
}

impl Held {
    /// Whether answers are searched for it.
    pub(super) fn is_echoed(&self) -> bool {
        self.echo.is_some()
    }

    /// Takes the credential out of fields of an answer.
    pub(super) fn unecho(&self, fields: &mut HeaderMap) {
        if let Some(echo) = &self.echo {
            echo.fields(fields);
        }
    }

    /// What does the same to the body of an answer.
    pub(super) fn unechoed(&self) -> Option<Unechoed> {
        self.echo.as_ref().map(|echo| Unechoed {
            echo: Arc::clone(echo),
            kept: Kept::default(),
        })
    }
}

impl Unechoed {
    /// What can be passed on after `data` came; `last`: nothing follows.
    pub(super) fn push(&mut self, data: Bytes, last: bool) -> Bytes {
        let out = self.echo.pass(&mut self.kept, data);
        if !last || self.kept.is_empty() {
            return out;
        }
        [out, self.echo.finish(&mut self.kept).into()].concat().into()
    }

    /// Bytes that are held back.
    pub(super) fn held(&self) -> usize {
        self.kept.len()
    }

    /// Takes the credential out of fields behind a body.
    pub(super) fn fields(&self, fields: &mut HeaderMap) {
        self.echo.fields(fields);
    }
}

impl<S: Stages + 'static> Link<S> {
    /// Takes out of a head what the workload sent in the place of the credential, and notes it.
    pub(super) fn strip(&self, parts: &mut request::Parts) -> Result<Stripped, SessionEnd> {
        let mut stripped = self.credential.injection.strip(parts);
        self.found(std::mem::take(&mut stripped.found))?;
        Ok(stripped)
    }

    /// The credential that a request gets: the session's, as new as it has to be.
    pub(super) async fn held(&self, _: &Authorized) -> Result<Arc<Held>, SessionEnd> {
        let mut current = self.credential.current.lock().await;
        if let Some(held) = current.as_ref().filter(|held| held.since.elapsed() < FRESH) {
            return Ok(Arc::clone(held));
        }
        let take = self.stages.with(Stages::material).await?;
        let material = self.stages.with(take)?;
        let echo = material
            .as_ref()
            .and_then(|material| self.credential.injection.echo(material))
            .map(Arc::new);
        let held = Arc::new(Held {
            material,
            echo,
            since: Instant::now(),
        });
        *current = Some(Arc::clone(&held));
        drop(current);
        self.ends_otherwise.notify_one();
        Ok(held)
    }

    /// The target did not take the credential: the next request gets what the source has by then. The request itself is not
    /// sent again: nobody but its client knows whether it may be.
    pub(super) async fn refused(&self, held: &Held) {
        let mut current = self.credential.current.lock().await;
        if held.since.elapsed() >= BETWEEN
            && current.as_ref().is_some_and(|newest| newest.since == held.since)
        {
            *current = None;
        }
    }

    /// Puts the credential into a head. `read`: the body, as far as it is known. What it gives has to be done to the body.
    pub(super) fn inject(
        &self,
        parts: &mut request::Parts,
        stripped: &Stripped,
        held: &Held,
        read: Read<'_>,
    ) -> Result<BodyWork, InjectError> {
        let Some(material) = held
            .material
            .as_ref()
            .filter(|_| self.credential.injection.is_some())
        else {
            return Ok(BodyWork::None);
        };
        let origin = self.origin(None);
        let authority = origin.split_once("://").map_or("", |(_, authority)| authority);
        let way = self.way(authority);
        let work = self
            .credential
            .injection
            .inject(parts, stripped, material, read, way)?;
        if held.echo.is_some() {
            // An echo is looked for in what can be read.
            parts
                .headers
                .insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
        Ok(work)
    }

    /// Whether the whole body of a request has to be known before it gets the credential.
    pub(super) fn wants_body(&self, parts: &request::Parts, stripped: &Stripped) -> bool {
        let origin = self.origin(None);
        let authority = origin.split_once("://").map_or("", |(_, authority)| authority);
        self.credential
            .injection
            .wants_body(parts, stripped, self.way(authority))
    }

    fn way<'a>(&self, authority: &'a str) -> Way<'a> {
        Way {
            encrypted: self.target.tls.mode() != crate::config::TlsMode::Disable,
            authority,
            now: SystemTime::now(),
        }
    }
}

impl<S: Stages> Link<S> {
    /// Takes out of the fields behind a body what the workload sent in the place of the credential, and notes it.
    pub(super) fn strip_trailers(&self, trailers: &mut HeaderMap) -> Result<(), SessionEnd> {
        let found = self.credential.injection.strip_trailers(trailers);
        self.found(found)
    }

    fn found(&self, sightings: Vec<Sighting>) -> Result<(), SessionEnd> {
        for sighting in sightings {
            let mut hash = blake3::Hasher::new();
            hash.update(sighting.at.to_string().as_bytes());
            hash.update(&[0]);
            // Exposed to know it again in this session; the hash leaves it no more than the secret does.
            hash.update(sighting.secret.expose());
            let new = {
                let mut found = self.credential.found.lock();
                found.len() < MOST_FOUND && found.insert(*hash.finalize().as_bytes())
            };
            if new {
                self.stages.with(|stages| stages.found(sighting))?;
            }
        }
        Ok(())
    }
}
