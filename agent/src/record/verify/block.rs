//! Checks one block of a session: its place, its chain, its frames, its signature.

use std::path::Path;

use super::session::{Check, Stop};
use super::{Problem, ProblemKind};
use crate::model::{FrameKind, SessionId};
use crate::record::block::{BlockKind, Checkpoint, unpack};
use crate::record::frame::{Seed, split_frame};
use crate::record::scan::Block;

impl Check<'_> {
    pub(super) fn block(&mut self, block: &Block, path: &Path) -> Result<(), Stop> {
        let header = &block.header;
        let at = Some(block.offset);
        if header.number != self.blocks || header.first_frame != self.frames {
            let (kind, message) = if header.number > self.blocks {
                (
                    ProblemKind::Cut,
                    format!("blocks {} to {} are gone", self.blocks, header.number - 1),
                )
            } else {
                let message = format!(
                    "block {} stands where block {} belongs",
                    header.number, self.blocks
                );
                (ProblemKind::Reordered, message)
            };
            // Numbers alone are no proof: a changed byte in a number looks the same, and is named as what it is.
            if block.intact || header.number != self.blocks {
                return Err(self.problem(kind, path, at, message));
            }
        }
        if !block.intact {
            return Err(self.changed(block, path));
        }
        match header.kind {
            BlockKind::Data => self.frames_of(block, path)?,
            BlockKind::Checkpoint | BlockKind::SegmentEnd | BlockKind::SessionEnd => {
                self.signature(block, path)?;
            }
        }
        self.blocks += 1;
        let mark = self
            .entered
            .and_then(|entered| entered.marks.iter().find(|mark| mark.count == header.number));
        if mark.is_some_and(|mark| mark.value != block.chain) {
            let message = "the record up to here is not the one that the ledger marked: it was rewritten";
            return Err(self.problem(ProblemKind::Edited, path, at, message));
        }
        Ok(())
    }

    /// Names the first frame of a block that does not follow from what stands before it.
    fn changed(&self, block: &Block, path: &Path) -> Stop {
        let mut problem = Problem {
            kind: ProblemKind::Edited,
            session: Some(self.session),
            file: path.to_owned(),
            offset: Some(block.offset),
            frame: Some(self.frames),
            message: "the block does not follow from what stands before it: it was changed, or taken from elsewhere".to_owned(),
        };
        if block.header.kind == BlockKind::Data
            && let Some(raw) = unpack(&block.header, block.stored.clone())
        {
            let (mut good, mut bytes) = (0, raw.as_slice());
            while let Ok((_, _, rest)) = split_frame(self.seed, self.frames + good, bytes) {
                (good, bytes) = (good + 1, rest);
            }
            problem.frame = Some(self.frames + good);
            if good == 0
                && let Some(origin) = self.origin(block.header.first_frame, &raw)
            {
                problem.kind = ProblemKind::Spliced;
                problem.message = format!("the block was taken from session {origin}");
            }
        }
        Stop::Problem(Box::new(problem))
    }

    fn frames_of(&mut self, block: &Block, path: &Path) -> Result<(), Stop> {
        let at = block.offset;
        let Some(raw) = unpack(&block.header, block.stored.clone()) else {
            let message = "the block cannot be unpacked";
            return Err(self.problem(ProblemKind::Edited, path, Some(at), message));
        };
        let mut bytes = raw.as_slice();
        for _ in 0..block.header.frames {
            let (header, payload, rest) = match split_frame(self.seed, self.frames, bytes) {
                Ok(split) => split,
                Err(error) => {
                    let (kind, message) = match self.origin(self.frames, bytes) {
                        Some(origin) => (
                            ProblemKind::Spliced,
                            format!("the frame was taken from session {origin}"),
                        ),
                        None => (ProblemKind::Edited, format!("frame {}: {error}", self.frames)),
                    };
                    return Err(self.problem(kind, path, Some(at), message));
                }
            };
            self.take_frame(header.kind, header.continued, payload, path, at)?;
            bytes = rest;
        }
        if !bytes.is_empty() {
            let message = "the block holds more than its frames";
            return Err(self.problem(ProblemKind::Edited, path, Some(at), message));
        }
        Ok(())
    }

    /// The session of this host whose frame `number` stands at the front of `bytes`.
    fn origin(&self, number: u64, bytes: &[u8]) -> Option<SessionId> {
        let present = self.layout.segments().unwrap_or_default();
        let known = self
            .ledger
            .iter()
            .flat_map(|ledger| ledger.sessions.keys().copied());
        known
            .chain(present.into_iter().map(|file| file.session))
            .find(|session| split_frame(Seed::new(*session), number, bytes).is_ok())
    }

    /// Counts a frame, and holds the Open frame against the ledger.
    pub(super) fn take_frame(
        &mut self,
        kind: FrameKind,
        continued: bool,
        payload: &[u8],
        path: &Path,
        at: u64,
    ) -> Result<(), Stop> {
        if let Some(mut hasher) = self.open.take() {
            hasher.update(payload);
            let expected = self
                .entered
                .and_then(|entered| entered.open)
                .map(|open| open.value);
            if kind == FrameKind::Open && continued {
                self.open = Some(hasher);
            } else if expected.is_some_and(|expected| hasher.finalize() != expected) {
                let message = "the session's first frame is not the one that the ledger names";
                return Err(self.problem(ProblemKind::Edited, path, Some(at), message));
            }
        }
        self.frames += 1;
        Ok(())
    }

    fn signature(&mut self, block: &Block, path: &Path) -> Result<(), Stop> {
        let at = Some(block.offset);
        let wrong = |check: &Self, kind, message: &str| {
            let mut stop = check.problem(kind, path, at, message);
            if let Stop::Problem(problem) = &mut stop {
                problem.frame = Some(check.signed);
            }
            Err(stop)
        };
        let Some(checkpoint) = Checkpoint::decode(&block.stored) else {
            return wrong(self, ProblemKind::Edited, "the checkpoint is malformed");
        };
        if let Some(ledger) = self.ledger {
            let key = usize::try_from(checkpoint.epoch)
                .ok()
                .and_then(|epoch| ledger.keys.get(epoch));
            if key != Some(&checkpoint.key) {
                return wrong(
                    self,
                    ProblemKind::WrongKey,
                    "the key that signed is not one of the host's",
                );
            }
            let over = self
                .entered
                .and_then(|entered| entered.close)
                .map_or(u32::MAX, |close| close.epoch);
            if checkpoint.epoch < self.epoch || checkpoint.epoch > over {
                return wrong(
                    self,
                    ProblemKind::WrongKey,
                    "the key that signed is not of the time of the session",
                );
            }
        }
        self.epoch = checkpoint.epoch;
        if !checkpoint.is_signed(self.session, self.segment, &block.header, &block.before) {
            let message = "the signature does not cover what stands before it since the last one: that was changed, \
                           or another key signed";
            return wrong(self, ProblemKind::Edited, message);
        }
        self.signed = self.frames;
        Ok(())
    }
}
