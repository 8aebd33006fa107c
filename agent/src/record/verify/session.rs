//! Checks one session: its segments, its journal, and what the ledger says of it.

use std::path::{Path, PathBuf};

use super::{Problem, ProblemKind, SessionReport};
use crate::model::SessionId;
use crate::record::RecordError;
use crate::record::block::{BlockKind, Chain, SEGMENT_HEADER};
use crate::record::frame::{Seed, split_frame};
use crate::record::journal::{self, Journal};
use crate::record::layout::Layout;
use crate::record::ledger::{Entered, Ledger};
use crate::record::list::SessionState;
use crate::record::scan::{Next, Scan};

type Checked = (Option<SessionReport>, Option<Problem>, Option<String>);

/// Checks `session`: how it stands, its first problem, and what could not be checked.
pub(super) fn check(
    layout: &Layout,
    session: SessionId,
    ledger: Option<&Ledger>,
    alive: bool,
) -> Result<Checked, RecordError> {
    // Before the segments, so that what the writer seals meanwhile is in one of them.
    let journals = journal::read(layout, session)?;
    let entered = ledger.and_then(|ledger| ledger.sessions.get(&session));
    let mut check = Check {
        layout,
        session,
        seed: Seed::new(session),
        ledger,
        entered,
        chain: [0; 32],
        segment: 0,
        blocks: 0,
        frames: 0,
        signed: 0,
        epoch: entered
            .and_then(|entered| entered.open)
            .map_or(0, |open| open.epoch),
        started: None,
        open: Some(blake3::Hasher::new()),
        crashed: entered
            .and_then(|entered| entered.close)
            .is_some_and(|close| close.crashed),
    };
    let mut note = None;
    let result = check.run(&journals, alive, &mut note);
    let (state, problem) = match result {
        Ok(state) => (state, None),
        Err(Stop::Problem(problem)) => (Some(SessionState::Damaged), Some(*problem)),
        Err(Stop::Error(error)) => return Err(error),
    };
    let report = state.map(|state| SessionReport {
        session,
        state,
        frames: check.frames,
        signed: check.signed,
        good: problem.is_none(),
    });
    Ok((report, problem, note))
}

pub(super) enum Stop {
    Problem(Box<Problem>),
    Error(RecordError),
}

impl From<RecordError> for Stop {
    fn from(error: RecordError) -> Self {
        Self::Error(error)
    }
}

/// How the segments end.
enum Tail {
    /// With the session's seal.
    Sealed,
    /// Where more can come: in this file, or before it.
    Unfinished(PathBuf),
    /// There is no segment.
    Nothing,
}

pub(super) struct Check<'a> {
    pub(super) layout: &'a Layout,
    pub(super) session: SessionId,
    pub(super) seed: Seed,
    pub(super) ledger: Option<&'a Ledger>,
    pub(super) entered: Option<&'a Entered>,
    pub(super) chain: Chain,
    pub(super) segment: u32,
    pub(super) blocks: u64,
    pub(super) frames: u64,
    pub(super) signed: u64,
    pub(super) epoch: u32,
    pub(super) started: Option<i64>,
    /// Hashes the Open frame until it is whole.
    pub(super) open: Option<blake3::Hasher>,
    pub(super) crashed: bool,
}

