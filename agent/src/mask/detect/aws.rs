//! AWS access key ids (`AKIA…` of users, `ASIA…` of roles) and the secret keys that stand near one.
//!
//! A secret key has no mark of its own: 40 characters of base64. It is taken for one within 256 bytes of an id; alone
//! it is not found.

use std::sync::LazyLock;

use aho_corasick::packed::Searcher;

use super::Hit;
use super::bytes::{anchors, escape_ends, run_end, run_start, starts, word_starts};
use crate::config::Detector;

const ID_LENGTH: usize = 20;
const SECRET_LENGTH: usize = 40;
/// Farthest that a secret stands from its id.
const NEAR: usize = 256;
/// Farthest that a secret's start stands from its id's start.
const REACH: usize = NEAR + SECRET_LENGTH;

static ANCHORS: LazyLock<Option<Searcher>> = LazyLock::new(|| anchors(&["AKIA", "ASIA"]));

pub(super) fn next(text: &[u8], from: usize) -> Option<Hit> {
    let Some(anchors) = ANCHORS.as_ref() else {
        // No vector instructions (SSSE3, NEON): a detector that cannot look must not say that there is nothing.
        return (from < text.len()).then(|| hit(from, text.len()));
    };
    let mut best: Option<Hit> = None;
    // An id that was passed already may have its secret still to come.
    let first = from.saturating_sub(REACH + ID_LENGTH);
    for id in starts(anchors, text, first) {
        if best.is_some_and(|best| id > best.start + REACH) {
            break;
        }
        if !is_id(text, id) {
            continue;
        }
        let own = (id >= from).then(|| hit(id, id + ID_LENGTH));
        let secret = secret_near(text, id, from);
        best = [best, own, secret]
            .into_iter()
            .flatten()
            .min_by_key(|hit| hit.start);
    }
    best
}

fn is_id(text: &[u8], id: usize) -> bool {
    let near = text.get(..=id + ID_LENGTH).unwrap_or(text);
    let end = run_end(near, id, |byte| byte.is_ascii_alphanumeric());
    let valid = |byte: &u8| byte.is_ascii_uppercase() || byte.is_ascii_digit();
    end == id + ID_LENGTH && word_starts(text, id) && text.get(id..end).is_some_and(|id| id.iter().all(valid))
}

/// The first secret at `from` or later within reach of the id at `id`.
fn secret_near(text: &[u8], id: usize, from: usize) -> Option<Hit> {
    let window = text.get(..id + ID_LENGTH + REACH).unwrap_or(text);
    let floor = id.saturating_sub(REACH).max(from);
    // The run that `floor` is in may have begun before it.
    let near_start = floor.saturating_sub(SECRET_LENGTH + 1);
    let mut at = near_start + run_start(window.get(near_start..floor)?, floor - near_start, is_secret);
    while at < window.len() {
        let end = run_end(window, at, is_secret);
        let start = if escape_ends(text, at + 1) { at + 1 } else { at };
        // A run that the window cuts may be longer than it looks.
        let whole = end < window.len() || window.len() == text.len();
        if whole
            && start >= floor
            && end - start == SECRET_LENGTH
            && text.get(start..end).is_some_and(looks_random)
        {
            return Some(hit(start, end));
        }
        at = run_end(window, end, |byte| !is_secret(byte));
    }
    None
}

fn is_secret(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/')
}

/// Both cases and a digit: not a path, not a SHA-1 in hex. One random key in 3,000 has none of one of them.
fn looks_random(secret: &[u8]) -> bool {
    secret.iter().any(u8::is_ascii_uppercase)
        && secret.iter().any(u8::is_ascii_lowercase)
        && secret.iter().any(u8::is_ascii_digit)
}

fn hit(start: usize, end: usize) -> Hit {
    Hit {
        detector: Detector::AwsAccessKey,
        start,
        end,
        open: false,
    }
}
