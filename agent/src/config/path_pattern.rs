//! Patterns over paths of HTTP: `/v1/users/{id}`, `/v1/orders/**`.
//!
//! A pattern is compared segment by segment with a reading of a path. A segment is a glob over names (`report-*`, `v[12]`); `{id}`
//! and `*` are any one segment that is not empty; `**` is any number of segments, none included. A slash at the end is an empty
//! segment. `%` and two digits are the byte, so that `acme%2Freport` is one segment that servers may also read as two: both are
//! then meant.

use std::fmt;

use super::glob::{Glob, GlobError};

/// A compiled pattern.
#[derive(Clone, PartialEq, Eq)]
pub struct PathPattern {
    text: String,
    /// Each in one way to read the pattern's own `%2F`.
    forms: Vec<Form>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Form {
    exact: Vec<Segment>,
    folded: Vec<Segment>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    /// The empty one.
    Empty,
    /// One that is not empty.
    One(Glob),
    /// Any number of any.
    Rest,
}

/// Why a pattern is malformed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathPatternError {
    /// It does not begin with `/`.
    #[error("it does not begin with \"/\"")]
    NoSlash,
    /// `//`, `.` or `..`.
    #[error("it has an empty segment, \".\" or \"..\", which no path is allowed to have")]
    Dots,
    /// `?`, `#`, `;` or `\`.
    #[error("it has a \"{0}\", which does not belong to a path")]
    NotPath(char),
    /// `a{id}`, `{`, `a**`.
    #[error("\"{0}\" has to be a segment of its own")]
    NotAlone(&'static str),
    /// `%` without two digits, or bytes that are not UTF-8.
    #[error("it has a \"%\" that cannot be decoded")]
    Encoding,
    /// A segment is no glob.
    #[error("{0}")]
    Glob(#[from] GlobError),
}

impl PathPattern {
    /// Compiles a pattern.
    pub fn parse(text: &str) -> Result<Self, PathPatternError> {
        let below = text.strip_prefix('/').ok_or(PathPatternError::NoSlash)?;
        if let Some(c) = text.chars().find(|c| matches!(c, '?' | '#' | ';' | '\\')) {
            return Err(PathPatternError::NotPath(c));
        }
        let parts: Vec<&str> = below.split('/').collect();
        let last = parts.len() - 1;
        for (i, part) in parts.iter().enumerate() {
            if (part.is_empty() && i != last) || matches!(*part, "." | "..") {
                return Err(PathPatternError::Dots);
            }
        }
        let whole: Vec<String> = parts.iter().map(|part| decoded(part)).collect::<Result<_, _>>()?;
        let mut forms = vec![Form::compile(&whole)?];
        if whole.iter().any(|part| part.contains('/')) {
            let parted: Vec<String> = whole
                .iter()
                .flat_map(|part| part.split('/'))
                .map(str::to_owned)
                .collect();
            if parted.iter().any(|part| matches!(part.as_str(), "" | "." | "..")) {
                return Err(PathPatternError::Dots);
            }
            forms.push(Form::compile(&parted)?);
        }
        Ok(Self {
            text: text.to_owned(),
            forms,
        })
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether a path is certainly meant: as it is spelt, to the last slash.
    pub fn matches<S: AsRef<str>>(&self, segments: &[S]) -> bool {
        let segments: Vec<&str> = segments.iter().map(AsRef::as_ref).collect();
        self.forms.iter().any(|form| walk(&form.exact, &segments))
    }

    /// Whether a path could be meant by a server that does not tell letters' case apart, nor a slash at the end, nor dots and
    /// spaces at the end of a segment.
    pub fn could_match<S: AsRef<str>>(&self, segments: &[S]) -> bool {
        if self.matches(segments) {
            return true;
        }
        let mut segments: Vec<String> = segments.iter().map(|segment| folded(segment.as_ref())).collect();
        if segments.last().is_some_and(String::is_empty) {
            segments.pop();
        }
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        self.forms.iter().any(|form| walk(&form.folded, &segments))
    }

    /// Whether it certainly matches all that `other` matches; may say no where it does.
    pub fn covers(&self, other: &Self) -> bool {
        self == other
            || other.forms.iter().all(|narrow| {
                self.forms.iter().any(|wide| match wide.exact.split_last() {
                    Some((Segment::Rest, before)) => {
                        before.len() <= narrow.exact.len()
                            && before
                                .iter()
                                .zip(&narrow.exact)
                                .all(|(wide, narrow)| match (wide, narrow) {
                                    (Segment::One(wide), Segment::One(narrow)) => wide.covers(narrow),
                                    _ => false,
                                })
                    }
                    _ => {
                        wide.exact.len() == narrow.exact.len()
                            && wide.exact.iter().zip(&narrow.exact).all(|(wide, narrow)| {
                                match (wide, narrow) {
                                    (Segment::One(wide), Segment::One(narrow)) => wide.covers(narrow),
                                    (Segment::Empty, Segment::Empty) => true,
                                    _ => false,
                                }
                            })
                    }
                })
            })
    }
}

impl Form {
    fn compile(parts: &[String]) -> Result<Self, PathPatternError> {
        let exact: Vec<Segment> = parts
            .iter()
            .map(|part| Segment::compile(part))
            .collect::<Result<_, _>>()?;
        let mut folded_parts: Vec<String> = parts.iter().map(|part| folded(part)).collect();
        if folded_parts.last().is_some_and(String::is_empty) {
            folded_parts.pop();
        }
        let folded = folded_parts
            .iter()
            .map(|part| Segment::compile(part))
            .collect::<Result<_, _>>()?;
        Ok(Self { exact, folded })
    }
}

impl Segment {
    fn compile(part: &str) -> Result<Self, PathPatternError> {
        if part.is_empty() {
            return Ok(Self::Empty);
        }
        if part == "**" {
            return Ok(Self::Rest);
        }
        if part.contains("**") {
            return Err(PathPatternError::NotAlone("**"));
        }
        let name = part.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
        if let Some(name) = name {
            let spelt = !name.is_empty()
                && name
                    .chars()
                    .all(|c| c.is_alphanumeric() || matches!(c, '_' | '-'));
            return if spelt {
                Ok(Self::One(Glob::any()))
            } else {
                Err(PathPatternError::NotAlone("{name}"))
            };
        }
        if part.contains(['{', '}']) {
            return Err(PathPatternError::NotAlone("{name}"));
        }
        Ok(Self::One(Glob::name(part)?))
    }
}

/// Compares without recursion: time is the product of both lengths.
fn walk(pattern: &[Segment], path: &[&str]) -> bool {
    // Place j: so many segments of the pattern can have matched what was read so far.
    let mut places = vec![false; pattern.len() + 1];
    let enter = |places: &mut Vec<bool>, mut at: usize| {
        loop {
            if let Some(place) = places.get_mut(at) {
                *place = true;
            }
            if pattern.get(at) != Some(&Segment::Rest) {
                break;
            }
            at += 1;
        }
    };
    enter(&mut places, 0);
    for segment in path {
        let mut next = vec![false; pattern.len() + 1];
        for (at, part) in pattern.iter().enumerate() {
            if places.get(at) != Some(&true) {
                continue;
            }
            match part {
                Segment::Rest => enter(&mut next, at),
                Segment::Empty if segment.is_empty() => enter(&mut next, at + 1),
                Segment::One(glob) if !segment.is_empty() && glob.matches(segment) => {
                    enter(&mut next, at + 1);
                }
                Segment::Empty | Segment::One(_) => {}
            }
        }
        places = next;
    }
    places.last() == Some(&true)
}

/// One spelling for what some servers take for the same.
fn folded(segment: &str) -> String {
    // Upper case first: `ſ` and `ı` have no lower case of their own, and an upper case in ASCII.
    let folded: String = segment
        .chars()
        .flat_map(char::to_uppercase)
        .flat_map(char::to_lowercase)
        .collect();
    folded.trim_end_matches(['.', ' ']).to_owned()
}

fn decoded(part: &str) -> Result<String, PathPatternError> {
    let mut out = Vec::with_capacity(part.len());
    let mut bytes = part.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let mut digit = || bytes.next().and_then(|b| char::from(b).to_digit(16));
        let (Some(high), Some(low)) = (digit(), digit()) else {
            return Err(PathPatternError::Encoding);
        };
        let byte = u8::try_from(high * 16 + low).map_err(|_| PathPatternError::Encoding)?;
        // A star that was encoded is no pattern, and there is no way to write one that is none.
        if b"*?[]{}".contains(&byte) {
            return Err(PathPatternError::NotPath(char::from(byte)));
        }
        out.push(byte);
    }
    String::from_utf8(out).map_err(|_| PathPatternError::Encoding)
}

impl fmt::Debug for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PathPattern({})", self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segments(path: &str) -> Vec<&str> {
        path.split('/').skip(1).collect()
    }

