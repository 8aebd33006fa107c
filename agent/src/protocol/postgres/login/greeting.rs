//! What the client is told when its session starts: let in, the target's parameters, a key of our own.

use bytes::BytesMut;
use zeroize::Zeroize as _;

use super::super::startup::{CancelKey, Startup, cstring, message};
use super::LoggedIn;
use crate::model::Secret;

/// `AuthenticationOk`, `ParameterStatus` for each parameter of the target, `BackendKeyData` with `key`, `ReadyForQuery`: one
/// run of bytes for the client, to be recorded and sent.
///
/// The real key of the target is not in it, nor is the injected user. Notices are not in it either: they are text of
/// the target, and go through the masks first.
pub fn greeting(session: &LoggedIn, startup: &Startup, key: CancelKey) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    message(&mut out, b'R', |out| out.extend_from_slice(&[0; 4]));
    for (name, value) in &session.parameters {
        message(&mut out, b'S', |out| {
            cstring(out, name);
            cstring(out, shown_parameter(name, value, &startup.user));
        });
    }
    message(&mut out, b'K', |out| {
        out.extend_from_slice(&key.process.to_be_bytes());
        out.extend_from_slice(&key.secret);
    });
    message(&mut out, b'Z', |out| out.push(session.status));
    out
}

/// The value of a `ParameterStatus` as the client may see it: `session_authorization` names the injected user, so the
/// client is told the name that it gave itself. The same goes for every later `ParameterStatus`.
pub fn shown_parameter<'a>(name: &str, value: &'a str, client_user: &'a str) -> &'a str {
    if name == "session_authorization" {
        client_user
    } else {
        value
    }
}

/// Takes a `PasswordMessage`, which nobody asked for, from the front of what a client sent early, and gives what it was.
///
/// A part of one stays, and the next call takes the whole.
pub fn take_password(early: &mut BytesMut) -> Option<Secret> {
    let (&[b'p', l0, l1, l2, l3], rest) = early.split_first_chunk::<5>()? else {
        return None;
    };
    let length = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
    if length < 4 || rest.len() < length - 4 {
        return None;
    }
    let mut message = early.split_to(length + 1);
    let text = message.get(5..).unwrap_or_default();
    let text = Secret::new(text.strip_suffix(b"\0").unwrap_or(text).to_vec());
    message.as_mut().zeroize();
    Some(text)
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::take_password;

    #[test]
    fn a_password_that_nobody_asked_for_goes_and_the_rest_stays() {
        let mut early = BytesMut::from(&b"p\0\0\0\x0chunter2\0Q\0\0"[..]);
        assert_eq!(take_password(&mut early).unwrap().expose(), b"hunter2");
        assert_eq!(&early[..], b"Q\0\0");
        assert!(take_password(&mut early).is_none());
        assert_eq!(&early[..], b"Q\0\0");
    }

    #[test]
    fn a_part_of_a_password_waits_for_the_rest() {
        let whole = b"p\0\0\0\x0chunter2\0";
        for length in 0..whole.len() {
            let mut early = BytesMut::from(&whole[..length]);
            assert!(take_password(&mut early).is_none());
            assert_eq!(early.len(), length);
        }
        assert!(take_password(&mut BytesMut::from(&b"p\0\0\0\x03"[..])).is_none());
    }
}
