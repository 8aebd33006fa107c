//! Blocks of a segment: data, checkpoints and seals, each chained to all that stands before it.
//!
//! No I/O here. Layouts byte by byte: docs/record-format.md.

use ed25519_dalek::{Signature, VerifyingKey};

use super::wire::{Fields, join};
use crate::model::SessionId;

/// A BLAKE3 hash that covers everything up to a point.
pub(super) type Chain = [u8; 32];

/// An Ed25519 public key.
pub(super) type PublicKey = [u8; 32];

pub(super) const SEGMENT_HEADER: usize = 112;
pub(super) const BLOCK_HEADER: usize = 32;
pub(super) const SIGNED: usize = 112;
pub(super) const HASH: usize = 32;

/// Frames of a block are cut off behind so many bytes; one frame more may reach past it.
pub(super) const BLOCK_BYTES: usize = 256 * 1024;

/// Nothing in a block is longer than this, compressed or not: a reader refuses more before it allocates.
pub(super) const LONGEST: usize = 1024 * 1024;

const MAGIC: &[u8; 8] = b"TGRECORD";
const VERSION: u16 = 1;
const DOMAIN: &[u8; 32] = b"tollgate record checkpoint v1\0\0\0";
const UNSIGNED_PART: usize = SIGNED - 64;

/// Header of a segment file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) segment: u32,
    pub(super) session: SessionId,
    /// Public key of the host's epoch 0.
    pub(super) host: PublicKey,
    /// Chain at the end of the segment before; zeros for segment 0.
    pub(super) before: Chain,
    /// Unix time in nanoseconds at which the session began.
    pub(super) started: i64,
}

impl SegmentHeader {
    pub(super) fn encode(&self) -> [u8; SEGMENT_HEADER] {
        join(&[
            MAGIC,
            &VERSION.to_le_bytes(),
            &[0; 2],
            &self.segment.to_le_bytes(),
            self.session.0.as_bytes(),
            &self.host,
            &self.before,
            &self.started.to_le_bytes(),
            &[0; 8],
        ])
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        (fields.array()? == *MAGIC && fields.u16()? == VERSION).then_some(())?;
        fields.zero::<2>()?;
        let header = Self {
            segment: fields.u32()?,
            session: SessionId(uuid::Uuid::from_bytes(fields.array()?)),
            host: fields.array()?,
            before: fields.array()?,
            started: fields.i64()?,
        };
        fields.zero::<8>()?;
        fields.end()?;
        Some(header)
    }

    /// The chain with which the segment begins.
    pub(super) fn chain(&self) -> Chain {
        *blake3::hash(&self.encode()).as_bytes()
    }
}

/// What a block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BlockKind {
    /// Frames.
    Data = 1,
    /// A signature over all that stands before.
    Checkpoint = 2,
    /// A signature; the session goes on in the next segment.
    SegmentEnd = 3,
    /// A signature; the session is over.
    SessionEnd = 4,
}

/// How a block's bytes are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Codec {
    /// As they are.
    Stored = 0,
    /// One zstd frame (RFC 8878).
    Zstd = 1,
}

/// Header of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BlockHeader {
    pub(super) kind: BlockKind,
    pub(super) codec: Codec,
    /// Bytes between this header and the hash.
    pub(super) stored: u32,
    /// The same, uncompressed.
    pub(super) raw: u32,
    /// Frames in it.
    pub(super) frames: u32,
    /// Frames of the session before it.
    pub(super) first_frame: u64,
    /// Blocks of the session before it, all segments counted.
    pub(super) number: u64,
}

impl BlockHeader {
    pub(super) fn encode(&self) -> [u8; BLOCK_HEADER] {
        join(&[
            &[self.kind as u8, self.codec as u8, 0, 0],
            &self.stored.to_le_bytes(),
            &self.raw.to_le_bytes(),
            &self.frames.to_le_bytes(),
            &self.first_frame.to_le_bytes(),
            &self.number.to_le_bytes(),
        ])
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        let kind = match fields.u8()? {
            1 => BlockKind::Data,
            2 => BlockKind::Checkpoint,
            3 => BlockKind::SegmentEnd,
            4 => BlockKind::SessionEnd,
            _ => return None,
        };
        let codec = match fields.u8()? {
            0 => Codec::Stored,
            1 => Codec::Zstd,
            _ => return None,
        };
        fields.zero::<2>()?;
        let fits = |len: &u32| *len as usize <= LONGEST;
        let header = Self {
            kind,
            codec,
            stored: fields.u32().filter(fits)?,
            raw: fields.u32().filter(fits)?,
            frames: fields.u32()?,
            first_frame: fields.u64()?,
            number: fields.u64()?,
        };
        fields.end()?;
        let same_length = codec == Codec::Zstd || header.stored == header.raw;
        let signed = header.stored as usize == SIGNED && header.frames == 0 && codec == Codec::Stored;
        (same_length && (kind == BlockKind::Data || signed)).then_some(header)
    }
}

