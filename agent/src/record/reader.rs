//! Reads a record frame by frame: sealed segments, then the unfinished one, then what is still in the journal.
//!
//! It follows the hash chain and refuses what does not follow from it, but checks no signature: that is
//! [`verify`](super::verify)'s. A record that is being written can be read at any time; the reader sees every frame
//! that was acknowledged before it was opened.

use std::collections::VecDeque;
use std::path::Path;

use bytes::{Bytes, BytesMut};

use super::block::{BlockKind, Chain, unpack};
use super::frame::{Frame, Seed, split_frame};
use super::journal::{self, Journal};
use super::layout::Layout;
use super::scan::{Next, Scan};
use super::{RecordError, date};
use crate::model::{FrameKind, SessionId};

/// Longest JSON that is joined from several frames.
const JOINED: usize = 64 * 1024 * 1024;

/// Frames of one session, in order.
///
/// Frames of JSON kinds are given whole, joined where they were split. Frames of bytes are given as they were
/// recorded, with [`Frame::continued`] where what was recorded at once goes on.
pub struct Reader {
    layout: Layout,
    session: SessionId,
    seed: Seed,
    started: i64,
    /// Frames before this one are not given.
    from: u64,
    segment: u32,
    scan: Option<Scan>,
    /// Whether the segment that is read carries its final name.
    sealed_name: bool,
    before: Chain,
    /// Blocks were skipped: the chain says nothing.
    unchained: bool,
    journals: VecDeque<Journal>,
    /// Frames of the block at hand that are still to be given.
    block: Bytes,
    /// Number of the next frame.
    number: u64,
    /// A frame that was read too far.
    ahead: Option<Frame>,
    stage: Stage,
    over: bool,
}

/// How far a reader has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Segments,
    /// The segments were read to where they ended then; blocks that were added meanwhile are in the journal too.
    Journal,
    /// Behind the session's seal.
    Sealed,
}

impl Reader {
    /// Opens the record of `session` in a records directory.
    ///
    /// # Errors
    /// There is none, or it cannot be read.
    pub fn open(directory: &Path, session: SessionId) -> Result<Self, RecordError> {
        Self::open_at(directory, session, 0)
    }

    /// As [`Reader::open`], from frame `from` on; blocks before it are not read. For following a record that grows.
    pub fn open_at(directory: &Path, session: SessionId, from: u64) -> Result<Self, RecordError> {
        let layout = Layout::found_at(directory);
        // The journal comes first: what the writer takes out of it meanwhile is in the segments, which come after.
        let journals: VecDeque<_> = journal::read(&layout, session)?.into();
        let mut reader = Self {
            session,
            seed: Seed::new(session),
            started: journals.front().map_or(0, |journal| journal.header.started),
            from,
            segment: 0,
            scan: None,
            sealed_name: false,
            before: [0; 32],
            unchained: false,
            journals,
            block: Bytes::new(),
            number: 0,
            ahead: None,
            stage: Stage::Segments,
            over: false,
            layout,
        };
        if !reader.open_segment()? && reader.journals.is_empty() {
            return Err(RecordError::NotFound {
                session,
                directory: directory.to_owned(),
            });
        }
        Ok(reader)
    }

    /// The session.
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// When the session began, by the host's wall clock.
    pub fn started(&self) -> chrono::DateTime<chrono::Utc> {
        date(self.started)
    }

    /// Whether the end that was reached is the session's seal. `false` before the end, and where the record was
    /// still open: more frames may come.
    pub fn is_sealed(&self) -> bool {
        self.stage == Stage::Sealed
    }

    /// The next frame, as it was written.
    fn piece(&mut self) -> Result<Option<Frame>, RecordError> {
        loop {
            if self.block.is_empty() && !self.next_block()? {
                return Ok(None);
            }
            let (header, payload, rest) = match split_frame(self.seed, self.number, &self.block) {
                Ok(split) => split,
                Err(error) => return Err(self.damaged(format!("frame {}: {error}", self.number))),
            };
            let (payload, rest) = (self.block.slice_ref(payload), self.block.slice_ref(rest));
            let number = self.number;
            self.block = rest;
            self.number += 1;
            if number < self.from {
                continue;
            }
            let elapsed = i64::try_from(header.elapsed).unwrap_or(i64::MAX);
            return Ok(Some(Frame {
                number,
                elapsed: header.elapsed,
                time: date(self.started.saturating_add(elapsed)),
                kind: header.kind,
                direction: header.direction,
                continued: header.continued,
                bytes: payload,
            }));
        }
    }

