//! What an operator makes of a JSON value: another JSON value, of the same type where the operator has one.

use crate::config::MaskOperator;

use super::keys::Keys;
use super::operator::{REDACTED, REDACTED_JSON};
use super::partial;

/// A JSON value that is to be masked.
#[derive(Clone, Copy, Debug)]
pub enum JsonValue<'a> {
    /// A string: its characters, escapes undone.
    String(&'a [u8]),
    /// A number, as it is written.
    Number(&'a [u8]),
    /// `true` or `false`.
    Boolean,
    /// `null`.
    Null,
    /// An object or an array, or a string that is too long to be had whole: the keyed hash of its bytes.
    Whole(&'a str),
}

/// Largest integer that every reader of JSON keeps exactly (RFC 8259, 6), one less than a power of two.
const LARGEST: i64 = (1 << 53) - 1;

/// Appends the masked form of `value`.
pub(super) fn apply(operator: &MaskOperator, keys: &Keys, value: JsonValue<'_>, out: &mut Vec<u8>) {
    match (operator, value) {
        (MaskOperator::Null, _) | (_, JsonValue::Null) => out.extend_from_slice(b"null"),
        (MaskOperator::Constant(constant), JsonValue::Number(_)) if is_number(constant.trim()) => {
            out.extend_from_slice(constant.trim().as_bytes());
        }
        (MaskOperator::Constant(constant), _) => put_string(constant.as_bytes(), out),
        // There are two booleans: a hash, or a fixed one, would tell or would lie.
        (_, JsonValue::Boolean) => out.extend_from_slice(b"null"),
        (MaskOperator::Redact, JsonValue::String(_)) => out.extend_from_slice(REDACTED_JSON),
        (MaskOperator::Redact | MaskOperator::Partial, JsonValue::Whole(_)) => {
            out.extend_from_slice(REDACTED_JSON);
        }
        (MaskOperator::Redact | MaskOperator::Partial, JsonValue::Number(_)) => out.push(b'0'),
        (MaskOperator::Partial, JsonValue::String(text)) => {
            let mut shown = Vec::new();
            match std::str::from_utf8(text) {
                Ok(text) => partial::text(text, &mut shown),
                Err(_) => shown.extend_from_slice(REDACTED),
            }
            put_string(&shown, out);
        }
        (MaskOperator::Hash, JsonValue::String(text)) => {
            out.push(b'"');
            keys.hash_text(text, out);
            out.push(b'"');
        }
        (MaskOperator::Hash, JsonValue::Number(text)) => {
            let number = std::str::from_utf8(text)
                .ok()
                .and_then(|text| text.parse::<i64>().ok());
            // By the number, so that it is the same as that of a column.
            let hash = match number {
                Some(number) => keys.hash_integer(&number.to_be_bytes(), LARGEST),
                None => keys.hash_integer(text, LARGEST),
            };
            out.extend_from_slice(hash.to_string().as_bytes());
        }
        (MaskOperator::Hash, JsonValue::Whole(hash)) => put_string(hash.as_bytes(), out),
    }
}

/// Appends `text` as a JSON string. Bytes that are no UTF-8 stay what they are.
pub fn put_string(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in text {
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0..0x20 => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            _ => out.push(*byte),
        }
    }
    out.push(b'"');
}

/// Whether `text` is a number of JSON.
fn is_number(text: &str) -> bool {
    serde_json::from_str::<serde_json::Number>(text).is_ok()
}
