//! Strings: names of members, and values that are kept, masked or too long to be kept.

use crate::mask::{JsonValue, MaskId, Step, earlier};

use super::{Expect, Hold, Json, LONGEST_STRING, Lex, LongString, Piece, TOO_LONG_NAME, Unmaskable, escape};

impl Json {
    pub(super) fn string(
        &mut self,
        name: bool,
        mut escapes: bool,
        mut escaping: bool,
        piece: &mut Piece<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), Unmaskable> {
        loop {
            if escaping {
                if piece.peek().is_none() {
                    break;
                }
                piece.at += 1;
                escaping = false;
            }
            match piece.skip_plain() {
                None => break,
                Some(b'\\') => {
                    escapes = true;
                    escaping = true;
                    piece.at += 1;
                }
                Some(b'"') => {
                    piece.at += 1;
                    return self.end_of_string(name, escapes, piece, out);
                }
                Some(_) => return Err(self.malformed("a string has a control character", piece.at)),
            }
        }
        self.lex = Lex::String {
            name,
            escapes,
            escaping,
        };
        Ok(())
    }

    pub(super) fn end_of_string(
        &mut self,
        name: bool,
        escapes: bool,
        piece: &mut Piece<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), Unmaskable> {
        match std::mem::replace(&mut self.hold, Hold::Pass) {
            Hold::Pass => {}
            Hold::Keep(mask) => self.end_of_kept_string(name, escapes, mask, piece, out)?,
            Hold::Scan(long) => {
                let last = piece.since(piece.run, piece.at - 1);
                let masks = self.masks.clone();
                let hits = long
                    .finish(&masks, last, out)
                    .map_err(|why| self.malformed(why, piece.at))?;
                self.counts.found("body", hits.into());
                piece.run = piece.at - 1;
            }
            Hold::Drop(id, mut hash) => {
                hash.update(piece.since(piece.run, piece.at - 1));
                piece.run = piece.at;
                self.masks.mask_json(id, JsonValue::Whole(&hash.finish()), out);
                self.counts.named(id);
            }
        }
        if name {
            self.lex = Lex::Between;
            self.expect = Expect::Colon;
        } else {
            self.value_ended();
        }
        Ok(())
    }

    pub(super) fn end_of_kept_string(
        &mut self,
        name: bool,
        escapes: bool,
        mask: Option<MaskId>,
        piece: &mut Piece<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), Unmaskable> {
        let spilled;
        let raw = match piece.held_from {
            Some(start) => piece.since(start, piece.at),
            None => {
                let mut token = std::mem::take(&mut self.token);
                token.extend_from_slice(piece.since(0, piece.at));
                spilled = token;
                spilled.as_slice()
            }
        };
        if raw.len() > LONGEST_STRING && name {
            return Err(TOO_LONG_NAME);
        }
        let inner = raw.get(1..raw.len().saturating_sub(1)).unwrap_or_default();
        let mut written = std::mem::take(&mut self.scratch);
        written.clear();
        let replaced = if raw.len() > LONGEST_STRING {
            self.long_string(mask, inner, &mut written)
                .map_err(|why| self.malformed(why, piece.at))?
        } else {
            let decoded;
            let text = if escapes {
                decoded = escape::decoded(inner).map_err(|why| self.malformed(why, piece.at))?;
                decoded.as_slice()
            } else {
                inner
            };
            if name {
                self.name(text, piece.at)?;
            }
            match mask {
                Some(id) => {
                    self.masks.mask_json(id, JsonValue::String(text), &mut written);
                    self.counts.named(id);
                    true
                }
                None => self.detect && self.detected(text, &mut written) > 0,
            }
        };
        let start = piece.held_from.take();
        if replaced {
            if let Some(start) = start {
                self.pass(piece.since(piece.run, start), out);
            }
            out.extend_from_slice(&written);
            piece.run = piece.at;
        } else if start.is_none() {
            out.extend_from_slice(raw);
            piece.run = piece.at;
        }
        self.scratch = written;
        Ok(())
    }

    /// A long string that came in one piece: as one that came in many.
    pub(super) fn long_string(
        &mut self,
        mask: Option<MaskId>,
        inner: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<bool, &'static str> {
        if let Some(id) = mask {
            let mut hash = self.masks.hasher();
            hash.update(inner);
            self.masks.mask_json(id, JsonValue::Whole(&hash.finish()), out);
            self.counts.named(id);
            return Ok(true);
        }
        out.push(b'"');
        let hits = LongString::default().finish(&self.masks, inner, out)?;
        out.push(b'"');
        self.counts.found("body", hits.into());
        Ok(hits > 0)
    }

    /// A member's name: what its value is masked by.
    pub(super) fn name(&mut self, name: &[u8], at: usize) -> Result<(), Unmaskable> {
        let Ok(name) = std::str::from_utf8(name) else {
            return Err(self.malformed("a name is no UTF-8", at));
        };
        let live = self.stack.last().is_some_and(|frame| frame.live);
        let by_path = self.step(live, Step::Member(name));
        self.next_mask = earlier(by_path, self.masks.names().key(name));
        Ok(())
    }
}
