//! One frame: a header of 20 bytes and a payload. The same in the journal and inside the blocks of a record.
//!
//! The checksum covers the session's id and the frame's number too, so that a frame that was left in a journal file
//! used before, or taken from another session, is not mistaken for one of this. It finds accidents; against people
//! there are the hash chain and the signatures.

use bytes::Bytes;
use chrono::{DateTime, Utc};

use super::wire::Fields;
use crate::model::{Direction, FrameKind, SessionId};

/// Bytes before the payload.
pub(super) const FRAME_HEADER: usize = 20;

/// Longest payload of one frame, in bytes. What is longer is split over frames.
pub const MAX_PAYLOAD: usize = 64 * 1024;

const TO_CLIENT: u8 = 1;
const CONTINUED: u8 = 2;

/// A frame of a record, as readers get it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Number in its session, from 0.
    pub number: u64,
    /// When it was recorded: nanoseconds since the session began, by a clock that is never set back.
    pub elapsed: u64,
    /// The same by the host's wall clock at the session's begin.
    pub time: DateTime<Utc>,
    /// What it holds.
    pub kind: FrameKind,
    /// Which way its bytes travelled.
    pub direction: Direction,
    /// What was recorded at once goes on in the next frame.
    pub continued: bool,
    /// Bytes, or JSON.
    pub bytes: Bytes,
}

/// Header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHeader {
    pub(super) len: u32,
    pub(super) elapsed: u64,
    pub(super) kind: FrameKind,
    pub(super) direction: Direction,
    pub(super) continued: bool,
}

/// Why bytes are not a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum FrameError {
    #[error("it is cut off")]
    Cut,
    #[error("its header is not valid")]
    Header,
    #[error("its checksum does not match")]
    Checksum,
}

/// Checksums of one session's frames.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seed(u32);

impl Seed {
    pub(super) fn new(session: SessionId) -> Self {
        Self(crc32fast::hash(session.0.as_bytes()))
    }

    fn checksum<'a>(self, number: u64, header: &FrameHeader, payload: impl Iterator<Item = &'a [u8]>) -> u32 {
        let mut hasher = crc32fast::Hasher::new_with_initial(self.0);
        hasher.update(&number.to_le_bytes());
        hasher.update(&header.with_checksum(0));
        for part in payload {
            hasher.update(part);
        }
        hasher.finalize()
    }
}

impl FrameHeader {
    /// The header's bytes, for frame `number` with this payload.
    pub(super) fn encode<'a>(
        &self,
        seed: Seed,
        number: u64,
        payload: impl Iterator<Item = &'a [u8]>,
    ) -> [u8; FRAME_HEADER] {
        self.with_checksum(seed.checksum(number, self, payload))
    }

    fn with_checksum(&self, checksum: u32) -> [u8; FRAME_HEADER] {
        let [l0, l1, l2, l3] = self.len.to_le_bytes();
        let [c0, c1, c2, c3] = checksum.to_le_bytes();
        let [t0, t1, t2, t3, t4, t5, t6, t7] = self.elapsed.to_le_bytes();
        let direction = match self.direction {
            Direction::ToServer => 0,
            Direction::ToClient => TO_CLIENT,
        };
        let flags = direction | if self.continued { CONTINUED } else { 0 };
        [
            l0,
            l1,
            l2,
            l3,
            c0,
            c1,
            c2,
            c3,
            t0,
            t1,
            t2,
            t3,
            t4,
            t5,
            t6,
            t7,
            self.kind as u8,
            flags,
            0,
            0,
        ]
    }
}

/// Takes frame `number` off the front of `bytes`: header, payload, what follows.
pub(super) fn split_frame(
    seed: Seed,
    number: u64,
    bytes: &[u8],
) -> Result<(FrameHeader, &[u8], &[u8]), FrameError> {
    let mut fields = Fields(bytes);
    let raw = Fields(fields.take(FRAME_HEADER).ok_or(FrameError::Cut)?);
    let (header, checksum) = decode_header(raw).ok_or(FrameError::Header)?;
    let payload = fields.take(header.len as usize).ok_or(FrameError::Cut)?;
    if seed.checksum(number, &header, std::iter::once(payload)) == checksum {
        Ok((header, payload, fields.0))
    } else {
        Err(FrameError::Checksum)
    }
}

