//! Recorded bytes, made harmless for a terminal.
//!
//! What a workload or a server sent may hold escape sequences that would change what the reader of a record sees.

use std::fmt::Write as _;

/// Bytes as text. What is not UTF-8 is shown as `\xNN`.
pub(super) fn text(bytes: &[u8]) -> String {
    let mut shown = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        shown.push_str(chunk.valid());
        for byte in chunk.invalid() {
            let _ = write!(shown, "\\x{byte:02x}");
        }
    }
    shown
}

/// The text with every character escaped that moves the cursor, changes the terminal or hides others.
pub(super) fn line(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => shown.push_str("\\n"),
            '\r' => shown.push_str("\\r"),
            '\t' => shown.push_str("\\t"),
            c if is_hidden(c) => {
                let _ = write!(shown, "\\u{{{:x}}}", u32::from(c));
            }
            c => shown.push(c),
        }
    }
    shown
}

/// The lines of a text, each as [`line`] gives it; tabs become blanks.
pub(super) fn lines(text: &str) -> impl Iterator<Item = String> {
    text.trim_end()
        .split('\n')
        .map(|part| line(&part.trim_end_matches('\r').replace('\t', "    ")))
}

/// Whether a character would not be seen as itself: control characters (a terminal takes U+009B for ESC `[`),
/// marks of writing direction, line separators, invisible ones.
pub(super) fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{feff}' | '\u{200b}'..='\u{200f}'
        )
        || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{fff9}'..='\u{fffb}')
        || matches!(c, '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn escape_sequences_are_shown_and_not_obeyed() {
        for (bytes, shown) in [
            (&b"\x1b]0;title\x07"[..], "\\u{1b}]0;title\\u{7}"),
            (b"a\nb\tc\r", "a\\nb\\tc\\r"),
            ("\u{9b}2J".as_bytes(), "\\u{9b}2J"),
            ("\u{202e}txt.exe".as_bytes(), "\\u{202e}txt.exe"),
            (b"caf\xe9", "caf\\xe9"),
            ("日本 é".as_bytes(), "日本 é"),
        ] {
            assert_eq!(line(&text(bytes)), shown);
        }
    }

    proptest! {
        #[test]
        fn nothing_hidden_is_left(bytes: Vec<u8>, words in "\\PC{0,20}|.{0,20}") {
            for source in [text(&bytes), words] {
                prop_assert!(!line(&source).chars().any(is_hidden));
                for part in lines(&source) {
                    prop_assert!(!part.chars().any(is_hidden));
                }
            }
        }
    }
}
