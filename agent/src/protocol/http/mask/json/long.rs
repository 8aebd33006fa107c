//! Strings that are too long to be had whole: detectors look at their characters, and what they find is overwritten; the rest
//! stays as it is written.

use crate::mask::{Masks, Stars};

use super::escape::{self, Unit};

/// A long string, without its quotes.
#[derive(Debug, Default)]
pub(super) struct LongString {
    stars: Stars,
    /// What has not been given on, as it is written.
    written: Vec<u8>,
    /// How much of `written` the detectors have seen.
    seen: usize,
    /// Characters that the detectors have decided on, and that do not end an escape yet.
    decided: Vec<u8>,
}

impl LongString {
    /// Takes the next piece and appends to `out` what is certain by now.
    pub(super) fn push(
        &mut self,
        masks: &Masks,
        piece: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), &'static str> {
        self.written.extend_from_slice(piece);
        self.look(masks, false)?;
        self.give(out)
    }

    /// Takes the last piece. Gives the number of hits of the whole string.
    pub(super) fn finish(
        mut self,
        masks: &Masks,
        piece: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<u32, &'static str> {
        self.written.extend_from_slice(piece);
        self.look(masks, true)?;
        let stars = std::mem::take(&mut self.stars);
        let hits = stars.finish(masks, &mut self.decided);
        self.give(out)?;
        Ok(hits)
    }

    /// Shows the detectors the characters of what is written, as far as escapes are whole.
    fn look(&mut self, masks: &Masks, last: bool) -> Result<(), &'static str> {
        loop {
            let rest = self.written.get(self.seen..).unwrap_or_default();
            let plain = memchr::memchr(b'\\', rest).unwrap_or(rest.len());
            let (text, escape) = rest.split_at_checked(plain).unwrap_or((rest, &[]));
            self.stars.push(masks, text, &mut self.decided);
            self.seen += plain;
            if escape.is_empty() {
                return Ok(());
            }
            let Some(unit) = whole(escape, last)? else {
                return Ok(());
            };
            let mut buffer = [0; 4];
            let character = unit.character.encode_utf8(&mut buffer);
            self.stars.push(masks, character.as_bytes(), &mut self.decided);
            self.seen += unit.written;
        }
    }

    /// Gives on what is decided: as it is written where it has not been overwritten.
    fn give(&mut self, out: &mut Vec<u8>) -> Result<(), &'static str> {
        let mut given = 0;
        let mut used = 0;
        loop {
            let decided = self.decided.get(used..).unwrap_or_default();
            let written = self.written.get(given..self.seen).unwrap_or_default();
            if decided.is_empty() || written.is_empty() {
                break;
            }
            let plain = memchr::memchr(b'\\', written).unwrap_or(written.len());
            let both = plain.min(decided.len());
            out.extend_from_slice(decided.get(..both).unwrap_or_default());
            given += both;
            used += both;
            if both < plain || plain == written.len() {
                continue;
            }
            let Some(unit) = whole(written.get(plain..).unwrap_or_default(), true)? else {
                break;
            };
            let mut buffer = [0; 4];
            let character = unit.character.encode_utf8(&mut buffer).as_bytes();
            let Some(now) = self.decided.get(used..used + character.len()) else {
                break;
            };
            if now == character {
                out.extend_from_slice(self.written.get(given..given + unit.written).unwrap_or_default());
            } else {
                out.resize(out.len() + character.len(), b'*');
            }
            given += unit.written;
            used += character.len();
        }
        self.decided.drain(..used);
        self.written.drain(..given);
        self.seen -= given;
        Ok(())
    }
}

/// The escape that `text` begins with; `last`: nothing follows, so that a half of a pair stands alone.
fn whole(text: &[u8], last: bool) -> Result<Option<Unit>, &'static str> {
    match escape::unit(text)? {
        None if last && text.len() >= 6 => Ok(Some(Unit {
            written: 6,
            character: char::REPLACEMENT_CHARACTER,
        })),
        None if last => Err("an escape is not whole"),
        unit => Ok(unit),
    }
}
