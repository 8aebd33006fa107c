//! The types of messages that a server sends after login.

/// Whether a server may send a message of type `tag` after login to a client that uses neither replication nor
/// the fast path: `CopyBothResponse`, `FunctionCallResponse` and the authentication messages are not among them.
pub const fn is_backend_tag(tag: u8) -> bool {
    matches!(
        tag,
        b'1' | b'2'
            | b'3'
            | b'A'
            | b'C'
            | b'D'
            | b'E'
            | b'G'
            | b'H'
            | b'I'
            | b'N'
            | b'S'
            | b'T'
            | b'Z'
            | b'c'
            | b'd'
            | b'n'
            | b's'
            | b't'
    )
}
