//! Server-sent events (WHATWG HTML, 9.2): masked event by event, each given on as soon as its blank line is there.
//!
//! The data of an event is JSON where it begins as JSON does, else text. An event in which nothing is masked stays as it came,
//! byte for byte; of another its data lines are written anew.

use std::sync::Arc;

use crate::mask::Masks;

use super::counts::Counts;
use super::json::Json;
use super::sniff::looks_like_json;
use super::text::other_charset;
use super::{Transform, Unmaskable};

/// Largest event that is read.
const LARGEST: usize = 4 << 20;

/// Masks events.
#[derive(Debug)]
pub(super) struct EventStream {
    masks: Arc<Masks>,
    /// The event that is coming in, as it came.
    event: Vec<u8>,
    /// Where the line begins that is coming in.
    line: usize,
    /// The last byte was a carriage return that ended a line: a line feed belongs to it.
    after_return: bool,
    counts: Counts,
}

impl EventStream {
    pub(super) fn new(masks: Arc<Masks>) -> Self {
        Self {
            masks,
            event: Vec::new(),
            line: 0,
            after_return: false,
            counts: Counts::default(),
        }
    }

    fn byte(&mut self, byte: u8, out: &mut Vec<u8>) -> Result<(), Unmaskable> {
        if std::mem::take(&mut self.after_return) && byte == b'\n' {
            // After the end of an event it goes on by itself.
            if self.event.is_empty() {
                out.push(byte);
            } else {
                self.event.push(byte);
                self.line = self.event.len();
            }
            return Ok(());
        }
        self.event.push(byte);
        if self.event.len() > LARGEST {
            return Err(Unmaskable::TooLarge("an event of more than 4 MiB"));
        }
        if byte == b'\n' || byte == b'\r' {
            self.after_return = byte == b'\r';
            let blank = self.event.len() - self.line == 1;
            self.line = self.event.len();
            if blank {
                self.dispatch(out)?;
            }
        }
        Ok(())
    }

    /// Masks an event that is whole.
    fn dispatch(&mut self, out: &mut Vec<u8>) -> Result<(), Unmaskable> {
        let event = std::mem::take(&mut self.event);
        self.line = 0;
        if let Some(charset) = other_charset(&event) {
            return Err(Unmaskable::Charset(charset.into()));
        }
        let mut data = Vec::new();
        let mut has_data = false;
        for line in lines(&event) {
            if let Some(value) = field(line.text, b"data") {
                if has_data {
                    data.push(b'\n');
                }
                data.extend_from_slice(value);
                has_data = true;
            }
        }
        let masked = if has_data { self.data(&data)? } else { None };
        let mut written = false;
        for line in lines(&event) {
            let is_data = field(line.text, b"data").is_some();
            match &masked {
                Some(masked) if is_data => {
                    if !std::mem::replace(&mut written, true) {
                        for part in masked.split(|byte| matches!(byte, b'\n' | b'\r')) {
                            out.extend_from_slice(b"data: ");
                            out.extend_from_slice(part);
                            out.extend_from_slice(line.end);
                        }
                    }
                }
                _ if is_data => out.extend_from_slice(line.whole),
                // Comments, names and ids: text.
                _ => {
                    let hits = self.masks.detect(line.text, out);
                    self.counts.found("body", hits.into());
                    if hits == 0 {
                        out.extend_from_slice(line.text);
                    }
                    out.extend_from_slice(line.end);
                }
            }
        }
        Ok(())
    }

    /// The masked data of an event; `None`: it stays.
    fn data(&mut self, data: &[u8]) -> Result<Option<Vec<u8>>, Unmaskable> {
        let mut out = Vec::new();
        if looks_like_json(data) {
            let mut json = Json::new(self.masks.clone());
            let read = json.push(data, &mut out).and_then(|()| json.finish(&mut out));
            match read {
                Ok(()) => {
                    json.report(&mut self.counts);
                    return Ok((out != data).then_some(out));
                }
                // `[DONE]` and its like; but not what could be half a document.
                Err(why) if self.masks.names().has_bodies() && data.contains(&b'"') => return Err(why),
                Err(_) => out.clear(),
            }
        }
        let hits = self.masks.detect(data, &mut out);
        self.counts.found("body", hits.into());
        Ok((hits > 0).then_some(out))
    }
}

impl Transform for EventStream {
    fn push(&mut self, piece: &[u8], out: &mut Vec<u8>) -> Result<(), Unmaskable> {
        piece.iter().try_for_each(|byte| self.byte(*byte, out))
    }

