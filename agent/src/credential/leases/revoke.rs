//! The end of leases: asked for once, tried until it is done.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

use chrono::{TimeDelta, Utc};
use tokio::sync::watch;
use tokio::time::Instant;

use super::super::handle::{Found, RevokeError};
use super::super::journal::{Entry, LeaseId, Stage};
use super::super::lease::LeaseEnd;
use super::super::maker::Owner;
use super::{Failure, Held, Leases, Phase};

/// How long one attempt may take.
const PATIENCE: Duration = Duration::from_secs(30);
const LONGEST_PAUSE: Duration = Duration::from_mins(5);
/// How long a server may yet come to carry out what an agent asked for and did not see done. Longer than a source may take
/// to make something, and than the `statement_timeout` of its session.
const SETTLE: TimeDelta = TimeDelta::seconds(60);

impl Leases {
    /// Voids every lease whose owner `matches`, because of `why`; gives how many. Sessions that have one end at once. This
    /// is what revokes an identity, and what a cgroup's end comes to.
    pub fn revoke_where(&self, why: &str, matches: impl Fn(&Owner) -> bool) -> usize {
        let ids: Vec<LeaseId> = {
            let table = self.0.table.lock();
            let wanted = table
                .held
                .iter()
                .filter(|(_, held)| !matches!(held.phase, Phase::Revoking(_)) && matches(&held.owner));
            wanted.map(|(id, _)| id.clone()).collect()
        };
        for id in &ids {
            self.revoke(id, why);
        }
        ids.len()
    }

    /// Voids one lease; where that is under way already, tries at once. False: there is none of that id.
    pub fn revoke_one(&self, id: &LeaseId, why: &str) -> bool {
        let kick = {
            let mut table = self.0.table.lock();
            let Some(held) = table.held.get_mut(id) else {
                return false;
            };
            // Whoever asks wants to know of the attempt that comes now.
            if let Phase::Revoking(failure) = &mut held.phase {
                *failure = None;
            }
            Arc::clone(&held.kick)
        };
        kick.notify_one();
        self.revoke(id, why);
        true
    }

    /// Stops: nothing is made any more, everything is revoked, and what is not void within `patience` is left to the
    /// journal. Gives how many are left.
    pub async fn close(&self, patience: Duration) -> usize {
        self.0.table.lock().closed = true;
        self.revoke_where("the agent stops", |_| true);
        let until = Instant::now() + patience;
        self.wait_until(until, |leases| leases.0.table.lock().held.is_empty())
            .await;
        self.0.tasks.lock().abort_all();
        let makers: Vec<_> = self.0.makers.lock().iter().filter_map(Weak::upgrade).collect();
        for maker in makers {
            if tokio::time::timeout_at(until, maker.close()).await.is_err() {
                break;
            }
        }
        self.0.table.lock().held.len()
    }

    /// How the use of a lease that was given back ended, as far as it has within `patience`.
    pub async fn ended(&self, id: &LeaseId, patience: Duration) -> LeaseEnd {
        {
            let table = self.0.table.lock();
            if let Some(held) = table.held.get(id)
                && !matches!(held.phase, Phase::Revoking(_))
            {
                return LeaseEnd::Shared;
            }
        }
        let until = Instant::now() + patience;
        // The first failure is answer enough: what comes after it takes longer than a session waits.
        self.wait_until(until, |leases| {
            let table = leases.0.table.lock();
            match table.held.get(id).map(|held| &held.phase) {
                Some(Phase::Revoking(failure)) => failure.is_some(),
                Some(Phase::Making | Phase::Live(_)) | None => true,
            }
        })
        .await;
        let table = self.0.table.lock();
        match table.held.get(id).map(|held| &held.phase) {
            None => LeaseEnd::Revoked,
            Some(Phase::Revoking(Some(failure))) => LeaseEnd::Pending(failure.why.clone()),
            Some(_) => LeaseEnd::Pending("it takes its time".to_owned()),
        }
    }

    async fn wait_until(&self, until: Instant, done: impl Fn(&Self) -> bool) {
        loop {
            let changed = self.0.changed.notified();
            tokio::pin!(changed);
            // From here on no change is missed.
            changed.as_mut().enable();
            if done(self) || tokio::time::timeout_at(until, changed).await.is_err() {
                return;
            }
        }
    }

