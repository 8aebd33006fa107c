//! Seals what an agent that was killed left: every frame that it acknowledged, and a Close frame that says so.

use std::collections::BTreeSet;

use parking_lot::Mutex;

use super::block::BLOCK_BYTES;
use super::frame::{FRAME_HEADER, FrameHeader, Seed, split_frame};
use super::journal::{self, Journal};
use super::layout::Layout;
use super::meta::{CloseMeta, GapMeta};
use super::notary::Notary;
use super::sealer::{Packer, Sealer, Terms};
use super::{RecordError, now};
use crate::model::{Direction, FrameKind, SessionId};

/// A session that was found without an end.
#[derive(Clone, Debug)]
pub struct Recovered {
    /// The session.
    pub session: SessionId,
    /// Frames that the record has now.
    pub frames: u64,
    /// Why it could not be sealed: its files were changed by somebody. They are left as they are.
    pub damaged: Option<RecordError>,
}

/// Seals every session that has a journal or an unfinished segment.
pub(super) fn recover(
    layout: &Layout,
    notary: &Mutex<Notary>,
    terms: Terms,
) -> Result<Vec<Recovered>, RecordError> {
    let journals = layout.journal_files()?.into_iter().map(|(session, _)| session);
    let unfinished = layout.segments()?.into_iter().filter(|file| !file.sealed);
    let sessions: BTreeSet<_> = journals.chain(unfinished.map(|file| file.session)).collect();
    let mut packer = Packer::new()?;
    let mut recovered = Vec::new();
    for session in sessions {
        let terms = Terms { session, ..terms };
        let (frames, damaged) = match recover_one(layout, notary, terms, &mut packer) {
            Ok(Some(frames)) => (frames, None),
            Ok(None) => continue,
            Err(error @ RecordError::Damaged { .. }) => {
                tracing::error!(%session, %error, "a record that was left open was changed; it is not touched");
                (0, Some(error))
            }
            Err(error) => return Err(error),
        };
        recovered.push(Recovered {
            session,
            frames,
            damaged,
        });
    }
    Ok(recovered)
}

/// `Ok(None)`: the agent was killed before it began.
fn recover_one(
    layout: &Layout,
    notary: &Mutex<Notary>,
    mut terms: Terms,
    packer: &mut Packer,
) -> Result<Option<u64>, RecordError> {
    let journals = journal::read(layout, terms.session)?;
    if let Some(journal) = journals.first() {
        terms.started = journal.header.started;
    }
    let mut sealer = Sealer::resume(layout, terms)?;
    let known = notary.lock().knows(terms.session);
    if journals.is_empty() && sealer.frames() == 0 && !known {
        journal::remove(layout, terms.session)?;
        return Ok(None);
    }
    if !sealer.is_open() {
        sealer.finish(notary, false)?;
        journal::remove(layout, terms.session)?;
        return Ok(Some(sealer.frames()));
    }
    let left = collect(terms.session, sealer.frames(), &journals);
    if !known && sealer.frames() == 0 {
        notary
            .lock()
            .opened(terms.session, *blake3::hash(&left.open).as_bytes())?;
    }
    for (raw, frames) in left.blocks {
        sealer.write(packer, notary, &raw, frames)?;
    }
    let mut last = Closing {
        seed: Seed::new(terms.session),
        number: sealer.frames(),
        elapsed: u64::try_from(now().saturating_sub(terms.started)).unwrap_or(0),
        raw: Vec::new(),
        frames: 0,
    };
    if let Some(reason) = left.gap {
        last.add(
            FrameKind::Gap,
            &serde_json::json!(GapMeta { reason, bytes: None }),
        );
    }
    if !left.closed {
        let close = CloseMeta {
            reason: CloseMeta::KILLED.to_owned(),
            ..CloseMeta::default()
        };
        last.add(FrameKind::Close, &serde_json::json!(close));
    }
    if last.frames > 0 {
        sealer.write(packer, notary, &last.raw, last.frames)?;
    }
    sealer.finish(notary, !left.closed)?;
    journal::remove(layout, terms.session)?;
    Ok(Some(sealer.frames()))
}

/// Frames of the journals that are not in the record.
#[derive(Default)]
struct Left {
    /// Blocks' worth of frames, and how many.
    blocks: Vec<(Vec<u8>, u32)>,
    /// JSON of the Open frame, where it is among them.
    open: Vec<u8>,
    /// Whether a Close frame is the last.
    closed: bool,
    /// What is wrong with them.
    gap: Option<String>,
}

fn collect(session: SessionId, sealed: u64, journals: &[Journal]) -> Left {
    let seed = Seed::new(session);
    let mut left = Left::default();
    let mut number = sealed;
    let (mut opening, mut continued) = (true, false);
    if journals.is_empty() {
        left.gap = Some("the journal of this session is gone: frames may be missing here".to_owned());
    }
    for journal in journals {
        let mut at = journal.header.first_frame;
        if at > number {
            left.gap = Some(format!("frames {number} to {} are missing here", at - 1));
            return left;
        }
        let mut bytes = journal.frames.as_slice();
        let (mut block, mut frames) = (Vec::new(), 0);
        while !bytes.is_empty() {
            let Ok((header, payload, rest)) = split_frame(seed, at, bytes) else {
                left.gap = Some(format!(
                    "frame {at} and what followed it were damaged in the journal"
                ));
                break;
            };
            let len = bytes.len() - rest.len();
            if at >= number {
                if block.len() + len > BLOCK_BYTES {
                    left.blocks.push((std::mem::take(&mut block), frames));
                    frames = 0;
                }
                block.extend(bytes.iter().take(len));
                frames += 1;
                number = at + 1;
                if opening && header.kind == FrameKind::Open {
                    left.open.extend(payload);
                    opening = header.continued;
                }
            }
            // Of frames that are in the record already, too: the kill may have come right behind the Close frame's block.
            left.closed = header.kind == FrameKind::Close && !header.continued;
            continued = header.continued;
            bytes = rest;
            at += 1;
        }
        if frames > 0 {
            left.blocks.push((block, frames));
        }
        if left.gap.is_some() {
            return left;
        }
    }
    if continued {
        left.gap = Some("the last frame is cut: the rest of it was not acknowledged".to_owned());
    }
    left
}

/// Frames that say how a record ended.
struct Closing {
    seed: Seed,
    number: u64,
    elapsed: u64,
    raw: Vec<u8>,
    frames: u32,
}

impl Closing {
    fn add(&mut self, kind: FrameKind, json: &serde_json::Value) {
        let payload = json.to_string();
        let header = FrameHeader {
            len: u32::try_from(payload.len()).unwrap_or(u32::MAX),
            elapsed: self.elapsed,
            kind,
            direction: Direction::ToClient,
            continued: false,
        };
        self.raw.reserve(FRAME_HEADER + payload.len());
        let head = header.encode(self.seed, self.number, std::iter::once(payload.as_bytes()));
        self.raw.extend(head);
        self.raw.extend(payload.as_bytes());
        self.number += 1;
        self.frames += 1;
    }
}
