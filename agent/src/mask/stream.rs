//! Detectors over a value that comes in pieces.
//!
//! The value is looked at in blocks of fixed size whatever the pieces, each with some of the text before it. Of a block
//! only what has [`AHEAD`] bytes behind it is decided; the rest waits for more.

#[cfg(test)]
mod tests;

use super::detect::{AHEAD, BEFORE, Detectors, Scan, resume};
use crate::config::Detector;

/// Undecided bytes at which a block is looked at: the most that is held back. Each byte is looked at less than twice.
const BLOCK: usize = 48 * 1024;

/// Detectors over a value that arrives in pieces and must keep its length (its length is already on the wire).
///
/// Holds back at most 64 KiB: what could still become a hit.
#[derive(Debug)]
pub struct DetectStream<'a> {
    detectors: &'a Detectors,
    /// Up to [`BEFORE`] bytes that are decided, then those that are not.
    window: Vec<u8>,
    /// How many bytes of `window` are decided.
    decided: usize,
    /// The detector of a hit that reaches to `decided` and goes on.
    open: Option<Detector>,
    hits: u32,
}

impl<'a> DetectStream<'a> {
    pub(super) fn new(detectors: &'a Detectors) -> Self {
        Self {
            detectors,
            window: Vec::new(),
            decided: 0,
            open: None,
            hits: 0,
        }
    }

    /// Takes the next piece and appends to `out` what is certain by now; hits are overwritten with `*`.
    pub fn push(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        if self.detectors.is_empty() {
            out.extend_from_slice(piece);
            return;
        }
        let mut rest = piece;
        while !rest.is_empty() {
            let room = BLOCK.saturating_sub(self.window.len() - self.decided);
            let (now, later) = rest.split_at_checked(room).unwrap_or((rest, &[]));
            self.window.extend_from_slice(now);
            rest = later;
            if self.window.len() - self.decided >= BLOCK {
                let certain = self.window.len() - AHEAD;
                self.decide(certain, out);
                let known = self.decided.saturating_sub(BEFORE);
                self.window.drain(..known);
                self.decided -= known;
            }
        }
    }

    /// Ends the value: appends the rest. Gives the number of hits of the whole value.
    pub fn finish(mut self, out: &mut Vec<u8>) -> u32 {
        self.decide(self.window.len(), out);
        self.hits
    }

    /// Decides everything that begins before `certain`.
    fn decide(&mut self, certain: usize, out: &mut Vec<u8>) {
        let text = self.window.as_slice();
        let mut scan = Scan::new(self.detectors, text);
        while self.decided < certain {
            let hit = if let Some(detector) = self.open.take() {
                resume(detector, text, self.decided)
            } else if let Some(hit) = scan.next(self.decided).filter(|hit| hit.start < certain) {
                self.hits = self.hits.saturating_add(1);
                hit
            } else {
                out.extend_from_slice(text.get(self.decided..certain).unwrap_or_default());
                self.decided = certain;
                return;
            };
            out.extend_from_slice(text.get(self.decided..hit.start).unwrap_or_default());
            out.resize(out.len() + (hit.end - hit.start), b'*');
            self.decided = hit.end;
            self.open = hit.open.then_some(hit.detector);
        }
    }
}
