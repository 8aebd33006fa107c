//! What sessions there are.

use std::collections::BTreeMap;
use std::path::Path;

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::block::{BlockKind, unpack};
use super::frame::{Seed, split_frame};
use super::layout::{Layout, SegmentFile};
use super::meta::{CloseMeta, MaskMeta, OpenMeta, Verdict, VerdictMeta};
use super::reader::Reader;
use super::recorder::is_alive;
use super::scan::{Next, Scan};
use super::{RecordError, date};
use crate::model::{FrameKind, SessionId};

/// Where a session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionState {
    /// It is being recorded.
    Open,
    /// It ended.
    Closed,
    /// The agent was killed under it.
    Crashed,
    /// Its files were removed on purpose, after they were shipped.
    Absent,
    /// Its record cannot be read: see `verify`.
    Damaged,
}

/// One line of a listing. Counts are those of the Close frame; for a session without one they are counted.
#[derive(Clone, Debug, Serialize)]
pub struct SessionSummary {
    /// The session.
    pub session: SessionId,
    /// Where it stands.
    pub state: SessionState,
    /// When it began.
    pub started: DateTime<Utc>,
    /// When its last frame was recorded; `None` while it is open.
    pub ended: Option<DateTime<Utc>>,
    /// What its Open frame says; `None` where it cannot be read.
    pub open: Option<OpenMeta>,
    /// Who it was, in one line.
    pub identity: String,
    /// Why it ended, and its counts.
    pub counts: CloseMeta,
    /// Bytes that its record takes on the disk, journals not counted.
    pub stored: u64,
}

/// Every session in a records directory, the oldest first.
///
/// # Errors
/// The directory cannot be read. A record that cannot be read is in the list as [`SessionState::Damaged`].
pub fn list(directory: &Path) -> Result<Vec<SessionSummary>, RecordError> {
    let layout = Layout::found_at(directory);
    std::fs::metadata(directory).map_err(|error| RecordError::io("read", directory, error))?;
    let alive = is_alive(&layout);
    // The journals come first: a session whose journal goes meanwhile has its segments under their last names.
    let mut sessions: BTreeMap<SessionId, Vec<SegmentFile>> = layout
        .journal_files()?
        .into_iter()
        .map(|(session, _)| (session, Vec::new()))
        .collect();
    for file in layout.segments()? {
        sessions.entry(file.session).or_default().push(file);
    }
    let mut summaries = Vec::with_capacity(sessions.len());
    for (session, files) in sessions {
        match summarize(&layout, session, &files, alive) {
            Ok(summary) => summaries.push(summary),
            Err(RecordError::NotFound { .. }) => {}
            Err(error) => summaries.push(damaged(session, &error)),
        }
    }
    Ok(summaries)
}

fn summarize(
    layout: &Layout,
    session: SessionId,
    files: &[SegmentFile],
    alive: bool,
) -> Result<SessionSummary, RecordError> {
    let mut reader = Reader::open(layout.directory(), session)?;
    let open = match reader.next().transpose()? {
        Some(frame) if frame.kind == FrameKind::Open => serde_json::from_slice::<OpenMeta>(&frame.bytes).ok(),
        _ => None,
    };
    let end = match files.last() {
        Some(last) if last.sealed => read_end(session, last)?,
        _ => None,
    };
    let killed = end
        .as_ref()
        .is_some_and(|(_, close)| close.reason == CloseMeta::KILLED);
    let (ended, counts, sealed) = match end {
        Some((elapsed, close)) if !killed => (Some(elapsed), close, true),
        _ => count(&mut reader)?,
    };
    let started = reader.started();
    let elapsed = ended.map(|elapsed| i64::try_from(elapsed).unwrap_or(i64::MAX));
    let state = match (sealed, killed, alive) {
        (true, false, _) => SessionState::Closed,
        (false, _, true) => SessionState::Open,
        (true, true, _) | (false, _, false) => SessionState::Crashed,
    };
    Ok(SessionSummary {
        session,
        state,
        started,
        ended: elapsed
            .filter(|_| state != SessionState::Open)
            .map(|elapsed| started + chrono::TimeDelta::nanoseconds(elapsed)),
        identity: open
            .as_ref()
            .map_or_else(String::new, |open| one_line(&open.identity)),
        open,
        counts,
        stored: files
            .iter()
            .filter_map(|file| std::fs::metadata(&file.path).ok())
            .map(|metadata| metadata.len())
            .sum(),
    })
}

