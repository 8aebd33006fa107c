//! The time of a lease: renewed while somebody has it, and over when it cannot be.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use chrono::{DateTime, Utc};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::super::CredentialError;
use super::super::journal::LeaseId;
use super::super::maker::{Maker, Renewal};
use super::{Leases, Phase};

/// How long one renewal may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// Shortest time between two attempts, so that a source which gives moments is not asked without end.
pub(super) const BETWEEN: Duration = Duration::from_secs(1);

/// What is left until `expires`.
pub(super) fn left(expires: SystemTime) -> Duration {
    expires.duration_since(SystemTime::now()).unwrap_or_default()
}

impl Leases {
    /// Sees to the time of a lease until it is over, for whatever reason.
    pub(super) fn keep(
        &self,
        id: LeaseId,
        expires: SystemTime,
        maker: Arc<dyn Maker>,
        mut over: watch::Receiver<Option<String>>,
    ) {
        let leases = self.clone();
        self.spawn(async move {
            let ended = async { drop(over.wait_for(Option::is_some).await) };
            tokio::select! {
                () = ended => {}
                why = leases.last(&id, expires, &*maker) => leases.revoke(&id, &why),
            }
        });
    }

    /// Resolves when its time is over, with why.
    async fn last(&self, id: &LeaseId, mut expires: SystemTime, maker: &dyn Maker) -> String {
        let mut failed: Option<CredentialError> = None;
        while let Some(until) = self.renewed_until(id, maker) {
            let time = left(expires);
            // After a failure what is left is divided again: so attempts come closer as the end does.
            let pause = if failed.is_some() { time / 4 } else { time / 3 * 2 };
            if time <= self.0.pace.between || until <= expires {
                break;
            }
            sleep(pause.max(self.0.pace.between)).await;
            match self.renew(id, maker, expires, until).await {
                Ok(Renewal::Until(longer)) => {
                    failed = None;
                    if longer <= expires {
                        break;
                    }
                    expires = longer;
                }
                Ok(Renewal::Final) => {
                    failed = None;
                    break;
                }
                Ok(Renewal::Gone) => return "its source says that it is not there any more".to_owned(),
                Err(error) => {
                    tracing::warn!(lease = %id, left_s = left(expires).as_secs(), "a credential could not be renewed: {error}");
                    failed = Some(error);
                }
            }
        }
        sleep(left(expires)).await;
        match failed {
            Some(error) => format!("its time is over, and it could not be renewed: {error}"),
            None => "its time is over".to_owned(),
        }
    }

    /// Until when it is renewed; `None`: it is not.
    fn renewed_until(&self, id: &LeaseId, maker: &dyn Maker) -> Option<SystemTime> {
        let table = self.0.table.lock();
        let held = table.held.get(id)?;
        let most = maker.renewed_for(held.handle.as_ref()?)?;
        Some(SystemTime::from(held.since) + most)
    }

    /// One attempt. What it came to is in the table and the journal.
    async fn renew(
        &self,
        id: &LeaseId,
        maker: &dyn Maker,
        expires: SystemTime,
        until: SystemTime,
    ) -> Result<Renewal, CredentialError> {
        let handle = self
            .0
            .table
            .lock()
            .held
            .get(id)
            .and_then(|held| held.handle.clone());
        let Some(handle) = handle else {
            return Ok(Renewal::Final);
        };
        let renewed = timeout(PATIENCE.min(left(expires)), maker.renew(&handle)).await;
        let renewed = renewed.unwrap_or(Err(CredentialError::TooSlow(PATIENCE.as_secs())))?;
        let Renewal::Until(longer) = renewed else {
            return Ok(renewed);
        };
        // Its source may give more than the policy does.
        let longer = longer.min(until);
        if let Some(held) = self.0.table.lock().held.get_mut(id) {
            held.expires = Some(DateTime::<Utc>::from(longer));
            held.renewed.send_replace(Some(longer));
            if let Phase::Live(live) = &mut held.phase {
                live.share_until = Some(Instant::now() + left(longer) / 2);
            }
        }
        tracing::debug!(lease = %id, left_s = left(longer).as_secs(), "a credential was renewed");
        // The older entry revokes it as well: only the end that it says is too early.
        if let Err(error) = self.write(id).await {
            tracing::warn!(lease = %id, "the journal does not know that a credential was renewed: {error}");
        }
        Ok(Renewal::Until(longer))
    }
}