    #[test]
    fn paths_match_segment_by_segment() {
        for (pattern, path, wanted) in [
            ("/v1/users/{id}", "/v1/users/7", true),
            ("/v1/users/{id}", "/v1/users/", false),
            ("/v1/users/{id}", "/v1/users", false),
            ("/v1/users/{id}", "/v1/users/7/keys", false),
            ("/v1/users/{id}", "/v1/users/7/", false),
            ("/v1/users/{id}", "/V1/users/7", false),
            ("/v1/orders/**", "/v1/orders", true),
            ("/v1/orders/**", "/v1/orders/", true),
            ("/v1/orders/**", "/v1/orders/7/lines/2", true),
            ("/v1/orders/**", "/v1/ordersx", false),
            ("/**/lines", "/v1/orders/7/lines", true),
            ("/**/lines", "/lines", true),
            ("/**", "/", true),
            ("/", "/", true),
            ("/", "/a", false),
            ("/*/report-*", "/a/report-2024", true),
            ("/*/report-*", "//report-2024", false),
            ("/a/", "/a/", true),
            ("/a/", "/a", false),
            ("/caf%C3%A9", "/café", true),
        ] {
            assert_eq!(
                PathPattern::parse(pattern).unwrap().matches(&segments(path)),
                wanted,
                "{pattern} {path}"
            );
        }
        let slash = PathPattern::parse("/p/acme%2Freport").unwrap();
        assert!(slash.matches(&["p", "acme/report"]) && slash.matches(&["p", "acme", "report"]));
        assert!(!slash.matches(&["p", "acme"]));
    }