/// The Close frame of a sealed session, by its last block of frames.
fn read_end(session: SessionId, file: &SegmentFile) -> Result<Option<(u64, CloseMeta)>, RecordError> {
    let Some(mut scan) = Scan::open(&file.path)? else {
        return Ok(None);
    };
    let mut last = None;
    while let Next::Block(block) = scan.next()? {
        if block.header.kind == BlockKind::Data {
            last = Some(block);
        }
    }
    let frames = last.and_then(|block| Some((block.header, unpack(&block.header, block.stored)?)));
    let Some((header, raw)) = frames.filter(|_| scan.ended() == Some(BlockKind::SessionEnd)) else {
        return Ok(None);
    };
    let (seed, mut number, mut rest, mut close) =
        (Seed::new(session), header.first_frame, raw.as_slice(), None);
    while let Ok((frame, payload, next)) = split_frame(seed, number, rest) {
        if frame.kind == FrameKind::Close {
            close = serde_json::from_slice(payload)
                .ok()
                .map(|close| (frame.elapsed, close));
        }
        (number, rest) = (number + 1, next);
    }
    Ok(close)
}

/// Counts what the frames say, for a session whose Close frame does not. Time of the last frame, counts, sealed.
fn count(reader: &mut Reader) -> Result<(Option<u64>, CloseMeta, bool), RecordError> {
    let mut counts = CloseMeta::default();
    let mut last = None;
    for frame in reader.by_ref() {
        let frame = frame?;
        last = Some(frame.elapsed);
        match frame.kind {
            FrameKind::ClientBytes => counts.bytes_to_server += frame.bytes.len() as u64,
            FrameKind::ServerBytes => counts.bytes_to_client += frame.bytes.len() as u64,
            FrameKind::Command => counts.commands += 1,
            FrameKind::Verdict => {
                match serde_json::from_slice(&frame.bytes).map(|meta: VerdictMeta| meta.verdict) {
                    Ok(Verdict::Allow) => counts.allowed += 1,
                    Ok(Verdict::Deny) => counts.denied += 1,
                    Ok(Verdict::Hold) => counts.held += 1,
                    Err(_) => {}
                }
            }
            FrameKind::Mask => {
                counts.masked_values +=
                    serde_json::from_slice(&frame.bytes).map_or(0, |meta: MaskMeta| meta.count);
            }
            FrameKind::Close => {
                if let Ok(close) = serde_json::from_slice::<CloseMeta>(&frame.bytes) {
                    counts.reason = close.reason;
                }
            }
            FrameKind::Open
            | FrameKind::Approval
            | FrameKind::Lease
            | FrameKind::Identity
            | FrameKind::Finding
            | FrameKind::Error
            | FrameKind::Gap => {}
        }
    }
    Ok((last, counts, reader.is_sealed()))
}

fn damaged(session: SessionId, error: &RecordError) -> SessionSummary {
    let seconds = session
        .0
        .get_timestamp()
        .map_or(0, |timestamp| timestamp.to_unix().0);
    SessionSummary {
        session,
        state: SessionState::Damaged,
        started: date(i64::try_from(seconds).unwrap_or(0).saturating_mul(1_000_000_000)),
        ended: None,
        open: None,
        identity: String::new(),
        counts: CloseMeta {
            reason: error.to_string(),
            ..CloseMeta::default()
        },
        stored: 0,
    }
}

/// The line that an identity gives itself, else its plain values, else nothing.
fn one_line(identity: &serde_json::Value) -> String {
    use serde_json::Value;
    match identity {
        Value::String(text) => text.clone(),
        Value::Object(fields) => match fields.get("summary") {
            Some(Value::String(summary)) => summary.clone(),
            _ => fields
                .iter()
                .filter_map(|(key, value)| match value {
                    Value::String(text) => Some(format!("{key}={text}")),
                    Value::Number(number) => Some(format!("{key}={number}")),
                    Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
                })
                .collect::<Vec<_>>()
                .join(" "),
        },
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => String::new(),
    }
}
