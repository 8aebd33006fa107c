//! Detectors over a value that comes in pieces.
//!
//! The value is looked at in blocks of fixed size whatever the pieces, each with some of the text before it. Of a block
//! only what has [`AHEAD`] bytes behind it is decided; the rest waits for more.

#[cfg(test)]
mod tests;

use memchr::memmem;

use super::Masks;
use super::detect::{AHEAD, BEFORE, Detectors, Hit, Scan, resume};
use crate::config::Detector;

/// Undecided bytes at which a block is looked at: the most that is held back. Each byte is looked at less than twice.
const BLOCK: usize = 48 * 1024;

/// Detectors over a value that arrives in pieces and must keep its length (its length is already on the wire).
///
/// Holds back at most 64 KiB: what could still become a hit.
#[derive(Debug)]
pub struct DetectStream<'a> {
    detectors: &'a Detectors,
    window: Window,
}

impl<'a> DetectStream<'a> {
    pub(super) fn new(detectors: &'a Detectors) -> Self {
        Self {
            detectors,
            window: Window::default(),
        }
    }

    /// Takes the next piece and appends to `out` what is certain by now; hits are overwritten with `*`.
    pub fn push(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        self.window.push(self.detectors, piece, out, &mut stars);
    }

    /// Ends the value: appends the rest. Gives the number of hits of the whole value.
    pub fn finish(mut self, out: &mut Vec<u8>) -> u32 {
        self.window.finish(self.detectors, out, &mut stars);
        self.window.hits
    }
}

/// As [`DetectStream`], without a hold on its masks: they are given with each piece, and have to be the same ones.
#[derive(Debug, Default)]
pub struct Stars(Window);

impl Stars {
    /// As [`DetectStream::push`].
    pub fn push(&mut self, masks: &Masks, piece: &[u8], out: &mut Vec<u8>) {
        self.0.push(&masks.detectors, piece, out, &mut stars);
    }

    /// As [`DetectStream::finish`].
    pub fn finish(mut self, masks: &Masks, out: &mut Vec<u8>) -> u32 {
        self.0.finish(&masks.detectors, out, &mut stars);
        self.0.hits
    }
}

/// Detectors over a text that arrives in pieces and may change its length: hits become what their operators make of them.
///
/// A hit of more than 16 KiB is never had whole and becomes the detector's marker, whatever its operator. The masks are
/// given with each piece, and have to be the same ones.
#[derive(Debug, Default)]
pub struct TextStream(Window);

impl TextStream {
    /// Takes the next piece and appends to `out` what is certain by now.
    pub fn push(&mut self, masks: &Masks, piece: &[u8], out: &mut Vec<u8>) {
        self.0
            .push(&masks.detectors, piece, out, &mut |hit, text, first, out| {
                replaced(masks, hit, text, first, out);
            });
    }

    /// Appends the lines that are whole, for a reader who waits for them. No detector but that of private keys looks
    /// beyond the end of a line; so a line is only held back where a key has begun.
    pub fn flush(&mut self, masks: &Masks, out: &mut Vec<u8>) {
        let Some(certain) = self.0.whole_lines() else {
            return;
        };
        self.0
            .decide(&masks.detectors, certain, out, &mut |hit, text, first, out| {
                replaced(masks, hit, text, first, out);
            });
        self.0.forget();
    }

    /// Ends the text: appends the rest.
    pub fn finish(&mut self, masks: &Masks, out: &mut Vec<u8>) {
        self.0
            .finish(&masks.detectors, out, &mut |hit, text, first, out| {
                replaced(masks, hit, text, first, out);
            });
        let hits = self.0.hits;
        self.0 = Window {
            hits,
            ..Window::default()
        };
    }

    /// Hits so far.
    pub fn hits(&self) -> u32 {
        self.0.hits
    }
}

/// Writes what stands for a hit, or for its next part: hit, its bytes, whether it is the first part.
type Put<'p> = dyn FnMut(Hit, &[u8], bool, &mut Vec<u8>) + 'p;

fn stars(_: Hit, text: &[u8], _: bool, out: &mut Vec<u8>) {
    out.resize(out.len() + text.len(), b'*');
}

fn replaced(masks: &Masks, hit: Hit, text: &[u8], first: bool, out: &mut Vec<u8>) {
    if first {
        super::detect::put_streamed(&masks.detectors, &masks.keys, hit, text, out);
    }
}

/// The part of a text that is not decided, and some of what is.
#[derive(Debug, Default)]
struct Window {
    /// Up to [`BEFORE`] bytes that are decided, then those that are not.
    text: Vec<u8>,
    /// How many bytes of `text` are decided.
    decided: usize,
    /// The detector of a hit that reaches to `decided` and goes on.
    open: Option<Detector>,
    hits: u32,
}

impl Window {
    fn push(&mut self, detectors: &Detectors, piece: &[u8], out: &mut Vec<u8>, put: &mut Put<'_>) {
        if detectors.is_empty() {
            out.extend_from_slice(piece);
            return;
        }
        let mut rest = piece;
        while !rest.is_empty() {
            let room = BLOCK.saturating_sub(self.text.len() - self.decided);
            let (now, later) = rest.split_at_checked(room).unwrap_or((rest, &[]));
            self.text.extend_from_slice(now);
            rest = later;
            if self.text.len() - self.decided >= BLOCK {
                self.decide(detectors, self.text.len() - AHEAD, out, put);
                self.forget();
            }
        }
    }

    fn finish(&mut self, detectors: &Detectors, out: &mut Vec<u8>, put: &mut Put<'_>) {
        self.decide(detectors, self.text.len(), out, put);
    }

    /// Drops what no detector looks back at.
    fn forget(&mut self) {
        let known = self.decided.saturating_sub(BEFORE);
        self.text.drain(..known);
        self.decided -= known;
    }

    /// The end of the last line that can be decided without what follows it.
    fn whole_lines(&self) -> Option<usize> {
        const BEGIN: &[u8] = b"-----BEGIN ";
        if self.open.is_some() {
            return None;
        }
        let undecided = self.text.get(self.decided..)?;
        let end = undecided.iter().rposition(|byte| *byte == b'\n')? + 1;
        let lines = undecided.get(..end)?;
        let certain = match memmem::rfind(lines, BEGIN) {
            Some(begin) if memmem::find(lines.get(begin..)?, b"-----END ").is_none() => begin,
            _ => end,
        };
        Some(self.decided + certain)
    }

    /// Decides everything that begins before `certain`.
    fn decide(&mut self, detectors: &Detectors, certain: usize, out: &mut Vec<u8>, put: &mut Put<'_>) {
        let text = self.text.as_slice();
        let mut scan = Scan::new(detectors, text);
        while self.decided < certain {
            let (hit, first) = if let Some(detector) = self.open.take() {
                (resume(detector, text, self.decided), false)
            } else if let Some(hit) = scan.next(self.decided).filter(|hit| hit.start < certain) {
                self.hits = self.hits.saturating_add(1);
                (hit, true)
            } else {
                out.extend_from_slice(text.get(self.decided..certain).unwrap_or_default());
                self.decided = certain;
                return;
            };
            out.extend_from_slice(text.get(self.decided..hit.start).unwrap_or_default());
            put(hit, text.get(hit.start..hit.end).unwrap_or_default(), first, out);
            self.decided = hit.end;
            self.open = hit.open.then_some(hit.detector);
        }
    }
}
