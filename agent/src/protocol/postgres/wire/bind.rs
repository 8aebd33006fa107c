//! `Bind` (to the server): makes a portal of a prepared statement and values for its parameters.

use super::{Body, WireError};

/// A `Bind` message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bind<'a> {
    /// Name of the portal; empty: the unnamed one.
    pub portal: &'a [u8],
    /// Name of the prepared statement.
    pub statement: &'a [u8],
    /// Format codes of the parameters, two bytes each: none (all text), one for all, or one each.
    pub formats: &'a [u8],
    /// Number of parameters.
    pub count: usize,
    values: &'a [u8],
    /// Format codes of the result columns, as [`Self::formats`].
    pub results: &'a [u8],
}

impl<'a> Bind<'a> {
    /// Message type.
    pub const TAG: u8 = b'B';

    /// Decodes a body.
    pub fn decode(body: &'a [u8]) -> Result<Self, WireError> {
        let mut body = Body::new("Bind", body);
        let portal = body.cstr()?;
        let statement = body.cstr()?;
        let count = body.count()?;
        let formats = body.take(count * 2)?;
        let count = body.count()?;
        let before = body.rest();
        for _ in 0..count {
            body.value()?;
        }
        let values = before.get(..before.len() - body.rest().len()).unwrap_or_default();
        let columns = body.count()?;
        let results = body.take(columns * 2)?;
        body.end()?;
        Ok(Self {
            portal,
            statement,
            formats,
            count,
            values,
            results,
        })
    }

    /// Names of portal and prepared statement, from the first bytes of a body that need not be complete.
    pub fn names(start: &'a [u8]) -> Result<(&'a [u8], &'a [u8]), WireError> {
        let mut body = Body::new("Bind", start);
        Ok((body.cstr()?, body.cstr()?))
    }

    /// The values of the parameters, `None` for NULL.
    pub fn values(&self) -> impl Iterator<Item = Option<&'a [u8]>> {
        let mut body = Body::new("Bind", self.values);
        // Decoded once already: what fails here is the end.
        std::iter::from_fn(move || body.value().ok())
    }

    /// Whether parameter `index` is in binary format.
    pub fn is_binary(&self, index: usize) -> bool {
        format_at(self.formats, index) == 1
    }
}

/// The format code of field `index` in a list of none, one, or one each.
pub(super) fn format_at(formats: &[u8], index: usize) -> u16 {
    let at = if formats.len() == 2 { 0 } else { index * 2 };
    match formats.get(at..at + 2) {
        Some(&[high, low]) => u16::from_be_bytes([high, low]),
        _ => 0,
    }
}
