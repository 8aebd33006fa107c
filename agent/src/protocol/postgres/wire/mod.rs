//! Framing and messages of the PostgreSQL frontend/backend protocol, version 3, after login.
//!
//! Borrowing decoders over whole message bodies, and encoders that append to a buffer. Not here: the startup
//! packet and authentication, which are framed without a tag.
//!
//! Source: PostgreSQL documentation, "Message Formats" and "Message Flow".

mod backend;
mod bind;
mod command_complete;
mod copy_response;
mod data_row;
mod describe;
mod error_response;
mod execute;
mod limits;
mod notification;
mod parameter_status;
mod parse;
mod query;
mod ready_for_query;
mod row_description;
#[cfg(test)]
mod tests;

pub use backend::is_backend_tag;
pub use bind::Bind;
pub use command_complete::CommandComplete;
pub use copy_response::CopyResponse;
pub use data_row::DataRow;
pub use describe::{Described, Target};
pub use error_response::{ErrorFields, ErrorResponse, NoticeResponse};
pub use execute::Execute;
pub use limits::{MAX_LARGE, MAX_WHOLE, frontend_limit};
pub use notification::Notification;
pub use parameter_status::ParameterStatus;
pub use parse::Parse;
pub use query::Query;
pub use ready_for_query::{ReadyForQuery, TransactionStatus};
pub use row_description::{FieldDescription, RowDescription};

/// The tag and length that stand before each message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Message type.
    pub tag: u8,
    /// Bytes of the body, without tag and length field. At most `i32::MAX - 4`.
    pub body: usize,
}

/// A message that breaks the protocol's format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The length field is less than its own four bytes, or negative.
    #[error("message type {} has a length of {length}", tag_name(*.tag))]
    Length {
        /// Message type.
        tag: u8,
        /// The length field.
        length: i32,
    },
    /// The message is longer than the protocol allows for its type.
    #[error("message type {} is {body} bytes long, more than the {most} that are allowed", tag_name(*.tag))]
    TooLong {
        /// Message type.
        tag: u8,
        /// Bytes of the body.
        body: usize,
        /// Bytes allowed.
        most: usize,
    },
    /// The body ends before its fields do, or goes on behind them.
    #[error("malformed {message} message: {what}")]
    Body {
        /// Name of the message.
        message: &'static str,
        /// What is wrong with it.
        what: &'static str,
    },
}

impl Header {
    /// Bytes of a header.
    pub const SIZE: usize = 5;

    /// Reads the header at the start of `input`; `None`: more bytes are needed.
    pub fn peek(input: &[u8]) -> Result<Option<Self>, WireError> {
        let Some((&[tag, a, b, c, d], _)) = input.split_first_chunk::<5>() else {
            return Ok(None);
        };
        let length = i32::from_be_bytes([a, b, c, d]);
        match usize::try_from(length)
            .ok()
            .and_then(|length| length.checked_sub(4))
        {
            Some(body) => Ok(Some(Self { tag, body })),
            None => Err(WireError::Length { tag, length }),
        }
    }

    /// Bytes of the whole message.
    pub const fn size(self) -> usize {
        self.body + Self::SIZE
    }

    /// The whole message and its body, if `input` holds all of it.
    pub fn whole(self, input: &[u8]) -> Option<(&[u8], &[u8])> {
        let message = input.get(..self.size())?;
        Some((message, message.get(Self::SIZE..)?))
    }
}

/// How a message type is written in sentences: its letter, or its number where it has none.
fn tag_name(tag: u8) -> String {
    if tag.is_ascii_graphic() {
        format!("'{}'", char::from(tag))
    } else {
        format!("{tag:#04x}")
    }
}

/// A cursor over a message body.
#[derive(Clone, Copy, Debug)]
pub(super) struct Body<'a> {
    message: &'static str,
    rest: &'a [u8],
}

impl<'a> Body<'a> {
    pub(super) fn new(message: &'static str, body: &'a [u8]) -> Self {
        Self { message, rest: body }
    }

    fn wrong(&self, what: &'static str) -> WireError {
        WireError::Body {
            message: self.message,
            what,
        }
    }

    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self
            .rest
            .split_at_checked(count)
            .ok_or_else(|| self.wrong("it ends within a field"))?;
        self.rest = rest;
        Ok(taken)
    }

    pub(super) fn u8(&mut self) -> Result<u8, WireError> {
        let (&value, rest) = self
            .rest
            .split_first()
            .ok_or_else(|| self.wrong("it ends within a field"))?;
        self.rest = rest;
        Ok(value)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let (&value, rest) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or_else(|| self.wrong("it ends within a field"))?;
        self.rest = rest;
        Ok(value)
    }

    pub(super) fn i16(&mut self) -> Result<i16, WireError> {
        self.array().map(i16::from_be_bytes)
    }

    /// A count of fields. The protocol's Int16 counts are unsigned in what the server sends and accepts.
    pub(super) fn count(&mut self) -> Result<usize, WireError> {
        self.array().map(|bytes| usize::from(u16::from_be_bytes(bytes)))
    }

    pub(super) fn i32(&mut self) -> Result<i32, WireError> {
        self.array().map(i32::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, WireError> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn cstr(&mut self) -> Result<&'a [u8], WireError> {
        let end = memchr::memchr(0, self.rest).ok_or_else(|| self.wrong("a string in it has no end"))?;
        let text = self.take(end)?;
        self.u8()?;
        Ok(text)
    }

    /// A value: its length and bytes; `None`: NULL.
    pub(super) fn value(&mut self) -> Result<Option<&'a [u8]>, WireError> {
        match self.i32()? {
            -1 => Ok(None),
            length => {
                let length =
                    usize::try_from(length).map_err(|_| self.wrong("a value has a negative length"))?;
                self.take(length).map(Some)
            }
        }
    }

    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(super) fn end(&self) -> Result<(), WireError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(self.wrong("bytes follow its last field"))
        }
    }
}

/// Appends a message of type `tag`, its body made by `body`.
///
/// The length field is set afterwards. Callers make bodies far below 2 GiB, which is what the field holds; a
/// longer one would be cut off at the field's largest value and refused by every reader.
pub fn frame(out: &mut Vec<u8>, tag: u8, body: impl FnOnce(&mut Vec<u8>)) {
    out.push(tag);
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    body(out);
    let length = i32::try_from(out.len() - start).unwrap_or(i32::MAX);
    if let Some(field) = out.get_mut(start..start + 4) {
        field.copy_from_slice(&length.to_be_bytes());
    }
}

/// Appends a Flush message (to the server).
pub fn flush(out: &mut Vec<u8>) {
    frame(out, b'H', |_| ());
}

/// Appends a Sync message (to the server).
pub fn sync(out: &mut Vec<u8>) {
    frame(out, b'S', |_| ());
}

/// Appends a Terminate message (to the server).
pub fn terminate(out: &mut Vec<u8>) {
    frame(out, b'X', |_| ());
}
