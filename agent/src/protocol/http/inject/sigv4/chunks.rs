//! Bodies that are signed chunk by chunk (`STREAMING-AWS4-HMAC-SHA256-PAYLOAD`, with and without `-TRAILER`).
//!
//! Each chunk's signature covers the one before, from that of the head on. A signature stands before its chunk, so a chunk is
//! held until it is whole. Nothing changes its length: only signatures are replaced by others.

use std::time::SystemTime;

use aws_lc_rs::digest::{SHA256, digest};
use aws_sigv4::sign::v4::{calculate_signature, generate_signing_key};
use bytes::{Buf as _, BytesMut};
use zeroize::Zeroizing;

use crate::model::AwsKeys;

use super::super::InjectError;
use super::{now_of, text};

/// Longest chunk, in bytes. AWS' tools send 64 KiB to 1 MiB.
const LONGEST: usize = 16 << 20;
/// Longest line before a chunk, and most bytes behind the last one.
const LONGEST_LINE: usize = 16 * 1024;
const SIGNATURE: &[u8] = b";chunk-signature=";
const TRAILER_SIGNATURE: &[u8] = b"x-amz-trailer-signature:";
/// Length of a signature.
const HEX: usize = 64;

/// Signs a body again.
pub struct ChunkSigner {
    key: Zeroizing<Vec<u8>>,
    /// Time and scope, each on its line.
    scope: String,
    /// Signature of what came before.
    before: String,
    /// A trailer is signed behind the chunks.
    trailer: bool,
    kept: BytesMut,
    state: State,
}

/// What is awaited.
enum State {
    /// The line before a chunk.
    Line,
    /// The chunk, of this length, and the line break behind it; the line is kept.
    Chunk { line: Vec<u8>, length: usize },
    /// What is behind the last chunk.
    End,
}

impl ChunkSigner {
    /// `date`: as it stands in the head; `seed`: the head's signature.
    pub(super) fn new(
        keys: &AwsKeys,
        (service, region): (&str, &str),
        (now, date): (SystemTime, String),
        (seed, trailer): (String, bool),
    ) -> Result<Self, InjectError> {
        let key = generate_signing_key(&text(&keys.secret)?, now, region, service);
        let day = now_of(now).format("%Y%m%d");
        Ok(Self {
            key: Zeroizing::new(key.as_ref().to_vec()),
            scope: format!("{date}\n{day}/{region}/{service}/aws4_request"),
            before: seed,
            trailer,
            kept: BytesMut::new(),
            state: State::Line,
        })
    }

    /// What can be sent after `bytes` came.
    pub(in crate::protocol::http) fn push(&mut self, bytes: &[u8]) -> Result<Vec<u8>, InjectError> {
        self.kept.extend_from_slice(bytes);
        let mut out = Vec::new();
        loop {
            match std::mem::replace(&mut self.state, State::Line) {
                State::Line => {
                    let Some(end) = memchr::memmem::find(&self.kept, b"\r\n") else {
                        if self.kept.len() > LONGEST_LINE {
                            return Err(wrong("a line before a chunk has no end"));
                        }
                        return Ok(out);
                    };
                    let line = self.kept.split_to(end).to_vec();
                    self.kept.advance(2);
                    let length = length(&line)?;
                    self.state = State::Chunk { line, length };
                    if length == 0 {
                        self.chunk(&mut out)?;
                        self.state = State::End;
                    }
                }
                State::Chunk { line, length } => {
                    let whole = self.kept.len() >= length + 2;
                    self.state = State::Chunk { line, length };
                    if !whole {
                        return Ok(out);
                    }
                    self.chunk(&mut out)?;
                }
                State::End => {
                    self.state = State::End;
                    if self.kept.len() > LONGEST_LINE {
                        return Err(wrong("what is behind the last chunk has no end"));
                    }
                    return Ok(out);
                }
            }
        }
    }

