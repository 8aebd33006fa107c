//! `Describe` and `Close` (to the server): ask for the shape of, or drop, a prepared statement or portal.

use super::{Body, WireError, frame};

/// What a name names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A prepared statement.
    Statement,
    /// A portal.
    Portal,
}

/// The body of a `Describe` or `Close` message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Described<'a> {
    /// What is named.
    pub target: Target,
    /// Its name.
    pub name: &'a [u8],
}

impl<'a> Described<'a> {
    /// Message type of `Describe`.
    pub const DESCRIBE: u8 = b'D';
    /// Message type of `Close`.
    pub const CLOSE: u8 = b'C';

    /// Decodes a body.
    pub fn decode(body: &'a [u8]) -> Result<Self, WireError> {
        let mut body = Body::new("Describe or Close", body);
        let target = match body.u8()? {
            b'S' => Target::Statement,
            b'P' => Target::Portal,
            _ => {
                return Err(WireError::Body {
                    message: "Describe or Close",
                    what: "it names neither a statement nor a portal",
                });
            }
        };
        let name = body.cstr()?;
        body.end()?;
        Ok(Self { target, name })
    }

    /// Appends a message of type `tag`, one of [`Self::DESCRIBE`] and [`Self::CLOSE`].
    pub fn encode(&self, tag: u8, out: &mut Vec<u8>) {
        frame(out, tag, |out| {
            out.push(match self.target {
                Target::Statement => b'S',
                Target::Portal => b'P',
            });
            out.extend_from_slice(self.name);
            out.push(0);
        });
    }
}
