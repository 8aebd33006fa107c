//! The few messages of the start of a session, as the target sends them (backend) and as it is asked (frontend).

use bytes::{Buf, BytesMut};
use zeroize::Zeroizing;

use super::super::startup::PROTOCOL_3_0;
use super::LoginError;

/// Longest message that is taken during the start of a session, in bytes after the type byte. Errors, parameters
/// and rows of the catalog are all far shorter.
const LONGEST: u32 = 1 << 20;

/// One message with a type byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Frame {
    pub(in super::super) tag: u8,
    pub(in super::super) body: BytesMut,
}

/// Takes the next message out of `buffer`; `None`: not whole yet.
pub(in super::super) fn next_frame(buffer: &mut BytesMut) -> Result<Option<Frame>, LoginError> {
    let Some((&[tag, l0, l1, l2, l3], _)) = buffer.split_first_chunk::<5>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes([l0, l1, l2, l3]);
    if !(4..=LONGEST).contains(&length) {
        return Err(LoginError::Protocol("a message has an impossible length"));
    }
    let whole = length as usize + 1;
    if buffer.len() < whole {
        buffer.reserve(whole - buffer.len());
        return Ok(None);
    }
    let mut body = buffer.split_to(whole);
    body.advance(5);
    Ok(Some(Frame { tag, body }))
}

/// `StartupMessage`. Wiped when dropped: the user is part of the login.
pub(super) fn startup<'a>(
    user: &[u8],
    database: &str,
    settings: impl Iterator<Item = (&'a str, &'a str)>,
) -> Zeroizing<Vec<u8>> {
    let pairs = [("user", user), ("database", database.as_bytes())]
        .into_iter()
        .chain(settings.map(|(name, value)| (name, value.as_bytes())));
    let mut body = Zeroizing::new(Vec::with_capacity(1024));
    body.extend_from_slice(&PROTOCOL_3_0.to_be_bytes());
    for (name, value) in pairs {
        body.extend_from_slice(name.as_bytes());
        body.push(0);
        body.extend_from_slice(value);
        body.push(0);
    }
    body.push(0);
    prefixed(&[], &body)
}

/// `PasswordMessage`, `SASLInitialResponse` and `SASLResponse` share a type byte.
pub(super) fn password(parts: &[&[u8]]) -> Zeroizing<Vec<u8>> {
    prefixed(b"p", &Zeroizing::new(parts.concat()))
}

fn prefixed(tag: &[u8], body: &[u8]) -> Zeroizing<Vec<u8>> {
    // Bounded by a start-up packet and a password.
    let length = u32::try_from(body.len() + 4).unwrap_or(u32::MAX);
    Zeroizing::new([tag, &length.to_be_bytes(), body].concat())
}

/// SQLSTATE of an `ErrorResponse`; `XX000` where it has none that could be one.
pub(in super::super) fn sqlstate(mut body: &[u8]) -> String {
    while let Some((&field, rest)) = body.split_first() {
        let end = memchr::memchr(0, rest).unwrap_or(rest.len());
        let (text, after) = rest.split_at(end);
        if field == b'C' && text.len() == 5 && text.iter().all(u8::is_ascii_alphanumeric) {
            return text.iter().copied().map(char::from).collect();
        }
        if field == 0 {
            break;
        }
        body = after.get(1..).unwrap_or_default();
    }
    "XX000".to_owned()
}

/// The two strings of a `ParameterStatus`.
pub(super) fn parameter(body: &[u8]) -> Option<(String, String)> {
    let (name, rest) = body.split_at(memchr::memchr(0, body)?);
    let value = rest.get(1..)?.strip_suffix(&[0])?;
    Some((
        String::from_utf8(name.to_vec()).ok()?,
        String::from_utf8(value.to_vec()).ok()?,
    ))
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::{next_frame, parameter, sqlstate, startup};

    #[test]
    fn every_truncation_of_a_message_waits() {
        let whole = b"S\0\0\0\x08a\0b\0";
        for length in 0..whole.len() {
            assert!(
                next_frame(&mut BytesMut::from(&whole[..length]))
                    .unwrap()
                    .is_none(),
                "{length}"
            );
        }
        let mut buffer = BytesMut::from(&[&whole[..], b"Z"].concat()[..]);
        let frame = next_frame(&mut buffer).unwrap().unwrap();
        assert_eq!((frame.tag, &frame.body[..]), (b'S', &b"a\0b\0"[..]));
        assert_eq!(&buffer[..], b"Z");
    }

    #[test]
    fn impossible_lengths_are_refused() {
        for length in [0, 3, (1 << 20) + 1, i32::MAX, -1] {
            let mut buffer = BytesMut::from(&[b"R", &length.to_be_bytes()[..]].concat()[..]);
            assert!(next_frame(&mut buffer).is_err(), "{length}");
        }
    }

    #[test]
    fn a_sqlstate_is_found_and_nothing_else_is_taken_for_one() {
        assert_eq!(sqlstate(b"SFATAL\0VFATAL\0C28P01\0Mno \"x\"\0\0"), "28P01");
        for body in [
            &b""[..],
            b"\0",
            b"C28P0\0\0",
            b"C28P01x\0\0",
            b"C28 01\0\0",
            b"MC28P01\0\0",
            b"\0C28P01\0",
        ] {
            assert_eq!(sqlstate(body), "XX000", "{body:?}");
        }
    }

    #[test]
    fn parameters_need_both_ends() {
        assert_eq!(parameter(b"a\0b\0"), Some(("a".to_owned(), "b".to_owned())));
        for body in [&b""[..], b"a", b"a\0", b"a\0b", b"\xff\0b\0"] {
            assert_eq!(parameter(body), None, "{body:?}");
        }
    }

    #[test]
    fn a_startup_message_counts_itself() {
        let bytes = startup(b"u", "d", [("a", "b")].into_iter());
        assert_eq!(
            &bytes[..],
            b"\0\0\0\x1f\0\x03\0\0user\0u\0database\0d\0a\0b\0\0"[..].to_vec()
        );
    }
}
