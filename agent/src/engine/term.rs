//! For how long the sessions of a service may go on.

use std::sync::Arc;

use tokio::sync::watch;

/// Given to every session of a service; ends when the policy does not have the service any more as it was.
#[derive(Clone, Debug)]
pub struct Term(Arc<watch::Sender<bool>>);

impl Term {
    /// One that goes on.
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }

    /// Ends it: sessions that have it are told, and so is one that gets it later.
    pub fn end(&self) {
        self.0.send_replace(true);
    }

    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        *self.0.borrow()
    }

    /// Whether both are the same one.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Resolves when it has ended. Not bound to `self`.
    pub fn ended(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut ended = self.0.subscribe();
        // The sender lives as long as this does, so that nothing but its end resolves it.
        let term = self.clone();
        async move {
            let _ended = ended.wait_for(|ended| *ended).await;
            drop(term);
        }
    }
}

impl Default for Term {
    fn default() -> Self {
        Self::new()
    }
}
