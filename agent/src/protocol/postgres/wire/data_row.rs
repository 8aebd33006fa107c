//! `DataRow` (to the client): the values of one result row.

use super::{Body, WireError};

/// A `DataRow` message.
#[derive(Clone, Copy, Debug)]
pub struct DataRow<'a> {
    count: usize,
    body: Body<'a>,
}

impl<'a> DataRow<'a> {
    /// Message type.
    pub const TAG: u8 = b'D';

    /// Reads the number of columns; the values are checked as they are read.
    pub fn decode(body: &'a [u8]) -> Result<Self, WireError> {
        let mut body = Body::new("DataRow", body);
        let count = body.count()?;
        Ok(Self { count, body })
    }

    /// Number of columns.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether it has no column.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The next value, `None` inside for NULL; `None` outside after the last.
    pub fn next_value(&mut self) -> Result<Option<Option<&'a [u8]>>, WireError> {
        if self.count == 0 {
            self.body.end()?;
            return Ok(None);
        }
        self.count -= 1;
        self.body.value().map(Some)
    }

    /// Bytes behind the last value read.
    pub fn remaining(&self) -> usize {
        self.body.rest().len()
    }
}