    /// What is left to be sent.
    pub(in crate::protocol::http) fn finish(&mut self) -> Result<Vec<u8>, InjectError> {
        if !matches!(self.state, State::End) {
            return Err(wrong("it ends before its last chunk"));
        }
        let mut end = self.kept.split().to_vec();
        let at = memchr::memmem::find(&end, TRAILER_SIGNATURE);
        match (at, self.trailer) {
            (None, false) => Ok(end),
            (Some(at), true) => {
                let fields = end.get(..at).unwrap_or_default();
                let mut canonical: Vec<Vec<u8>> = fields
                    .split(|byte| *byte == b'\n')
                    .filter_map(|line| {
                        let line = line.trim_ascii();
                        let colon = line.iter().position(|byte| *byte == b':')?;
                        let (name, value) = line.split_at(colon);
                        let value = value.get(1..).unwrap_or_default().trim_ascii();
                        Some([&name.to_ascii_lowercase(), &b":"[..], value, b"\n"].concat())
                    })
                    .collect();
                canonical.sort();
                let signature = self.signature("AWS4-HMAC-SHA256-TRAILER", None, &canonical.concat());
                let from = at + TRAILER_SIGNATURE.len();
                put(&mut end, from, &signature)?;
                Ok(end)
            }
            _ => Err(wrong(
                "a signature of its trailer is there or lacks, against its head",
            )),
        }
    }

    /// Signs the chunk that the state says, which is whole.
    fn chunk(&mut self, out: &mut Vec<u8>) -> Result<(), InjectError> {
        let State::Chunk { mut line, length } = std::mem::replace(&mut self.state, State::Line) else {
            return Ok(());
        };
        let data = self.kept.split_to(length);
        let signature = self.signature("AWS4-HMAC-SHA256-PAYLOAD", Some(b""), &data);
        let at = memchr::memmem::find(&line, SIGNATURE).ok_or_else(|| wrong("a chunk has no signature"))?
            + SIGNATURE.len();
        put(&mut line, at, &signature)?;
        self.before = signature;
        out.extend_from_slice(&line);
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(&data);
        if length > 0 {
            if self.kept.get(..2) != Some(b"\r\n") {
                return Err(wrong("a chunk is longer than it says"));
            }
            self.kept.advance(2);
            out.extend_from_slice(b"\r\n");
        }
        Ok(())
    }

    fn signature(&self, algorithm: &str, empty: Option<&[u8]>, data: &[u8]) -> String {
        let mut text = format!("{algorithm}\n{}\n{}\n", self.scope, self.before);
        if let Some(empty) = empty {
            text.push_str(&hex::encode(digest(&SHA256, empty)));
            text.push('\n');
        }
        text.push_str(&hex::encode(digest(&SHA256, data)));
        calculate_signature(&*self.key, text.as_bytes())
    }
}

/// Length of the chunk behind a line.
fn length(line: &[u8]) -> Result<usize, InjectError> {
    let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
    let length = std::str::from_utf8(digits)
        .ok()
        .filter(|digits| (1..=8).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit()))
        .and_then(|digits| usize::from_str_radix(digits, 16).ok())
        .ok_or_else(|| wrong("a chunk does not say how long it is"))?;
    if length > LONGEST {
        return Err(wrong("a chunk is longer than 16 MiB"));
    }
    Ok(length)
}

/// Puts a signature in the place of the one that begins at `at`.
fn put(text: &mut [u8], at: usize, signature: &str) -> Result<(), InjectError> {
    let place = text
        .get_mut(at..at + HEX)
        .ok_or_else(|| wrong("a signature is cut short"))?;
    if !place.iter().all(u8::is_ascii_hexdigit) || signature.len() != HEX {
        return Err(wrong("a signature is none"));
    }
    place.copy_from_slice(signature.as_bytes());
    Ok(())
}

fn wrong(why: &'static str) -> InjectError {
    InjectError::Body { why }
}

impl std::fmt::Debug for ChunkSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ChunkSigner")
    }
}