impl Check<'_> {
    /// `Ok(None)`: the session is just being begun, or was killed as it began.
    fn run(
        &mut self,
        journals: &[Journal],
        alive: bool,
        note: &mut Option<String>,
    ) -> Result<Option<SessionState>, Stop> {
        if self.ledger.is_some() && self.entered.is_none() {
            match self.layout.segments_of(self.session)?.first() {
                None => {
                    *note = Some(format!(
                        "session {} is in the journal and not in the ledger: it was just begun",
                        self.session
                    ));
                    return Ok(None);
                }
                // The agent may have begun it after the ledger was read.
                Some(_) if alive && !journals.is_empty() => {}
                Some(file) => {
                    let message = "the ledger does not name this session: the record was put here, or the ledger's \
                                   end was removed";
                    return Err(self.problem(ProblemKind::NotInLedger, &file.path, None, message));
                }
            }
        }
        let tail = self.segments()?;
        let close = self.entered.and_then(|entered| entered.close);
        match tail {
            Tail::Sealed => {
                let path = self.layout.segment(self.session, self.segment, true);
                match (close, self.ledger) {
                    (Some(close), _) if close.value != self.chain || close.count != self.frames => {
                        return Err(self.problem(
                            ProblemKind::Edited,
                            &path,
                            None,
                            "the record is whole but not the one that the ledger names: it was replaced",
                        ));
                    }
                    (None, Some(_)) if !alive && journals.is_empty() => {
                        return Err(self.problem(
                            ProblemKind::Ledger,
                            &path,
                            None,
                            "the session is sealed but the ledger does not name its end: the ledger's end was removed",
                        ));
                    }
                    _ => {}
                }
                Ok(Some(if self.crashed {
                    SessionState::Crashed
                } else {
                    SessionState::Closed
                }))
            }
            Tail::Nothing if journals.is_empty() => {
                if let Some(entered) = self.entered
                    && entered.pruned.is_some()
                {
                    *note = Some(format!(
                        "session {} was shipped and removed here; check the copy",
                        self.session
                    ));
                    return Ok(Some(SessionState::Absent));
                }
                if self.entered.is_none() {
                    // A file that could be listed and is gone again.
                    return Ok(None);
                }
                Err(self.problem(
                    ProblemKind::Missing,
                    &self.layout.segment(self.session, 0, true),
                    None,
                    "the ledger names this session, but its record is gone",
                ))
            }
            Tail::Unfinished(_) | Tail::Nothing => {
                let path = match tail {
                    Tail::Unfinished(path) => path,
                    Tail::Sealed | Tail::Nothing => self.layout.segment(self.session, self.segment, false),
                };
                self.unfinished(&path, journals, close.map(|close| close.count))?;
                Ok(Some(if alive {
                    SessionState::Open
                } else {
                    SessionState::Crashed
                }))
            }
        }
    }

    fn unfinished(&mut self, path: &Path, journals: &[Journal], closed: Option<u64>) -> Result<(), Stop> {
        if let Some(frames) = closed {
            let message = format!(
                "the ledger says that it ended after {frames} frames; the record stops after {}",
                self.frames
            );
            return Err(self.problem(ProblemKind::Cut, path, None, message));
        }
        let last_mark = self
            .entered
            .and_then(|entered| entered.marks.last())
            .map_or(0, |mark| mark.count + 1);
        if journals.is_empty() || last_mark > self.blocks {
            let message = format!(
                "the record stops after {} frames without its seal, and no journal goes on",
                self.frames
            );
            return Err(self.problem(ProblemKind::Cut, path, None, message));
        }
        for journal in journals {
            let path = self.layout.journals();
            let mut at = journal.header.first_frame;
            if at > self.frames {
                let message = format!("frames {} to {} are in no file", self.frames, at - 1);
                return Err(self.problem(ProblemKind::Cut, &path, None, message));
            }
            let mut bytes = journal.frames.as_slice();
            while !bytes.is_empty() {
                let (header, payload, rest) = split_frame(self.seed, at, bytes).map_err(|error| {
                    self.problem(
                        ProblemKind::Edited,
                        &path,
                        None,
                        format!("frame {at} in the journal: {error}"),
                    )
                })?;
                if at == self.frames {
                    self.take_frame(header.kind, header.continued, payload, &path, 0)?;
                }
                bytes = rest;
                at += 1;
            }
        }
        Ok(())
    }

    fn segments(&mut self) -> Result<Tail, Stop> {
        let mut last = None;
        loop {
            let mut found = None;
            for sealed in [true, false, true] {
                let path = self.layout.segment(self.session, self.segment, sealed);
                match Scan::open(&path) {
                    Ok(Some(scan)) => {
                        found = Some((scan, sealed));
                        break;
                    }
                    Ok(None) => {}
                    // Killed, or looked at, between the file's creation and its header.
                    Err(RecordError::Damaged { .. }) if !sealed && is_shorter_than_its_header(&path) => {
                        return Ok(Tail::Unfinished(path));
                    }
                    Err(RecordError::Damaged { message, .. }) => {
                        return Err(self.problem(ProblemKind::Edited, &path, Some(0), message));
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            let Some((mut scan, sealed)) = found else {
                return Ok(last.map_or(Tail::Nothing, Tail::Unfinished));
            };
            if let Some(tail) = self.segment(&mut scan, sealed)? {
                return Ok(tail);
            }
            self.segment += 1;
            last = Some(self.layout.segment(self.session, self.segment, false));
        }
    }

    /// `None`: the session goes on in the next segment.
    fn segment(&mut self, scan: &mut Scan, sealed: bool) -> Result<Option<Tail>, Stop> {
        let path = scan.path().to_owned();
        let header = *scan.header();
        let start = |check: &Self, kind, message: &str| Err(check.problem(kind, &path, Some(0), message));
        if header.session != self.session {
            return start(
                self,
                ProblemKind::Spliced,
                "the file holds another session than its name says",
            );
        }
        if header.segment != self.segment || header.before != self.chain {
            return start(
                self,
                ProblemKind::Reordered,
                "the segment does not follow from the one before it",
            );
        }
        if self
            .ledger
            .is_some_and(|ledger| ledger.header.host != header.host)
        {
            return start(
                self,
                ProblemKind::WrongKey,
                "the record says that it is another host's",
            );
        }
        if *self.started.get_or_insert(header.started) != header.started {
            return start(
                self,
                ProblemKind::Edited,
                "the time at which the session began was changed",
            );
        }
        loop {
            let offset = scan.offset();
            match scan.next()? {
                Next::Block(block) => self.block(&block, &path)?,
                Next::Malformed => {
                    let message = "what stands here is not a block";
                    return Err(self.problem(ProblemKind::Edited, &path, Some(offset), message));
                }
                Next::Torn if scan.ended().is_some() => {
                    let message = "bytes were added behind the seal";
                    return Err(self.problem(ProblemKind::Edited, &path, Some(offset), message));
                }
                Next::End { .. } | Next::Torn => break,
            }
        }
        self.chain = *scan.chain();
        match scan.ended() {
            Some(BlockKind::SessionEnd) => {
                let next = self.layout.segment(self.session, self.segment + 1, true);
                if next.exists() {
                    return Err(self.problem(
                        ProblemKind::Edited,
                        &next,
                        Some(0),
                        "it follows the end of its session",
                    ));
                }
                Ok(Some(Tail::Sealed))
            }
            Some(_) => Ok(None),
            None if sealed => Err(self.problem(
                ProblemKind::Cut,
                &path,
                Some(scan.offset()),
                "the file ends without its seal: its end was removed",
            )),
            None => Ok(Some(Tail::Unfinished(path))),
        }
    }

    pub(super) fn problem(
        &self,
        kind: ProblemKind,
        file: &Path,
        offset: Option<u64>,
        message: impl Into<String>,
    ) -> Stop {
        Stop::Problem(Box::new(Problem {
            kind,
            session: Some(self.session),
            file: file.to_owned(),
            offset,
            frame: Some(self.frames),
            message: message.into(),
        }))
    }
}

fn is_shorter_than_its_header(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| metadata.len() < SEGMENT_HEADER as u64)
}
