//! How exchanges stand in a record: client and server bytes are marked with their exchange.
//!
//! Each frame of bytes begins with a header of twelve bytes, behind which is a part of one message:
//!
//! | at | bytes | |
//! |---|---|---|
//! | 0 | 1 | version: 1 |
//! | 1 | 1 | [`Part`] |
//! | 2 | 1 | flags: 1 = nothing of this message follows |
//! | 3 | 1 | 0 |
//! | 4 | 8 | number of the exchange in its session, from 1, little-endian |
//!
//! A head is written like one of HTTP/1.1 whatever was spoken: first line, fields, an empty line; the first line ends with
//! the version that was spoken. Secrets in it are replaced by `…` before it is recorded.

use std::fmt::Write as _;

use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Version, request, response};

/// Length of the header.
pub const HEADER: usize = 12;
const VERSION: u8 = 1;
const LAST: u8 = 1;
/// Stands for a secret.
const HIDDEN: &str = "…";

/// Fields whose values are secrets, besides those that a policy injects.
const SECRET_FIELDS: &[&str] = &[
    "api-key",
    "apikey",
    "job-token",
    "private-token",
    "x-access-token",
    "x-amz-security-token",
    "x-api-key",
    "x-auth-token",
    "x-csrf-token",
    "x-gitlab-token",
    "x-goog-api-key",
    "x-vault-token",
];

/// Parameters of a query whose values are secrets.
const SECRET_PARAMETERS: &[&str] = &[
    "access_token",
    "api_key",
    "apikey",
    "client_secret",
    "code",
    "id_token",
    "key",
    "password",
    "private_token",
    "refresh_token",
    "secret",
    "sig",
    "signature",
    "token",
    "x-amz-credential",
    "x-amz-security-token",
    "x-amz-signature",
];

/// What of a message a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Part {
    /// First line and fields.
    Head = 1,
    /// Some of the body.
    Body = 2,
    /// Fields behind the body.
    Trailers = 3,
    /// The message is cut off here: its sender, or the session, ended.
    Cut = 4,
    /// Bytes of what the connection was upgraded to.
    Tunnel = 5,
    /// The payload of one WebSocket message that is text.
    Text = 6,
    /// The payload of one WebSocket message that is binary.
    Binary = 7,
}

/// A frame of bytes, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece<'a> {
    /// Number of the exchange.
    pub exchange: u64,
    /// What the bytes are.
    pub part: Part,
    /// Nothing of this message follows.
    pub last: bool,
    /// The bytes.
    pub bytes: &'a [u8],
}

/// The header of a frame.
pub fn mark(exchange: u64, part: Part, last: bool) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    let (fixed, number) = header.split_at_mut(4);
    fixed.copy_from_slice(&[VERSION, part as u8, u8::from(last) * LAST, 0]);
    number.copy_from_slice(&exchange.to_le_bytes());
    header
}

impl<'a> Piece<'a> {
    /// Takes a frame's payload apart; `None`: it was not written by this version or an earlier one.
    pub fn read(payload: &'a [u8]) -> Option<Self> {
        let (header, bytes) = payload.split_first_chunk::<HEADER>()?;
        let [VERSION, part, flags, _, number @ ..] = *header else {
            return None;
        };
        let part = match part {
            1 => Part::Head,
            2 => Part::Body,
            3 => Part::Trailers,
            4 => Part::Cut,
            5 => Part::Tunnel,
            6 => Part::Text,
            7 => Part::Binary,
            _ => return None,
        };
        Some(Self {
            exchange: u64::from_le_bytes(number),
            part,
            last: flags & LAST != 0,
            bytes,
        })
    }
}

/// The head of a request; `origin`: scheme and authority, where the target does not name them.
pub(super) fn request_head(parts: &request::Parts, origin: &str) -> Vec<u8> {
    let mut head = Vec::with_capacity(512);
    let mut target = String::with_capacity(128);
    let uri = &parts.uri;
    if parts.method == http::Method::CONNECT {
        target.push_str(uri.authority().map_or("", http::uri::Authority::as_str));
    } else if uri.path() == "*" {
        target.push('*');
    } else {
        target.push_str(origin);
        target.push_str(uri.path());
        if let Some(query) = uri.query() {
            target.push('?');
            hide_parameters(&mut target, query);
        }
    }
    for piece in [
        parts.method.as_str(),
        " ",
        &target,
        " ",
        version(parts.version),
        "\r\n",
    ] {
        head.extend_from_slice(piece.as_bytes());
    }
    fields(&mut head, &parts.headers);
    head
}

/// The head of an answer.
pub(super) fn response_head(parts: &response::Parts, version_spoken: Version) -> Vec<u8> {
    let mut head = Vec::with_capacity(512);
    let reason = parts.extensions.get::<hyper::ext::ReasonPhrase>();
    let reason = reason.map_or_else(
        || parts.status.canonical_reason().unwrap_or_default().as_bytes(),
        |reason| reason.as_bytes(),
    );
    for piece in [
        version(version_spoken).as_bytes(),
        b" ",
        parts.status.as_str().as_bytes(),
        b" ",
        reason,
        b"\r\n",
    ] {
        head.extend_from_slice(piece);
    }
    fields(&mut head, &parts.headers);
    head
}