/// The chain behind a block.
pub(super) fn extend(chain: &Chain, header: &[u8; BLOCK_HEADER], stored: &[u8]) -> Chain {
    let mut hasher = blake3::Hasher::new();
    hasher.update(chain);
    hasher.update(header);
    hasher.update(stored);
    *hasher.finalize().as_bytes()
}

/// What a signed block holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Checkpoint {
    pub(super) epoch: u32,
    /// Unix time in nanoseconds.
    pub(super) time: i64,
    /// Public key of the epoch.
    pub(super) key: PublicKey,
    pub(super) signature: [u8; 64],
}

impl Checkpoint {
    pub(super) fn encode(&self) -> [u8; SIGNED] {
        join(&[&self.unsigned(), &self.signature])
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        let epoch = fields.u32()?;
        fields.zero::<4>()?;
        let checkpoint = Self {
            epoch,
            time: fields.i64()?,
            key: fields.array()?,
            signature: fields.array()?,
        };
        fields.end()?;
        Some(checkpoint)
    }

    fn unsigned(&self) -> [u8; UNSIGNED_PART] {
        join(&[
            &self.epoch.to_le_bytes(),
            &[0; 4],
            &self.time.to_le_bytes(),
            &self.key,
        ])
    }

    /// What is signed: where the block stands, what it says, and the chain before it.
    pub(super) fn message(
        &self,
        session: SessionId,
        segment: u32,
        header: &BlockHeader,
        chain: &Chain,
    ) -> Vec<u8> {
        [
            DOMAIN,
            session.0.as_bytes().as_slice(),
            &segment.to_le_bytes(),
            &header.encode(),
            &self.unsigned(),
            chain,
        ]
        .concat()
    }

    pub(super) fn is_signed(
        &self,
        session: SessionId,
        segment: u32,
        header: &BlockHeader,
        chain: &Chain,
    ) -> bool {
        is_signed(
            &self.key,
            &self.message(session, segment, header, chain),
            &self.signature,
        )
    }
}

/// Whether `signature` is `key`'s over `message`. Strict: no weak keys, one valid signature a message and nonce.
pub(super) fn is_signed(key: &PublicKey, message: &[u8], signature: &[u8; 64]) -> bool {
    VerifyingKey::from_bytes(key).is_ok_and(|key| {
        key.verify_strict(message, &Signature::from_bytes(signature))
            .is_ok()
    })
}

/// The frames of a data block, uncompressed. `None` where it does not hold what its header says.
pub(super) fn unpack(header: &BlockHeader, stored: Vec<u8>) -> Option<Vec<u8>> {
    let raw = match header.codec {
        Codec::Stored => stored,
        Codec::Zstd => zstd::bulk::decompress(&stored, header.raw as usize).ok()?,
    };
    (raw.len() == header.raw as usize).then_some(raw)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn headers_come_back_as_they_went(
            segment: u32, host: [u8; 32], before: [u8; 32], started: i64,
            stored in 0u32..1_000_000, frames: u32, first_frame: u64, number: u64,
        ) {
            let header = SegmentHeader { segment, session: SessionId::new(), host, before, started };
            prop_assert_eq!(SegmentHeader::decode(&header.encode()), Some(header));
            let header = BlockHeader {
                kind: BlockKind::Data, codec: Codec::Zstd, stored, raw: 5, frames, first_frame, number,
            };
            prop_assert_eq!(BlockHeader::decode(&header.encode()), Some(header));
        }

        #[test]
        fn any_bytes_are_refused_or_read_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..150)) {
            let _ = SegmentHeader::decode(&bytes);
            let _ = BlockHeader::decode(&bytes);
            let _ = Checkpoint::decode(&bytes);
        }
    }

    #[test]
    fn a_block_that_claims_too_much_is_refused_before_it_is_read() {
        let header = BlockHeader {
            kind: BlockKind::Data,
            codec: Codec::Stored,
            stored: u32::MAX,
            raw: u32::MAX,
            frames: 1,
            first_frame: 0,
            number: 0,
        };
        assert_eq!(BlockHeader::decode(&header.encode()), None);
    }
}
