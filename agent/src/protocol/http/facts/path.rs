//! A path as servers may read it.
//!
//! What is sent is the raw path, and what a server makes of it differs: nginx decodes, joins slashes and resolves dots; Go
//! decodes and keeps dots; Node's routers split first and decode afterwards; Java's containers cut `;parameters` off; some
//! applications decode again what their server has decoded. So a path is a set of readings, every one of which counts.
//!
//! | in the path | readings |
//! |---|---|
//! | `%2F` | a slash that parts segments, and a character of one |
//! | `//` | an empty segment, and nothing |
//! | `;x` | as it stands, and cut off at the end of its segment |
//! | `%3F`, `%23` | a character, and the end of the path |
//! | `%25…` | decoded once, and up to three times |
//! | `.`, `..`, segments of dots and spaces, `\`, control characters, NUL, bytes that are not UTF-8 (overlong forms too), `%` without two digits, characters that compatibility forms turn into ASCII, characters without width, `::$` | **in doubt**: what a server makes of it is not told |
//!
//! Letters' case, one slash at the end, and dots and spaces at the end of a segment are not readings of their own: rules that
//! refuse or hold are compared without them (`policy`).
//!
//! Known limits: what a server's own routes make of a path is not known (`/admin.json` for `/admin`, `/index.php/admin`, short
//! names of Windows, links on its disk, aliases). Rules that name what is allowed hold there, rules that name what is refused do
//! not.

use std::collections::BTreeSet;
use std::sync::Arc;

/// How often a path is decoded; one that has still more to decode is in doubt.
const LEVELS: usize = 3;

/// Most readings that are followed; a path with more is in doubt.
const MOST: usize = 128;

/// Longest path that is read, in bytes; servers take 8 kB as a rule.
const LONGEST: usize = 16 * 1024;

/// The readings of a path.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Readings {
    /// Its segments, decoded, for each reading; sorted.
    pub(super) all: Vec<Vec<Arc<str>>>,
    /// Why there may be others.
    pub(super) doubt: Option<&'static str>,
}

type Segments = Vec<String>;

/// Reads a path without its query.
pub(super) fn read(raw: &str) -> Readings {
    if is_plain(raw) {
        let only = raw.split('/').skip(1).map(Arc::from).collect();
        return Readings {
            all: vec![only],
            doubt: None,
        };
    }
    let (found, doubt) = match every_reading(raw) {
        Ok(found) => (found, None),
        Err((found, why)) => (found, Some(why)),
    };
    let all = found
        .into_iter()
        .map(|segments| segments.into_iter().map(Arc::from).collect())
        .collect();
    Readings { all, doubt }
}

/// Whether every server reads the path as it stands.
fn is_plain(raw: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.~/!$&'()*+,=:@".contains(&b);
    raw.starts_with('/')
        && raw.len() <= LONGEST
        && raw.bytes().all(plain)
        && !raw.contains("//")
        && !raw.contains("::$")
        && raw
            .split('/')
            .all(|segment| segment.is_empty() || !is_dots(segment))
}

type Doubtful = (BTreeSet<Segments>, &'static str);

fn every_reading(raw: &str) -> Result<BTreeSet<Segments>, Doubtful> {
    let mut found = BTreeSet::new();
    if raw.len() > LONGEST {
        return Err((found, "the path is longer than any server's"));
    }
    let Some(below) = raw.strip_prefix('/') else {
        return Err((found, "the path does not begin with a slash"));
    };
    // Each is decoded so many times as a whole, then parted, then decoded further segment by segment.
    let mut whole = below.to_owned();
    let mut doubt = None;
    for level in 0..=LEVELS {
        let mut segments: Segments = whole.split('/').map(str::to_owned).collect();
        for further in level..=LEVELS {
            if further > 0 {
                found.insert(segments.clone());
            }
            if further == LEVELS {
                break;
            }
            match segments
                .iter()
                .map(|segment| decoded(segment, further == 0))
                .collect()
            {
                Ok(next) => segments = next,
                Err(why) => {
                    doubt = Some(why);
                    break;
                }
            }
        }
        if level == LEVELS {
            if decoded(&whole, false).as_deref() != Ok(whole.as_str()) {
                doubt = Some("the path is encoded again and again");
            }
            break;
        }
        match decoded(&whole, level == 0) {
            Ok(next) => whole = next,
            Err(why) => {
                doubt = Some(why);
                break;
            }
        }
    }
    if let Some(why) = widen(&mut found) {
        doubt.get_or_insert(why);
    }
    if doubt.is_none() {
        doubt = found.iter().flatten().find_map(|segment| odd(segment));
    }
    match doubt {
        Some(why) => Err((found, why)),
        None => Ok(found),
    }
}

/// Adds what servers make of a reading that they have already parted.
fn widen(found: &mut BTreeSet<Segments>) -> Option<&'static str> {
    let mut todo: Vec<Segments> = found.iter().cloned().collect();
    while let Some(reading) = todo.pop() {
        for next in [without_parameters(&reading), cut(&reading), joined(&reading)] {
            if found.len() >= MOST {
                return Some("the path can be read in too many ways");
            }
            if found.insert(next.clone()) {
                todo.push(next);
            }
        }
    }
    None
}