    /// What an agent before this one left: its owner is gone.
    pub(super) fn adopt(&self, entry: Entry) {
        tracing::info!(
            lease = %entry.id, source = entry.handle.source(), name = entry.handle.name(),
            workload = %entry.owner.workload, service = %entry.owner.service,
            "an agent before this one left a credential; it is revoked"
        );
        let held = Held {
            source: entry.handle.source(),
            owner: entry.owner,
            handle: Some(entry.handle),
            stage: entry.stage,
            since: entry.since,
            expires: entry.expires,
            netns: None,
            phase: Phase::Revoking(None),
            users: BTreeSet::new(),
            over: watch::Sender::new(Some("its agent is gone".to_owned())),
            renewed: watch::Sender::default(),
            kick: Arc::default(),
        };
        self.0.table.lock().held.insert(entry.id.clone(), held);
        self.see_off(entry.id);
    }

    /// Voids one lease, unless that is under way.
    pub(in super::super) fn revoke(&self, id: &LeaseId, why: &str) {
        {
            let mut table = self.0.table.lock();
            let Some(held) = table.held.get_mut(id) else {
                return;
            };
            if matches!(held.phase, Phase::Revoking(_)) {
                return;
            }
            tracing::debug!(lease = %id, why, "a credential is revoked");
            held.over.send_replace(Some(why.to_owned()));
            held.phase = Phase::Revoking(None);
        }
        self.see_off(id.clone());
    }

    fn see_off(&self, id: LeaseId) {
        let leases = self.clone();
        self.spawn(async move {
            let mut pause = leases.0.pace.first_pause;
            let mut attempts = 0;
            while let Some(outcome) = leases.attempt(&id).await {
                let kick = match outcome {
                    Attempt::Done => break,
                    Attempt::Unsettled(kick) => kick,
                    Attempt::Failed(error, kick) => {
                        attempts += 1;
                        leases.failed(&id, attempts, &error, pause);
                        kick
                    }
                };
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = kick.notified() => {}
                }
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            leases.forget(&id);
        });
    }

    /// One attempt; `None`: the lease is gone.
    async fn attempt(&self, id: &LeaseId) -> Option<Attempt> {
        let (handle, netns, stage, since, kick) = {
            let table = self.0.table.lock();
            let held = table.held.get(id)?;
            (
                held.handle.clone(),
                held.netns.clone(),
                held.stage,
                held.since,
                Arc::clone(&held.kick),
            )
        };
        let Some(handle) = handle else {
            return Some(Attempt::Done);
        };
        let found = {
            // Closed never.
            let _turn = self.0.turns.acquire().await.ok()?;
            match tokio::time::timeout(PATIENCE, handle.revoke(netns.as_deref())).await {
                Ok(found) => found,
                Err(_) => Err(RevokeError::TooSlow(PATIENCE.as_secs())),
            }
        };
        match found {
            // It may be made yet: the server may not have come to it.
            Ok(Found::Nothing) if stage == Stage::Planned && Utc::now() - since < SETTLE => {
                Some(Attempt::Unsettled(kick))
            }
            Ok(_) => Some(match self.remove(id).await {
                Ok(()) => {
                    tracing::info!(lease = %id, source = handle.source(), name = handle.name(), "a credential is void");
                    Attempt::Done
                }
                Err(error) => Attempt::Failed(RevokeError::Journal(error), kick),
            }),
            Err(error) => Some(Attempt::Failed(error, kick)),
        }
    }

    fn failed(&self, id: &LeaseId, attempts: u32, error: &RevokeError, pause: Duration) {
        let why = error.to_string();
        tracing::warn!(lease = %id, attempts, retry_in_s = pause.as_secs(), "a credential could not be revoked: {why}");
        if let Some(held) = self.0.table.lock().held.get_mut(id) {
            held.phase = Phase::Revoking(Some(Failure {
                attempts,
                why,
                next: Utc::now() + pause,
            }));
        }
        self.0.changed.notify_waiters();
    }
}

/// How one attempt went.
enum Attempt {
    Done,
    /// It is not there, and may come to be.
    Unsettled(Arc<tokio::sync::Notify>),
    Failed(RevokeError, Arc<tokio::sync::Notify>),
}
