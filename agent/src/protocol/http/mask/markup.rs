//! XML and HTML: elements and attributes by their names (`keys`), text by detectors.
//!
//! A reader of tags, comments and sections, not of grammar: so HTML that browsers repair is read as it stands. An element whose
//! name is a key has all that is in it masked, up to its end tag, or up to the end of the body where there is none. In
//! HTML the name of a field may be the value of an attribute: where `name`, `id`, `property` or `itemprop` is a key,
//! `value` and `content` are masked. Known limits: a detector sees text between two tags, not across them; a
//! namespace prefix is not looked at.

use std::sync::Arc;

use crate::mask::{MaskId, Masks};
use crate::model::{ValueFormat, ValueType};

use super::counts::Counts;
use super::text::other_charset;
use super::{Transform, Unmaskable};

/// Largest tag, comment or section that is read whole.
const LARGEST_TAG: usize = 1 << 20;
/// Longest text that is looked at whole; a longer one is cut at blanks.
const LONGEST_TEXT: usize = 32 * 1024;
/// Attributes that say which field an HTML element is.
const NAMING: &[&str] = &["name", "id", "property", "itemprop"];
/// Attributes that hold the value of such an element.
const HOLDING: &[&str] = &["value", "content"];
/// Elements of HTML that have no end tag.
const VOID: &[&str] = &[
    "area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr",
];

