//! Which other method a request may be taken for.

use std::sync::Arc;

use http::HeaderMap;

use crate::model::{HttpBody, HttpPair};

/// Headers with which a client asks to be taken for another method; `_` and `-` are one to CGI, WSGI and Rack.
const OVERRIDES: [&str; 4] = [
    "x-http-method-override",
    "x-http-method",
    "x-method-override",
    "x-method",
];

/// Parameter of a query or form that says the same: Rails, Laravel, Symfony, Express' method-override.
const PARAMETER: &str = "_method";

/// Methods that headers and parameters ask for, upper case, each once; `None`: what they ask for is no method.
pub(super) fn overrides(headers: &HeaderMap, parameters: &[&[HttpPair]]) -> Option<Vec<Arc<str>>> {
    let mut asked: Vec<Arc<str>> = Vec::new();
    let mut add = |text: &str| {
        let method = text.trim().to_ascii_uppercase();
        let spelt = !method.is_empty() && method.bytes().all(|b| b.is_ascii_uppercase() || b == b'-');
        if spelt && !asked.iter().any(|known| **known == *method) {
            asked.push(method.into());
        }
        spelt
    };
    for (name, value) in headers {
        let name = name.as_str().replace('_', "-");
        if OVERRIDES.contains(&name.as_str()) {
            let value = value.to_str().ok()?;
            if !value.split(',').all(&mut add) {
                return None;
            }
        }
    }
    for (name, value) in parameters.iter().copied().flatten() {
        if name.eq_ignore_ascii_case(PARAMETER) && !add(value) {
            return None;
        }
    }
    Some(asked)
}

/// What a JSON body's own members say: Laravel takes them for a form's.
pub(super) fn in_json(body: &HttpBody) -> Vec<HttpPair> {
    let HttpBody::Json(value) = body else {
        return Vec::new();
    };
    let members = value.as_object().into_iter().flatten();
    members
        .filter(|(name, _)| name.eq_ignore_ascii_case(PARAMETER))
        .map(|(name, value)| {
            (
                Arc::from(name.as_str()),
                Arc::from(value.as_str().unwrap_or_default()),
            )
        })
        .collect()
}

/// Whether a multipart body seems to have the parameter.
pub(super) fn in_multipart(body: &[u8]) -> bool {
    memchr::memmem::find_iter(body, PARAMETER.as_bytes()).any(|at| {
        let before = body.get(at.saturating_sub(8)..at).unwrap_or_default();
        let before: Vec<u8> = before
            .iter()
            .filter(|b| !b" \t\"'".contains(b))
            .copied()
            .collect();
        before.ends_with(b"=")
    })
}
