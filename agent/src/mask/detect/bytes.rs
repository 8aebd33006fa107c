//! Looking around in a text.

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
