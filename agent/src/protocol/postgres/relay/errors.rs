//! Texts of errors and notices on their way to the client: they quote values.

use std::borrow::Cow;

use super::super::wire::{ErrorFields, frame};
use super::masking::Masking;

/// Stands for what cannot be shown.
pub(super) const WITHHELD: &[u8] = b"(withheld: it may quote masked values)";
const CUT: &str = "***";
/// SQLSTATEs, or their first characters, of errors that name objects and no values: constraints, transactions, privileges,
/// resources, states, cancellation.
const OF_OBJECTS: &[&[u8]] = &[b"23", b"25", b"40", b"42501", b"53", b"55", b"57"];

/// Whether the texts of an error have to be looked at at all.
pub(super) fn reads<M: Masking>(masks: &M) -> bool {
    !masks.is_empty()
}

/// Appends the message of type `tag`, its texts masked.
///
/// `concerned`: the statement, whose text is `said`, reads a masked column, or it is not known what it reads. Then DETAIL
/// and CONTEXT are dropped (they quote rows), what a procedure raises is withheld, and of the server's own words all is cut
/// that may be a value and that the statement does not say itself.
pub(super) fn rewrite<M: Masking>(
    masks: &M,
    tag: u8,
    error: &ErrorFields<'_>,
    concerned: bool,
    said: &str,
    out: &mut Vec<u8>,
) {
    let concerned = concerned || (masks.has_columns() && comes_from_elsewhere(masks, error, said));
    let raised = is_raised(error);
    let message = error.get(b'M').unwrap_or_default();
    let shown = if concerned {
        shown(message, error, said)
    } else {
        Cow::Borrowed(message)
    };
    let cut = *shown != *message;
    frame(out, tag, |out| {
        for (kind, value) in error.iter() {
            let text: &[u8] = match kind {
                b'D' | b'W' | b'q' | b'p' if concerned => continue,
                // A position in what is not the statement is one in a value.
                b'P' if cut => continue,
                b'H' if concerned && (raised || cut) => continue,
                b'M' => &shown,
                _ => value,
            };
            out.push(kind);
            let scanned = matches!(kind, b'M' | b'D' | b'H' | b'W' | b'q') && masks.has_detectors();
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

/// Whether an error is about something that the statement does not name: a procedure, a trigger, another table.
fn comes_from_elsewhere<M: Masking>(masks: &M, error: &ErrorFields<'_>, said: &str) -> bool {
    let text = |kind| error.get(kind).and_then(|name| std::str::from_utf8(name).ok());
    let table = error.get(b't').is_some_and(|_| {
        text(b't')
            .is_none_or(|table| !mentions(said, table) || masks.concerns_table(text(b's'), table).is_some())
    });
    // The context of COPY is the client's own line.
    let inside = error
        .get(b'W')
        .is_some_and(|context| !context.starts_with(b"COPY "));
    table || inside || error.get(b'q').is_some() || is_raised(error)
}

/// Whether a procedural language raised it: its messages are a program's.
fn is_raised(error: &ErrorFields<'_>) -> bool {
    const LANGUAGES: &[&[u8]] = &[b"pl_", b"plperl", b"plpy", b"pltcl"];
    error
        .get(b'F')
        .is_some_and(|file| LANGUAGES.iter().any(|language| file.starts_with(language)))
}

/// What may be shown of the message of an error that may quote values.
fn shown<'a>(message: &'a [u8], error: &ErrorFields<'_>, said: &str) -> Cow<'a, [u8]> {
    if is_raised(error) {
        return Cow::Borrowed(WITHHELD);
    }
    let code = error.sqlstate();
    if OF_OBJECTS.iter().any(|class| code.starts_with(class)) {
        return Cow::Borrowed(message);
    }
    // In other languages, values stand between other quotes.
    let Some(text) = std::str::from_utf8(message).ok().filter(|text| text.is_ascii()) else {
        return Cow::Borrowed(WITHHELD);
    };
    // With a position in the statement, types that do not fit are listed.
    let analysed = error.get(b'P').is_some() && code.starts_with(b"42");
    match without_values(text, said, analysed) {
        Some(cut) => Cow::Owned(cut.into_bytes()),
        None => Cow::Borrowed(message),
    }
}

/// The message without what stands between quotes, behind a colon or has digits in it, as far as the statement does not
/// say the same; `None`: nothing had to be cut.
fn without_values(message: &str, said: &str, keeps_list: bool) -> Option<String> {
    let quotes: Vec<usize> = memchr::memchr_iter(b'"', message.as_bytes()).collect();
    let pieces = quotes.chunks(2).map(|pair| match pair {
        [from, to] => message.get(from + 1..*to),
        _ => None,
    });
    let own = pieces
        .into_iter()
        .all(|piece| piece.is_some_and(|piece| mentions(said, piece)));
    let (before, quoted, after) = match (quotes.first(), quotes.last()) {
        (Some(from), Some(to)) if from < to => (
            message.get(..*from).unwrap_or_default(),
            message.get(*from..=*to).unwrap_or_default(),
            message.get(to + 1..).unwrap_or_default(),
        ),
        // A value may have a quote in it.
        (Some(from), _) => (message.get(..*from).unwrap_or_default(), "\"", ""),
        (None, _) => (message, "", ""),
    };
    let mut shown = String::with_capacity(message.len());
    plain(before, said, keeps_list, &mut shown);
    match (quoted, own) {
        ("", _) => {}
        (quoted, true) => shown.push_str(quoted),
        (_, false) => {
            shown.push('"');
            shown.push_str(CUT);
            shown.push('"');
        }
    }
    plain(after, said, keeps_list, &mut shown);
    (shown != message).then_some(shown)
}

/// Appends words of the server, those cut that have digits in them, and all behind a colon.
fn plain(words: &str, said: &str, keeps_list: bool, out: &mut String) {
    let (words, list) = match words.split_once(": ") {
        Some((words, list)) if !list.is_empty() && !keeps_list => (words, Some(list)),
        _ => (words, None),
    };
    for (index, word) in words.split(' ').enumerate() {
        if index > 0 {
            out.push(' ');
        }
        let core = word.trim_matches(|c: char| c.is_ascii_punctuation());
        if word.bytes().any(|byte| byte.is_ascii_digit()) && !mentions(said, core) {
            out.push_str(CUT);
        } else {
            out.push_str(word);
        }
    }
    if let Some(list) = list {
        out.push_str(": ");
        out.push_str(if mentions(said, list) { list } else { CUT });
    }
}

/// Whether the statement says `piece` itself, as words of their own, in whatever case.
fn mentions(said: &str, piece: &str) -> bool {
    let (said, piece) = (said.as_bytes(), piece.as_bytes());
    let is_word = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    !piece.is_empty()
        && said.windows(piece.len()).enumerate().any(|(at, window)| {
            let before = at.checked_sub(1).and_then(|before| said.get(before));
            let after = said.get(at + piece.len());
            window.eq_ignore_ascii_case(piece)
                && !(is_word(before) && is_word(piece.first()))
                && !(is_word(after) && is_word(piece.last()))
        })
}

#[cfg(test)]
mod tests {
    use super::without_values;

    #[test]
    fn values_are_cut_and_the_statements_own_words_stay() {
        let said = "SELECT email::regclass, Foo FROM customers WHERE id = 42";
        for (message, expected) in [
            (
                "relation \"ada@acme\" does not exist",
                "relation \"***\" does not exist",
            ),
            ("column \"foo\" does not exist", "column \"foo\" does not exist"),
            ("a \"foo\" and b \"x\" too", "a \"***\" too"),
            ("value \"a\"b\" is bad", "value \"***\" is bad"),
            ("odd \"value", "odd \"***\""),
            ("unrecognized specifier \"a\"", "unrecognized specifier \"***\""),
            (
                "index 123 out of valid range, 0..7",
                "index *** out of valid range, ***",
            ),
            ("row 42 is gone", "row 42 is gone"),
            (
                "operator does not exist: ada@acme",
                "operator does not exist: ***",
            ),
            ("date out of range: 1234-01-01", "date out of range: ***"),
            ("byte sequence 0xc3 0xa9", "byte sequence *** ***"),
            (
                "syntax error in tsquery: \"& ada\"",
                "syntax error in tsquery: \"***\"",
            ),
        ] {
            let shown = without_values(message, said, false);
            assert_eq!(shown.as_deref().unwrap_or(message), expected);
        }
    }
}
