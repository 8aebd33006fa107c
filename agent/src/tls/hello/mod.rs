//! The first message of a TLS client: `ClientHello` (client → server; RFC 8446 §4.1.2, RFC 5246 §7.4.1.2).
//!
//! Read before anything is answered, so that it is known what is asked for while the bytes could still be passed on
//! untouched. rustls reads the same bytes again when the connection is terminated; what the two make of them is compared
//! ([`super::Hello`]), so that nobody is judged by one name and served another.
//!
//! Does no I/O: bytes are pushed in, the facts come out. What RFC 8446 does not allow in the parts that are read is refused.
//!
//! Known limit: an Encrypted `ClientHello` and one that only pretends (GREASE, RFC 9849 §6.2) cannot be told apart, by
//! design; both count as [`ClientHello::encrypted`], and the name in clear is the one that counts.

mod parse;

use parse::parse;

/// A `ClientHello` is 200 bytes to 2 kB long, with keys of post-quantum exchanges; session tickets can add some. rustls takes
/// no more than this either.
const LONGEST: usize = 0xffff;
/// Longest fragment of a record (RFC 8446 §5.1).
const LONGEST_FRAGMENT: usize = 1 << 14;
const RECORD_HEADER: usize = 5;
const HANDSHAKE_HEADER: usize = 4;
/// `ContentType.handshake`, the first byte of every TLS connection.
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;

/// What a client says before anything is agreed on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// The server that it asks for (SNI, RFC 6066 §3), lower case; `None` where it names none, or an address.
    pub name: Option<String>,
    /// Protocols that it would speak inside, the best first (ALPN, RFC 7301).
    pub alpn: Vec<Vec<u8>>,
    /// Versions of TLS that it speaks, as on the wire; 0x0304 is 1.3.
    pub versions: Vec<u16>,
    /// Signature schemes that it can check.
    pub signatures: Vec<u16>,
    /// Whether there is an encrypted `ClientHello` inside, or one that pretends.
    pub encrypted: bool,
}

impl ClientHello {
    /// Whether it speaks a version that the agent speaks.
    pub fn is_modern(&self) -> bool {
        self.versions
            .iter()
            .any(|version| matches!(version, 0x0303 | 0x0304))
    }
}

/// Why bytes are not a `ClientHello`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HelloError {
    /// Something else than TLS.
    #[error("the connection does not begin with TLS")]
    NotTls,
    /// A message that does not begin a connection.
    #[error("the connection begins with a message of TLS that is no ClientHello")]
    NotAHello,
    /// More than a `ClientHello` may have.
    #[error("the client's first message of TLS is longer than {LONGEST} bytes")]
    TooLong,
    /// Not what the RFC says.
    #[error("the client's first message of TLS is malformed: {0}")]
    Malformed(&'static str),
}

/// Reads records until a `ClientHello` is whole. Keeps every byte, also those that came after it.
#[derive(Debug, Default)]
pub struct HelloReader {
    raw: Vec<u8>,
    /// Where the next record begins.
    next: usize,
    /// Handshake bytes of the records so far.
    message: Vec<u8>,
}

impl HelloReader {
    /// Takes what was read. `None`: there is more to come.
    ///
    /// # Errors
    /// It is no `ClientHello`, whatever comes.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Option<ClientHello>, HelloError> {
        self.raw.extend_from_slice(bytes);
        loop {
            if let Some(message) = self.whole()? {
                return parse(message).map(Some);
            }
            if !self.take_record()? {
                return Ok(None);
            }
        }
    }

    /// Every byte so far.
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// Every byte so far, and how many of them are the records of the `ClientHello`.
    pub fn into_raw(self) -> (Vec<u8>, usize) {
        (self.raw, self.next)
    }

    /// The body of the message, if all of it is there.
    fn whole(&self) -> Result<Option<&[u8]>, HelloError> {
        let Some((header, body)) = self.message.split_first_chunk::<HANDSHAKE_HEADER>() else {
            return Ok(None);
        };
        let [kind, high, middle, low] = *header;
        if kind != CLIENT_HELLO {
            return Err(HelloError::NotAHello);
        }
        let length = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        if length > LONGEST {
            return Err(HelloError::TooLong);
        }
        match body.len() {
            have if have < length => Ok(None),
            have if have == length => Ok(Some(body)),
            // The server has not answered: nothing can follow it inside the same record.
            _ => Err(HelloError::Malformed("something follows it in its record")),
        }
    }

    /// Whether there was one.
    fn take_record(&mut self) -> Result<bool, HelloError> {
        let rest = self.raw.get(self.next..).unwrap_or_default();
        // Said at the first byte that is wrong, not when the rest of a header has come.
        match rest {
            [] => return Ok(false),
            [HANDSHAKE, ..] => {}
            _ if self.next == 0 => return Err(HelloError::NotTls),
            _ => return Err(HelloError::Malformed("another kind of record comes in between")),
        }
        match rest.get(1) {
            Some(3) | None => {}
            Some(_) if self.next == 0 => return Err(HelloError::NotTls),
            Some(_) => return Err(HelloError::Malformed("its records have different versions")),
        }
        let Some((header, fragment)) = rest.split_first_chunk::<RECORD_HEADER>() else {
            return Ok(false);
        };
        let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
        if length == 0 || length > LONGEST_FRAGMENT {
            return Err(HelloError::Malformed(
                "a record has a length that TLS does not know",
            ));
        }
        let Some(fragment) = fragment.get(..length) else {
            return Ok(false);
        };
        self.message.extend_from_slice(fragment);
        self.next += RECORD_HEADER + length;
        Ok(true)
    }
}

#[cfg(test)]
pub(super) mod tests;
