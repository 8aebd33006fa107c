//! Checks records: that nothing was edited, cut, moved, taken from elsewhere or removed, and whose key signed.
//!
//! A record is tied to its host by the ledger beside it; a segment alone is only checked in itself. Removal of the
//! ledger's end together with the sessions it names is found against a shipped copy of the ledger alone.

mod block;
mod session;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::RecordError;
use super::block::PublicKey;
use super::layout::{Layout, parse_segment};
use super::ledger::{Check, ENTRY, LEDGER_HEADER, Ledger, read_joined};
use super::list::SessionState;
use super::recorder::is_alive;
use crate::model::SessionId;

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ProblemKind {
    /// Bytes were changed or added.
    Edited,
    /// The end is gone, or something in the middle.
    Cut,
    /// Blocks or segments do not stand where they were written.
    Reordered,
    /// Something of another session stands here.
    Spliced,
    /// A session that was recorded is gone.
    Missing,
    /// Another key signed than the host's of that time.
    WrongKey,
    /// A record that the ledger does not name.
    NotInLedger,
    /// The ledger itself is wrong.
    Ledger,
}

/// Something wrong, and where. Of each session the first is named.
#[derive(Clone, Debug, Serialize)]
pub struct Problem {
    /// What.
    pub kind: ProblemKind,
    /// In which session, if in one.
    pub session: Option<SessionId>,
    /// In which file.
    pub file: PathBuf,
    /// Where in the file, in bytes.
    pub offset: Option<u64>,
    /// First frame of the session that cannot be trusted.
    pub frame: Option<u64>,
    /// One sentence for people.
    pub message: String,
}

/// A session that was checked.
#[derive(Clone, Debug, Serialize)]
pub struct SessionReport {
    /// The session.
    pub session: SessionId,
    /// Where it stands.
    pub state: SessionState,
    /// Frames that are good.
    pub frames: u64,
    /// Of these, frames that a signature covers.
    pub signed: u64,
    /// Whether nothing is wrong with it.
    pub good: bool,
}

/// What `verify` found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// The host's identity: its first public key, lower-case hex. `None`: no ledger ties the record to a host.
    pub host: Option<String>,
    /// Entries of the ledger.
    pub entries: u64,
    /// Each session that was checked.
    pub sessions: Vec<SessionReport>,
    /// Everything wrong. Empty: the records are good.
    pub problems: Vec<Problem>,
    /// What could not be checked, and why.
    pub notes: Vec<String>,
}

/// What to check beyond what the files say themselves.
#[derive(Clone, Debug, Default)]
pub struct VerifyOptions {
    /// The host's identity as it was noted when the host was set up.
    pub host: Option<PublicKey>,
    /// A shipped copy of the ledger (a file, or a directory of its parts): the ledger has to be it, or it with more
    /// entries.
    pub against: Option<PathBuf>,
    /// One session alone.
    pub session: Option<SessionId>,
}

impl Report {
    /// Whether nothing is wrong.
    pub fn is_good(&self) -> bool {
        self.problems.is_empty()
    }

    fn ledger_problem(
        &mut self,
        kind: ProblemKind,
        file: &Path,
        offset: Option<u64>,
        message: impl Into<String>,
    ) {
        self.problems.push(Problem {
            kind,
            session: None,
            file: file.to_owned(),
            offset,
            frame: None,
            message: message.into(),
        });
    }
}

/// Checks a records directory, or the session of one segment file with the ledger beside it.
///
/// # Errors
/// `path` or something in it cannot be read at all. Whatever is wrong with what can be read is in the report.
pub fn verify(path: &Path, options: &VerifyOptions) -> Result<Report, RecordError> {
    let metadata = std::fs::metadata(path).map_err(|error| RecordError::io("read", path, error))?;
    if metadata.is_dir() {
        return verify_directory(&Layout::found_at(path), options);
    }
    let Some(file) = parse_segment(path.to_owned()) else {
        return Err(RecordError::damaged(
            path,
            "its name is not that of a record: <session>.tgr, as it was written",
        ));
    };
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let options = VerifyOptions {
        session: Some(file.session),
        ..options.clone()
    };
    let directory = directory.unwrap_or(Path::new("."));
    // A shipped segment stands in `records`, with the parts of the ledger in `ledger` beside that.
    let shipped = directory.file_name().is_some_and(|name| name == "records")
        && !Layout::new(directory).ledger().exists();
    let layout = match directory.parent().filter(|_| shipped) {
        Some(parent) => Layout::found_at(parent),
        None => Layout::new(directory),
    };
    verify_directory(&layout, &options)
}

