//! What a client wants its answer in (RFC 9110 section 12.5.1).

use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};

/// The form of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// `application/problem+json`.
    Json,
    /// A page.
    Html,
    /// A few lines.
    Text,
    /// A status of gRPC, with the content type of the request.
    Grpc(HeaderValue),
}

impl Wanted {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        if let Some(content_type) = headers.get(CONTENT_TYPE)
            && content_type
                .as_bytes()
                .to_ascii_lowercase()
                .starts_with(b"application/grpc")
        {
            return Self::Grpc(content_type.clone());
        }
        let ranges: Vec<(String, u32)> = headers
            .get_all(ACCEPT)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(range)
            .collect();
        let weight = |types: &[&str]| {
            let matching = ranges.iter().filter(|(name, _)| types.contains(&name.as_str()));
            matching.map(|(_, weight)| *weight).max().unwrap_or(0)
        };
        let json = weight(&["application/problem+json", "application/json", "application/*"]);
        let html = weight(&["text/html", "application/xhtml+xml"]);
        let text = weight(&["text/plain", "text/*"]);
        if html > json && html >= text {
            Self::Html
        } else if text > json && text > weight(&["*/*"]) {
            Self::Text
        } else {
            Self::Json
        }
    }
}

/// `text/html;q=0.9` as its type and a thousand times its weight.
fn range(text: &str) -> Option<(String, u32)> {
    let mut parts = text.split(';').map(str::trim);
    let name = parts.next()?.to_ascii_lowercase();
    let weight = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
    let weight = match weight {
        None => 1000,
        Some(text) => thousandths(text)?,
    };
    Some((name, weight))
}

/// `0`, `1`, `0.35` as thousandths; no more than 1000.
fn thousandths(text: &str) -> Option<u32> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits: String = fraction.chars().chain("000".chars()).take(3).collect();
    let whole: u32 = whole.parse().ok()?;
    let fraction: u32 = digits.parse().ok()?;
    Some(whole.saturating_mul(1000).saturating_add(fraction).min(1000))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(accept: &str) -> Wanted {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, accept.parse().unwrap());
        Wanted::of(&headers)
    }

    #[test]
    fn clients_get_what_they_ask_for() {
        for (accept, wanted) in [
            ("*/*", Wanted::Json),
            ("", Wanted::Json),
            ("application/json", Wanted::Json),
            ("application/json, text/html;q=0.9", Wanted::Json),
            (
                "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
                Wanted::Html,
            ),
            ("text/html;q=0.5, application/json;q=0.6", Wanted::Json),
            ("text/plain", Wanted::Text),
            ("text/plain, */*", Wanted::Json),
            ("text/html;q=0", Wanted::Json),
            ("image/png", Wanted::Json),
        ] {
            assert_eq!(of(accept), wanted, "{accept}");
        }
        assert_eq!(Wanted::of(&HeaderMap::new()), Wanted::Json);
    }
}
