//! How long messages may be.

/// The longest message that is taken into memory whole; anything longer is streamed or refused.
pub const MAX_WHOLE: usize = 1 << 20;

/// The longest message that a server accepts (`MaxAllocSize - 1` in its sources).
pub const MAX_LARGE: usize = 0x3fff_fffe;

const SMALL: usize = 10_000;

/// Most bytes of body that a message of type `tag` from a client may have; `None`: no such message after login.
/// The limits are those of the server's own reader.
pub const fn frontend_limit(tag: u8) -> Option<usize> {
    match tag {
        b'Q' | b'P' | b'B' | b'F' | b'd' => Some(MAX_LARGE),
        b'E' | b'D' | b'C' | b'H' | b'S' | b'X' | b'c' | b'f' => Some(SMALL),
        _ => None,
    }
}
