//! Bodies whose type does not say what they are: JSON where they begin as JSON does; else text, where the type says so, or
//! nothing that can be read.

use std::sync::Arc;

use crate::mask::Masks;

use super::counts::Counts;
use super::json::Json;
use super::text::Text;
use super::{Transform, Unmaskable};

/// So much of a body is tried as JSON before it is taken for JSON.
const TRIED: usize = 4 * 1024;

/// A body that is not known yet.
#[derive(Debug)]
pub(super) struct Sniff {
    masks: Arc<Masks>,
    /// Whether what is no JSON is text.
    text: bool,
    start: Vec<u8>,
    known: Option<Box<dyn Transform>>,
}

impl Sniff {
    pub(super) fn new(masks: Arc<Masks>, text: bool) -> Self {
        Self {
            masks,
            text,
            start: Vec::new(),
            known: None,
        }
    }

    fn decide(&mut self, out: &mut Vec<u8>) -> Result<&mut Box<dyn Transform>, Unmaskable> {
        let start = std::mem::take(&mut self.start);
        let mut known: Box<dyn Transform> = if looks_like_json(&start)
            && Json::new(self.masks.clone())
                .push(&start, &mut Vec::new())
                .is_ok()
        {
            Box::new(Json::new(self.masks.clone()))
        } else if self.text || start.is_empty() {
            Box::new(Text::new(self.masks.clone()))
        } else {
            return Err(Unmaskable::Unknown);
        };
        known.push(&start, out)?;
        Ok(self.known.insert(known))
    }
}

impl Transform for Sniff {
    fn push(&mut self, piece: &[u8], out: &mut Vec<u8>) -> Result<(), Unmaskable> {
        if let Some(known) = &mut self.known {
            return known.push(piece, out);
        }
        // Cut where every cut of the body leads to the same decision.
        let room = TRIED.saturating_sub(self.start.len());
        let (now, later) = piece.split_at_checked(room).unwrap_or((piece, &[]));
        self.start.extend_from_slice(now);
        if self.start.len() < TRIED {
            return Ok(());
        }
        self.decide(out)?.push(later, out)
    }

    fn flush(&mut self, out: &mut Vec<u8>) -> Result<(), Unmaskable> {
        match &mut self.known {
            Some(known) => known.flush(out),
            None if self.start.is_empty() => Ok(()),
            None => self.decide(out)?.flush(out),
        }
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), Unmaskable> {
        match &mut self.known {
            Some(known) => known.finish(out),
            None => self.decide(out)?.finish(out),
        }
    }

    fn report(&mut self, counts: &mut Counts) {
        if let Some(known) = &mut self.known {
            known.report(counts);
        }
    }
}

/// Whether the first character could begin a document that has something in it.
pub(super) fn looks_like_json(start: &[u8]) -> bool {
    let start = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start);
    start
        .iter()
        .find(|byte| !byte.is_ascii_whitespace())
        .is_some_and(|byte| matches!(byte, b'{' | b'[' | b'"'))
}
