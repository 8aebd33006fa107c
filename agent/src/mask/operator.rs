//! What each operator makes of a value of each type.

use crate::config::MaskOperator;
use crate::model::{ValueFormat, ValueType};

use super::keys::Keys;
use super::{Masked, partial};

/// Stands for a text.
pub(super) const REDACTED: &[u8] = b"[redacted]";
/// Stands for a JSON value.
pub(super) const REDACTED_JSON: &[u8] = b"\"[redacted]\"";

/// Appends what `operator` makes of `value`.
pub(super) fn apply(
    operator: &MaskOperator,
    keys: &Keys,
    value: &[u8],
    ty: ValueType,
    format: ValueFormat,
    out: &mut Vec<u8>,
) -> Masked {
    match ty {
        ValueType::Text => text(operator, keys, value, out),
        ValueType::Json => json(operator, keys, value, out),
        ValueType::Integer(width) => match integer(operator, keys, value, width, format) {
            Some(number) => put_integer(number, width, format, out),
            None => Masked::Null,
        },
        ValueType::Other => Masked::Null,
    }
}

/// The version byte that jsonb's binary form begins with (`jsonb_send`; no JSON text begins with it), and the JSON.
pub(super) fn split_json_version(value: &[u8]) -> (&[u8], &[u8]) {
    match value.split_at_checked(1) {
        Some((version @ [1], json)) => (version, json),
        _ => (&[], value),
    }
}

fn text(operator: &MaskOperator, keys: &Keys, value: &[u8], out: &mut Vec<u8>) -> Masked {
    match operator {
        MaskOperator::Null => return Masked::Null,
        MaskOperator::Redact => out.extend_from_slice(REDACTED),
        MaskOperator::Partial => match std::str::from_utf8(value) {
            Ok(value) => partial::text(value, out),
            Err(_) => out.extend_from_slice(REDACTED),
        },
        MaskOperator::Hash => keys.hash_text(value, out),
        MaskOperator::Constant(constant) => out.extend_from_slice(constant.as_bytes()),
    }
    Masked::Value
}

fn json(operator: &MaskOperator, keys: &Keys, value: &[u8], out: &mut Vec<u8>) -> Masked {
    let (version, json) = split_json_version(value);
    match operator {
        MaskOperator::Null => return Masked::Null,
        // The first and last characters of a document are its braces: there is no part worth keeping.
        MaskOperator::Redact | MaskOperator::Partial => {
            out.extend_from_slice(version);
            out.extend_from_slice(REDACTED_JSON);
        }
        MaskOperator::Hash => {
            out.extend_from_slice(version);
            out.push(b'"');
            keys.hash_text(json, out);
            out.push(b'"');
        }
        MaskOperator::Constant(constant) => {
            out.extend_from_slice(version);
            out.extend_from_slice(serde_json::Value::from(constant.as_str()).to_string().as_bytes());
        }
    }
    Masked::Value
}

fn integer(
    operator: &MaskOperator,
    keys: &Keys,
    value: &[u8],
    width: u8,
    format: ValueFormat,
) -> Option<i64> {
    match operator {
        MaskOperator::Null => None,
        MaskOperator::Redact | MaskOperator::Partial => Some(0),
        MaskOperator::Hash => {
            let max = largest(width)?;
            // By the number, so that text and binary results of one column stay equal.
            Some(match number(value, format) {
                Some(number) => keys.hash_integer(&number.to_be_bytes(), max),
                None => keys.hash_integer(value, max),
            })
        }
        MaskOperator::Constant(constant) => constant.trim().parse().ok(),
    }
}

fn number(value: &[u8], format: ValueFormat) -> Option<i64> {
    match format {
        ValueFormat::Text => std::str::from_utf8(value).ok()?.trim().parse().ok(),
        ValueFormat::Binary => match *value {
            [a, b] => Some(i16::from_be_bytes([a, b]).into()),
            [a, b, c, d] => Some(i32::from_be_bytes([a, b, c, d]).into()),
            _ => Some(i64::from_be_bytes(*value.as_array()?)),
        },
    }
}

/// Appends `number` in `width` bytes or in digits; NULL where it does not fit.
fn put_integer(number: i64, width: u8, format: ValueFormat, out: &mut Vec<u8>) -> Masked {
    let fits = largest(width).is_some_and(|max| (-max - 1..=max).contains(&number));
    if !fits {
        return Masked::Null;
    }
    match format {
        ValueFormat::Text => out.extend_from_slice(number.to_string().as_bytes()),
        ValueFormat::Binary => {
            let bytes = number.to_be_bytes();
            let start = bytes.len().saturating_sub(usize::from(width));
            out.extend_from_slice(bytes.get(start..).unwrap_or_default());
        }
    }
    Masked::Value
}

fn largest(width: u8) -> Option<i64> {
    match width {
        2 => Some(i16::MAX.into()),
        4 => Some(i32::MAX.into()),
        8 => Some(i64::MAX),
        _ => None,
    }
}
