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
    let width = |width: usize| value.len() == width;
    // Big-endian two's complement of any width, sign included.
    let number = || {
        let negative = value.first().is_some_and(|first| *first >= 0x80);
        value
            .iter()
            .fold(if negative { -1_i64 } else { 0 }, |number, byte| {
                (number << 8) | i64::from(*byte)
            })
    };
    match oid {
        16 if width(1) => (value != [0]).to_string(),
        20 | 21 | 23
            if width(if oid == 20 {
                8
            } else if oid == 21 {
                2
            } else {
                4
            }) =>
        {
            number().to_string()
        }
        19 | 25 | 114 | 142 | 705 | 1042 | 1043 => text(masks, value),
        3802 => text(masks, value.strip_prefix(&[1]).unwrap_or(value)),
        _ => format!("({} bytes in binary format)", value.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::TestMasks;
    use super::*;

    #[test]
    fn values_are_shown_as_people_write_them() {
        let masks = TestMasks {
            columns: Vec::new(),
            detect: true,
        };
        let cases: [(u32, &[u8], &str); 7] = [
            (23, &[0xff, 0xff, 0xff, 0xfe], "-2"),
            (20, &[0, 0, 0, 0, 0, 0, 1, 0], "256"),
            (21, &[0x80, 0], "-32768"),
            (16, &[1], "true"),
            (25, b"a SECRET", "a <gone>!"),
            (3802, b"\x01{}", "{}"),
            (1700, &[0; 10], "(10 bytes in binary format)"),
        ];
        for (oid, value, shown) in cases {
            assert_eq!(binary(&masks, oid, value), shown, "{oid}");
        }
        let long = text(&masks, "é".repeat(500).as_bytes());
        assert_eq!(long, format!("{}… (1000 bytes)", "é".repeat(200)));
    }
}
