//! Masks on answers of HTTP: what a head and a body become on their way to the client. No I/O and no clock.
//!
//! A request goes through [`HttpMasks::request`], so that its answer can be masked at all (whole, in a coding that is known).
//! The head of the answer goes through [`HttpMasks::response`], which gives the [`BodyMask`] that its body has to go
//! through, piece by piece. What cannot be understood is an [`Unmaskable`], and the answer must not reach the client, or
//! must not go on; it is never passed as it is. Trailers go through [`HttpMasks::trailers`], heads before the last one
//! (103) through [`HttpMasks::informational`].

mod body;
mod choose;
mod coding;
mod counts;
mod etag;
mod event_stream;
mod fields;
mod form;
mod json;
mod markup;
mod media;
mod request;
mod response;
mod sniff;
mod text;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::fmt::Debug;
use std::sync::Arc;

use crate::mask::Masks;

pub use body::BodyMask;
pub use counts::{Counts, Masked};
pub use request::Asked;
pub use response::Masking;

/// The masks of one service, for answers of HTTP. Shared by its sessions.
#[derive(Clone, Debug)]
pub struct HttpMasks {
    masks: Arc<Masks>,
    /// What tells validators of masked bodies from others.
    mark: Arc<str>,
}

/// Why an answer cannot be masked, and so cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unmaskable {
    /// 206, or a delta (RFC 3229): a part of a body has no beginning to understand it by.
    #[error("the answer is a part of a body, and masks need all of it")]
    Part,
    /// 101, or 2xx to CONNECT: what follows is another protocol.
    #[error("the connection changes to another protocol, and masks cannot read it")]
    Tunnel,
    /// `Content-Encoding`.
    #[error("the content coding \"{0}\" is not known")]
    Coding(String),
    /// `Content-Type`.
    #[error("bodies of type \"{0}\" cannot be masked; `unmasked` of the service can let them pass")]
    Media(String),
    /// Neither type nor content say what the body is.
    #[error("the body has no type that can be masked; `unmasked` of the service can let its type pass")]
    Unknown,
    /// `charset`, or bytes that are of another one.
    #[error("text in \"{0}\" cannot be masked")]
    Charset(String),
    /// A field that has to be there once is there twice.
    #[error("the answer has more than one \"{0}\"")]
    Twice(&'static str),
    /// Bytes that the body's type or coding does not have.
    #[error("the body is no {what}: {why}, at byte {at}")]
    Malformed {
        /// What it was said to be.
        what: &'static str,
        /// What is wrong.
        why: &'static str,
        /// Where: bytes after decoding.
        at: u64,
    },
    /// The body ends too early.
    #[error("the body ends in the middle of its {0}")]
    Truncated(&'static str),
    /// Something in the body is larger than what is read whole.
    #[error("the body has {0}")]
    TooLarge(&'static str),
    /// The body expands beyond measure.
    #[error("the body expands to more than {0} times its size")]
    Bomb(u64),
}

/// A machine that takes a body in pieces and gives what the client may see of it. Memory is bounded whatever the body; the
/// result does not depend on where the pieces are cut.
trait Transform: Debug + Send {
    /// Takes the next piece, and appends to `out` what is certain by now.
    fn push(&mut self, piece: &[u8], out: &mut Vec<u8>) -> Result<(), Unmaskable>;

    /// Appends what can be given without what follows: nothing more is to be had from upstream for now, and somebody may
    /// wait for this.
    fn flush(&mut self, out: &mut Vec<u8>) -> Result<(), Unmaskable>;

    /// Ends the body: appends the rest.
    fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), Unmaskable>;

    /// Adds what was masked since it was last asked to `counts`.
    fn report(&mut self, counts: &mut Counts);
}

impl HttpMasks {
    /// The masks of a service.
    pub fn new(masks: Arc<Masks>) -> Self {
        Self {
            mark: etag::mark(masks.fingerprint()).into(),
            masks,
        }
    }

    /// Whether there is nothing that these masks could do.
    pub fn is_empty(&self) -> bool {
        !self.reads_bodies() && !self.masks.names().has_headers()
    }

    /// Whether bodies are read.
    pub fn reads_bodies(&self) -> bool {
        self.masks.has_detectors() || self.masks.names().has_bodies()
    }
}
