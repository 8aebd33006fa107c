//! What listings show of a session that runs.

use std::sync::atomic::AtomicU64;

use chrono::{DateTime, Utc};

use crate::model::{ServiceName, WorkloadName};

/// A session that runs, for listings.
#[derive(Debug)]
pub struct Live {
    /// Whose it is.
    pub workload: WorkloadName,
    /// Where it goes.
    pub service: ServiceName,
    /// Who, in one line.
    pub identity: String,
    /// When it began.
    pub started: DateTime<Utc>,
    /// Commands so far.
    pub commands: AtomicU64,
    /// Bytes to the client so far.
    pub bytes_to_client: AtomicU64,
}
