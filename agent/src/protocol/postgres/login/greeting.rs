//! What the client is told when its session starts: let in, the target's parameters, a key of our own.

use bytes::BytesMut;

use super::super::startup::{CancelKey, Startup, cstring, message};
use super::LoggedIn;

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

/// Takes a `PasswordMessage`, which nobody asked for, from the front of what a client sent early. Nothing of it is kept.
///
/// Gives whether there was one. A part of one stays, and the next call takes the whole.
pub fn discard_password(early: &mut BytesMut) -> bool {
    let Some((&[b'p', l0, l1, l2, l3], rest)) = early.split_first_chunk::<5>() else {
        return false;
    };
    let length = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
    if length < 4 || rest.len() < length - 4 {
        return false;
    }
    zeroize::Zeroize::zeroize(early.split_to(length + 1).as_mut());
    true
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::discard_password;

    #[test]
    fn a_password_that_nobody_asked_for_goes_and_the_rest_stays() {
        let mut early = BytesMut::from(&b"p\0\0\0\x0chunter2\0Q\0\0"[..]);
        assert!(discard_password(&mut early));
        assert_eq!(&early[..], b"Q\0\0");
        assert!(!discard_password(&mut early));
        assert_eq!(&early[..], b"Q\0\0");
    }

    #[test]
    fn a_part_of_a_password_waits_for_the_rest() {
        let whole = b"p\0\0\0\x0chunter2\0";
        for length in 0..whole.len() {
            let mut early = BytesMut::from(&whole[..length]);
            assert!(!discard_password(&mut early));
            assert_eq!(early.len(), length);
        }
        assert!(!discard_password(&mut BytesMut::from(&b"p\0\0\0\x03"[..])));
    }
}
