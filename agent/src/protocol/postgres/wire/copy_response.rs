//! `CopyInResponse` and `CopyOutResponse` (to the client): COPY data follows, from or to the client.

use super::{Body, WireError};

/// A `CopyInResponse` or `CopyOutResponse` message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyResponse {
    /// Whether the data are in binary format.
    pub binary: bool,
    /// Number of columns.
    pub columns: usize,
}

impl CopyResponse {
    /// Message type of `CopyInResponse`.
    pub const IN: u8 = b'G';
    /// Message type of `CopyOutResponse`.
    pub const OUT: u8 = b'H';

    /// Decodes a body.
    pub fn decode(body: &[u8]) -> Result<Self, WireError> {
        let mut body = Body::new("CopyInResponse or CopyOutResponse", body);
        let binary = body.u8()? != 0;
        let columns = body.count()?;
        body.take(columns * 2)?;
        body.end()?;
        Ok(Self { binary, columns })
    }
}