fn decode_header(mut fields: Fields<'_>) -> Option<(FrameHeader, u32)> {
    let len = fields.u32().filter(|len| *len as usize <= MAX_PAYLOAD)?;
    let checksum = fields.u32()?;
    let elapsed = fields.u64()?;
    let kind = FrameKind::from_number(fields.u8()?)?;
    let flags = fields
        .u8()
        .filter(|flags| flags & !(TO_CLIENT | CONTINUED) == 0)?;
    fields.zero::<2>()?;
    let header = FrameHeader {
        len,
        elapsed,
        kind,
        direction: if flags & TO_CLIENT == 0 {
            Direction::ToServer
        } else {
            Direction::ToClient
        },
        continued: flags & CONTINUED != 0,
    };
    Some((header, checksum))
}

/// A run of bytes out of several slices, without joining them.
#[derive(Clone, Debug)]
pub(super) struct Run<'a> {
    parts: &'a [&'a [u8]],
    skip: usize,
    left: usize,
}

impl<'a> Run<'a> {
    pub(super) fn new(parts: &'a [&'a [u8]]) -> Self {
        let left = parts.iter().map(|part| part.len()).sum();
        Self { parts, skip: 0, left }
    }

    pub(super) fn len(&self) -> usize {
        self.left
    }

    /// Takes the first `len` bytes off the run.
    pub(super) fn split_to(&mut self, len: usize) -> Run<'a> {
        let front = Run {
            left: len.min(self.left),
            ..self.clone()
        };
        self.skip += front.left;
        self.left -= front.left;
        while let Some((first, rest)) = self.parts.split_first() {
            if self.skip < first.len() {
                break;
            }
            self.skip -= first.len();
            self.parts = rest;
        }
        front
    }
}

impl<'a> Iterator for Run<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.left == 0 {
            return None;
        }
        let (first, rest) = self.parts.split_first()?;
        let piece = first.get(self.skip..).unwrap_or_default();
        let piece = piece.get(..self.left).unwrap_or(piece);
        self.parts = rest;
        self.skip = 0;
        self.left -= piece.len();
        Some(piece)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header(payload: &[u8], elapsed: u64, kind: u8, to_client: bool, continued: bool) -> FrameHeader {
        FrameHeader {
            len: u32::try_from(payload.len()).unwrap(),
            elapsed,
            kind: FrameKind::from_number(kind).unwrap(),
            direction: if to_client {
                Direction::ToClient
            } else {
                Direction::ToServer
            },
            continued,
        }
    }

    proptest! {
        #[test]
        fn a_frame_comes_back_as_it_went(
            parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..5),
            number: u64, elapsed: u64, kind in 1u8..=11, to_client: bool, continued: bool, behind: Vec<u8>,
        ) {
            let seed = Seed::new(SessionId::new());
            let slices: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
            let payload = parts.concat();
            let header = header(&payload, elapsed, kind, to_client, continued);
            let mut bytes = header.encode(seed, number, Run::new(&slices)).to_vec();
            bytes.extend(&payload);
            let whole = bytes.len();
            bytes.extend(&behind);
            prop_assert_eq!(split_frame(seed, number, &bytes), Ok((header, &payload[..], &behind[..])));
            prop_assert!(split_frame(seed, number ^ 1, &bytes).is_err());
            prop_assert!(split_frame(Seed::new(SessionId::new()), number, &bytes).is_err());
            prop_assert!(split_frame(seed, number, &bytes[..whole - 1]).is_err());
        }

        #[test]
        fn a_flipped_bit_is_seen(payload in prop::collection::vec(any::<u8>(), 0..50), bit: prop::sample::Index) {
            let seed = Seed::new(SessionId::new());
            let header = header(&payload, 7, 2, false, false);
            let mut bytes = header.encode(seed, 3, std::iter::once(&payload[..])).to_vec();
            bytes.extend(&payload);
            let bit = bit.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(split_frame(seed, 3, &bytes).is_err());
        }

        #[test]
        fn any_bytes_are_refused_or_read_without_harm(bytes: Vec<u8>) {
            let _ = split_frame(Seed::new(SessionId::default()), 0, &bytes);
        }

        #[test]
        fn a_run_is_the_joined_parts(
            parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..9), 0..6),
            cuts in prop::collection::vec(0usize..20, 0..6),
        ) {
            let slices: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
            let mut run = Run::new(&slices);
            let mut joined: Vec<u8> = Vec::new();
            for cut in cuts {
                let front = run.split_to(cut);
                prop_assert!(front.len() <= cut);
                joined.extend(front.flatten());
            }
            joined.extend(run.flatten());
            prop_assert_eq!(joined, parts.concat());
        }
    }
}
