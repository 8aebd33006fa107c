//! A body on its way: content codings undone, masked, and applied again.

use std::sync::Arc;

use crate::mask::Masks;

use super::coding::{Coding, Decoder, Encoder};
use super::counts::{Counts, Masked};
use super::{Transform, Unmaskable};

/// How many times its size a body may expand to …
const MOST_EXPANSION: u64 = 1500;
/// … once it is so large. Memory is bounded anyway; this bounds the work.
const EXPANSION_COUNTS_FROM: u64 = 64 << 20;

/// What the body of an answer has to go through.
#[derive(Debug)]
pub struct BodyMask {
    masks: Arc<Masks>,
    transform: Box<dyn Transform>,
    /// Outermost coding first.
    decoders: Vec<Decoder>,
    /// Innermost coding first.
    encoders: Vec<Encoder>,
    counts: Counts,
    taken: u64,
    decoded: u64,
    /// What the transform has made of a block.
    plain: Vec<u8>,
}

impl BodyMask {
    pub(super) fn new(masks: Arc<Masks>, transform: Box<dyn Transform>, codings: &[Coding]) -> Self {
        Self {
            masks,
            transform,
            decoders: codings.iter().rev().map(|coding| Decoder::new(*coding)).collect(),
            encoders: codings.iter().map(|coding| Encoder::new(*coding)).collect(),
            counts: Counts::default(),
            taken: 0,
            decoded: 0,
            plain: Vec::new(),
        }
    }

    /// Takes the next piece of the body, and appends to `out` what the client gets by now. After an error the body must not
    /// go on, and must not seem whole.
    pub fn push(&mut self, piece: &[u8], out: &mut Vec<u8>) -> Result<(), Unmaskable> {
        self.taken += piece.len() as u64;
        let Self {
            transform,
            decoders,
            encoders,
            decoded,
            plain,
            taken,
            ..
        } = self;
        if decoders.is_empty() {
            return transform.push(piece, out);
        }
        decode(decoders, piece, &mut |block| {
            *decoded += block.len() as u64;
            if *decoded > EXPANSION_COUNTS_FROM && *decoded / MOST_EXPANSION > *taken {
                return Err(Unmaskable::Bomb(MOST_EXPANSION));
            }
            plain.clear();
            transform.push(block, plain)?;
            encode(encoders, plain, out)
        })
    }

    /// Appends what can be given without what follows. To be called where upstream has nothing more for now, so that nothing
    /// that could be given is kept waiting.
    pub fn flush(&mut self, out: &mut Vec<u8>) -> Result<(), Unmaskable> {
        if self.encoders.is_empty() {
            return self.transform.flush(out);
        }
        self.plain.clear();
        self.transform.flush(&mut self.plain)?;
        encode(&mut self.encoders, &self.plain, out)?;
        end(&mut self.encoders, out, false)
    }

    /// Ends the body: appends the rest.
    pub fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), Unmaskable> {
        if self.encoders.is_empty() {
            return self.transform.finish(out);
        }
        if self.taken == 0 {
            // A coding of nothing is nothing, as upstream has it.
            return Ok(());
        }
        for decoder in &mut self.decoders {
            decoder.finish()?;
        }
        self.plain.clear();
        self.transform.finish(&mut self.plain)?;
        encode(&mut self.encoders, &self.plain, out)?;
        end(&mut self.encoders, out, true)
    }

    /// What was masked since it was last asked.
    pub fn masked(&mut self) -> Vec<Masked> {
        self.transform.report(&mut self.counts);
        std::mem::take(&mut self.counts).lines(&self.masks)
    }
}

fn decode(
    decoders: &mut [Decoder],
    piece: &[u8],
    take: &mut dyn FnMut(&[u8]) -> Result<(), Unmaskable>,
) -> Result<(), Unmaskable> {
    match decoders.split_first_mut() {
        None => take(piece),
        Some((outer, inner)) => outer.push(piece, &mut |block| decode(inner, block, take)),
    }
}

fn encode(encoders: &mut [Encoder], piece: &[u8], out: &mut Vec<u8>) -> Result<(), Unmaskable> {
    match encoders.split_first_mut() {
        None => {
            out.extend_from_slice(piece);
            Ok(())
        }
        Some((inner, [])) => inner.push(piece, out),
        Some((inner, outer)) => {
            let mut coded = Vec::new();
            inner.push(piece, &mut coded)?;
            encode(outer, &coded, out)
        }
    }
}

/// Has each coding give what it holds back; `last`: and its end.
fn end(encoders: &mut [Encoder], out: &mut Vec<u8>, last: bool) -> Result<(), Unmaskable> {
    let Some((inner, outer)) = encoders.split_first_mut() else {
        return Ok(());
    };
    let mut coded = Vec::new();
    if last {
        inner.finish(&mut coded)?;
    } else {
        inner.flush(&mut coded)?;
    }
    encode(outer, &coded, out)?;
    end(outer, out, last)
}
