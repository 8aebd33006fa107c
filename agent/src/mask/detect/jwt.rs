//! JSON Web Tokens in compact form (RFC 7515 §3.1, RFC 7516 §3.1): `header.payload.signature` in base64url.
//!
//! The header decides: it has to decode to a JSON object with an `alg`. Known limit: a header of more than 4 KiB is not
//! recognised.

use std::sync::LazyLock;

use aho_corasick::packed::Searcher;
use base64::Engine;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::bytes::{anchors, run_end, starts, word_starts};
use super::{Hit, LONGEST};
use crate::config::Detector;

/// What a JSON object begins with, in base64: `{"`, and `{` before white space.
const BEGINNINGS: [&str; 11] = [
    "eyJ", "eyAi", "eyAg", "ewoi", "ewog", "ewoJ", "ewoK", "ew0K", "ewki", "ewkg", "ewkJ",
];
const LONGEST_HEADER: usize = 4 * 1024;
/// Where no second dot comes for so long, a valid header is enough.
const LONGEST_PAYLOAD: usize = 8 * 1024;

static ANCHORS: LazyLock<Option<Searcher>> = LazyLock::new(|| anchors(&BEGINNINGS));

static BASE64URL: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::RequireNone)
        .with_decode_allow_trailing_bits(true),
);

pub(super) fn next(text: &[u8], from: usize) -> Option<Hit> {
    let Some(anchors) = ANCHORS.as_ref() else {
        // No vector instructions (SSSE3, NEON): a detector that cannot look must not say that there is nothing.
        return (from < text.len()).then(|| hit(from, text.len(), false));
    };
    // A run of base64url is measured once, however many beginnings are in it: time stays linear.
    let mut run = 0;
    let mut shaped = false;
    for start in starts(anchors, text, from) {
        if !word_starts(text, start) {
            continue;
        }
        if start >= run {
            run = run_end(text, start, is_base64url);
            shaped = payload_end(text, run).is_some();
        }
        if shaped
            && run - start <= LONGEST_HEADER
            && is_header(text.get(start..run).unwrap_or_default())
            && let Some(payload) = payload_end(text, run)
        {
            return Some(token(
                text,
                start,
                payload + usize::from(text.get(payload) == Some(&b'.')),
            ));
        }
    }
    None
}

/// The rest of a token of more than [`LONGEST`] bytes.
pub(super) fn resume(text: &[u8], from: usize) -> Hit {
    token(text, from, from)
}

/// End of the payload after a header that ends at `header`, where a dot or too much of it follows.
fn payload_end(text: &[u8], header: usize) -> Option<usize> {
    let start = header + 1;
    if text.get(header) != Some(&b'.') {
        return None;
    }
    let near = text.get(..start + LONGEST_PAYLOAD).unwrap_or(text);
    let end = run_end(near, start, is_base64url);
    let long = end - start == LONGEST_PAYLOAD;
    (end > start && (long || text.get(end) == Some(&b'.'))).then_some(end)
}

/// The token from `start`, of which everything up to `known` is certain.
fn token(text: &[u8], start: usize, known: usize) -> Hit {
    let limit = start + LONGEST;
    let mut end = known.min(text.len());
    loop {
        end = run_end(text.get(..limit).unwrap_or(text), end, is_base64url);
        // A dot that ends a sentence is not the token's.
        match text.get(end..end + 2) {
            Some([b'.', next]) if is_base64url(*next) && end < limit => end += 1,
            _ => break,
        }
    }
    let open = end >= limit
        && text
            .get(end)
            .is_some_and(|byte| is_base64url(*byte) || *byte == b'.');
    hit(start, end, open)
}

fn hit(start: usize, end: usize, open: bool) -> Hit {
    Hit {
        detector: Detector::Jwt,
        start,
        end,
        open,
    }
}

fn is_base64url(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

fn is_header(encoded: &[u8]) -> bool {
    let Ok(json) = BASE64URL.decode(encoded) else {
        return false;
    };
    serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&json)
        .is_ok_and(|header| header.get("alg").is_some_and(serde_json::Value::is_string))
}
