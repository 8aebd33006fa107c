//! Paths into JSON (RFC 9535), as far as a value can be told to be selected while its document is still coming in: names, `*`,
//! indexes, slices and `..`. Filters look at what comes later, and negative indexes count from an end that is not known
//! yet; both are refused.

use std::fmt;
use std::iter::Peekable;
use std::str::CharIndices;

use super::reader::Wrong;

/// A path: a value is selected if the names and indexes that lead to it match the segments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonPath {
    text: String,
    segments: Vec<JsonSegment>,
}

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonSegment {
    /// `..`: any number of levels may lie between.
    pub descendant: bool,
    /// At least one.
    pub selectors: Vec<JsonSelector>,
}

/// What a segment selects of the children of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JsonSelector {
    /// `name`, `'name'`: the member of this name. Case counts.
    Name(String),
    /// `*`: every member and element.
    Wildcard,
    /// `0`: the element at this place.
    Index(u64),
    /// `1:10:2`: elements from `start`, up to but not with `end` (`None`: the last one), each `step`-th. A `step` of 0 selects nothing.
    Slice {
        /// First place.
        start: u64,
        /// Place behind the last one.
        end: Option<u64>,
        /// Distance.
        step: u64,
    },
}

/// Longest path, in bytes.
const LONGEST: usize = 512;
/// Most segments of a path.
const MOST_SEGMENTS: usize = 32;
/// Largest integer of a path (RFC 9535, 2.1: that of I-JSON).
const LARGEST: u64 = (1 << 53) - 1;

impl JsonPath {
    /// The path as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Its segments; none: the whole document.
    pub fn segments(&self) -> &[JsonSegment] {
        &self.segments
    }
}

impl fmt::Display for JsonPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl JsonSelector {
    /// Whether the element at `index` is selected.
    pub fn selects_index(&self, index: u64) -> bool {
        match self {
            Self::Name(_) => false,
            Self::Wildcard => true,
            Self::Index(wanted) => *wanted == index,
            Self::Slice { start, end, step } => {
                *step > 0
                    && index >= *start
                    && end.is_none_or(|end| index < end)
                    && (index - start).is_multiple_of(*step)
            }
        }
    }

    /// Whether the member `name` is selected.
    pub fn selects_name(&self, name: &str) -> bool {
        match self {
            Self::Name(wanted) => wanted == name,
            Self::Wildcard => true,
            Self::Index(_) | Self::Slice { .. } => false,
        }
    }
}

/// A path as it stands in a policy.
pub(super) fn json_path(text: &str) -> Result<JsonPath, Wrong> {
    if text.len() > LONGEST {
        return Err(Wrong::new(
            format!("the path is longer than {LONGEST} bytes"),
            "write a shorter one",
        ));
    }
    let mut parser = Parser {
        text,
        rest: text.char_indices().peekable(),
    };
    if !parser.takes('$') {
        return Err(parser.wrong("a path begins with \"$\", the document"));
    }
    let mut segments = Vec::new();
    while let Some(segment) = parser.segment()? {
        segments.push(segment);
        if segments.len() > MOST_SEGMENTS {
            return Err(parser.wrong(&format!("a path has up to {MOST_SEGMENTS} segments")));
        }
    }
    Ok(JsonPath {
        text: text.into(),
        segments,
    })
}

struct Parser<'t> {
    text: &'t str,
    rest: Peekable<CharIndices<'t>>,
}

