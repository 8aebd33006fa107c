//! Which kind of body an answer announces.

use http::header::HeaderMap;

use super::Unmaskable;
use super::response::content_type;

/// A media type (RFC 9110, 8.3.1), in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Media {
    /// `type/subtype`.
    pub(super) essence: String,
    /// `charset`, in lower case.
    pub(super) charset: Option<String>,
    /// `boundary`, as it is.
    pub(super) boundary: Option<String>,
}

/// How a body is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// One JSON document, or several: one a line, separated (RFC 7464), or one behind the other.
    Json,
    /// Server-sent events.
    EventStream,
    /// Fields of a form, percent-encoded.
    Form,
    /// XML, HTML.
    Markup,
    /// Text that no structure is known of.
    Text,
    /// Text by its type, which servers also send JSON under.
    TextOrJson,
    /// Any bytes by its type, or no type: JSON or nothing that can be read.
    Sniffed,
}

/// Charsets in which a byte below 0x80 is that character of ASCII and nothing else.
const ASCII_SUPERSETS: &[&str] = &[
    "utf-8",
    "utf8",
    "us-ascii",
    "ascii",
    "latin1",
    "koi8-r",
    "koi8-u",
    "euc-jp",
    "euc-kr",
    "macintosh",
];
const ASCII_FAMILIES: &[&str] = &["iso-8859-", "iso8859-", "windows-12", "cp12"];

impl Media {
    /// The type that a head names. One that is malformed is none.
    pub(super) fn of(fields: &HeaderMap) -> Result<Option<Self>, Unmaskable> {
        let value = content_type(fields)?;
        Ok(value.and_then(|value| Self::parse(value.to_str().ok()?)))
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut parts = split(text, ';').into_iter();
        let essence = parts.next()?.trim().to_ascii_lowercase();
        let token = |text: &str| {
            !text.is_empty()
                && text
                    .bytes()
                    .all(|byte| byte.is_ascii_graphic() && !b"\"(),/:;<=>?@[\\]{}".contains(&byte))
        };
        let (kind, rest) = essence.split_once('/')?;
        if !token(kind) || !token(rest) {
            return None;
        }
        let mut media = Self {
            essence,
            charset: None,
            boundary: None,
        };
        for parameter in parts {
            let Some((name, value)) = parameter.split_once('=') else {
                continue;
            };
            let value = unquoted(value.trim());
            let place = match name.trim().to_ascii_lowercase().as_str() {
                "charset" => &mut media.charset,
                "boundary" => &mut media.boundary,
                _ => continue,
            };
            if place.is_some() {
                // Readers do not agree on which of two counts.
                return None;
            }
            *place = Some(value);
        }
        media.charset = media.charset.map(|charset| charset.to_ascii_lowercase());
        Some(media)
    }
}

impl Kind {
    /// How a body of this type is read; `None`: it has none. `named`: masks name values of bodies by where they stand.
    pub(super) fn of(media: Option<&Media>, named: bool) -> Result<Self, Unmaskable> {
        let Some(media) = media else {
            return Ok(Self::Sniffed);
        };
        let kind =
            Self::named(&media.essence, named).ok_or_else(|| Unmaskable::Media(media.essence.clone()))?;
        if let Some(charset) = &media.charset {
            let known = ASCII_SUPERSETS.contains(&charset.as_str())
                || ASCII_FAMILIES.iter().any(|family| charset.starts_with(family));
            if !known {
                return Err(Unmaskable::Charset(charset.chars().take(40).collect()));
            }
        }
        Ok(kind)
    }

    fn named(essence: &str, named: bool) -> Option<Self> {
        let (kind, subtype) = essence.split_once('/')?;
        Some(match (kind, subtype) {
            (
                _,
                "json" | "x-json" | "json-seq" | "x-ndjson" | "ndjson" | "jsonl" | "x-jsonlines"
                | "jsonlines",
            ) => Self::Json,
            (_, subtype) if subtype.ends_with("+json") || subtype.ends_with("+json-seq") => Self::Json,
            (
                "application",
                "javascript" | "x-javascript" | "ecmascript" | "yaml" | "x-yaml" | "toml" | "graphql" | "sql",
            ) => Self::Text,
            ("text", "event-stream") => Self::EventStream,
            ("application", "x-www-form-urlencoded") => Self::Form,
            (_, "xml" | "html") => Self::Markup,
            (_, subtype) if subtype.ends_with("+xml") => Self::Markup,
            // Columns and mappings have names, which only documents of the kinds above are read by.
            ("text" | "application", "csv" | "tab-separated-values" | "yaml" | "x-yaml") if named => {
                return None;
            }
            ("text", "plain") => Self::TextOrJson,
            ("text", _) => Self::Text,
            ("application" | "binary", "octet-stream") => Self::Sniffed,
            _ => return None,
        })
    }
}

/// Splits at `separator`, but not within quotes.
pub(super) fn split(text: &str, separator: char) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut start = 0;
    let mut quoted = false;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            c if c == separator && !quoted => {
                parts.extend(text.get(start..at));
                start = at + c.len_utf8();
            }
            _ => {}
        }
    }
    parts.extend(text.get(start..));
    parts
}

/// What a token or a quoted string says.
pub(super) fn unquoted(value: &str) -> String {
    let Some(inner) = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return value.to_owned();
    };
    let mut escaped = false;
    inner
        .chars()
        .filter(|c| {
            escaped = *c == '\\' && !escaped;
            !escaped
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(text: &str) -> Result<Kind, Unmaskable> {
        Kind::of(Media::parse(text).as_ref(), true)
    }

    #[test]
    fn a_type_says_how_its_body_is_read() {
        let cases: &[(&str, Kind)] = &[
            ("application/json", Kind::Json),
            ("Application/JSON; charset=UTF-8", Kind::Json),
            ("application/problem+json", Kind::Json),
            ("application/x-ndjson", Kind::Json),
            ("text/plain", Kind::TextOrJson),
            ("text/html; charset=utf-8", Kind::Markup),
            ("application/atom+xml", Kind::Markup),
            ("text/event-stream", Kind::EventStream),
            ("text/css", Kind::Text),
            ("application/octet-stream", Kind::Sniffed),
            ("junk", Kind::Sniffed),
            ("text/plain; charset=utf-8; charset=utf-16", Kind::Sniffed),
        ];
        for (text, wanted) in cases {
            assert_eq!(kind(text).as_ref(), Ok(wanted), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_refused_with_its_name() {
        assert_eq!(kind("text/csv"), Err(Unmaskable::Media("text/csv".into())));
        assert_eq!(Kind::of(Media::parse("text/csv").as_ref(), false), Ok(Kind::Text));
        assert_eq!(kind("image/png"), Err(Unmaskable::Media("image/png".into())));
        assert_eq!(
            kind("application/zip"),
            Err(Unmaskable::Media("application/zip".into()))
        );
        assert_eq!(
            kind("text/plain; charset=\"UTF-16\""),
            Err(Unmaskable::Charset("utf-16".into()))
        );
        assert_eq!(
            kind("application/json; charset=shift_jis"),
            Err(Unmaskable::Charset("shift_jis".into()))
        );
    }

    #[test]
    fn quotes_hide_separators() {
        let media = Media::parse("multipart/form-data; boundary=\"a;b\\\"c\"; x=y").unwrap();
        assert_eq!(media.boundary.as_deref(), Some("a;b\"c"));
    }
}