/// Trailer fields.
pub(super) fn trailers(map: &HeaderMap) -> Vec<u8> {
    let mut text = Vec::with_capacity(128);
    fields(&mut text, map);
    text
}

fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "HTTP/2",
        Version::HTTP_10 => "HTTP/1.0",
        _ => "HTTP/1.1",
    }
}

fn fields(out: &mut Vec<u8>, map: &HeaderMap) {
    for (name, value) in map {
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        field(out, name, value);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

fn field(out: &mut Vec<u8>, name: &HeaderName, value: &HeaderValue) {
    let bytes = value.as_bytes();
    if name == header::AUTHORIZATION || name == header::PROXY_AUTHORIZATION {
        // The scheme is no secret; a value of one word may be the secret itself.
        if let Some(end) = memchr::memchr(b' ', bytes) {
            out.extend_from_slice(bytes.get(..=end).unwrap_or_default());
        }
        out.extend_from_slice(HIDDEN.as_bytes());
    } else if name == header::COOKIE {
        let mut separator: &[u8] = b"";
        for pair in bytes.split(|byte| *byte == b';') {
            out.extend_from_slice(separator);
            cookie(out, pair.trim_ascii());
            separator = b"; ";
        }
    } else if name == header::SET_COOKIE {
        let end = memchr::memchr(b';', bytes).unwrap_or(bytes.len());
        let (pair, attributes) = bytes.split_at(end);
        cookie(out, pair);
        out.extend_from_slice(attributes);
    } else if value.is_sensitive() || SECRET_FIELDS.binary_search(&name.as_str()).is_ok() {
        out.extend_from_slice(HIDDEN.as_bytes());
    } else {
        out.extend_from_slice(bytes);
    }
}

/// `name=value`, without the value.
fn cookie(out: &mut Vec<u8>, pair: &[u8]) {
    if let Some(end) = memchr::memchr(b'=', pair) {
        out.extend_from_slice(pair.get(..=end).unwrap_or_default());
    }
    out.extend_from_slice(HIDDEN.as_bytes());
}

fn hide_parameters(out: &mut String, query: &str) {
    for (number, parameter) in query.split('&').enumerate() {
        let separator = if number == 0 { "" } else { "&" };
        let name = parameter.split('=').next().unwrap_or_default();
        let secret = SECRET_PARAMETERS
            .binary_search(&name.to_ascii_lowercase().as_str())
            .is_ok();
        // Writing to a string does not fail.
        let _ = if secret && name.len() < parameter.len() {
            write!(out, "{separator}{name}={HIDDEN}")
        } else {
            write!(out, "{separator}{parameter}")
        };
    }
}

#[cfg(test)]
mod tests {
    use http::{Request, Version};

    use super::{Part, Piece, SECRET_FIELDS, SECRET_PARAMETERS, mark, request_head};

    #[test]
    fn a_piece_is_read_as_it_was_written_and_a_later_version_is_not_guessed_at() {
        for part in [
            Part::Head,
            Part::Body,
            Part::Trailers,
            Part::Cut,
            Part::Tunnel,
            Part::Text,
            Part::Binary,
        ] {
            for last in [false, true] {
                let payload = [&mark(0x0102_0304_0506_0708, part, last)[..], b"bytes"].concat();
                let piece = Piece::read(&payload).unwrap();
                assert_eq!((piece.exchange, piece.part), (0x0102_0304_0506_0708, part));
                assert_eq!((piece.last, piece.bytes), (last, &b"bytes"[..]));
                assert_eq!(Piece::read(&payload[..11]), None);
                let later = [&[2], &payload[1..]].concat();
                assert_eq!(Piece::read(&later), None);
            }
        }
    }

    #[test]
    fn the_lists_are_sorted_as_they_are_searched() {
        assert!(SECRET_FIELDS.is_sorted());
        assert!(SECRET_PARAMETERS.is_sorted());
    }

    #[test]
    fn secrets_of_a_head_are_not_in_the_record() {
        let (parts, ()) = Request::builder()
            .uri("/v1/users?token=s3cr3t&page=2&Access_Token=s3cr3t&flag")
            .version(Version::HTTP_11)
            .header("host", "api.acme.test")
            .header("authorization", "Bearer s3cr3t")
            .header("proxy-authorization", "s3cr3t")
            .header("cookie", "session=s3cr3t;lang=s3cr3t; s3cr3t")
            .header("set-cookie", "id=s3cr3t; Path=/; HttpOnly")
            .header("x-api-key", "s3cr3t")
            .header("accept", "*/*")
            .body(())
            .unwrap()
            .into_parts();
        let head = String::from_utf8(request_head(&parts, "https://api.acme.test")).unwrap();
        assert!(!head.contains("s3cr3t"), "{head}");
        let lines: Vec<&str> = head.split("\r\n").collect();
        assert_eq!(
            lines,
            [
                "GET https://api.acme.test/v1/users?token=…&page=2&Access_Token=…&flag HTTP/1.1",
                "host: api.acme.test",
                "authorization: Bearer …",
                "proxy-authorization: …",
                "cookie: session=…; lang=…; …",
                "set-cookie: id=…; Path=/; HttpOnly",
                "x-api-key: …",
                "accept: */*",
                "",
                "",
            ]
        );
    }
}
