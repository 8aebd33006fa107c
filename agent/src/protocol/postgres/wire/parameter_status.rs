//! `ParameterStatus` (to the client): the value of a setting that the server reports.

use super::{Body, WireError, frame};

/// A `ParameterStatus` message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParameterStatus<'a> {
    /// Name of the setting.
    pub name: &'a [u8],
    /// Its value.
    pub value: &'a [u8],
}

impl<'a> ParameterStatus<'a> {
    /// Message type.
    pub const TAG: u8 = b'S';

    /// Decodes a body.
    pub fn decode(body: &'a [u8]) -> Result<Self, WireError> {
        let mut body = Body::new("ParameterStatus", body);
        let name = body.cstr()?;
        let value = body.cstr()?;
        body.end()?;
        Ok(Self { name, value })
    }

    /// Appends the message.
    pub fn encode(&self, out: &mut Vec<u8>) {
        frame(out, Self::TAG, |out| {
            out.extend_from_slice(self.name);
            out.push(0);
            out.extend_from_slice(self.value);
            out.push(0);
        });
    }
}
