//! Shipping: sealed segments and the ledger go to an object store, where nobody on the host can change them.
//!
//! The records directory is the spool: a segment is to be shipped as long as no mark in `shipped/` names it, so a
//! restart goes on where the last one stopped. What cannot be shipped is tried again with growing pauses; nothing
//! is removed before it is in the store. The ledger is shipped in parts, each a run of whole entries, named by their
//! place: joined in the order of their names they are the ledger.
//!
//! Limits: the host can write to the store, so the store has to refuse changes (versioning, object lock); a ledger
//! head that is in the store is only as good as that.

mod shipper;
mod spool;
mod target;
#[cfg(test)]
mod tests;

pub use shipper::{Backlog, ShipOptions, Shipper};
pub use target::{S3Options, ShipTarget};

use std::path::PathBuf;
use std::sync::Arc;

use crate::record::RecordError;

/// Why something cannot be shipped.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ShipError {
    /// The target's URL is not one.
    #[error("{url}: {reason}; write file:///directory or s3://bucket/prefix")]
    Target {
        /// What was given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The object store refused, or cannot be reached.
    #[error("cannot {action} in the object store: {source}")]
    Store {
        /// What was tried.
        action: String,
        /// Why it failed.
        source: Arc<object_store::Error>,
    },
    /// The object store has something else than was sent.
    #[error("the object store has {found} bytes of {object}, {sent} were sent")]
    Short {
        /// The object.
        object: String,
        /// Its size.
        found: u64,
        /// What was sent.
        sent: u64,
    },
    /// A file of the spool cannot be read or written.
    #[error("cannot {action} {path}: {source}")]
    Spool {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        source: Arc<std::io::Error>,
    },
    /// The records directory cannot be read.
    #[error("{0}")]
    Record(#[from] RecordError),
}
