//! What listings show of a session that runs, and what a reload asks of it.

use std::sync::atomic::AtomicU64;

use chrono::{DateTime, Utc};

use crate::identity::Life;
use crate::model::{CgroupPath, PolicyId, ServiceName, WorkloadName};

use super::term::Term;

/// A session that runs.
#[derive(Debug)]
pub struct Live {
    /// Whose it is.
    pub workload: WorkloadName,
    /// Where it goes.
    pub service: ServiceName,
    /// Who, as long as that counts.
    pub life: Life,
    /// When it began.
    pub started: DateTime<Utc>,
    /// Commands so far.
    pub commands: AtomicU64,
    /// Bytes to the client so far.
    pub bytes_to_client: AtomicU64,
    /// The policy that it runs under.
    pub policy: PolicyId,
    /// The cgroup that it came from.
    pub cgroup: CgroupPath,
    /// For how long its service has sessions.
    pub service_term: Term,
    /// For how long this session alone may go on.
    pub term: Term,
}
