//! `RowDescription` (to the client): names, origins, types and formats of result columns.

use super::{Body, WireError};

/// A `RowDescription` message.
#[derive(Clone, Copy, Debug)]
pub struct RowDescription<'a> {
    count: usize,
    fields: &'a [u8],
}

/// One column of a [`RowDescription`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldDescription<'a> {
    /// The column's name in the result, which the query chooses.
    pub label: &'a [u8],
    /// OID of the table that it comes from; 0: it is computed.
    pub table: u32,
    /// Attribute number in that table; 0: it is computed.
    pub attribute: i16,
    /// OID of its type.
    pub type_oid: u32,
    /// Format code: 0 text, 1 binary. Always 0 where a prepared statement is described.
    pub format: i16,
}

impl<'a> RowDescription<'a> {
    /// Message type.
    pub const TAG: u8 = b'T';

    /// Decodes a body.
    pub fn decode(body: &'a [u8]) -> Result<Self, WireError> {
        let mut body = Body::new("RowDescription", body);
        let count = body.count()?;
        let fields = body.rest();
        for _ in 0..count {
            field(&mut body)?;
        }
        body.end()?;
        Ok(Self { count, fields })
    }

    /// Number of columns.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether it has no column.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Its columns, in order.
    pub fn fields(&self) -> impl Iterator<Item = FieldDescription<'a>> {
        let mut body = Body::new("RowDescription", self.fields);
        // Decoded once already: what fails here is the end.
        std::iter::from_fn(move || field(&mut body).ok())
    }
}

fn field<'a>(body: &mut Body<'a>) -> Result<FieldDescription<'a>, WireError> {
    let label = body.cstr()?;
    let table = body.u32()?;
    let attribute = body.i16()?;
    let type_oid = body.u32()?;
    body.take(6)?;
    let format = body.i16()?;
    Ok(FieldDescription {
        label,
        table,
        attribute,
        type_oid,
        format,
    })
}
