//! Cancel requests: keys of our own to clients, and the way from such a key to the session that it names.
//!
//! The key of the target never leaves the agent, so a workload can cancel through it alone, and only what is its own:
//! a request counts if it comes from the same workload and service as the session. A request for an unknown key is
//! ignored, as PostgreSQL ignores it; who asks learns nothing from the answer, which is the end of the connection.

mod forward;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::model::{PolicyId, ServiceName};

use super::login::BackendKey;
use super::startup::CancelKey;
use crate::protocol::Target;

pub use forward::forward;

/// Whose session it is, or who asks to cancel one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Owner {
    /// The workload's policy.
    pub policy: PolicyId,
    /// The service.
    pub service: ServiceName,
}

/// Every session that can be cancelled. Shared by all sessions of the agent.
#[derive(Default)]
pub struct CancelMap {
    sessions: Mutex<HashMap<u32, Arc<Session>>>,
}

/// A session's place in the [`CancelMap`]; gone when dropped.
#[derive(Debug)]
#[must_use = "the session cannot be cancelled any more once this is dropped"]
pub struct Registration {
    map: Weak<CancelMap>,
    session: Arc<Session>,
}

/// A hold of a session that a cancel request ends; over when dropped.
#[derive(Debug)]
pub struct CancellableHold {
    session: Arc<Session>,
    cancelled: Arc<Notify>,
}

/// What a cancel request comes to.
#[derive(Debug)]
pub enum Cancelled {
    /// No session of this owner has that key: ignore it.
    Ignored,
    /// The session was holding a command; the hold has been told.
    Hold,
    /// The target has to be told: dial [`UpstreamCancel::target`] and call [`forward`].
    Forward(UpstreamCancel),
}

/// What tells a target to cancel.
#[derive(Clone)]
pub struct UpstreamCancel {
    target: Target,
    key: BackendKey,
}

impl fmt::Debug for UpstreamCancel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpstreamCancel")
            .field("service", &self.target.service)
            .finish_non_exhaustive()
    }
}

impl UpstreamCancel {
    /// Where to dial.
    pub fn target(&self) -> &Target {
        &self.target
    }
}

struct Session {
    key: CancelKey,
    owner: Owner,
    /// `None`: the target gave no key, so only holds can be cancelled.
    upstream: Option<UpstreamCancel>,
    hold: Mutex<Option<Arc<Notify>>>,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("owner", &self.owner)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for CancelMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancelMap")
            .field("sessions", &self.sessions.lock().len())
            .finish()
    }
}

impl CancelMap {
    /// Makes a key for a session of `owner` at `target`. `key` is the target's own, from its `BackendKeyData`.
    pub fn register(
        self: &Arc<Self>,
        owner: Owner,
        target: &Target,
        key: Option<BackendKey>,
    ) -> Registration {
        let upstream = key.map(|key| UpstreamCancel {
            target: target.clone(),
            key,
        });
        let mut sessions = self.sessions.lock();
        loop {
            let key = CancelKey {
                // Clients print it as a signed number, and take 0 for none.
                process: rand::random_range(1..=i32::MAX.unsigned_abs()),
                secret: rand::random(),
            };
            if let Entry::Vacant(place) = sessions.entry(key.process) {
                let session = Arc::new(Session {
                    key,
                    owner,
                    upstream,
                    hold: Mutex::new(None),
                });
                place.insert(Arc::clone(&session));
                return Registration {
                    map: Arc::downgrade(self),
                    session,
                };
            }
        }
    }

    /// Does what a cancel request of `from` asks for, as far as it needs no connection.
    pub fn cancel(&self, key: CancelKey, from: &Owner) -> Cancelled {
        let Some(session) = self.sessions.lock().get(&key.process).cloned() else {
            return Cancelled::Ignored;
        };
        // All four bytes are compared, whichever differs.
        let difference = session
            .key
            .secret
            .iter()
            .zip(key.secret)
            .fold(0, |difference, (ours, theirs)| difference | (ours ^ theirs));
        if difference != 0 || session.owner != *from {
            return Cancelled::Ignored;
        }
        if let Some(hold) = session.hold.lock().as_ref() {
            // Keeps one permit, so a hold that is not waiting yet will see it.
            hold.notify_one();
            return Cancelled::Hold;
        }
        session
            .upstream
            .clone()
            .map_or(Cancelled::Ignored, Cancelled::Forward)
    }
}

impl Registration {
    /// The key that the client is given in `BackendKeyData`.
    pub fn key(&self) -> CancelKey {
        self.session.key
    }

    /// From now on a cancel request ends the hold instead of going to the target, until what is given here is dropped.
    pub fn begin_hold(&self) -> CancellableHold {
        let cancelled = Arc::new(Notify::new());
        *self.session.hold.lock() = Some(Arc::clone(&cancelled));
        CancellableHold {
            session: Arc::clone(&self.session),
            cancelled,
        }
    }
}

impl CancellableHold {
    /// Waits for a cancel request. Cancel safe.
    pub async fn cancelled(&self) {
        self.cancelled.notified().await;
    }
}

impl Drop for CancellableHold {
    fn drop(&mut self) {
        let mut hold = self.session.hold.lock();
        // A later hold may have taken the place already.
        if hold
            .as_ref()
            .is_some_and(|current| Arc::ptr_eq(current, &self.cancelled))
        {
            *hold = None;
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        if let Some(map) = self.map.upgrade() {
            map.sessions.lock().remove(&self.session.key.process);
        }
    }
}

#[cfg(test)]
mod tests;