/// Masks markup.
#[derive(Debug)]
pub(super) struct Markup {
    masks: Arc<Masks>,
    /// What is coming in: a tag from its `<` on, or text.
    held: Vec<u8>,
    lex: Lex,
    /// The element that is masked: its name, how many of that name are open, its mask, and its text so far.
    masking: Option<Element>,
    counts: Counts,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lex {
    Text,
    /// Behind `<`: a tag, whose attribute values may hold `>`.
    Tag {
        quote: Option<u8>,
    },
    /// `<!--`, `<![CDATA[` or `<?`: up to this.
    Until(&'static [u8]),
}

#[derive(Debug)]
struct Element {
    name: String,
    depth: u32,
    id: MaskId,
    text: Vec<u8>,
}

impl Markup {
    pub(super) fn new(masks: Arc<Masks>) -> Self {
        Self {
            masks,
            held: Vec::new(),
            lex: Lex::Text,
            masking: None,
            counts: Counts::default(),
        }
    }

    fn byte(&mut self, byte: u8, out: &mut Vec<u8>) -> Result<(), Unmaskable> {
        match self.lex {
            Lex::Text => {
                if byte == b'<' {
                    self.text(out);
                    self.held.push(byte);
                    self.lex = Lex::Tag { quote: None };
                    return Ok(());
                }
                self.held.push(byte);
                if self.held.len() > LONGEST_TEXT && byte.is_ascii_whitespace()
                    || self.held.len() > LARGEST_TAG
                {
                    self.text(out);
                }
            }
            Lex::Tag { quote } => {
                self.held.push(byte);
                match (quote, byte) {
                    (Some(open), byte) if byte == open => self.lex = Lex::Tag { quote: None },
                    (Some(_), _) => {}
                    // What is no tag: `a < b`.
                    (None, byte) if self.held.len() == 2 && !begins_tag(byte) => self.lex = Lex::Text,
                    (None, b'"' | b'\'')
                        if self
                            .held
                            .last_chunk::<2>()
                            .is_some_and(|[before, _]| *before == b'=' || before.is_ascii_whitespace()) =>
                    {
                        self.lex = Lex::Tag { quote: Some(byte) };
                    }
                    (None, b'>') => {
                        self.tag(out)?;
                        self.lex = Lex::Text;
                    }
                    (None, _) => match self.held.as_slice() {
                        b"<!--" => self.lex = Lex::Until(b"-->"),
                        b"<![CDATA[" => self.lex = Lex::Until(b"]]>"),
                        b"<?" => self.lex = Lex::Until(b"?>"),
                        _ => {}
                    },
                }
            }
            Lex::Until(end) => {
                self.held.push(byte);
                if self.held.ends_with(end) {
                    self.text(out);
                    self.lex = Lex::Text;
                }
            }
        }
        if self.held.len() > LARGEST_TAG {
            return Err(Unmaskable::TooLarge("a tag or comment of more than 1 MiB"));
        }
        Ok(())
    }

    /// Text, a comment or a section that is whole.
    fn text(&mut self, out: &mut Vec<u8>) {
        let held = std::mem::take(&mut self.held);
        match &mut self.masking {
            Some(element) => element.text.extend_from_slice(&held),
            None => self.detected(&held, out),
        }
    }

    fn detected(&mut self, text: &[u8], out: &mut Vec<u8>) {
        let mut found = Vec::new();
        let mut hits = self.masks.detect(text, &mut found);
        if hits == 0 && text.contains(&b'&') {
            // What references hide.
            let plain = dereferenced(text);
            hits = self.masks.detect(&plain, &mut found);
            if hits > 0 {
                self.counts.found("body", hits.into());
                put(&found, out);
                return;
            }
        }
        self.counts.found("body", hits.into());
        out.extend_from_slice(if hits == 0 { text } else { &found });
    }

    /// A tag that is whole.
    fn tag(&mut self, out: &mut Vec<u8>) -> Result<(), Unmaskable> {
        let tag = std::mem::take(&mut self.held);
        let Ok(text) = std::str::from_utf8(&tag) else {
            return Err(Unmaskable::Malformed {
                what: "markup",
                why: "a tag is no UTF-8",
                at: 0,
            });
        };
        let inner = text.trim_start_matches('<').trim_end_matches('>');
        if let Some(name) = inner.strip_prefix('/') {
            self.end_tag(local(name.trim()), &tag, out);
            return Ok(());
        }
        let empty = inner.ends_with('/');
        let inner = inner.trim_end_matches('/');
        let (name, attributes) = inner
            .split_once(|c: char| c.is_ascii_whitespace() || c == '/')
            .unwrap_or((inner, ""));
        let name = local(name).to_ascii_lowercase();
        if let Some(element) = &mut self.masking {
            if !empty && element.name == name {
                element.depth += 1;
            }
            return Ok(());
        }
        self.start_tag(text, attributes, out);
        if !empty
            && !VOID.contains(&name.as_str())
            && let Some(id) = self.masks.names().key(&name)
        {
            self.masking = Some(Element {
                name,
                depth: 1,
                id,
                text: Vec::new(),
            });
        }
        Ok(())
    }

    fn end_tag(&mut self, name: &str, tag: &[u8], out: &mut Vec<u8>) {
        if let Some(element) = &mut self.masking {
            if !element.name.eq_ignore_ascii_case(name) {
                return;
            }
            element.depth -= 1;
            if element.depth > 0 {
                return;
            }
            self.end_masking(out);
        }
        out.extend_from_slice(tag);
    }

    /// Writes what stands for the content of the element that is masked.
    fn end_masking(&mut self, out: &mut Vec<u8>) {
        if let Some(element) = self.masking.take() {
            self.counts.named(element.id);
            self.masked(element.id, &element.text, out);
        }
    }

    fn masked(&self, id: MaskId, text: &[u8], out: &mut Vec<u8>) {
        let mut masked = Vec::new();
        // NULL has no form here but nothing.
        let _ = self.masks.mask(
            id,
            &dereferenced(text),
            ValueType::Text,
            ValueFormat::Text,
            &mut masked,
        );
        put(&masked, out);
    }

    /// A start tag, its attributes masked.
    fn start_tag(&mut self, tag: &str, attributes: &str, out: &mut Vec<u8>) {
        let list = attributes_of(attributes);
        let key = |name: &str| self.masks.names().key(local(name));
        let named = list
            .iter()
            .filter(|(name, _)| NAMING.iter().any(|naming| naming.eq_ignore_ascii_case(name)))
            .find_map(|(_, value)| self.masks.names().key(value));
        let edits: Vec<(&str, MaskId)> = list
            .iter()
            .filter_map(|(name, value)| {
                let holding = HOLDING.iter().any(|holding| holding.eq_ignore_ascii_case(name));
                let id = key(name).or(named.filter(|_| holding))?;
                Some((*value, id))
            })
            .collect();
        if edits.is_empty() {
            self.detected(tag.as_bytes(), out);
            return;
        }
        let mut rest = tag;
        for (value, id) in edits {
            // The values are parts of the tag, in its order.
            let at = value.as_ptr().addr().saturating_sub(rest.as_ptr().addr());
            let (before, from) = rest.split_at_checked(at).unwrap_or((rest, ""));
            self.detected(before.as_bytes(), out);
            let quoted = before.ends_with(['"', '\'']);
            if !quoted {
                out.push(b'"');
            }
            self.masked(id, value.as_bytes(), out);
            if !quoted {
                out.push(b'"');
            }
            self.counts.named(id);
            rest = from.get(value.len()..).unwrap_or_default();
        }
        self.detected(rest.as_bytes(), out);
    }
}

impl Transform for Markup {
    fn push(&mut self, piece: &[u8], out: &mut Vec<u8>) -> Result<(), Unmaskable> {
        if let Some(charset) = other_charset(piece) {
            return Err(Unmaskable::Charset(charset.into()));
        }
        piece.iter().try_for_each(|byte| self.byte(*byte, out))
    }

    fn flush(&mut self, _out: &mut Vec<u8>) -> Result<(), Unmaskable> {
        Ok(())
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), Unmaskable> {
        self.text(out);
        self.end_masking(out);
        Ok(())
    }

    fn report(&mut self, counts: &mut Counts) {
        counts.take(&mut self.counts);
    }
}

fn begins_tag(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || matches!(byte, b'/' | b'!' | b'?' | b'_' | b':') || !byte.is_ascii()
}

/// A name without its namespace prefix.
fn local(name: &str) -> &str {
    name.rsplit(':').next().unwrap_or(name)
}

/// Names and values; a value is a part of `text`.
fn attributes_of(text: &str) -> Vec<(&str, &str)> {
    let mut list = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_ascii_whitespace() || c == '/');
        let end = rest
            .find(|c: char| c.is_ascii_whitespace() || c == '=' || c == '/')
            .unwrap_or(rest.len());
        let (name, after) = rest.split_at_checked(end).unwrap_or((rest, ""));
        if name.is_empty() {
            // A stray `=`.
            match rest.strip_prefix('=') {
                Some(later) => {
                    rest = later;
                    continue;
                }
                None => return list,
            }
        }
        let Some(value) = after.trim_start().strip_prefix('=') else {
            rest = after;
            continue;
        };
        let value = value.trim_start();
        let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''));
        let (value, later) = match quote {
            Some(quote) => {
                let inner = value.get(1..).unwrap_or_default();
                inner.split_once(quote).unwrap_or((inner, ""))
            }
            None => {
                let end = value
                    .find(|c: char| c.is_ascii_whitespace())
                    .unwrap_or(value.len());
                value.split_at_checked(end).unwrap_or((value, ""))
            }
        };
        list.push((name, value));
        rest = later;
    }
}