    #[test]
    fn a_server_may_be_lax() {
        let admin = PathPattern::parse("/Admin/{x}/").unwrap();
        for path in ["/admin/1", "/ADMIN/1/", "/admın/1", "/admin./1", "/admin%20/1"] {
            let path = path.replace("%20", " ");
            assert!(admin.could_match(&segments(&path)), "{path}");
        }
        assert!(!admin.could_match(&segments("/admin")));
        assert!(
            PathPattern::parse("/kelvin")
                .unwrap()
                .could_match(&["\u{212a}elvin"])
        );
        assert!(PathPattern::parse("/sos").unwrap().could_match(&["\u{17f}os"]));
    }

    #[test]
    fn malformed_patterns_are_refused() {
        for pattern in [
            "v1",
            "/a//b",
            "/a/../b",
            "/./a",
            "/a?b=1",
            "/a;b",
            "/a#b",
            "/a\\b",
            "/a{id}",
            "/{id",
            "/{}",
            "/{a b}",
            "/a**",
            "/**a",
            "/a%",
            "/a%zz",
            "/%ff",
            "/[a",
            "/a%2F%2e%2e%2Fb",
            "/a%2Ab",
        ] {
            assert!(PathPattern::parse(pattern).is_err(), "{pattern}");
        }
    }

    #[test]
    fn a_wide_pattern_covers_a_narrow_one() {
        for (wide, narrow, wanted) in [
            ("/**", "/a/b", true),
            ("/a/**", "/a/{x}/c", true),
            ("/a/{x}", "/a/b", true),
            ("/a/{x}", "/a/**", false),
            ("/a/**", "/b/**", false),
            ("/a/**", "/**", false),
        ] {
            let (a, b) = (
                PathPattern::parse(wide).unwrap(),
                PathPattern::parse(narrow).unwrap(),
            );
            assert_eq!(a.covers(&b), wanted, "{wide} {narrow}");
        }
    }
}
