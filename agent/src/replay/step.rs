//! Steps: what happened in a session, one thing at a time.

use std::fmt::Write as _;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::clean::is_hidden;
use super::http::Exchange;
use crate::model::{Direction, FrameKind};
use crate::record::meta::{
    ApprovalMeta, CloseMeta, CommandMeta, ErrorMeta, FindingMeta, GapMeta, IdentityMeta, LeaseMeta, MaskMeta,
    OpenMeta, VerdictMeta,
};

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Step {
    /// Milliseconds since the session began.
    #[serde(rename = "at_ms", serialize_with = "milliseconds")]
    pub at: Duration,
    /// When, by the host's wall clock.
    pub time: DateTime<Utc>,
    /// What.
    #[serde(flatten)]
    pub event: Event,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum Event {
    /// The session began.
    Open(Box<OpenMeta>),
    /// The client asked for something.
    Command(CommandMeta),
    /// The rules said something of it.
    Verdict(VerdictMeta),
    /// A hold began or ended.
    Approval(ApprovalMeta),
    /// The server answered.
    Result(QueryResult),
    /// A request was answered, or broken off.
    Exchange(Box<Exchange>),
    /// The server, or Tollgate in its place, reported a failure.
    Failure(ServerMessage),
    /// The server, or Tollgate in its place, made a remark.
    Notice(ServerMessage),
    /// A notification arrived.
    Notification {
        /// Its channel.
        channel: String,
        /// Its text.
        payload: String,
    },
    /// Values were masked.
    Mask(MaskMeta),
    /// A credential was taken, renewed or revoked.
    Lease(LeaseMeta),
    /// The identity changed, or does not count any more.
    Identity(IdentityMeta),
    /// The workload has a secret of its own.
    Finding(FindingMeta),
    /// The session went wrong.
    Error(ErrorMeta),
    /// Bytes are missing from the record.
    Gap(GapMeta),
    /// Bytes of a protocol that replay does not know.
    Bytes {
        /// Which way they went.
        direction: Direction,
        /// How many.
        length: usize,
        /// The first of them, as text.
        beginning: String,
    },
    /// A part of the record could not be understood.
    Unreadable {
        /// Kind of the frame.
        kind: FrameKind,
        /// Why.
        reason: String,
    },
    /// The session ended.
    Close(CloseMeta),
}

/// Rows or COPY data of a statement, as the client saw them, and how they ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct QueryResult {
    /// Number of the command that it answers, where that can be told.
    pub number: Option<u64>,
    /// Columns; empty where there are no rows.
    pub columns: Vec<Column>,
    /// The first rows; `None` is NULL.
    pub rows: Vec<Vec<Option<String>>>,
    /// How many rows there were.
    pub row_count: u64,
    /// COPY data, where there were any.
    pub copy: Option<CopyData>,
    /// How it ended.
    pub end: End,
}

/// A column of a result.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Column {
    /// Its name in the result.
    pub name: String,
    /// OID of its type; 0: not known.
    pub type_oid: u32,
    /// Its values came in the type's binary form.
    pub binary: bool,
}

/// Data of a COPY.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CopyData {
    /// Which way.
    pub direction: Direction,
    /// The first lines; none where the format is binary.
    pub lines: Vec<String>,
    /// How many bytes.
    pub bytes: u64,
    /// The format is binary.
    pub binary: bool,
}

/// How a result ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// With a command tag: `SELECT 3`. Empty for an empty statement.
    Complete(String),
    /// The client asked for no more rows for now.
    Suspended,
    /// With a failure, which follows.
    Failed,
    /// The record ends before the result does.
    #[default]
    Cut,
}

/// A failure or a remark.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ServerMessage {
    /// Number of the command that it answers, where that can be told.
    pub number: Option<u64>,
    /// `ERROR`, `FATAL`, `NOTICE` …
    pub severity: String,
    /// SQLSTATE.
    pub code: String,
    /// The message.
    pub message: String,
    /// More about it; empty: none.
    pub detail: String,
    /// What to do; empty: none.
    pub hint: String,
}

/// A step as one line of JSON, without a line break. Characters that a terminal would obey are escaped.
///
/// # Errors
/// Where the step cannot be written as JSON: a record's identity holds a map whose keys are no strings.
pub fn json_line(step: &Step) -> serde_json::Result<String> {
    let json = serde_json::to_string(step)?;
    let mut line = String::with_capacity(json.len());
    for c in json.chars() {
        if is_hidden(c) {
            // Such a character stands in strings alone, where an escape is the same.
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(line, "\\u{unit:04x}");
            }
        } else {
            line.push(c);
        }
    }
    Ok(line)
}

pub(super) fn milliseconds<S: serde::Serializer>(at: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_f64(at.as_secs_f64() * 1000.0)
}
