//! `Query` (to the server): runs a text of any number of statements, the simple protocol.

use super::{Body, WireError, frame};

/// A `Query` message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Query<'a> {
    /// The text, in the client's encoding.
    pub text: &'a [u8],
}

impl<'a> Query<'a> {
    /// Message type.
    pub const TAG: u8 = b'Q';

    /// Decodes a body.
    pub fn decode(body: &'a [u8]) -> Result<Self, WireError> {
        let mut body = Body::new("Query", body);
        let text = body.cstr()?;
        body.end()?;
        Ok(Self { text })
    }

    /// Appends the message.
    pub fn encode(&self, out: &mut Vec<u8>) {
        frame(out, Self::TAG, |out| {
            out.extend_from_slice(self.text);
            out.push(0);
        });
    }
}