fn without_parameters(reading: &Segments) -> Segments {
    let bare = |segment: &String| segment.split(';').next().unwrap_or_default().to_owned();
    reading.iter().map(bare).collect()
}

fn cut(reading: &Segments) -> Segments {
    let mut kept = Segments::new();
    for segment in reading {
        match segment.split_once(['?', '#']) {
            Some((before, _)) => {
                kept.push(before.to_owned());
                break;
            }
            None => kept.push(segment.clone()),
        }
    }
    kept
}

/// Without empty segments, but for one at the end.
fn joined(reading: &Segments) -> Segments {
    let (last, before) = match reading.split_last() {
        Some((last, before)) => (last.clone(), before),
        None => return Segments::new(),
    };
    let full = before.iter().filter(|segment| !segment.is_empty()).cloned();
    full.chain(std::iter::once(last)).collect()
}

/// Decodes once. `strict`: a `%` has to have its two digits; what is decoded again is left alone where it has not.
fn decoded(text: &str, strict: bool) -> Result<String, &'static str> {
    if !text.contains('%') {
        return Ok(text.to_owned());
    }
    let digit = |b: Option<&u8>| b.and_then(|b| char::from(*b).to_digit(16));
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let value = match (digit(bytes.get(at + 1)), digit(bytes.get(at + 2))) {
            (Some(high), Some(low)) if *byte == b'%' => u8::try_from(high * 16 + low).ok(),
            _ if *byte == b'%' && strict => return Err("the path has a \"%\" without two digits"),
            _ => None,
        };
        out.push(value.unwrap_or(*byte));
        at += if value.is_some() { 3 } else { 1 };
    }
    String::from_utf8(out).map_err(|_| "the path is not UTF-8")
}

/// Why a segment is in doubt.
fn odd(segment: &str) -> Option<&'static str> {
    if !segment.is_empty() && is_dots(segment) {
        return Some("the path has a segment of dots");
    }
    segment
        .chars()
        .find_map(|c| match c {
            '\\' => Some("the path has a backslash"),
            c if c.is_control() => Some("the path has a control character"),
            // Fullwidth forms, dot leaders, slashes and full stops that compatibility forms or best-fit tables turn into ASCII.
            '\u{ff01}'..='\u{ff61}'
            | '\u{2024}'..='\u{2026}'
            | '\u{2044}'
            | '\u{2215}'
            | '\u{2216}'
            | '\u{29f5}'
            | '\u{29f8}'
            | '\u{3002}'
            | '\u{fe50}'..='\u{fe6b}' => Some("the path has characters that some servers read as others"),
            '\u{ad}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}' => Some("the path has characters without width"),
            _ => None,
        })
        .or_else(|| {
            segment
                .contains("::$")
                .then_some("the path names a stream of a file")
        })
}

/// Whether nothing but dots and spaces is in it; parameters do not count.
fn is_dots(segment: &str) -> bool {
    let bare = segment.split(';').next().unwrap_or_default();
    !bare.is_empty() && bare.chars().all(|c| c == '.' || c.is_whitespace())
}

#[cfg(test)]
mod tests;
