//! `partial`: enough of a value stays that a person recognises it, not enough to use it.

/// Fewest digits of a number of which the last four stay.
const SHOWN_DIGITS_OF: usize = 8;
/// How many digits stay.
const SHOWN_DIGITS: usize = 4;
/// Fewest characters of a text of which the first and last stay.
const SHOWN_ENDS_OF: usize = 4;

/// Appends the partial form of `value`; blanks around it stay, so that padded columns keep their width.
pub(super) fn text(value: &str, out: &mut Vec<u8>) {
    let core = value.trim_matches(' ');
    let (before, after) = match value.split_once(core) {
        Some(blanks) if !core.is_empty() => blanks,
        _ => (value, ""),
    };
    out.extend_from_slice(before.as_bytes());
    if !email(core, out) && !digits(core, out) {
        ends(core, out);
    }
    out.extend_from_slice(after.as_bytes());
}

/// `alice@example.test` → `a***@e***.test`. The stars say nothing about lengths.
fn email(value: &str, out: &mut Vec<u8>) -> bool {
    let Some((local, domain)) = value.split_once('@') else {
        return false;
    };
    if local.is_empty() || domain.is_empty() || domain.contains('@') || value.contains(char::is_whitespace) {
        return false;
    }
    let (host, top) = match domain.rsplit_once('.') {
        Some((host, top)) if !host.is_empty() && !top.is_empty() => (host, Some(top)),
        _ => (domain, None),
    };
    initial(local, out);
    out.push(b'@');
    initial(host, out);
    if let Some(top) = top {
        out.push(b'.');
        out.extend_from_slice(top.as_bytes());
    }
    true
}

/// First character and stars; stars alone for a part of one character, which would otherwise be shown whole.
fn initial(part: &str, out: &mut Vec<u8>) {
    let mut chars = part.chars();
    if let (Some(first), Some(_)) = (chars.next(), chars.next()) {
        put(first, out);
    }
    out.extend_from_slice(b"***");
}

/// `4111 1111 1111 1111` → `**** **** **** 1111`: card, account and telephone numbers.
fn digits(value: &str, out: &mut Vec<u8>) -> bool {
    let separator = |c: char| matches!(c, ' ' | '-' | '.' | '/' | '(' | ')' | '+');
    if !value.chars().all(|c| c.is_ascii_digit() || separator(c)) {
        return false;
    }
    let count = value.bytes().filter(u8::is_ascii_digit).count();
    if count == 0 {
        return false;
    }
    let hidden = if count < SHOWN_DIGITS_OF {
        count
    } else {
        count - SHOWN_DIGITS
    };
    let mut seen = 0;
    for byte in value.bytes() {
        if byte.is_ascii_digit() {
            seen += 1;
            out.push(if seen <= hidden { b'*' } else { byte });
        } else {
            out.push(byte);
        }
    }
    true
}

/// `Springfield` → `S*********d`.
fn ends(value: &str, out: &mut Vec<u8>) {
    let count = value.chars().count();
    for (index, c) in value.chars().enumerate() {
        if count >= SHOWN_ENDS_OF && (index == 0 || index + 1 == count) {
            put(c, out);
        } else {
            out.push(b'*');
        }
    }
}

fn put(c: char, out: &mut Vec<u8>) {
    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}
