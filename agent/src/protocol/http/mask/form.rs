//! Forms: `application/x-www-form-urlencoded` (WHATWG URL, 5).

use std::sync::Arc;

use crate::mask::{MaskId, Masks};
use crate::model::{ValueFormat, ValueType};

use super::counts::Counts;
use super::{Transform, Unmaskable};

/// Largest field that is read.
const LARGEST: usize = 1 << 20;

/// Masks the fields of a form.
#[derive(Debug)]
pub(super) struct Form {
    masks: Arc<Masks>,
    /// The field that is coming in.
    field: Vec<u8>,
    counts: Counts,
}

impl Form {
    pub(super) fn new(masks: Arc<Masks>) -> Self {
        Self {
            masks,
            field: Vec::new(),
            counts: Counts::default(),
        }
    }

    fn end_of_field(&mut self, out: &mut Vec<u8>) {
        let field = std::mem::take(&mut self.field);
        let at = field.iter().position(|byte| *byte == b'=');
        let (name, value) = match at {
            Some(at) => (
                field.get(..at).unwrap_or_default(),
                field.get(at + 1..).unwrap_or_default(),
            ),
            None => (field.as_slice(), &[][..]),
        };
        if let Some(id) = key(&self.masks, &String::from_utf8_lossy(&decoded(name))) {
            self.counts.named(id);
            out.extend_from_slice(name);
            out.push(b'=');
            let mut masked = Vec::new();
            // NULL has no form here but nothing.
            let _ = self.masks.mask(
                id,
                &decoded(value),
                ValueType::Text,
                ValueFormat::Text,
                &mut masked,
            );
            put(&masked, out);
            return;
        }
        self.detected(name, out);
        if at.is_some() {
            out.push(b'=');
            self.detected(value, out);
        }
    }

    fn detected(&mut self, text: &[u8], out: &mut Vec<u8>) {
        let mut found = Vec::new();
        let hits = self.masks.detect(&decoded(text), &mut found);
        if hits == 0 {
            out.extend_from_slice(text);
        } else {
            self.counts.found("body", hits.into());
            put(&found, out);
        }
    }
}

/// The mask of a field: by its whole name, or by a part of it in brackets (`user[email]`).
pub(super) fn key(masks: &Masks, name: &str) -> Option<MaskId> {
    let names = masks.names();
    names.key(name).or_else(|| {
        name.split(['[', ']', '.'])
            .filter(|part| !part.is_empty())
            .find_map(|part| names.key(part))
    })
}

fn decoded(text: &[u8]) -> Vec<u8> {
    // As a value, so that an equals sign in it is one.
    let pair = [b"=", text].concat();
    form_urlencoded::parse(&pair)
        .next()
        .map_or_else(Vec::new, |(_, value)| value.into_owned().into_bytes())
}

fn put(text: &[u8], out: &mut Vec<u8>) {
    for part in form_urlencoded::byte_serialize(text) {
        out.extend_from_slice(part.as_bytes());
    }
}

impl Transform for Form {
    fn push(&mut self, piece: &[u8], out: &mut Vec<u8>) -> Result<(), Unmaskable> {
        for byte in piece {
            // Some readers separate by semicolons: what is behind one is looked at as a field as well.
            if matches!(byte, b'&' | b';') {
                self.end_of_field(out);
                out.push(*byte);
            } else {
                self.field.push(*byte);
            }
            if self.field.len() > LARGEST {
                return Err(Unmaskable::TooLarge("a form field of more than 1 MiB"));
            }
        }
        Ok(())
    }

    fn flush(&mut self, _out: &mut Vec<u8>) -> Result<(), Unmaskable> {
        Ok(())
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), Unmaskable> {
        self.end_of_field(out);
        Ok(())
    }

    fn report(&mut self, counts: &mut Counts) {
        counts.take(&mut self.counts);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{TestMask, cut, masks};
    use super::*;

    #[test]
    fn fields_are_masked_by_their_names_and_by_their_looks() {
        let masks = masks(&[
            TestMask::Key("email", "redact"),
            TestMask::Detect("card", "redact"),
        ]);
        let cases = [
            ("id=7&email=a%40b.c&x", "id=7&email=%5Bredacted%5D&x"),
            ("%65mail=a;b=1", "%65mail=%5Bredacted%5D;b=1"),
            (
                "user[email]=a&user%5Bid%5D=1",
                "user[email]=%5Bredacted%5D&user%5Bid%5D=1",
            ),
            ("n=4111+1111+1111+1111&s=%7e", "n=%5Bredacted%3Acard%5D&s=%7e"),
            ("", ""),
        ];
        for (text, wanted) in cases {
            for step in [1, 3, usize::MAX] {
                let out = cut(&mut Form::new(masks.clone()), text.as_bytes(), || step).unwrap();
                assert_eq!(String::from_utf8(out).unwrap(), wanted, "{text}");
            }
        }
    }
}
