//! Looking around in a text.

use aho_corasick::Span;
use aho_corasick::packed::{Config, MatchKind, Searcher};

/// A vectorised search for the places where a value could begin.
pub(super) fn anchors(patterns: &[&str]) -> Option<Searcher> {
    Config::new()
        .match_kind(MatchKind::LeftmostFirst)
        .builder()
        .extend(patterns)
        .build()
}

/// Where the patterns of `anchors` stand, from `from` on.
pub(super) fn starts(anchors: &Searcher, text: &[u8], mut from: usize) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let found = anchors.find_in(text, Span::from(from..text.len()))?;
        from = found.end();
        Some(found.start())
    })
}

/// The byte before `at`.
pub(super) fn before(text: &[u8], at: usize) -> Option<u8> {
    text.get(at.checked_sub(1)?).copied()
}

/// Whether a word begins at `at`: no letter or digit stands before it, or one that is the end of an escape (`\n`).
pub(super) fn word_starts(text: &[u8], at: usize) -> bool {
    match before(text, at) {
        Some(byte) if byte.is_ascii_alphanumeric() => escape_ends(text, at),
        Some(_) | None => true,
    }
}

/// Whether the two bytes before `at` are a backslash escape, as JSON and COPY text write control characters.
pub(super) fn escape_ends(text: &[u8], at: usize) -> bool {
    let [.., backslash, letter] = text.get(..at).unwrap_or_default() else {
        return false;
    };
    *backslash == b'\\' && matches!(letter, b'n' | b'r' | b't' | b'b' | b'f' | b'v')
}

/// End of the bytes from `at` on for which `belongs` holds.
pub(super) fn run_end(text: &[u8], at: usize, belongs: impl Fn(u8) -> bool) -> usize {
    let rest = text.get(at..).unwrap_or_default();
    at + rest.iter().position(|byte| !belongs(*byte)).unwrap_or(rest.len())
}

/// Start of the bytes before `at` for which `belongs` holds.
pub(super) fn run_start(text: &[u8], at: usize, belongs: impl Fn(u8) -> bool) -> usize {
    let head = text.get(..at).unwrap_or_default();
    head.iter()
        .rposition(|byte| !belongs(*byte))
        .map_or(0, |last| last + 1)
}
