//! What masks of HTTP name: keys, header fields, kinds of bodies.

use std::fmt;

use super::glob::Glob;
use super::reader::Wrong;
use super::scalar::bad_glob;

/// Name of a member, field, element, attribute or column, with globs: `email`, `*_token`. Case does not count, because the
/// same value under another spelling of its name is the same value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPattern(Folded);

/// Name of a header field, with globs: `Set-Cookie`, `X-*-Token`. Case does not count (RFC 9110, 5.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderPattern(Folded);

/// Kind of a body, with globs: `image/*`, `application/zip`. Case does not count (RFC 9110, 8.3.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaPattern(Folded);

/// A glob in lower case, and how it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Folded {
    text: String,
    glob: Glob,
}

/// Fields that say how a message is to be read; masked, they would be another message.
const FRAMING: &[&str] = &[
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "keep-alive",
    "sec-websocket-accept",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

impl KeyPattern {
    /// Whether `name` is one; it has to be in lower case (of ASCII).
    pub fn matches_folded(&self, name: &str) -> bool {
        self.0.glob.matches(name)
    }
}

impl HeaderPattern {
    /// Whether `name`, in lower case, is one. Fields that frame a message never are.
    pub fn matches(&self, name: &str) -> bool {
        self.0.glob.matches(name) && !FRAMING.contains(&name)
    }
}

impl MediaPattern {
    /// Whether `media`, in lower case and without parameters, is one.
    pub fn matches(&self, media: &str) -> bool {
        self.0.glob.matches(media)
    }
}

macro_rules! shown_as_written {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0.text)
            }
        }
    )*};
}

shown_as_written!(KeyPattern, HeaderPattern, MediaPattern);

/// A key as it stands in a policy.
pub(super) fn key_pattern(text: &str) -> Result<KeyPattern, Wrong> {
    if text.starts_with('$') {
        return Err(Wrong::new(
            format!("\"{text}\" is a path, not a key"),
            format!("write json = [\"{text}\"]"),
        ));
    }
    folded(text).map(KeyPattern)
}

/// Name of a header field as it stands in a policy.
pub(super) fn header_pattern(text: &str) -> Result<HeaderPattern, Wrong> {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~?[]".contains(&byte);
    if !text.bytes().all(token) {
        return Err(Wrong::new(
            format!("\"{text}\" is no name of a header field"),
            "write one such as \"Set-Cookie\", without colon and value",
        ));
    }
    if FRAMING.contains(&text.to_ascii_lowercase().as_str()) {
        return Err(Wrong::new(
            format!("\"{text}\" says how the message is to be read, and cannot be masked"),
            "remove it",
        ));
    }
    folded(text).map(HeaderPattern)
}

/// Kind of a body as it stands in a policy.
pub(super) fn media_pattern(text: &str) -> Result<MediaPattern, Wrong> {
    let well_formed = text.split_once('/').is_some_and(|(kind, rest)| {
        !kind.is_empty() && !rest.is_empty() && !rest.contains(['/', ';', ' ', ','])
    });
    if !well_formed {
        return Err(Wrong::new(
            format!("\"{text}\" is no media type"),
            "write one such as \"application/zip\" or \"image/*\", without parameters",
        ));
    }
    folded(text).map(MediaPattern)
}

fn folded(text: &str) -> Result<Folded, Wrong> {
    let glob = Glob::name(&text.to_ascii_lowercase()).map_err(|error| bad_glob(text, &error))?;
    Ok(Folded {
        text: text.into(),
        glob,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_whatever_their_case() {
        let key = key_pattern("*_Token").unwrap();
        assert!(key.matches_folded("access_token") && !key.matches_folded("token"));
        assert_eq!(key.to_string(), "*_Token");
        let header = header_pattern("X-*").unwrap();
        assert!(header.matches("x-api-key") && !header.matches("date"));
        let media = media_pattern("Image/*").unwrap();
        assert!(media.matches("image/png") && !media.matches("text/html"));
    }

    #[test]
    fn fields_that_frame_a_message_are_never_masked() {
        for name in ["Content-Length", "transfer-encoding", "Sec-WebSocket-Accept"] {
            assert!(
                header_pattern(name)
                    .unwrap_err()
                    .what
                    .contains("cannot be masked"),
                "{name}"
            );
        }
        assert!(!header_pattern("Content-*").unwrap().matches("content-length"));
        assert!(header_pattern("Content-*").unwrap().matches("content-location"));
    }

    #[test]
    fn what_is_no_name_is_refused() {
        assert!(
            key_pattern("$.email")
                .unwrap_err()
                .help
                .contains("json = [\"$.email\"]")
        );
        assert!(key_pattern("").is_err());
        assert!(header_pattern("Set-Cookie: a").is_err());
        for media in ["image", "image/", "/png", "text/html; charset=utf-8", "a/b/c"] {
            assert!(media_pattern(media).is_err(), "{media}");
        }
    }
}
