//! Parameters of a query: taken out under every spelling of a name, put in at the end.

use std::fmt::Write as _;

use http::Uri;
use http::request::Parts;
use zeroize::Zeroizing;

use super::InjectError;

/// One parameter that is there.
pub(super) struct Parameter<'a> {
    /// Its name, as servers compare it.
    pub(super) name: String,
    /// As it was sent.
    raw_value: &'a str,
}

impl Parameter<'_> {
    /// Its value, decoded.
    pub(super) fn value(&self) -> Vec<u8> {
        decoded(self.raw_value)
    }
}

/// Keeps the parameters that `keep` says, byte for byte. `;` parts parameters too, because some servers have it part them.
pub(super) fn retain(parts: &mut Parts, mut keep: impl FnMut(&Parameter<'_>) -> bool) {
    let Some(query) = parts.uri.query() else {
        return;
    };
    let mut kept = String::with_capacity(query.len());
    let mut gone = false;
    for piece in query.split_inclusive(['&', ';']) {
        let bare = piece.strip_suffix(['&', ';']).unwrap_or(piece);
        let (name, raw_value) = bare.split_once('=').unwrap_or((bare, ""));
        let parameter = Parameter {
            name: folded(name),
            raw_value,
        };
        if keep(&parameter) {
            kept.push_str(piece);
        } else {
            gone = true;
        }
    }
    if gone {
        let kept = kept.strip_suffix(['&', ';']).unwrap_or(&kept);
        set(parts, Some(kept).filter(|kept| !kept.is_empty()));
    }
}

/// Puts a parameter at the end.
pub(super) fn append(parts: &mut Parts, name: &str, secret: &[u8]) -> Result<(), InjectError> {
    if parts.uri.path() == "*" || parts.method == http::Method::CONNECT {
        return Err(InjectError::NoQuery);
    }
    let mut query = Zeroizing::new(String::with_capacity(secret.len() * 3 + 64));
    if let Some(present) = parts.uri.query().filter(|query| !query.is_empty()) {
        query.push_str(present);
        query.push('&');
    }
    encode(&mut query, name.as_bytes());
    query.push('=');
    encode(&mut query, secret);
    set(parts, Some(&query));
    Ok(())
}

/// Percent-encodes all but what never is (RFC 3986 §2.3).
pub(super) fn encode(out: &mut String, bytes: &[u8]) {
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) {
            out.push(char::from(*byte));
        } else {
            // Writing to a text cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

fn set(parts: &mut Parts, query: Option<&str>) {
    let path = parts.uri.path();
    let target = Zeroizing::new(match query {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    });
    let mut uri = std::mem::take(&mut parts.uri).into_parts();
    uri.path_and_query = target.parse().ok();
    parts.uri = Uri::from_parts(uri).unwrap_or_default();
}

/// A name as lenient servers compare it: decoded, without case, without what stands before it or in brackets behind it, and with
/// `.` and space as `_`.
pub(super) fn folded(raw: &str) -> String {
    let decoded = decoded(raw);
    let text = String::from_utf8_lossy(&decoded);
    let text = text.trim_start();
    let end = text.find(['[', '\0']).unwrap_or(text.len());
    text.get(..end)
        .unwrap_or_default()
        .chars()
        .map(|c| match c {
            '.' | ' ' => '_',
            c => c.to_ascii_lowercase(),
        })
        .collect()
}

/// `%` and two digits are a byte, `+` is a space; what is neither stays.
pub(super) fn decoded(raw: &str) -> Vec<u8> {
    let bytes = raw.as_bytes();
    let digit = |at: usize| bytes.get(at).and_then(|b| char::from(*b).to_digit(16));
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        at += 1;
        out.push(match (byte, digit(at), digit(at + 1)) {
            (b'%', Some(high), Some(low)) => {
                at += 2;
                u8::try_from(high * 16 + low).unwrap_or_default()
            }
            (b'+', _, _) => b' ',
            (byte, _, _) => *byte,
        });
    }
    out
}
