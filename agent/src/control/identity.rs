//! What `tollgate identity` shows and asks for.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::model::{ServiceName, SessionId, WorkloadName};

/// A validated identity under which sessions run now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActiveIdentity {
    /// Who issued its token.
    pub issuer: String,
    /// `sub`.
    pub subject: String,
    /// `kid` of the key that signed it; `None`: the token names none.
    pub key: Option<String>,
    /// What it says besides, as far as it was asked for or is well known.
    pub claims: std::collections::BTreeMap<String, String>,
    /// When its right to run commands ends, unless the job has a newer token by then.
    pub until: Option<DateTime<Utc>>,
    /// Why it does not count any more.
    pub lapsed: Option<String>,
    /// The workload that it speaks for.
    pub workload: WorkloadName,
    /// Its sessions, oldest first.
    pub sessions: Vec<IdentitySession>,
}

/// A session of an identity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentitySession {
    /// Its id; `tollgate replay` takes it.
    pub id: SessionId,
    /// Where it goes.
    pub service: ServiceName,
    /// When it began.
    pub started_at: DateTime<Utc>,
}