impl Parser<'_> {
    fn peek(&mut self) -> Option<char> {
        self.rest.peek().map(|(_, c)| *c)
    }

    fn takes(&mut self, wanted: char) -> bool {
        self.rest.next_if(|(_, c)| *c == wanted).is_some()
    }

    fn blanks(&mut self) {
        while self
            .rest
            .next_if(|(_, c)| matches!(c, ' ' | '\t' | '\n' | '\r'))
            .is_some()
        {}
    }

    fn wrong(&mut self, why: &str) -> Wrong {
        let place = match self.rest.peek() {
            Some((at, _)) => format!("at \"{}\"", self.text.get(*at..).unwrap_or_default()),
            None => "at its end".into(),
        };
        Wrong::new(
            format!("\"{}\" is no path of RFC 9535: {why} ({place})", self.text),
            "write one such as \"$.users[*].email\" or \"$..token\"",
        )
    }

    fn undecidable(&self, what: &str, instead: &str) -> Wrong {
        Wrong::new(
            format!(
                "\"{}\" has {what}, which cannot be decided while the document is still coming in",
                self.text
            ),
            instead,
        )
    }

    fn segment(&mut self) -> Result<Option<JsonSegment>, Wrong> {
        let start = self.rest.clone();
        self.blanks();
        if self.takes('.') {
            let descendant = self.takes('.');
            if descendant && self.peek() == Some('[') {
                return self.bracketed(true).map(Some);
            }
            let selector = if self.takes('*') {
                JsonSelector::Wildcard
            } else {
                JsonSelector::Name(self.shorthand()?)
            };
            return Ok(Some(JsonSegment {
                descendant,
                selectors: vec![selector],
            }));
        }
        if self.peek() == Some('[') {
            return self.bracketed(false).map(Some);
        }
        if self.rest.peek().is_none() && start.clone().next().is_none() {
            return Ok(None);
        }
        self.rest = start;
        Err(self.wrong("a segment begins with \".\", \"..\" or \"[\""))
    }

    /// `member-name-shorthand`.
    fn shorthand(&mut self) -> Result<String, Wrong> {
        let first = |c: char| c.is_ascii_alphabetic() || c == '_' || !c.is_ascii();
        let mut name = String::new();
        while let Some((_, c)) = self
            .rest
            .next_if(|(_, c)| first(*c) || (c.is_ascii_digit() && !name.is_empty()))
        {
            name.push(c);
        }
        if name.is_empty() {
            return Err(self.wrong("a name is missing, or has to be in brackets and quotes: ['a name']"));
        }
        Ok(name)
    }

    fn bracketed(&mut self, descendant: bool) -> Result<JsonSegment, Wrong> {
        let mut selectors = Vec::new();
        if !self.takes('[') {
            return Err(self.wrong("a \"[\" is missing"));
        }
        loop {
            self.blanks();
            selectors.push(self.selector()?);
            self.blanks();
            if self.takes(']') {
                return Ok(JsonSegment {
                    descendant,
                    selectors,
                });
            }
            if !self.takes(',') {
                return Err(self.wrong("a \"[\" has no \"]\""));
            }
        }
    }

    fn selector(&mut self) -> Result<JsonSelector, Wrong> {
        match self.peek() {
            Some('*') => {
                self.takes('*');
                Ok(JsonSelector::Wildcard)
            }
            Some(quote @ ('\'' | '"')) => {
                self.takes(quote);
                self.quoted(quote).map(JsonSelector::Name)
            }
            Some('?') => {
                Err(self.undecidable("a filter", "select by names, \"*\", indexes, slices and \"..\""))
            }
            _ => self.index_or_slice(),
        }
    }

    fn index_or_slice(&mut self) -> Result<JsonSelector, Wrong> {
        let start = self.integer()?;
        self.blanks();
        if !self.takes(':') {
            return start
                .map(JsonSelector::Index)
                .ok_or_else(|| self.wrong("a name in quotes, \"*\", an index or a slice is missing"));
        }
        self.blanks();
        let end = self.integer()?;
        self.blanks();
        let step = if self.takes(':') {
            self.blanks();
            self.integer()?
        } else {
            None
        };
        Ok(JsonSelector::Slice {
            start: start.unwrap_or(0),
            end,
            step: step.unwrap_or(1),
        })
    }

    fn integer(&mut self) -> Result<Option<u64>, Wrong> {
        if self.peek() == Some('-') {
            return Err(self.undecidable(
                "a negative number, which counts from the end",
                "count from the beginning, or select every element with \"*\"",
            ));
        }
        let mut digits = String::new();
        while let Some((_, c)) = self.rest.next_if(|(_, c)| c.is_ascii_digit()) {
            digits.push(c);
        }
        if digits.is_empty() {
            return Ok(None);
        }
        let number = digits.parse().ok().filter(|number| *number <= LARGEST);
        match number {
            Some(number) if digits == "0" || !digits.starts_with('0') => Ok(Some(number)),
            _ => Err(self.wrong(&format!("\"{digits}\" is no number of a path"))),
        }
    }

    fn quoted(&mut self, quote: char) -> Result<String, Wrong> {
        let mut name = String::new();
        loop {
            let Some((_, c)) = self.rest.next() else {
                return Err(self.wrong("a quote is not closed"));
            };
            match c {
                c if c == quote => return Ok(name),
                '\\' => name.push(self.escaped(quote)?),
                c if c < ' ' => return Err(self.wrong("a name has a control character")),
                c => name.push(c),
            }
        }
    }

    fn escaped(&mut self, quote: char) -> Result<char, Wrong> {
        let unknown = "a backslash is followed by what it does not escape";
        Ok(match self.rest.next().map(|(_, c)| c) {
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some(c @ ('/' | '\\')) => c,
            Some(c) if c == quote => c,
            Some('u') => {
                let high = self.hex()?;
                let units = if (0xd800..0xdc00).contains(&high) {
                    if !(self.takes('\\') && self.takes('u')) {
                        return Err(self.wrong("half of a surrogate pair is missing"));
                    }
                    vec![high, self.hex()?]
                } else {
                    vec![high]
                };
                match char::decode_utf16(units).next() {
                    Some(Ok(c)) => c,
                    _ => return Err(self.wrong("half of a surrogate pair is missing")),
                }
            }
            _ => return Err(self.wrong(unknown)),
        })
    }

    fn hex(&mut self) -> Result<u16, Wrong> {
        let mut number = 0;
        for _ in 0..4 {
            let digit = self.rest.next().and_then(|(_, c)| c.to_digit(16));
            let Some(digit) = digit.and_then(|digit| u16::try_from(digit).ok()) else {
                return Err(self.wrong("\\u is followed by four hexadecimal digits"));
            };
            number = number << 4 | digit;
        }
        Ok(number)
    }
}

#[cfg(test)]
mod tests;
