//! `CommandComplete` (to the client): a statement has ended well.

use super::{Body, WireError};

/// A `CommandComplete` message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommandComplete<'a> {
    /// Command tag: `SELECT 3`, `INSERT 0 1`, `CREATE TABLE`.
    pub tag: &'a [u8],
}

impl<'a> CommandComplete<'a> {
    /// Message type.
    pub const TAG: u8 = b'C';

    /// Decodes a body.
    pub fn decode(body: &'a [u8]) -> Result<Self, WireError> {
        let mut body = Body::new("CommandComplete", body);
        let tag = body.cstr()?;
        body.end()?;
        Ok(Self { tag })
    }

    /// The number of rows that the tag ends with; `None` where it has none.
    pub fn rows(&self) -> Option<u64> {
        let number = self.tag.rsplit(|byte| *byte == b' ').next()?;
        std::str::from_utf8(number).ok()?.parse().ok()
    }
}
