//! One held command: what is asked, how an approver sees it, and how it ends.

use std::sync::Arc;
use std::time::SystemTime;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::identity::Identity;
use crate::model::{Command, HoldId, Parameter, ServiceName, SessionId, WorkloadName};
use crate::policy::{Denied, HoldTerms};
use crate::protocol::HoldOutcome;

/// Who asks: the held process, in the words that an approver needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requester {
    /// One line: unit, program, token subject. From `Identity::summary`.
    pub summary: String,
    /// Account that the process runs as.
    pub uid: u32,
    /// Account that logged in to start it (`/proc/PID/loginuid`); `None` for services.
    pub login_uid: Option<u32>,
}

impl From<&Identity> for Requester {
    fn from(identity: &Identity) -> Self {
        Self {
            summary: identity.summary(),
            uid: identity.uid,
            login_uid: identity.login_uid(),
        }
    }
}

/// What is put before an approver.
#[derive(Clone, Debug)]
pub struct HoldInfo {
    /// Session that waits.
    pub session: SessionId,
    /// Who asks.
    pub requester: Requester,
    /// Workload whose policy holds the command.
    pub workload: WorkloadName,
    /// Where the command would run.
    pub service: ServiceName,
    /// The command.
    pub command: Arc<Command>,
    /// Its bind parameters, masked for people.
    pub parameters: Vec<Parameter>,
    /// BLAKE3 of the exact bytes that will run.
    pub binding: [u8; 32],
    /// Who may decide, and how long it waits.
    pub terms: HoldTerms,
    /// Since when the session's transaction has been open and has written. Carried for the approver; whether such
    /// a hold is placed at all is decided by who places it.
    pub writing_since: Option<SystemTime>,
}

/// A hold as it is shown and sent over the control socket. Everything in it may be seen by people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldView {
    /// What approvers type.
    pub id: HoldId,
    /// Session that waits.
    pub session: SessionId,
    /// Who asks.
    pub requester: Requester,
    /// Workload.
    pub workload: WorkloadName,
    /// Service.
    pub service: ServiceName,
    /// The command.
    pub command: Arc<Command>,
    /// Its bind parameters, masked.
    pub parameters: Vec<Parameter>,
    /// Lower-case hex of the BLAKE3 of the exact bytes that will run.
    pub binding: String,
    /// Rules that ask for approval.
    pub rules: Vec<String>,
    /// Users and groups that may decide.
    pub approvers: Vec<String>,
    /// When it was placed.
    pub placed_at: DateTime<Utc>,
    /// When it is refused if nobody decides.
    pub expires_at: DateTime<Utc>,
    /// Since when the session's transaction has been open and has written.
    pub writing_since: Option<DateTime<Utc>>,
}

/// What an approver says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The command may run.
    Approve {
        /// The binding that the approver saw. Where given, the decision counts for these exact bytes alone.
        binding: Option<[u8; 32]>,
    },
    /// The command is refused.
    Deny {
        /// For the workload's author, in the approver's words.
        reason: String,
    },
}

/// How a hold ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HoldEnd {
    /// An approver let the command run.
    Approved {
        /// Who.
        by: String,
        /// The exact bytes that he approved. Whoever runs the command compares, and runs nothing else.
        binding: [u8; 32],
    },
    /// An approver refused it.
    Denied {
        /// Who.
        by: String,
        /// In his words.
        reason: String,
    },
    /// Nobody decided in time.
    TimedOut,
    /// The agent took the hold back: it stops, or the session is to end.
    Cancelled {
        /// Why, for people.
        why: String,
    },
}

impl HoldEnd {
    /// The end as the protocol session needs it. Only an approval becomes an authorization.
    pub fn outcome(&self, id: &HoldId, terms: &HoldTerms) -> HoldOutcome {
        let (message, hint) = match self {
            Self::Approved { binding, .. } => return HoldOutcome::Approved(terms.approved(), *binding),
            Self::Denied { by, reason } => (
                format!("{by} refused the held command {id}: {reason}"),
                format!(
                    "Ask {by}, or one of the approvers: {}.",
                    terms.approvers.join(", ")
                ),
            ),
            Self::TimedOut => (
                format!(
                    "nobody decided on the held command {id} within {}",
                    minutes(terms)
                ),
                format!(
                    "Ask one of the approvers ({}) and run it again.",
                    terms.approvers.join(", ")
                ),
            ),
            Self::Cancelled { why } => (
                format!("the held command {id} was taken back: {why}"),
                "It did not run; run it again.".to_owned(),
            ),
        };
        HoldOutcome::Refused(Denied {
            rules: terms.rules.clone(),
            message,
            hint,
        })
    }
}

fn minutes(terms: &HoldTerms) -> String {
    let seconds = terms.timeout.as_secs();
    if seconds != 0 && seconds.is_multiple_of(60) {
        format!("{} min", seconds / 60)
    } else {
        format!("{} s", terms.timeout.as_secs_f64())
    }
}
