//! Texts of errors and notices on their way to the client: they quote values.

use super::super::wire::{ErrorFields, frame};
use super::masking::Masking;

/// Whether the texts of an error have to be looked at at all.
pub(super) fn reads<M: Masking>(masks: &M) -> bool {
    !masks.is_empty()
}

/// Appends the message of type `tag`, its texts masked.
///
/// `concerned`: the statement reads a masked column, or it is not known what it reads. Then DETAIL and CONTEXT are
/// dropped (they quote rows), what an error of a value quotes is cut out, and what a procedure raises is withheld.
pub(super) fn rewrite<M: Masking>(
    masks: &M,
    tag: u8,
    error: &ErrorFields<'_>,
    concerned: bool,
    out: &mut Vec<u8>,
) {
    let concerned = concerned || names_concerned(masks, error);
    let raised = error.get(b'F').is_some_and(|file| file.starts_with(b"pl"));
    let of_value = error.sqlstate().starts_with(b"22");
    let mut masked = Vec::new();
    frame(out, tag, |out| {
        for (kind, value) in error.iter() {
            let text: &[u8] = match kind {
                b'D' | b'W' | b'q' if concerned => continue,
                b'H' if concerned && raised => continue,
                b'M' if concerned && raised => {
                    b"(withheld: raised by a procedure in a statement that may read masked columns)"
                }
                b'M' if concerned && of_value => {
                    unquoted(value, &mut masked);
                    &masked
                }
                _ => value,
            };
            out.push(kind);
            let scanned = matches!(kind, b'M' | b'D' | b'H' | b'W') && masks.has_detectors();
            let mut found = Vec::new();
            if scanned && masks.detect(text, &mut found) > 0 {
                out.extend(found.iter().filter(|byte| **byte != 0));
            } else {
                out.extend_from_slice(text);
            }
            out.push(0);
        }
        out.push(0);
    });
}

/// Whether the relation that the server names as the cause has masked columns.
fn names_concerned<M: Masking>(masks: &M, error: &ErrorFields<'_>) -> bool {
    let text = |kind| error.get(kind).and_then(|name| std::str::from_utf8(name).ok());
    text(b't').is_some_and(|table| masks.concerns_table(text(b's'), table).is_some())
}

/// The message without what stands between its first and its last quote: a value may have quotes in it.
fn unquoted(message: &[u8], out: &mut Vec<u8>) {
    out.clear();
    match (memchr::memchr(b'"', message), memchr::memrchr(b'"', message)) {
        (Some(first), Some(last)) if first < last => {
            out.extend_from_slice(message.get(..=first).unwrap_or_default());
            out.extend_from_slice(b"***");
            out.extend_from_slice(message.get(last..).unwrap_or_default());
        }
        _ => out.extend_from_slice(message),
    }
}
