//! The life of a session's identity: until when it counts, renewed where the job has a newer token, and revoked.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::sleep;

use super::Identity;

/// Who a session is, and whether it still counts. One for each session, shared with whatever renews and revokes it.
#[derive(Clone, Debug)]
pub struct Life(Arc<watch::Sender<Standing>>);

/// An identity as it is at one moment.
#[derive(Clone, Debug)]
pub struct Standing {
    /// Counts the identities of a session: 0 is the one that it was opened with.
    pub number: u32,
    /// Who it is.
    pub identity: Arc<Identity>,
    /// Why it does not count any more, whatever its token says.
    revoked: Option<Arc<str>>,
}

/// Why a session may not go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lapse {
    /// The token's time is over, and there is no newer one.
    Expired,
    /// Somebody revoked it.
    Revoked {
        /// By what, for people.
        by: Arc<str>,
    },
}

impl Life {
    /// A life that begins.
    pub fn new(identity: Identity) -> Self {
        Self(Arc::new(watch::Sender::new(Standing {
            number: 0,
            identity: Arc::new(identity),
            revoked: None,
        })))
    }

    /// How it is now.
    pub fn standing(&self) -> Standing {
        self.0.borrow().clone()
    }

    /// Number of the identity that counts now.
    pub fn number(&self) -> u32 {
        self.0.borrow().number
    }

    /// Why it does not count at `now`; `None`: it counts.
    pub fn lapse(&self, now: SystemTime) -> Option<Lapse> {
        self.0.borrow().lapse(now)
    }

    /// Gives it a newer token's identity. What is revoked stays so.
    pub(super) fn renew(&self, identity: Identity) {
        self.0.send_modify(|standing| {
            standing.number = standing.number.saturating_add(1);
            standing.identity = Arc::new(identity);
        });
    }

    /// Ends it for good. The first reason counts.
    pub(super) fn revoke(&self, by: &str) {
        self.0.send_if_modified(|standing| {
            let first = standing.revoked.is_none();
            if first {
                standing.revoked = Some(by.into());
            }
            first
        });
    }

    /// Resolves when it is revoked. Not bound to `self`.
    pub fn revoked(&self) -> impl Future<Output = Lapse> + Send + use<> {
        let mut standing = self.0.subscribe();
        // The sender lives as long as this does, so that nothing but a revocation resolves it.
        let life = self.clone();
        async move {
            let _sender = life;
            loop {
                if let Some(lapse) = standing.borrow_and_update().revocation() {
                    break lapse;
                }
                if standing.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        }
    }

    /// Resolves when it does not count any more, for either reason. Not bound to `self`.
    pub fn lapsed(&self) -> impl Future<Output = Lapse> + Send + use<> {
        let mut standing = self.0.subscribe();
        let life = self.clone();
        async move {
            let _sender = life;
            loop {
                let (lapse, left) = {
                    let now = SystemTime::now();
                    let standing = standing.borrow_and_update();
                    (standing.lapse(now), standing.time_left(now))
                };
                if let Some(lapse) = lapse {
                    break lapse;
                }
                let over = async {
                    match left {
                        // A wall clock may be set while this sleeps: it is looked at again.
                        Some(left) => sleep(left.min(LONGEST_SLEEP)).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    () = over => {}
                    changed = standing.changed() => if changed.is_err() {
                        std::future::pending::<()>().await;
                    }
                }
            }
        }
    }
}

impl Standing {
    fn revocation(&self) -> Option<Lapse> {
        self.revoked.clone().map(|by| Lapse::Revoked { by })
    }

    fn lapse(&self, now: SystemTime) -> Option<Lapse> {
        let expired = || {
            let until = self.identity.expires_at()?;
            (until <= now).then_some(Lapse::Expired)
        };
        self.revocation().or_else(expired)
    }

    /// Until the token's end; `None`: it has none.
    pub(super) fn time_left(&self, now: SystemTime) -> Option<Duration> {
        let until = self.identity.expires_at()?;
        Some(until.duration_since(now).unwrap_or_default())
    }
}

const LONGEST_SLEEP: Duration = Duration::from_mins(1);
