//! Objects and arrays: which of the masks are about what comes next.

use crate::mask::{JsonValue, MaskId, Step};

use super::{DEEPEST, Dropped, Expect, Frame, Hold, Json, Lex, Piece, Unmaskable};

impl Json {
    /// The mask of the value that begins, and its states in `next_states`.
    pub(super) fn mask_of_next(&mut self) -> Option<MaskId> {
        if self.dropped.is_some() {
            return None;
        }
        match self.expect {
            Expect::MemberValue => self.next_mask.take(),
            Expect::FirstElement | Expect::Element => {
                let frame = self.stack.last_mut()?;
                let index = frame.elements;
                frame.elements += 1;
                let live = frame.live;
                self.step(live, Step::Element(index))
            }
            _ => {
                self.next_states.clear();
                self.masks.names().document(&mut self.next_states)
            }
        }
    }

    /// Goes one step down from the innermost frame.
    pub(super) fn step(&mut self, live: bool, step: Step<'_>) -> Option<MaskId> {
        self.next_states.clear();
        if !live {
            return None;
        }
        let from = self.states.len() - self.words;
        let from = self.states.get(from..).unwrap_or_default();
        self.masks.names().step(from, step, &mut self.next_states)
    }

    pub(super) fn open(
        &mut self,
        object: bool,
        mask: Option<MaskId>,
        piece: &mut Piece<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), Unmaskable> {
        if self.stack.len() >= DEEPEST {
            return Err(Unmaskable::TooLarge(
                "more than 2048 objects and arrays in one another",
            ));
        }
        self.hold = Hold::Pass;
        if let Some(id) = mask {
            self.pass(piece.since(piece.run, piece.at), out);
            piece.run = piece.at;
            self.dropped = Some(Dropped {
                depth: self.stack.len(),
                id,
                hash: self.masks.hasher(),
            });
        }
        let live = self.dropped.is_none() && self.next_states.iter().any(|word| *word != 0);
        if self.dropped.is_none() && !self.next_states.is_empty() {
            self.states.extend_from_slice(&self.next_states);
        } else {
            self.states.resize(self.states.len() + self.words, 0);
        }
        self.stack.push(Frame {
            object,
            elements: 0,
            live,
        });
        self.expect = if object {
            Expect::FirstMember
        } else {
            Expect::FirstElement
        };
        piece.at += 1;
        Ok(())
    }

    /// The end of an object or array; `piece.at` is behind it.
    pub(super) fn close(&mut self, piece: &mut Piece<'_>, out: &mut Vec<u8>) {
        self.stack.pop();
        self.states.truncate(self.stack.len() * self.words);
        if self
            .dropped
            .as_ref()
            .is_some_and(|dropped| dropped.depth == self.stack.len())
        {
            self.pass(piece.since(piece.run, piece.at), out);
            piece.run = piece.at;
            if let Some(Dropped { id, hash, .. }) = self.dropped.take() {
                self.masks.mask_json(id, JsonValue::Whole(&hash.finish()), out);
                self.counts.named(id);
            }
        }
        self.value_ended();
    }

    pub(super) fn value_ended(&mut self) {
        self.lex = Lex::Between;
        self.hold = Hold::Pass;
        self.expect = match self.stack.last() {
            None => Expect::Document,
            Some(Frame { object: true, .. }) => Expect::AfterMember,
            Some(Frame { object: false, .. }) => Expect::AfterElement,
        };
    }
}
