//! What a session has done so far, against its limits.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::config::Limits;
use crate::policy::Denied;
use crate::record::meta::CloseMeta;

use super::live::Live;

/// Counts of one session.
#[derive(Debug)]
pub(super) struct Account {
    limits: Limits,
    live: Arc<Live>,
    started: Instant,
    /// What goes into the Close frame.
    pub(super) totals: CloseMeta,
}

impl Account {
    pub(super) fn new(limits: Limits, live: Arc<Live>) -> Self {
        Self {
            live,
            limits,
            started: Instant::now(),
            totals: CloseMeta::default(),
        }
    }

    /// Counts what is about to go to the client. `Err`, and nothing is counted, when it would pass a limit: then it
    /// does not go.
    pub(super) fn count(&mut self, rows: u64, bytes: u64) -> Result<(), Denied> {
        let rows = self.totals.rows.saturating_add(rows);
        let bytes = self.totals.bytes_to_client.saturating_add(bytes);
        within("rows", rows, self.limits.rows)?;
        within("bytes", bytes, self.limits.bytes)?;
        self.totals.rows = rows;
        self.totals.bytes_to_client = bytes;
        self.live.bytes_to_client.store(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Counts a command.
    pub(super) fn command(&mut self) {
        self.totals.commands += 1;
        self.live.commands.store(self.totals.commands, Ordering::Relaxed);
    }

    /// How long the session may still last; `None`: as long as it likes.
    pub(super) fn time_left(&self) -> Option<Duration> {
        self.limits
            .duration
            .map(|limit| limit.saturating_sub(self.started.elapsed()))
    }
}

fn within(what: &str, now: u64, limit: Option<u64>) -> Result<(), Denied> {
    let Some(limit) = limit.filter(|limit| now > *limit) else {
        return Ok(());
    };
    Err(Denied {
        rules: Vec::new(),
        message: format!("tollgate: this session has reached its limit of {limit} {what}"),
        hint: format!("read less in one session, or have `{what}` raised in the policy's [service.limits]"),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicU64;

    use super::super::term::Term;
    use super::{Account, Live};
    use crate::config::Limits;
    use crate::identity::{CgroupIdentity, Identity, Life, ProcessState};
    use crate::model::{CgroupId, CgroupPath, PolicyId};

    fn account(limits: Limits) -> Account {
        let live = Live {
            workload: "w".into(),
            service: "s".into(),
            life: Life::new(Identity {
                cgroup: CgroupIdentity::new(CgroupId(1), CgroupPath("/w".into())),
                uid: 0,
                process: ProcessState::Gone { pid: 1 },
                token: None,
            }),
            started: chrono::Utc::now(),
            commands: AtomicU64::new(0),
            bytes_to_client: AtomicU64::new(0),
            policy: PolicyId::of(&"w".into()),
            cgroup: CgroupPath("/w".into()),
            service_term: Term::new(),
            term: Term::new(),
        };
        Account::new(limits, Arc::new(live))
    }

    #[test]
    fn the_row_that_passes_the_limit_is_refused_and_not_counted_and_not_the_one_that_reaches_it() {
        let mut account = account(Limits {
            rows: Some(10),
            ..Limits::default()
        });
        assert!(account.count(10, 1).is_ok());
        let denied = account.count(1, 1).unwrap_err();
        assert!(denied.message.contains("10 rows"), "{}", denied.message);
        assert_eq!((account.totals.rows, account.totals.bytes_to_client), (10, 1));
    }

    #[test]
    fn without_limits_everything_passes() {
        let mut account = account(Limits::default());
        assert!(account.count(u64::MAX, u64::MAX).is_ok());
        assert!(account.count(1, 1).is_ok());
    }
}
