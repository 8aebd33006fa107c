//! Private keys in PEM (RFC 7468) and its relatives (OpenSSH, PGP): from BEGIN through END.
//!
//! Line breaks may be real, escaped (`\n`, as in JSON) or missing. Without an END the key goes on for as long as the
//! text could be its body. Known limit: bodies with a prefix on each line (`> `, `# `) end at the first of them.

use std::sync::LazyLock;

use memchr::memmem::{self, Finder};

use super::bytes::run_end;
use super::{Hit, LONGEST};
use crate::config::Detector;

const BEGIN: &[u8] = b"-----BEGIN ";
const END: &[u8] = b"-----END ";
const DASHES: &[u8] = b"-----";
const KIND: &[u8] = b"PRIVATE KEY";
/// Longest text between BEGIN and the kind: `RSA `, `ENCRYPTED `, `OPENSSH `, `PGP `.
const LONGEST_LABEL: usize = 32;
/// The body has a run of so much base64 …
const SHORTEST_LINE: usize = 16;
/// … so near behind BEGIN: headers (`Proc-Type`) may come first.
const HEADERS: usize = 1024;
/// Longest closing line: END, label, kind, ` BLOCK`, dashes.
const CLOSING: usize = 64;

static ANCHOR: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(KIND));

pub(super) fn next(text: &[u8], from: usize) -> Option<Hit> {
    let mut at = from;
    loop {
        let kind = at + ANCHOR.find(text.get(at..)?)?;
        if let Some(start) = begin(text, kind)
            && start >= from
            && let Some(body) = line_end(text, kind)
            && has_key(text, body)
        {
            return Some(key(text, start, body));
        }
        at = kind + KIND.len();
    }
}

/// The rest of a key of more than [`LONGEST`] bytes.
pub(super) fn resume(text: &[u8], from: usize) -> Hit {
    key(text, from, from)
}

/// Where the `-----BEGIN` stands that goes with the kind at `kind`.
fn begin(text: &[u8], kind: usize) -> Option<usize> {
    let floor = kind.saturating_sub(BEGIN.len() + LONGEST_LABEL);
    let near = text.get(floor..kind)?;
    let start = memmem::rfind(near, BEGIN)?;
    let label = near.get(start + BEGIN.len()..)?;
    label.iter().all(|byte| is_label(*byte)).then_some(floor + start)
}

fn is_label(byte: u8) -> bool {
    byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b' '
}

/// End of the BEGIN or END line whose kind stands at `kind`.
fn line_end(text: &[u8], kind: usize) -> Option<usize> {
    let rest = text.get(kind..)?.strip_prefix(KIND)?;
    let rest = rest.strip_prefix(b" BLOCK").unwrap_or(rest);
    let rest = rest.strip_prefix(DASHES)?;
    Some(text.len() - rest.len())
}

/// Whether a key follows, and not a placeholder.
fn has_key(text: &[u8], body: usize) -> bool {
    let near = text.get(..body + HEADERS).unwrap_or(text);
    let end = run_end(near, body, is_body);
    near.get(body..end).is_some_and(|body| {
        body.split(|byte| !is_base64(*byte))
            .any(|line| line.len() >= SHORTEST_LINE)
    })
}

fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=')
}

/// What stands in a key's body: base64, white space, escapes, headers, dashes, and the quotes of source code.
fn is_body(byte: u8) -> bool {
    is_base64(byte)
        || byte.is_ascii_whitespace()
        || matches!(
            byte,
            b'\\' | b'-' | b':' | b',' | b'.' | b'(' | b')' | b'"' | b'\''
        )
}

/// The key from `start`, whose body goes on at `body`.
fn key(text: &[u8], start: usize, body: usize) -> Hit {
    let limit = start + LONGEST;
    let near = text.get(..limit).unwrap_or(text);
    let stop = run_end(near, body, is_body);
    // The closing line may begin before a cut and may end after the limit: both are looked at.
    let first = if body == start {
        body.saturating_sub(CLOSING)
    } else {
        body
    };
    let mut from = first;
    while let Some(found) = text.get(from..stop).and_then(|body| memmem::find(body, END)) {
        let label = from + found + END.len();
        if let Some(end) = closing_end(text, label)
            && end > body
        {
            return hit(start, end, false);
        }
        from = label;
    }
    if stop >= limit {
        return hit(start, limit, text.len() > limit);
    }
    // Quotes and blanks after an unfinished key are the text's around it.
    let end = near
        .get(body..stop)
        .and_then(|body| body.iter().rposition(|byte| !is_around(*byte)))
        .map_or(body, |last| body + last + 1);
    hit(start, end, false)
}

fn is_around(byte: u8) -> bool {
    byte.is_ascii_whitespace() || matches!(byte, b'"' | b'\'' | b',' | b':')
}

fn closing_end(text: &[u8], label: usize) -> Option<usize> {
    let near = text.get(label..)?;
    let near = near.get(..LONGEST_LABEL + KIND.len()).unwrap_or(near);
    let kind = memmem::find(near, KIND)?;
    if !near.get(..kind)?.iter().all(|byte| is_label(*byte)) {
        return None;
    }
    line_end(text, label + kind)
}

fn hit(start: usize, end: usize, open: bool) -> Hit {
    Hit {
        detector: Detector::PrivateKey,
        start,
        end,
        open,
    }
}
