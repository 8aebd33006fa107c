//! The body of a request, read whole up to a limit.
//!
//! A body is JSON if it can be read as JSON, whatever its content type says: so do many servers. It is in doubt where two
//! readers of JSON could see two values: members of one name, or of names that differ in case alone (Go's reader takes them for
//! one), another charset, a content coding.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use crate::model::HttpBody;

use super::query;

/// Longest body that is read for rules, in bytes.
pub const LIMIT: u64 = 1 << 20;

/// What is known of a body when its request is judged.
#[derive(Clone, Copy, Debug)]
pub enum Body<'a> {
    /// There is none.
    Empty,
    /// It was not read, or is longer than [`LIMIT`]; its length, where the head tells.
    Unread {
        /// Bytes.
        length: Option<u64>,
    },
    /// All of it, as it was sent.
    Whole(&'a [u8]),
}

impl Body<'_> {
    pub(super) fn bytes(self) -> Option<u64> {
        match self {
            Self::Empty => Some(0),
            Self::Unread { length } => length,
            Self::Whole(bytes) => Some(bytes.len() as u64),
        }
    }
}

/// Media type of the body, lower case, without parameters.
pub(super) fn media_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    let essence = value.split(';').next().unwrap_or_default().trim();
    (!essence.is_empty()).then(|| essence.to_ascii_lowercase())
}

/// Reads a body, and says why another reader could see something else.
pub(super) fn read(headers: &HeaderMap, body: Body<'_>) -> (HttpBody, Option<&'static str>) {
    let bytes = match body {
        Body::Empty => return (HttpBody::Empty, None),
        Body::Whole([]) => return (HttpBody::Empty, None),
        Body::Unread { .. } => return (HttpBody::Unread, None),
        Body::Whole(bytes) => bytes,
    };
    let coded = headers
        .get_all(CONTENT_ENCODING)
        .iter()
        .any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"));
    if coded {
        return (HttpBody::Other, Some("the body has a content coding"));
    }
    if headers.get_all(CONTENT_TYPE).iter().count() > 1 {
        return (HttpBody::Other, Some("the body has two content types"));
    }
    let mut doubt = other_charset(headers).then_some("the body has a charset other than UTF-8");
    match json(bytes) {
        Ok(value) => return (HttpBody::Json(Arc::new(value)), doubt),
        Err(Some(why)) => return (HttpBody::Other, Some(why)),
        Err(None) => {}
    }
    if media_type(headers).as_deref() == Some("application/x-www-form-urlencoded") {
        let Ok(text) = std::str::from_utf8(bytes) else {
            return (HttpBody::Other, Some("the form is not UTF-8"));
        };
        let (pairs, why) = query::read(text.trim_end_matches(['\r', '\n']));
        doubt = doubt.or(why);
        return (HttpBody::Form(pairs), doubt);
    }
    (HttpBody::Other, doubt)
}

/// A JSON text whose readers agree; an error says what they differ in, where it is JSON at all.
pub(super) fn json(bytes: &[u8]) -> Result<Value, Option<&'static str>> {
    match serde_json::from_slice::<Strict>(bytes) {
        Ok(Strict(value)) => Ok(value),
        Err(error) if error.to_string().contains(TWICE) => Err(Some(TWICE)),
        Err(_) => Err(None),
    }
}

fn other_charset(headers: &HeaderMap) -> bool {
    let value = headers
        .get(CONTENT_TYPE)
        .map(|value| value.as_bytes().to_ascii_lowercase());
    let value = value.unwrap_or_default();
    let Some(at) = memchr::memmem::find(&value, b"charset") else {
        return false;
    };
    let rest = value.get(at + 7..).unwrap_or_default();
    let name: Vec<u8> = rest
        .iter()
        .copied()
        .skip_while(|b| b" \t=\"'".contains(b))
        .take_while(|b| !b" \t\"';".contains(b))
        .collect();
    !matches!(name.as_slice(), b"utf-8" | b"utf8" | b"us-ascii")
}

const TWICE: &str = "the body's JSON has a member twice, or in two spellings";

/// A JSON value without members that readers could take for one another.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Strict)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Strict(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = serde_json::Map::new();
        let mut seen = HashSet::new();
        while let Some((name, Strict(value))) = members.next_entry::<String, Strict>()? {
            if !seen.insert(name.to_lowercase()) {
                return Err(serde::de::Error::custom(TWICE));
            }
            object.insert(name, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn of(content_type: &str, body: &str) -> (HttpBody, Option<&'static str>) {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_str(content_type).unwrap());
        read(&headers, Body::Whole(body.as_bytes()))
    }

    #[test]
    fn json_is_json_whatever_it_is_called() {
        for content_type in [
            "application/json",
            "text/plain",
            "application/x-www-form-urlencoded",
        ] {
            let (body, doubt) = of(content_type, r#"{"a":[1,{"b":null}]}"#);
            assert!(
                body == HttpBody::Json(Arc::new(serde_json::json!({"a":[1,{"b":null}]}))),
                "{body:?}"
            );
            assert_eq!(doubt, None);
        }
    }

    #[test]
    fn json_that_two_readers_see_in_two_ways_is_in_doubt() {
        for body in [
            r#"{"a":1,"a":2}"#,
            r#"{"amount":1,"Amount":2}"#,
            r#"[{"x":{"k":1,"\u006b":2}}]"#,
        ] {
            assert!(of("application/json", body).1.is_some(), "{body}");
        }
        assert!(of("application/json; charset=utf-7", "{}").1.is_some());
        assert_eq!(of("application/json; charset=\"UTF-8\"", "{}").1, None);
    }

    #[test]
    fn what_is_no_json_is_other_and_a_form_is_a_form() {
        for body in [
            "{",
            "{'a':1}",
            "{\"a\":1}{\"a\":2}",
            "[NaN]",
            "\u{feff}{}",
            "{\"a\":1e999}",
        ] {
            assert!(of("application/json", body).0 == HttpBody::Other, "{body}");
        }
        let (body, _) = of(
            "Application/X-WWW-Form-Urlencoded; charset=utf-8",
            "a=1&b=x+y\r\n",
        );
        let wanted: Vec<(Arc<str>, Arc<str>)> = vec![("a".into(), "1".into()), ("b".into(), "x y".into())];
        assert!(body == HttpBody::Form(wanted), "{body:?}");
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        assert!(read(&headers, Body::Whole(b"{}")).1.is_some());
    }

    #[test]
    fn deep_json_is_no_json() {
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        assert!(of("application/json", &deep).0 == HttpBody::Other);
    }
}