    fn whole(&mut self) -> Result<Option<Frame>, RecordError> {
        let first = match self.ahead.take() {
            Some(frame) => Some(frame),
            None => self.piece()?,
        };
        let Some(mut first) = first else { return Ok(None) };
        if !first.continued || matches!(first.kind, FrameKind::ClientBytes | FrameKind::ServerBytes) {
            return Ok(Some(first));
        }
        let mut joined = BytesMut::from(first.bytes.as_ref());
        while first.continued {
            match self.piece()? {
                Some(next) if next.kind == first.kind => {
                    if joined.len() + next.bytes.len() > JOINED {
                        return Err(self.damaged(format!("frame {} is too long", first.number)));
                    }
                    joined.extend_from_slice(&next.bytes);
                    first.continued = next.continued;
                }
                other => {
                    self.ahead = other;
                    break;
                }
            }
        }
        first.bytes = joined.freeze();
        Ok(Some(first))
    }

    /// Puts the next frames into `block`. `false`: there are none.
    fn next_block(&mut self) -> Result<bool, RecordError> {
        loop {
            if self.stage == Stage::Sealed {
                return Ok(false);
            }
            if self.stage == Stage::Journal || self.scan.is_none() && !self.open_segment()? {
                return self.next_journal();
            }
            let Some(scan) = &mut self.scan else {
                return Ok(false);
            };
            match scan.next()? {
                Next::Block(block) => {
                    if !block.intact && !self.unchained {
                        return Err(self.damaged(format!("the block at byte {} was changed", block.offset)));
                    }
                    match block.header.kind {
                        BlockKind::Data => {
                            if self.unchained {
                                self.number = self.number.max(block.header.first_frame);
                            }
                            if block.header.first_frame != self.number {
                                return Err(self.damaged(format!("frame {} is missing", self.number)));
                            }
                            let raw = unpack(&block.header, block.stored);
                            let Some(raw) = raw else {
                                return Err(
                                    self.damaged(format!("the block at byte {} is damaged", block.offset))
                                );
                            };
                            self.block = raw.into();
                            return Ok(true);
                        }
                        BlockKind::Checkpoint => {}
                        BlockKind::SegmentEnd => {
                            self.before = block.chain;
                            self.segment += 1;
                            self.scan = None;
                        }
                        BlockKind::SessionEnd => self.stage = Stage::Sealed,
                    }
                }
                Next::Malformed => {
                    let offset = scan.offset();
                    return Err(self.damaged(format!("there is no block at byte {offset}")));
                }
                Next::End { .. } | Next::Torn if self.sealed_name => {
                    return Err(self.damaged("it is cut".to_owned()));
                }
                Next::End { .. } | Next::Torn => return self.next_journal(),
            }
        }
    }

    fn next_journal(&mut self) -> Result<bool, RecordError> {
        self.stage = Stage::Journal;
        self.scan = None;
        while let Some(journal) = self.journals.pop_front() {
            let mut at = journal.header.first_frame;
            let first_wanted = self.number;
            if self.from > 0 && self.number < at && self.from >= at {
                self.number = at;
            }
            if at > self.number {
                return Err(self.damaged(format!("frames {} to {} are missing", self.number, at - 1)));
            }
            let frames = Bytes::from(journal.frames);
            let mut rest = frames.as_ref();
            while at < first_wanted && !rest.is_empty() {
                rest = split_frame(self.seed, at, rest)
                    .map_err(|error| self.damaged(format!("frame {at} in the journal: {error}")))?
                    .2;
                at += 1;
            }
            if !rest.is_empty() {
                self.block = frames.slice_ref(rest);
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Opens the next segment; `false`: there is none.
    fn open_segment(&mut self) -> Result<bool, RecordError> {
        let path = |sealed| self.layout.segment(self.session, self.segment, sealed);
        // An unfinished segment can get its final name between the two looks; then the third finds it.
        let mut found = None;
        for sealed in [true, false, true] {
            match Scan::open(&path(sealed)) {
                Ok(Some(scan)) => {
                    found = Some((scan, sealed));
                    break;
                }
                Ok(None) => {}
                // The header of an unfinished segment may be on its way.
                Err(RecordError::Damaged { .. }) if !sealed => {}
                Err(error) => return Err(error),
            }
        }
        let Some((mut scan, sealed)) = found else {
            return Ok(false);
        };
        let header = *scan.header();
        let follows = header.session == self.session
            && header.segment == self.segment
            && (header.before == self.before || self.unchained);
        if !follows {
            return Err(RecordError::damaged(
                scan.path(),
                "it is not the next segment of its session",
            ));
        }
        if self.from > self.number {
            scan.skip_to(self.from)?;
            self.unchained = true;
        }
        self.started = header.started;
        self.sealed_name = sealed;
        self.scan = Some(scan);
        Ok(true)
    }

    fn damaged(&self, message: String) -> RecordError {
        match &self.scan {
            Some(scan) => RecordError::damaged(scan.path(), message),
            None => RecordError::damaged(&self.layout.segment(self.session, self.segment, true), message),
        }
    }
}

impl Iterator for Reader {
    type Item = Result<Frame, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let frame = self.whole();
        self.over = !matches!(frame, Ok(Some(_)));
        frame.transpose()
    }
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader")
            .field("session", &self.session)
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}
