//! Records: every byte of a session, before it is forwarded, so that nobody can change it unseen.
//!
//! A [`Recorder`] keeps a host's records; a [`SessionRecord`] is the pen of one session. [`Reader`] reads a record,
//! live or sealed; [`verify`] checks records against the host's ledger; [`list`] tells what there is. What the JSON
//! frames say is [`meta`]. The format, byte by byte, and what a stolen key can and cannot do: docs/record-format.md.
//!
//! Limits: whoever can write the directory as root while the agent runs can sign with the key of the present epoch;
//! what he changes is found against a shipped copy of the ledger alone. Listing reads the ends of every record; it
//! keeps no index of its own.

mod block;
mod error;
mod frame;
mod journal;
mod keys;
mod layout;
mod ledger;
mod list;
pub mod meta;
mod notary;
mod reader;
mod recorder;
mod recover;
mod scan;
mod sealer;
mod session;
#[cfg(test)]
mod tests;
mod verify;
mod wire;
mod writer;

pub use error::RecordError;
pub use frame::{Frame, MAX_PAYLOAD};
pub use layout::{Layout, SegmentFile};
pub use ledger::whole_entries;
pub use list::{SessionState, SessionSummary, list};
pub use reader::Reader;
pub use recorder::{Durability, Recorder, RecorderOptions};
pub use recover::Recovered;
pub use session::SessionRecord;
pub use verify::{Problem, ProblemKind, Report, SessionReport, VerifyOptions, verify};

/// Unix time in nanoseconds, by the wall clock.
fn now() -> i64 {
    chrono::Utc::now().timestamp_nanos_opt().unwrap_or(i64::MAX)
}

/// A Unix time in nanoseconds as a date.
fn date(nanoseconds: i64) -> chrono::DateTime<chrono::Utc> {
    chrono::DateTime::from_timestamp_nanos(nanoseconds)
}
