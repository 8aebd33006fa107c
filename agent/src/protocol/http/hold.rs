//! A request that waits for a person: what is shown of it, and what the decision is bound to.
//!
//! The whole request is bound, head and body, as the rules saw it: before a credential is injected. Who sends it has to
//! compute [`binding`] again over what is about to be sent. A body that was not read can be neither shown nor bound.

use http::request::Parts;

use crate::model::{HttpBody, HttpFacts, Parameter};

use super::facts::{Body, names_a_secret, shown as without_secrets};

/// Longest text of a body that is shown, in characters.
const LONGEST: usize = 4000;

/// Most fields of a form that are shown.
const MOST_FIELDS: usize = 50;

/// BLAKE3 of a request: scheme, method, target, headers in their order, body; each with its length before it. `None`: the body
/// was not read.
pub fn binding(parts: &Parts, scheme: &str, body: Body<'_>) -> Option<[u8; 32]> {
    let body: &[u8] = match body {
        Body::Empty => &[],
        Body::Whole(bytes) => bytes,
        Body::Unread { .. } => return None,
    };
    let mut hasher = blake3::Hasher::new_derive_key("tollgate 2026 http request held for approval");
    let mut add = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    add(scheme.as_bytes());
    add(parts.method.as_str().as_bytes());
    add(parts.uri.to_string().as_bytes());
    add(&(parts.headers.len() as u64).to_le_bytes());
    for (name, value) in &parts.headers {
        add(name.as_str().as_bytes());
        add(value.as_bytes());
    }
    add(body);
    Some(*hasher.finalize().as_bytes())
}

/// What an approver sees of a request beside its line: kind and size of the body, and the body, secrets in it replaced.
pub fn shown(facts: &HttpFacts, body: Body<'_>) -> Vec<Parameter> {
    let mut lines = Vec::new();
    if let Some(bytes) = facts.body_bytes.filter(|bytes| *bytes > 0) {
        let kind = facts.content_type.as_deref().unwrap_or("a body without a type");
        lines.push(format!("{kind}, {bytes} bytes"));
    }
    match &facts.content.body {
        HttpBody::Json(value) => {
            let mut value = serde_json::Value::clone(value);
            hide(&mut value);
            let text = serde_json::to_string_pretty(&value).unwrap_or_default();
            lines.extend(cut(&text).lines().map(without_secrets));
        }
        HttpBody::Form(fields) => {
            for (name, value) in fields.iter().take(MOST_FIELDS) {
                let value = if names_a_secret(name) { "[redacted]" } else { value };
                lines.push(without_secrets(&cut(&format!("{name} = {value}"))));
            }
            if fields.len() > MOST_FIELDS {
                lines.push(format!("and {} fields more", fields.len() - MOST_FIELDS));
            }
        }
        HttpBody::Other => {
            if let Body::Whole(bytes) = body {
                match std::str::from_utf8(bytes) {
                    Ok(text) => lines.extend(cut(&without_secrets_by_line(text)).lines().map(str::to_owned)),
                    Err(_) => lines.push("its bytes are no text".to_owned()),
                }
            }
        }
        HttpBody::Unread | HttpBody::Empty => {}
    }
    lines
        .into_iter()
        .map(|line| Parameter { shown: Some(line) })
        .collect()
}

/// A key can reach over lines: secrets are looked for in the whole text first.
fn without_secrets_by_line(text: &str) -> String {
    let lines: Vec<String> = text
        .split('\n')
        .map(|line| line.trim_end_matches('\r').to_owned())
        .collect();
    if crate::mask::secrets(text.as_bytes()).is_empty() {
        return lines.join("\n");
    }
    without_secrets(text).replace('\u{fffd}', "\n")
}

/// Replaces values whose names say that they are secrets.
fn hide(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Array(items) => items.iter_mut().for_each(hide),
        serde_json::Value::Object(members) => {
            for (name, value) in members.iter_mut() {
                if names_a_secret(name) && !value.is_null() && !value.is_object() && !value.is_array() {
                    *value = "[redacted]".into();
                } else {
                    hide(value);
                }
            }
        }
        _ => {}
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or_default()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::super::facts::{Context, command};
    use super::*;
    use crate::model::HttpAsks;

    fn request(headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder()
            .method("POST")
            .uri("/v1/payments")
            .header("host", "a.test");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn lines(content_type: &str, body: &[u8]) -> Vec<String> {
        let context = Context {
            scheme: "https",
            protocol: None,
            asks: HttpAsks::default(),
        };
        let command = command(
            &request(&[("content-type", content_type)]),
            context,
            Body::Whole(body),
        );
        shown(&command.http.unwrap(), Body::Whole(body))
            .into_iter()
            .filter_map(|line| line.shown)
            .collect()
    }

    #[test]
    fn an_approver_sees_the_body_without_its_secrets() {
        let json = lines(
            "application/json",
            b"{\"amount\":5,\"card\":{\"token\":\"hunter2\"}}",
        );
        assert_eq!(
            json,
            [
                "application/json, 39 bytes",
                "{",
                "  \"amount\": 5,",
                "  \"card\": {",
                "    \"token\": \"[redacted]\"",
                "  }",
                "}"
            ]
        );
        let form = lines(
            "application/x-www-form-urlencoded",
            b"amount=5&client_secret=hunter2",
        );
        assert_eq!(form[1..], ["amount = 5", "client_secret = [redacted]"]);
        let key = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7\n-----END PRIVATE KEY-----";
        let text = lines("text/plain", format!("see\n{key}\nthere").as_bytes()).join("\n");
        assert!(!text.contains("MIIEv") && text.contains("[redacted]"), "{text}");
        assert!(lines("image/png", b"\xff\xd8\xff").contains(&"its bytes are no text".to_owned()));
    }

    #[test]
    fn a_decision_is_bound_to_every_byte() {
        let base = binding(&request(&[("x-a", "1")]), "https", Body::Whole(b"body")).unwrap();
        for other in [
            binding(&request(&[("x-a", "2")]), "https", Body::Whole(b"body")),
            binding(
                &request(&[("x-a", "1"), ("x-b", "")]),
                "https",
                Body::Whole(b"body"),
            ),
            binding(&request(&[("x-a", "1")]), "http", Body::Whole(b"body")),
            binding(&request(&[("x-a", "1")]), "https", Body::Whole(b"body2")),
            binding(&request(&[("x-a1", "")]), "https", Body::Whole(b"body")),
            binding(&request(&[("x-a", "1")]), "https", Body::Empty),
        ] {
            assert_ne!(other, Some(base));
        }
        assert_eq!(
            binding(&request(&[("x-a", "1")]), "https", Body::Whole(b"body")),
            Some(base)
        );
        assert_eq!(
            binding(&request(&[]), "https", Body::Unread { length: None }),
            None
        );
    }
}
