//! `tollgate replay`: shows a recorded session, as it went.
//!
//! Reads the records directory alone: it needs no agent, and verifies nothing beyond the hash chain that it follows
//! while it reads.

use std::io::{self, IsTerminal as _, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use super::{failed, records_hint};
use crate::model::{FrameKind, SessionId};
use crate::record::{Frame, Layout, MAX_PAYLOAD, Reader, RecordError, SessionState, list};
use crate::replay::{Limits, Player, Screen, Speed, Step, json_line};

/// Rows of a result that are shown, if not asked otherwise.
const ROWS: usize = 20;
/// Bytes of a value that are shown, and that JSON has.
const SHOWN_VALUE: usize = 1024;
const JSON_VALUE: usize = 64 * 1024;
/// Columns of a terminal that does not say how many it has.
const WIDTH: usize = 120;
/// How often a live session is looked at.
const LOOK: Duration = Duration::from_millis(200);
const LOOKS_PER_LIST: u64 = 25;

/// Show a recorded session, as it went
///
/// Each statement with its verdict, the rules that made it and when it came; results as tables, as the client saw them:
/// what was masked for it is masked here. On a terminal the session is played at its own pace.
///
/// Reads records alone: no agent has to run. It does not check signatures: `tollgate verify` does.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  tollgate replay 0199f3a2                   the beginning of an id is enough
  tollgate replay 0199f3a2 --speed max       without pauses
  tollgate replay 0199f3a2 --follow          while it goes on
  tollgate replay 0199f3a2 --json | jq .")]
pub struct ReplayArgs {
    /// The id that `tollgate sessions` shows, or its beginning
    #[arg(value_name = "ID")]
    session: String,
    /// How fast: 1 as it was, 10, 0.5, or "max" without pauses; pauses are never longer than 2 s [default: 1 on a
    /// terminal, else max]
    #[arg(long, value_name = "N|max")]
    speed: Option<Speed>,
    /// Rows of each result that are shown
    #[arg(long, value_name = "N", default_value_t = ROWS)]
    rows: usize,
    /// Print JSON, one step a line
    #[arg(long)]
    json: bool,
    /// Go on while the session lasts
    #[arg(long)]
    follow: bool,
    /// Records directory, as an agent writes it or as records are shipped [default: the agent's]
    #[arg(long, value_name = "DIR")]
    records: Option<PathBuf>,
}

/// Why a session cannot be shown.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReplayError {
    #[error("cannot read {}: {source}", .directory.display())]
    Directory {
        directory: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("no session begins with \"{0}\": `tollgate sessions` lists them")]
    None(String),
    #[error("{count} sessions begin with \"{prefix}\": write more of the id, for example {example}")]
    Several {
        prefix: String,
        count: usize,
        example: SessionId,
    },
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error("a step of the record cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error("cannot write: {0}")]
    Output(#[from] io::Error),
}

/// Shows the session of `args`, from the directory `records` if it names no other. Exit code 0, or 2 where it cannot be
/// shown to its end.
pub fn run(args: &ReplayArgs, records: &Path) -> ExitCode {
    let records = args.records.as_deref().unwrap_or(records);
    match args.replay(records) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads has seen enough.
        Err(ReplayError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error @ (ReplayError::Directory { .. } | ReplayError::Record(_))) => {
            failed(&format_args!("{error}{}", records_hint(records)))
        }
        Err(error) => failed(&error),
    }
}

impl ReplayArgs {
    fn replay(&self, directory: &Path) -> Result<(), ReplayError> {
        std::fs::read_dir(directory).map_err(|source| ReplayError::Directory {
            directory: directory.to_owned(),
            source,
        })?;
        let session = find(directory, &self.session)?;
        let terminal = io::stdout().is_terminal();
        let fallback = if terminal && !self.follow {
            Speed::Times(1.0)
        } else {
            Speed::Max
        };
        let limits = Limits {
            rows: self.rows,
            value: if self.json { JSON_VALUE } else { SHOWN_VALUE },
        };
        let width = terminal_size::terminal_size().map_or(WIDTH, |(width, _)| width.0.into());
        let mut show = Show {
            out: anstream::AutoStream::auto(io::stdout().lock()),
            screen: Screen::new(width),
            json: self.json,
            speed: self.speed.unwrap_or(fallback),
            at: None,
        };
        let mut player = Player::new(limits);
        let mut steps = Vec::new();
        let mut next = 0;
        for look in 0_u64.. {
            // Whether the session's agent is still there is asked now and then, because it takes a look at all records;
            // and asked first, so that what it wrote last is still read.
            let ask = self.follow && look % LOOKS_PER_LIST == 0;
            let gone = ask && !is_open(directory, session)?;
            let over = play(
                directory,
                session,
                &mut next,
                &mut player,
                &mut |player, frame| {
                    player.push(frame, &mut steps);
                    steps.drain(..).try_for_each(|step| show.step(&step))
                },
            )?;
            if over || gone || !self.follow {
                break;
            }
            thread::sleep(LOOK);
        }
        player.finish(&mut steps);
        steps.drain(..).try_for_each(|step| show.step(&step))?;
        show.out.flush()?;
        Ok(())
    }
}

/// Gives the frames from `next` on that are on record by now; true after the last frame of the session.
fn play(
    directory: &Path,
    session: SessionId,
    next: &mut u64,
    player: &mut Player,
    take: &mut impl FnMut(&mut Player, &Frame) -> Result<(), ReplayError>,
) -> Result<bool, ReplayError> {
    for frame in Reader::open_at(directory, session, *next)? {
        let frame = frame?;
        let bytes = matches!(frame.kind, FrameKind::ClientBytes | FrameKind::ServerBytes);
        if frame.continued && !bytes {
            // Its end is still being written.
            return Ok(false);
        }
        let pieces = if bytes {
            1
        } else {
            frame.bytes.len().div_ceil(MAX_PAYLOAD).max(1)
        };
        *next = frame.number + pieces as u64;
        take(player, &frame)?;
        if frame.kind == FrameKind::Close {
            return Ok(true);
        }
    }
    Ok(false)
}

fn is_open(directory: &Path, session: SessionId) -> Result<bool, ReplayError> {
    let sessions = list(directory)?;
    let found = sessions.iter().find(|summary| summary.session == session);
    Ok(found.is_some_and(|summary| summary.state == SessionState::Open))
}

/// The session whose id begins with `prefix`, with or without hyphens.
pub(super) fn find(directory: &Path, prefix: &str) -> Result<SessionId, ReplayError> {
    if let Ok(whole) = uuid::Uuid::try_parse(prefix) {
        return Ok(SessionId(whole));
    }
    let wanted = plain(prefix);
    let layout = Layout::found_at(directory);
    let mut found: Vec<SessionId> = layout.segments()?.into_iter().map(|file| file.session).collect();
    found.extend(journalled(&layout));
    found.retain(|session| !wanted.is_empty() && plain(&session.to_string()).starts_with(&wanted));
    found.sort_unstable();
    found.dedup();
    match found.as_slice() {
        [] => Err(ReplayError::None(prefix.to_owned())),
        [only] => Ok(*only),
        [first, ..] => Err(ReplayError::Several {
            prefix: prefix.to_owned(),
            count: found.len(),
            example: *first,
        }),
    }
}

/// Sessions that have just begun: they are in a journal and in no segment yet.
fn journalled(layout: &Layout) -> impl Iterator<Item = SessionId> {
    let entries = std::fs::read_dir(layout.journals())
        .into_iter()
        .flatten()
        .flatten();
    entries.filter_map(|entry| {
        let name = entry.file_name();
        let (session, _) = name.to_str()?.split_once('.')?;
        Some(SessionId(uuid::Uuid::try_parse(session).ok()?))
    })
}

fn plain(id: &str) -> String {
    id.chars()
        .filter(|c| *c != '-')
        .map(|c| c.to_ascii_lowercase())
        .collect()
}

/// Where steps go, and how fast.
struct Show<W: io::Write> {
    out: W,
    screen: Screen,
    json: bool,
    speed: Speed,
    /// When the last step was.
    at: Option<Duration>,
}

impl<W: io::Write> Show<W> {
    fn step(&mut self, step: &Step) -> Result<(), ReplayError> {
        let pause = self
            .speed
            .pause(step.at.saturating_sub(self.at.unwrap_or(step.at)));
        self.at = Some(step.at);
        if !pause.is_zero() {
            self.out.flush()?;
            thread::sleep(pause);
        }
        if self.json {
            writeln!(self.out, "{}", json_line(step)?)?;
        } else {
            self.screen.step(&mut self.out, step)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Direction;
    use crate::record::{Recorder, RecorderOptions};

    fn record(directory: &Path) -> SessionId {
        let recorder = Recorder::open(&RecorderOptions::new(directory)).unwrap();
        let session = SessionId::new();
        let mut record = recorder
            .begin(session, &serde_json::json!({"host": "h"}))
            .unwrap();
        record
            .append(FrameKind::Gap, Direction::ToServer, &[br#"{"reason": "x"}"#])
            .unwrap();
        record.close(&serde_json::json!({"reason": "done"})).unwrap();
        recorder.shutdown().unwrap();
        session
    }

    #[test]
    fn a_session_is_found_by_the_beginning_of_its_id() {
        let directory = tempfile::tempdir().unwrap();
        let first = record(directory.path());
        let second = record(directory.path());
        let id = second.to_string();
        assert_eq!(find(directory.path(), &id).unwrap(), second);
        assert_eq!(find(directory.path(), &id.to_uppercase()).unwrap(), second);
        assert_eq!(find(directory.path(), &id[..35]).unwrap(), second);
        assert_eq!(
            find(directory.path(), &first.to_string().replace('-', "")[..31]).unwrap(),
            first
        );
        let error = find(directory.path(), &id[..2]).unwrap_err().to_string();
        assert!(error.starts_with("2 sessions begin with"), "{error}");
        for prefix in ["ffff", "", "../x"] {
            let error = find(directory.path(), prefix).unwrap_err().to_string();
            assert!(error.starts_with("no session begins with"), "{error}");
        }
    }

    #[test]
    fn frames_are_taken_up_where_the_last_look_ended() {
        let directory = tempfile::tempdir().unwrap();
        let recorder = Recorder::open(&RecorderOptions::new(directory.path())).unwrap();
        let session = SessionId::new();
        let long = format!("{{\"reason\": \"{}\"}}", "x".repeat(3 * MAX_PAYLOAD));
        let mut record = recorder.begin(session, &serde_json::json!({})).unwrap();
        let mut kinds = Vec::new();
        let mut next = 0;
        let mut player = Player::new(Limits { rows: 1, value: 1 });
        let mut look = |kinds: &mut Vec<FrameKind>| {
            play(
                directory.path(),
                session,
                &mut next,
                &mut player,
                &mut |_, frame| {
                    assert!(!frame.continued);
                    kinds.push(frame.kind);
                    Ok(())
                },
            )
            .unwrap()
        };
        assert!(!look(&mut kinds));
        record
            .append(FrameKind::Gap, Direction::ToServer, &[long.as_bytes()])
            .unwrap();
        assert!(!look(&mut kinds));
        record
            .append(FrameKind::ServerBytes, Direction::ToClient, &[b"Z"])
            .unwrap();
        assert!(!look(&mut kinds));
        assert!(!look(&mut kinds));
        record.close(&serde_json::json!({"reason": "done"})).unwrap();
        assert!(look(&mut kinds));
        assert_eq!(
            kinds,
            [
                FrameKind::Open,
                FrameKind::Gap,
                FrameKind::ServerBytes,
                FrameKind::Close
            ]
        );
        recorder.shutdown().unwrap();
    }
}
