//! `ReadyForQuery` (to the client): a cycle has ended; the state of the transaction.

use super::{Body, WireError};

/// State of the session's transaction, as the server says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TransactionStatus {
    /// Not in a transaction block.
    #[default]
    Idle,
    /// In a transaction block.
    Open,
    /// In a failed transaction block: everything but its end is refused.
    Failed,
}

/// A `ReadyForQuery` message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadyForQuery {
    /// State of the transaction.
    pub status: TransactionStatus,
}

impl ReadyForQuery {
    /// Message type.
    pub const TAG: u8 = b'Z';

    /// Decodes a body.
    pub fn decode(body: &[u8]) -> Result<Self, WireError> {
        let mut body = Body::new("ReadyForQuery", body);
        let status = match body.u8()? {
            b'I' => TransactionStatus::Idle,
            b'T' => TransactionStatus::Open,
            b'E' => TransactionStatus::Failed,
            _ => {
                return Err(WireError::Body {
                    message: "ReadyForQuery",
                    what: "the state of the transaction is unknown",
                });
            }
        };
        body.end()?;
        Ok(Self { status })
    }
}
