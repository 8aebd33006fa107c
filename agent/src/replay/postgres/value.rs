//! Fields of messages, and values as people read them.

use super::super::clean;
use super::super::step::Column;

/// A value of a row.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value<'a> {
    Null,
    Some {
        /// The value, or its beginning where that is all that was kept of the message.
        bytes: &'a [u8],
        /// Its whole length.
        length: usize,
    },
}

/// Fields of a message's body, read as far as there are any.
#[derive(Debug)]
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*field)
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    pub(super) fn i16(&mut self) -> Option<i16> {
        self.array().map(i16::from_be_bytes)
    }

    /// A count of fields, which goes beyond 32,767.
    pub(super) fn count(&mut self) -> Option<usize> {
        self.array().map(|bytes| u16::from_be_bytes(bytes).into())
    }

    pub(super) fn i32(&mut self) -> Option<i32> {
        self.array().map(i32::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    /// A string up to its zero byte, or to the end.
    pub(super) fn string(&mut self) -> &'a [u8] {
        let end = memchr::memchr(0, self.0).unwrap_or(self.0.len());
        let (string, rest) = self.0.split_at_checked(end).unwrap_or((self.0, &[]));
        self.0 = rest.get(1..).unwrap_or_default();
        string
    }

    /// A value, behind its length.
    pub(super) fn value(&mut self) -> Option<Value<'a>> {
        let Ok(length) = usize::try_from(self.i32()?) else {
            return Some(Value::Null);
        };
        let (bytes, rest) = self.0.split_at_checked(length).unwrap_or((self.0, &[]));
        self.0 = rest;
        Some(Value::Some { bytes, length })
    }
}

/// A value as text; `None` is NULL. Of what is longer than `most` bytes the beginning, and how long it was.
pub(super) fn show(value: Value<'_>, column: &Column, most: usize) -> Option<String> {
    match value {
        Value::Null => None,
        Value::Some { bytes, length } if column.binary => Some(binary(bytes, length, column.type_oid, most)),
        Value::Some { bytes, length } => Some(cut(bytes, length, most)),
    }
}

/// The beginning of a text that is `length` bytes long.
pub(super) fn cut(bytes: &[u8], length: usize, most: usize) -> String {
    if length <= most && bytes.len() == length {
        return clean::text(bytes);
    }
    let mut end = most.min(bytes.len());
    // Not inside a character: its first byte is at most three back.
    while end > 0 && most.min(bytes.len()) - end < 4 && bytes.get(end).is_some_and(|byte| byte & 0xc0 == 0x80)
    {
        end -= 1;
    }
    let beginning = clean::text(bytes.get(..end).unwrap_or_default());
    format!("{beginning}… ({length} bytes)")
}

/// A value in binary form, by the OID of its type (`pg_type.dat`).
fn binary(bytes: &[u8], length: usize, type_oid: u32, most: usize) -> String {
    let known = match (type_oid, bytes) {
        (16, [truth]) => Some(if *truth == 0 { "f" } else { "t" }.to_owned()),
        (21, [a, b]) => Some(i16::from_be_bytes([*a, *b]).to_string()),
        (23, [a, b, c, d]) => Some(i32::from_be_bytes([*a, *b, *c, *d]).to_string()),
        (26, [a, b, c, d]) => Some(u32::from_be_bytes([*a, *b, *c, *d]).to_string()),
        (700, [a, b, c, d]) => Some(f32::from_be_bytes([*a, *b, *c, *d]).to_string()),
        (20, _) => bytes
            .as_array()
            .map(|bytes| i64::from_be_bytes(*bytes).to_string()),
        (701, _) => bytes
            .as_array()
            .map(|bytes| f64::from_be_bytes(*bytes).to_string()),
        (2950, _) => bytes
            .as_array()
            .map(|bytes| uuid::Uuid::from_bytes(*bytes).to_string()),
        // text, varchar, bpchar, name, "char", unknown, json, xml; jsonb begins with its version.
        (25 | 1043 | 1042 | 19 | 18 | 705 | 114 | 142, _) => Some(cut(bytes, length, most)),
        (3802, [1, json @ ..]) => Some(cut(json, length.saturating_sub(1), most)),
        _ => None,
    };
    known.unwrap_or_else(|| {
        let shown = bytes.get(..most / 2).unwrap_or(bytes);
        let hex = hex::encode(shown);
        if shown.len() == length {
            format!("\\x{hex}")
        } else {
            format!("\\x{hex}… ({length} bytes)")
        }
    })
}
