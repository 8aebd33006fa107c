//! Bind parameters, written for people who decide.

use crate::model::Parameter;

use super::super::wire::Bind;
use super::masking::Masking;

const SHOWN: usize = 200;

/// The parameters of a `Bind`, cut to 200 characters each and masked by the detectors. `types`: type OIDs from
/// `Parse`, four bytes each.
pub(super) fn shown<M: Masking>(masks: &M, bind: &Bind<'_>, types: &[u8]) -> Vec<Parameter> {
    bind.values()
        .enumerate()
        .map(|(index, value)| {
            let oid = match types.get(index * 4..index * 4 + 4) {
                Some(&[a, b, c, d]) => u32::from_be_bytes([a, b, c, d]),
                _ => 0,
            };
            let shown = value.map(|value| {
                if bind.is_binary(index) {
                    binary(masks, oid, value)
                } else {
                    text(masks, value)
                }
            });
            Parameter { shown }
        })
        .collect()
}

fn text<M: Masking>(masks: &M, value: &[u8]) -> String {
    let mut masked = Vec::new();
    let value = if masks.has_detectors() && masks.detect(value, &mut masked) > 0 {
        &masked
    } else {
        value
    };
    match std::str::from_utf8(value) {
        Ok(text) => match text.char_indices().nth(SHOWN) {
            Some((end, _)) => format!("{}… ({} bytes)", text.get(..end).unwrap_or_default(), value.len()),
            None => text.to_owned(),
        },
        Err(_) => format!("({} bytes that are not UTF-8)", value.len()),
    }
}

fn binary<M: Masking>(masks: &M, oid: u32, value: &[u8]) -> String {
    match (oid, value) {
        (16, [0]) => "false".to_owned(),
        (16, [1]) => "true".to_owned(),
        (21, &[a, b]) => i16::from_be_bytes([a, b]).to_string(),
        (23, &[a, b, c, d]) => i32::from_be_bytes([a, b, c, d]).to_string(),
        (26, &[a, b, c, d]) => u32::from_be_bytes([a, b, c, d]).to_string(),
        (20, &[a, b, c, d, e, f, g, h]) => i64::from_be_bytes([a, b, c, d, e, f, g, h]).to_string(),
        (19 | 25 | 114 | 142 | 705 | 1042 | 1043, value) => text(masks, value),
        (3802, [1, value @ ..]) => text(masks, value),
        _ => format!("({} bytes in binary format)", value.len()),
    }
}