/// `text` with its character references undone: numbers, and the names that XML has.
fn dereferenced(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = memchr::memchr(b'&', rest) {
        let (before, from) = rest.split_at_checked(at).unwrap_or((rest, &[]));
        out.extend_from_slice(before);
        let end = from.iter().take(12).position(|byte| *byte == b';');
        let name = end.and_then(|end| std::str::from_utf8(from.get(1..end)?).ok());
        match (name.and_then(referenced), end) {
            (Some(c), Some(end)) => {
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                rest = from.get(end + 1..).unwrap_or_default();
            }
            _ => {
                out.push(b'&');
                rest = from.get(1..).unwrap_or_default();
            }
        }
    }
    out.extend_from_slice(rest);
    out
}

fn referenced(name: &str) -> Option<char> {
    let number = match name.strip_prefix('#') {
        Some(number) => match number.strip_prefix(['x', 'X']) {
            Some(hex) => u32::from_str_radix(hex, 16).ok()?,
            None => number.parse().ok()?,
        },
        None => {
            return Some(match name {
                "amp" => '&',
                "lt" => '<',
                "gt" => '>',
                "quot" => '"',
                "apos" => '\'',
                "commat" => '@',
                "period" => '.',
                "nbsp" => ' ',
                "hyphen" | "dash" => '-',
                _ => return None,
            });
        }
    };
    char::from_u32(number)
}