    fn flush(&mut self, _out: &mut Vec<u8>) -> Result<(), Unmaskable> {
        // What is held is an event that nobody can use yet.
        Ok(())
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), Unmaskable> {
        // Readers drop an event without its blank line; not all of them do.
        if self.event.is_empty() {
            return Ok(());
        }
        self.dispatch(out)
    }

    fn report(&mut self, counts: &mut Counts) {
        counts.take(&mut self.counts);
    }
}

/// One line of an event.
struct Line<'e> {
    whole: &'e [u8],
    text: &'e [u8],
    end: &'e [u8],
}

fn lines(event: &[u8]) -> impl Iterator<Item = Line<'_>> {
    let mut rest = event;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let length = rest
            .iter()
            .position(|byte| matches!(byte, b'\n' | b'\r'))
            .unwrap_or(rest.len());
        let end = match rest.get(length..) {
            Some([b'\r', b'\n', ..]) => 2,
            Some([_, ..]) => 1,
            _ => 0,
        };
        let (whole, later) = rest.split_at_checked(length + end)?;
        let (text, end) = whole.split_at_checked(length)?;
        rest = later;
        Some(Line { whole, text, end })
    })
}

/// The value of the field `name`, where the line is one.
fn field<'l>(line: &'l [u8], name: &[u8]) -> Option<&'l [u8]> {
    let line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
    let rest = line.strip_prefix(name)?;
    if rest.is_empty() {
        return Some(rest);
    }
    let value = rest.strip_prefix(b":")?;
    Some(value.strip_prefix(b" ").unwrap_or(value))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{TestMask, cut, masks};
    use super::*;

    fn masked(rules: &[TestMask<'_>], text: &str) -> String {
        let masks = masks(rules);
        let whole = cut(&mut EventStream::new(masks.clone()), text.as_bytes(), || {
            usize::MAX
        })
        .unwrap();
        for step in [1, 2, 5] {
            let pieces = cut(&mut EventStream::new(masks.clone()), text.as_bytes(), || step).unwrap();
            assert_eq!(pieces, whole, "{step}");
        }
        String::from_utf8(whole).unwrap()
    }

    #[test]
    fn the_data_of_an_event_is_masked_and_other_events_stay() {
        let rules = &[
            TestMask::Key("email", "redact"),
            TestMask::Detect("card", "redact"),
        ];
        let cases = [
            (
                "event: user\nid: 7\ndata: {\"email\":\"a\"}\n\n",
                "event: user\nid: 7\ndata: {\"email\":\"[redacted]\"}\n\n",
            ),
            (
                "data:{\"x\":1}\r\n\r\n:ping\r\n\r\n",
                "data:{\"x\":1}\r\n\r\n:ping\r\n\r\n",
            ),
            (
                "data: {\"a\":1,\ndata:  \"email\":\"b\"}\rid\r\r",
                "data: {\"a\":1,\rdata:  \"email\":\"[redacted]\"}\rid\r\r",
            ),
            ("data: [DONE]\n\n", "data: [DONE]\n\n"),
            ("data: pay 4111111111111111\n\n", "data: pay [redacted:card]\n\n"),
            (": 4111111111111111\ndata\n\n", ": [redacted:card]\ndata\n\n"),
            ("data: {\"email\":\"x\"}", "data: {\"email\":\"[redacted]\"}"),
            (
                "\u{feff}data: {\"email\":\"x\"}\n\n",
                "data: {\"email\":\"[redacted]\"}\n\n",
            ),
        ];
        for (text, wanted) in cases {
            let out = masked(rules, text);
            assert_eq!(out.replace('\n', "\r"), wanted.replace('\n', "\r"), "{text:?}");
        }
    }

    #[test]
    fn an_event_is_given_on_with_its_blank_line_and_not_later() {
        let mut stream = EventStream::new(masks(&[TestMask::Key("email", "redact")]));
        let mut out = Vec::new();
        stream.push(b"data: {\"email\":\"a\"}\n", &mut out).unwrap();
        assert!(out.is_empty());
        stream.push(b"\n", &mut out).unwrap();
        assert_eq!(out, b"data: {\"email\":\"[redacted]\"}\n\n");
    }

    #[test]
    fn half_a_document_is_refused() {
        let mut stream = EventStream::new(masks(&[TestMask::Key("email", "redact")]));
        let error = stream.push(b"data: {\"email\":\"a\"\n\n", &mut Vec::new());
        assert!(matches!(error, Err(Unmaskable::Truncated(_))));
    }
}
