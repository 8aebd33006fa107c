//! What operators see of leases.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::super::journal::{LeaseId, Stage};
use super::super::maker::Owner;
use super::{Leases, Phase};
use crate::model::SessionId;

/// Warnings that are told one by one; how many more there are is told as a number.
const MOST_WARNINGS: usize = 5;

/// A lease, for a listing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseView {
    /// Its id; `tollgate leases revoke` takes it.
    pub id: LeaseId,
    /// Kind of source.
    pub source: String,
    /// What it is called where it was made.
    pub name: Option<String>,
    /// Whose it is.
    pub owner: Owner,
    /// `"making"`, `"live"` or `"revoking"`.
    pub state: String,
    /// Since when it is there or planned.
    pub since: DateTime<Utc>,
    /// When its time is over.
    pub expires: Option<DateTime<Utc>>,
    /// Sessions that have it now.
    pub sessions: Vec<SessionId>,
    /// Attempts to revoke it that failed.
    pub failed_attempts: u32,
    /// Why the last one did.
    pub error: Option<String>,
    /// When it is tried again.
    pub next_attempt: Option<DateTime<Utc>>,
}

impl Leases {
    /// Every lease, oldest first.
    pub fn list(&self) -> Vec<LeaseView> {
        let table = self.0.table.lock();
        let mut list: Vec<LeaseView> = table
            .held
            .iter()
            .map(|(id, held)| {
                let failure = match &held.phase {
                    Phase::Revoking(failure) => failure.clone(),
                    Phase::Making | Phase::Live(_) => None,
                };
                let state = match held.phase {
                    Phase::Making => "making",
                    Phase::Live(_) => "live",
                    Phase::Revoking(_) if held.stage == Stage::Planned => "revoking (was not seen made)",
                    Phase::Revoking(_) => "revoking",
                };
                LeaseView {
                    id: id.clone(),
                    source: held.source.to_owned(),
                    name: held.handle.as_ref().map(|handle| handle.name().to_owned()),
                    owner: held.owner.clone(),
                    state: state.to_owned(),
                    since: held.since,
                    expires: held.expires,
                    sessions: held.users.iter().copied().collect(),
                    failed_attempts: failure.as_ref().map_or(0, |failure| failure.attempts),
                    next_attempt: failure.as_ref().map(|failure| failure.next),
                    error: failure.map(|failure| failure.why),
                }
            })
            .collect();
        drop(table);
        list.sort_by_key(|lease| lease.since);
        list
    }

    /// What an operator should know: a sentence each.
    pub fn warnings(&self) -> Vec<String> {
        let unreadable = self.0.unreadable.iter().map(|file| {
            format!(
                "an entry of the journal of leases cannot be read ({file}): what it names may be there still; see `tollgate leases sweep`, then remove the file"
            )
        });
        let failed: Vec<String> = self
            .list()
            .into_iter()
            .filter_map(|lease| {
                let why = lease.error?;
                Some(format!(
                    "credential {} of {}/{} could not be revoked ({} attempts): {why}; see `tollgate leases list`",
                    lease.name.as_deref().unwrap_or(lease.id.as_str()),
                    lease.owner.workload,
                    lease.owner.service,
                    lease.failed_attempts
                ))
            })
            .collect();
        let more = failed.len().saturating_sub(MOST_WARNINGS);
        let more = (more > 0)
            .then(|| format!("{more} more credentials could not be revoked; see `tollgate leases list`"));
        unreadable
            .chain(failed.into_iter().take(MOST_WARNINGS))
            .chain(more)
            .collect()
    }

    /// Names of what is held or still to be revoked: not left behind by anybody.
    pub fn names(&self) -> Vec<String> {
        let table = self.0.table.lock();
        let handles = table.held.values().filter_map(|held| held.handle.as_ref());
        handles.map(|handle| handle.name().to_owned()).collect()
    }
}
