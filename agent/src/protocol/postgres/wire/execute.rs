//! `Execute` (to the server): runs a portal, up to a number of rows.

use super::{Body, WireError};

/// An `Execute` message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Execute<'a> {
    /// Name of the portal; empty: the unnamed one.
    pub portal: &'a [u8],
    /// Most rows to return; 0 or less: no limit.
    pub rows: i32,
}

impl<'a> Execute<'a> {
    /// Message type.
    pub const TAG: u8 = b'E';

    /// Decodes a body.
    pub fn decode(body: &'a [u8]) -> Result<Self, WireError> {
        let mut body = Body::new("Execute", body);
        let portal = body.cstr()?;
        let rows = body.i32()?;
        body.end()?;
        Ok(Self { portal, rows })
    }
}
