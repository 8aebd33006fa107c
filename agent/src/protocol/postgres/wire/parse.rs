//! `Parse` (to the server): makes a prepared statement of one statement's text.

use super::{Body, WireError, frame};

/// A `Parse` message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parse<'a> {
    /// Name of the prepared statement; empty: the unnamed one.
    pub name: &'a [u8],
    /// The text, in the client's encoding.
    pub text: &'a [u8],
    /// Type OIDs of the parameters, four bytes each, big-endian; 0: the server finds out.
    pub types: &'a [u8],
}

impl<'a> Parse<'a> {
    /// Message type.
    pub const TAG: u8 = b'P';

    /// Decodes a body.
    pub fn decode(body: &'a [u8]) -> Result<Self, WireError> {
        let mut body = Body::new("Parse", body);
        let name = body.cstr()?;
        let text = body.cstr()?;
        let count = body.count()?;
        let types = body.take(count * 4)?;
        body.end()?;
        Ok(Self { name, text, types })
    }

    /// Appends the message.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let count = u16::try_from(self.types.len() / 4).unwrap_or(u16::MAX);
        frame(out, Self::TAG, |out| {
            out.extend_from_slice(self.name);
            out.push(0);
            out.extend_from_slice(self.text);
            out.push(0);
            out.extend_from_slice(&count.to_be_bytes());
            out.extend_from_slice(self.types);
        });
    }
}