fn verify_directory(layout: &Layout, options: &VerifyOptions) -> Result<Report, RecordError> {
    let mut report = Report::default();
    let alive = is_alive(layout);
    let ledger = match Ledger::read(&layout.ledger(), Check::Everything) {
        Ok(ledger) => ledger,
        Err(RecordError::Damaged { path, message }) => {
            report.ledger_problem(ProblemKind::Ledger, &path, Some(0), message);
            None
        }
        Err(error) => return Err(error),
    };
    // Read after the ledger: what it names is there by then.
    let present = sessions(layout)?;
    match &ledger {
        Some(ledger) => check_ledger(&mut report, ledger, options, alive)?,
        None => without_ledger(&mut report, layout, options, &present),
    }
    let known = ledger.iter().flat_map(|ledger| ledger.sessions.keys().copied());
    let wanted: BTreeSet<_> = known
        .chain(present)
        .filter(|session| options.session.is_none_or(|only| only == *session))
        .collect();
    if let (Some(session), true) = (options.session, wanted.is_empty()) {
        return Err(RecordError::NotFound {
            session,
            directory: layout.directory().to_owned(),
        });
    }
    for session in wanted {
        let (checked, problem, note) = session::check(layout, session, ledger.as_ref(), alive)?;
        report.sessions.extend(checked);
        report.problems.extend(problem);
        report.notes.extend(note);
    }
    Ok(report)
}

fn sessions(layout: &Layout) -> Result<BTreeSet<SessionId>, RecordError> {
    let journals = layout.journal_files()?.into_iter().map(|(session, _)| session);
    let segments = layout.segments()?.into_iter().map(|file| file.session);
    Ok(journals.chain(segments).collect())
}

fn without_ledger(
    report: &mut Report,
    layout: &Layout,
    options: &VerifyOptions,
    present: &BTreeSet<SessionId>,
) {
    let path = layout.ledger();
    if options.host.is_some() || options.against.is_some() {
        report.ledger_problem(
            ProblemKind::Missing,
            &path,
            None,
            "there is no ledger, so nothing ties these records to the host that was named",
        );
    } else if options.session.is_some() {
        report.notes.push(
            "there is no ledger beside the record: it is checked in itself, but its key is not tied to a host"
                .to_owned(),
        );
    } else if present.is_empty() && report.problems.is_empty() {
        report.ledger_problem(
            ProblemKind::Missing,
            &path,
            None,
            "there are neither records nor a ledger here: name a records directory, or one that records were shipped to",
        );
    } else if report.problems.is_empty() {
        report.ledger_problem(
            ProblemKind::Missing,
            &path,
            None,
            "the directory holds records but no ledger: it was removed, and sessions may have been with it",
        );
    }
}

fn check_ledger(
    report: &mut Report,
    ledger: &Ledger,
    options: &VerifyOptions,
    alive: bool,
) -> Result<(), RecordError> {
    let path = &ledger.path;
    report.host = Some(hex::encode(ledger.header.host));
    report.entries = ledger.entries;
    let end = LEDGER_HEADER as u64 + ledger.entries * ENTRY as u64;
    if let Some((entry, message)) = &ledger.fault {
        let message = format!("entry {entry} is wrong: {message}; nothing behind it can be trusted");
        report.ledger_problem(ProblemKind::Ledger, path, Some(end), message);
    } else if ledger.torn > 0 && !alive {
        let message = format!("{} bytes behind the last entry are not an entry", ledger.torn);
        report.ledger_problem(ProblemKind::Ledger, path, Some(end), message);
    }
    if options.host.is_some_and(|host| host != ledger.header.host) {
        let message = "the ledger belongs to another host than the one that was named";
        report.ledger_problem(ProblemKind::WrongKey, path, Some(0), message);
    }
    if let Some(against) = &options.against {
        let shipped = read_joined(against)?;
        let local = read_joined(path)?;
        let same = local
            .iter()
            .zip(&shipped)
            .take_while(|(here, there)| here == there)
            .count();
        if same < shipped.len() {
            let entry = same.saturating_sub(LEDGER_HEADER) / ENTRY;
            let message = if same == local.len() {
                format!("it ends before entry {entry}, which was shipped: its end was removed")
            } else {
                format!("entry {entry} is not the one that was shipped: it was rewritten from there on")
            };
            report.ledger_problem(ProblemKind::Missing, path, Some(same as u64), message);
        }
    }
    Ok(())
}
