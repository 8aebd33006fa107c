//! Text that no structure is known of: detectors alone.

use std::sync::Arc;

use crate::mask::{Masks, TextStream};

use super::counts::Counts;
use super::{Transform, Unmaskable};

/// Bytes at the beginning that tell text from what is none.
const LOOKED_AT: usize = 512;

/// Detectors over a text. One that begins with bytes that no text has is refused.
#[derive(Debug)]
pub(super) struct Text {
    masks: Arc<Masks>,
    stream: TextStream,
    seen: Vec<u8>,
    reported: u32,
}

impl Text {
    pub(super) fn new(masks: Arc<Masks>) -> Self {
        Self {
            masks,
            stream: TextStream::default(),
            seen: Vec::new(),
            reported: 0,
        }
    }

    fn look(&mut self, piece: &[u8]) -> Result<(), Unmaskable> {
        let room = LOOKED_AT - self.seen.len();
        if room == 0 {
            return Ok(());
        }
        self.seen.extend(piece.iter().take(room));
        match other_charset(&self.seen) {
            Some(charset) => Err(Unmaskable::Charset(charset.into())),
            None => Ok(()),
        }
    }
}

impl Transform for Text {
    fn push(&mut self, piece: &[u8], out: &mut Vec<u8>) -> Result<(), Unmaskable> {
        self.look(piece)?;
        self.stream.push(&self.masks, piece, out);
        Ok(())
    }

    fn flush(&mut self, out: &mut Vec<u8>) -> Result<(), Unmaskable> {
        self.stream.flush(&self.masks, out);
        Ok(())
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), Unmaskable> {
        self.stream.finish(&self.masks, out);
        Ok(())
    }

    fn report(&mut self, counts: &mut Counts) {
        let hits = self.stream.hits();
        counts.found("body", u64::from(hits.saturating_sub(self.reported)));
        self.reported = hits;
    }
}

/// What the first bytes of a text are in that is in no superset of ASCII: readers go by them before they go by the head.
pub(super) fn other_charset(start: &[u8]) -> Option<&'static str> {
    match start {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Some("utf-16"),
        _ if start.contains(&0) => Some("utf-16, utf-32 or no charset"),
        _ => None,
    }
}