fn put(text: &[u8], out: &mut Vec<u8>) {
    for byte in text {
        match byte {
            b'<' => out.extend_from_slice(b"&lt;"),
            b'>' => out.extend_from_slice(b"&gt;"),
            b'&' => out.extend_from_slice(b"&amp;"),
            b'"' => out.extend_from_slice(b"&quot;"),
            b'\'' => out.extend_from_slice(b"&#39;"),
            _ => out.push(*byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{TestMask, cut, masks};
    use super::*;

    #[test]
    fn elements_and_attributes_are_masked_by_name_and_text_by_its_looks() {
        let masks = masks(&[
            TestMask::Key("email", "redact"),
            TestMask::Key("*token", "null"),
            TestMask::Detect("card", "redact"),
            TestMask::Detect("email", "redact"),
        ]);
        let cases = [
            (
                "<u><email>a@b.c</email><id>7</id></u>",
                "<u><email>[redacted]</email><id>7</id></u>",
            ),
            (
                "<x:Email a='1'>q<b>r</b></x:Email >",
                "<x:Email a='1'>[redacted]</x:Email >",
            ),
            ("<email><email>a</email>b</email>c", "<email>[redacted]</email>c"),
            ("<u EMAIL=\"a>b\" id='7'/>", "<u EMAIL=\"[redacted]\" id='7'/>"),
            (
                "<u email = a token=t>x</u>",
                "<u email = \"[redacted]\" token=\"\">x</u>",
            ),
            (
                "<input name=\"email\" value=\"a&amp;b\"><p>4111 1111 1111 1111</p>",
                "<input name=\"email\" value=\"[redacted]\"><p>[redacted:card]</p>",
            ),
            ("<p>alice&#64;acme.test &lt;</p>", "<p>[redacted:email] &lt;</p>"),
            (
                "<!-- alice@acme.test --><a b='<'>1 < 2</a>",
                "<!-- [redacted:email] --><a b='<'>1 < 2</a>",
            ),
            (
                "<email><![CDATA[</email>]]></email>!",
                "<email>[redacted]</email>!",
            ),
            ("<email>cut short", "<email>[redacted]"),
            ("<email/>x", "<email/>x"),
            ("plain & simple", "plain & simple"),
        ];
        for (text, wanted) in cases {
            for step in [1, 2, 7, usize::MAX] {
                let out = cut(&mut Markup::new(masks.clone()), text.as_bytes(), || step).unwrap();
                assert_eq!(String::from_utf8(out).unwrap(), wanted, "{text} {step}");
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_the_same_wherever_it_is_cut(text in "[<>/!?a-e='\" &;#\\[\\]-]{0,60}", step in 1_usize..6) {
            let masks = masks(&[TestMask::Key("a", "redact"), TestMask::Detect("card", "redact")]);
            let whole = cut(&mut Markup::new(masks.clone()), text.as_bytes(), || usize::MAX);
            let pieces = cut(&mut Markup::new(masks), text.as_bytes(), || step);
            proptest::prop_assert_eq!(whole, pieces);
        }
    }
}
