//! E-mail addresses: a dot-atom, `@`, and a domain name with a top level (RFC 5321 lengths, RFC 6531 letters).
//!
//! Not found: quoted local parts, address literals (`a@[192.0.2.1]`), hosts without a dot (`root@localhost`), and
//! letters past the Greek and Cyrillic blocks, which in most texts are prose around the address.

use super::Hit;
use super::bytes::before;
use crate::config::Detector;

const LONGEST_LOCAL: usize = 64;
const LONGEST_LABEL: usize = 63;
const LONGEST_DOMAIN: usize = 253;
/// Letters from here on end an address.
const FIRST_FOREIGN: char = '\u{590}';
/// `icon@2x.png` is a file.
const FILE_ENDINGS: [&[u8]; 9] = [
    b"png", b"jpg", b"jpeg", b"gif", b"svg", b"webp", b"css", b"js", b"json",
];

pub(super) fn next(text: &[u8], from: usize) -> Option<Hit> {
    let mut at = from;
    loop {
        let sign = at + memchr::memchr(b'@', text.get(at..)?)?;
        if let Some(start) = local_start(text, sign)
            && start >= from
            && let Some(end) = domain_end(text, sign + 1)
        {
            return Some(Hit {
                detector: Detector::Email,
                start,
                end,
                open: false,
            });
        }
        at = sign + 1;
    }
}

fn local_start(text: &[u8], sign: usize) -> Option<usize> {
    let mut start = sign;
    while let Some((c, length)) = char_before(text, start) {
        let dot_before_dot = c == '.' && (start == sign || text.get(start) == Some(&b'.'));
        if !is_local(c) || dot_before_dot {
            break;
        }
        start -= length;
        if sign - start > LONGEST_LOCAL {
            return None;
        }
    }
    if before(text, start) == Some(b'\\') {
        start += escape_tail(text.get(start..).unwrap_or_default());
    }
    while let Some(b'.' | b'\'' | b'-') = text.get(start) {
        start += 1;
    }
    (start < sign).then_some(start)
}

/// Length of what belongs to the backslash before it (`\n`, `\u0000`) and not to the address: the escape must stay whole.
fn escape_tail(text: &[u8]) -> usize {
    match text {
        [b'u', hex @ ..]
            if hex
                .get(..4)
                .is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit)) =>
        {
            5
        }
        [b'n' | b'r' | b't' | b'b' | b'f' | b'v', ..] => 1,
        _ => 0,
    }
}

fn is_local(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '%' | '+' | '-' | '\'') || is_letter(c)
}

/// A letter beyond ASCII of a script in which addresses are written between blanks.
fn is_letter(c: char) -> bool {
    !c.is_ascii() && c < FIRST_FOREIGN && c.is_alphabetic()
}

/// End of the longest domain name from `at` on that has a top level.
fn domain_end(text: &[u8], at: usize) -> Option<usize> {
    let mut label = at;
    let mut end = None;
    let mut first = true;
    loop {
        let label_end = label_end(text, label);
        let name = text.get(label..label_end)?;
        if name.is_empty()
            || name.first() == Some(&b'-')
            || name.len() > LONGEST_LABEL
            || label_end - at > LONGEST_DOMAIN
        {
            return end;
        }
        if !first && let Some(length) = top_level(name) {
            end = Some(label + length);
        }
        first = false;
        if name.last() == Some(&b'-') || text.get(label_end) != Some(&b'.') {
            return end;
        }
        label = label_end + 1;
    }
}

fn label_end(text: &[u8], label: usize) -> usize {
    let mut at = label;
    while at - label <= LONGEST_LABEL
        && let Some((c, length)) = char_at(text, at)
        && (c.is_ascii_alphanumeric() || c == '-' || is_letter(c))
    {
        at += length;
    }
    at
}

/// Length of the top level that `label` is: letters alone, or punycode. What follows a dash may be prose.
fn top_level(label: &[u8]) -> Option<usize> {
    if label.len() > 4
        && label
            .get(..4)
            .is_some_and(|head| head.eq_ignore_ascii_case(b"xn--"))
    {
        return Some(label.len());
    }
    let letters = label
        .iter()
        .position(|byte| !byte.is_ascii_alphabetic() && byte.is_ascii())
        .unwrap_or(label.len());
    let name = label.get(..letters)?;
    let ends = label.get(letters).is_none_or(|byte| *byte == b'-');
    let file = FILE_ENDINGS
        .iter()
        .any(|ending| name.eq_ignore_ascii_case(ending));
    (letters >= 2 && ends && !file).then_some(letters)
}

/// The character that begins at `at`, and its length; `None` at the end and where the text is not UTF-8.
fn char_at(text: &[u8], at: usize) -> Option<(char, usize)> {
    let rest = text.get(at..)?;
    let first = *rest.first()?;
    if first.is_ascii() {
        return Some((char::from(first), 1));
    }
    (2..=4).find_map(|length| {
        let c = std::str::from_utf8(rest.get(..length)?).ok()?.chars().next()?;
        Some((c, length))
    })
}

/// The character that ends before `at`, and its length.
fn char_before(text: &[u8], at: usize) -> Option<(char, usize)> {
    let last = before(text, at)?;
    if last.is_ascii() {
        return Some((char::from(last), 1));
    }
    (2..=4).find_map(|length| {
        let (c, whole) = char_at(text, at.checked_sub(length)?)?;
        (whole == length).then_some((c, length))
    })
}
