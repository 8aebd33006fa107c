//! The close frame of a WebSocket (RFC 6455 sections 5.2, 5.5.1).

/// Longest reason, in bytes: a control frame has at most 125, of which two are the code.
const LONGEST: usize = 123;

/// FIN and the opcode of a close frame.
const CLOSE: u8 = 0x88;

/// Policy violation.
pub(super) const POLICY: u16 = 1008;

/// Who gets the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The client: frames to it have no mask.
    Client,
    /// The server: frames to it have to be masked, with this key.
    Server([u8; 4]),
}

/// A close frame with code 1008 and a reason, cut to fit.
pub fn close_frame(reason: &str, side: Side) -> Vec<u8> {
    let mut end = reason.len().min(LONGEST);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    let reason = reason.get(..end).unwrap_or_default();
    let payload: Vec<u8> = POLICY.to_be_bytes().into_iter().chain(reason.bytes()).collect();
    let length = u8::try_from(payload.len()).unwrap_or(2);
    match side {
        Side::Client => [CLOSE, length].into_iter().chain(payload).collect(),
        Side::Server(key) => [CLOSE, length | 0x80]
            .into_iter()
            .chain(key)
            .chain(
                payload
                    .iter()
                    .zip(key.iter().cycle())
                    .map(|(byte, key)| byte ^ key),
            )
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_close_frame_fits_and_is_text() {
        assert_eq!(close_frame("no", Side::Client), b"\x88\x04\x03\xf0no");
        let frame = close_frame(&"ä".repeat(100), Side::Client);
        assert_eq!(frame.len(), 2 + 2 + 122);
        assert!(std::str::from_utf8(&frame[4..]).is_ok());
        assert_eq!(
            close_frame("n", Side::Server([1, 2, 3, 4])),
            [0x88, 0x83, 1, 2, 3, 4, 3 ^ 1, 0xf0 ^ 2, b'n' ^ 3]
        );
    }
}
