//! The stages of a session whose exchanges run side by side.

use std::sync::Arc;

use parking_lot::Mutex;

use super::{SessionEnd, Stages};

/// The stages of one session, for as many exchanges as it has at a time.
///
/// A lock and not a task that owns the stages and is asked over a channel: everything of a session runs in the session's
/// own task, so nobody ever waits for this lock, and taking it costs some nanoseconds where a channel costs two wake-ups for
/// each chunk of a body. What waits ([`Stages::room`], [`Stages::dial`], a hold's decision) is not bound to the stages,
/// so that the lock is held across no wait. Not a reference either: the bodies that the HTTP library asks for chunks
/// have to own what they record with.
pub struct Shared<S>(Arc<Mutex<S>>);

impl<S: Stages> Shared<S> {
    /// Shares `stages`.
    pub fn new(stages: S) -> Self {
        Self(Arc::new(Mutex::new(stages)))
    }

    /// Asks the stages something.
    pub fn with<R>(&self, ask: impl FnOnce(&mut S) -> R) -> R {
        ask(&mut self.0.lock())
    }

    /// As [`Stages::ready`].
    pub async fn ready(&self) -> Result<(), SessionEnd> {
        loop {
            let room = self.with(Stages::room);
            match room {
                None => return Ok(()),
                Some(room) => room.await?,
            }
        }
    }

    /// The stages, when nobody else has them any more; `None`: somebody has.
    pub fn take_back(self) -> Option<S> {
        Arc::into_inner(self.0).map(Mutex::into_inner)
    }
}

impl<S> Clone for Shared<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S> std::fmt::Debug for Shared<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shared")
    }
}
