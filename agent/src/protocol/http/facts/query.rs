//! Parameters of a query or of a form.
//!
//! Parted at `&` and, because old servers do that too, at `;`; both readings are in the list. `+` is a space. Known limit: what a
//! server makes of names (`a[]`, `a.b`) and of values that it decodes once more is not known.

use std::sync::Arc;

use crate::model::HttpPair;

/// Parameters in order, and why there may be others.
pub(super) fn read(raw: &str) -> (Vec<HttpPair>, Option<&'static str>) {
    let mut pairs: Vec<HttpPair> = Vec::new();
    let mut doubt = None;
    let separators: &[&[char]] = if raw.contains(';') {
        &[&['&'], &['&', ';']]
    } else {
        &[&['&']]
    };
    for separators in separators {
        for part in raw.split(*separators).filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            match (decoded(name), decoded(value)) {
                (Ok(name), Ok(value)) => {
                    let pair = (name, value);
                    if separators.len() == 1 || !pairs.contains(&pair) {
                        pairs.push(pair);
                    }
                }
                (Err(why), _) | (_, Err(why)) => doubt = Some(why),
            }
        }
    }
    (pairs, doubt)
}

fn decoded(text: &str) -> Result<Arc<str>, &'static str> {
    if !text.contains(['%', '+']) {
        return Ok(text.into());
    }
    let bytes = text.as_bytes();
    let digit = |at: usize| bytes.get(at).and_then(|b| char::from(*b).to_digit(16));
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        at += 1;
        match byte {
            b'+' => out.push(b' '),
            b'%' => {
                let (Some(high), Some(low)) = (digit(at), digit(at + 1)) else {
                    return Err("a parameter has a \"%\" without two digits");
                };
                at += 2;
                match u8::try_from(high * 16 + low) {
                    Ok(0) | Err(_) => return Err("a parameter has a NUL"),
                    Ok(byte) => out.push(byte),
                }
            }
            byte => out.push(*byte),
        }
    }
    String::from_utf8(out)
        .map(Arc::from)
        .map_err(|_| "a parameter is not UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(raw: &str) -> Vec<String> {
        read(raw)
            .0
            .iter()
            .map(|(name, value)| format!("{name}:{value}"))
            .collect()
    }

    #[test]
    fn parameters_are_decoded_and_kept_in_order() {
        assert_eq!(pairs("a=1&b=x%20y+z&a=2&c"), ["a:1", "b:x y z", "a:2", "c:"]);
        assert_eq!(pairs("=x&&k==v"), [":x", "k:=v"]);
    }

    #[test]
    fn a_semicolon_may_part_or_not() {
        let both = pairs("a=1;role=admin");
        assert!(
            both.contains(&"a:1;role=admin".to_owned()) && both.contains(&"role:admin".to_owned()),
            "{both:?}"
        );
    }

    #[test]
    fn what_cannot_be_decoded_is_in_doubt() {
        for raw in ["a=%", "a=%zz", "a=%ff", "%00=1", "a=%C0%AE"] {
            assert!(read(raw).1.is_some(), "{raw}");
        }
        assert_eq!(read("a=%C3%A9").1, None);
    }
}
