//! Packets: three bytes of length, one of sequence, and the payload.

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::MysqlError;

/// No answer that the agent asks for has a longer packet; one of 2^24 - 1 bytes would go on in the next.
const LONGEST: usize = 1 << 20;

/// One end of a connection, with the number that the next packet has.
#[derive(Debug)]
pub(super) struct Packets<S> {
    pub(super) stream: S,
    sequence: u8,
}

impl<S> Packets<S> {
    pub(super) fn new(stream: S) -> Self {
        Self::at(stream, 0)
    }

    /// Goes on where another stream was left: TLS begins in the midst of a conversation.
    pub(super) fn at(stream: S, sequence: u8) -> Self {
        Self { stream, sequence }
    }

    /// The stream, and the number that the next packet has.
    pub(super) fn apart(self) -> (S, u8) {
        (self.stream, self.sequence)
    }

    /// A command begins: numbers start again.
    pub(super) fn begin(&mut self) {
        self.sequence = 0;
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Packets<S> {
    pub(super) async fn receive(&mut self) -> Result<Vec<u8>, MysqlError> {
        let mut header = [0; 4];
        self.read(&mut header).await?;
        let [a, b, c, sequence] = header;
        if sequence != self.sequence {
            return Err(MysqlError::Protocol("a packet out of sequence"));
        }
        self.sequence = sequence.wrapping_add(1);
        let length = usize::from(a) | usize::from(b) << 8 | usize::from(c) << 16;
        if length > LONGEST {
            return Err(MysqlError::Protocol("a packet that is too long"));
        }
        let mut payload = vec![0; length];
        self.read(&mut payload).await?;
        Ok(payload)
    }

    async fn read(&mut self, bytes: &mut [u8]) -> Result<(), MysqlError> {
        match self.stream.read_exact(bytes).await {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Err(MysqlError::Closed),
            Err(error) => Err(MysqlError::Io(error)),
        }
    }

    pub(super) async fn send(&mut self, payload: &[u8]) -> Result<(), MysqlError> {
        let [a, b, c, 0] = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes() else {
            return Err(MysqlError::Protocol("a packet that is too long"));
        };
        let mut packet = zeroize::Zeroizing::new(Vec::with_capacity(payload.len() + 4));
        packet.extend([a, b, c, self.sequence]);
        packet.extend(payload);
        self.sequence = self.sequence.wrapping_add(1);
        self.stream.write_all(&packet).await.map_err(MysqlError::Io)?;
        self.stream.flush().await.map_err(MysqlError::Io)
    }
}

/// A cursor over a payload. Whatever is not there is an error.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(head)
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        let (head, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u16::from_le_bytes(*head))
    }

    /// Up to a zero byte.
    pub(super) fn cstring(&mut self) -> Option<&'a [u8]> {
        let end = memchr::memchr(0, self.0)?;
        let text = self.take(end)?;
        self.take(1)?;
        Some(text)
    }

    /// A number of one to nine bytes.
    pub(super) fn length(&mut self) -> Option<u64> {
        let count = match self.byte()? {
            // NULL, and what no length begins with.
            0xfb | 0xff => return None,
            0xfc => 2,
            0xfd => 3,
            0xfe => 8,
            small => return Some(small.into()),
        };
        let mut bytes = [0; 8];
        bytes.get_mut(..count)?.copy_from_slice(self.take(count)?);
        Some(u64::from_le_bytes(bytes))
    }

    /// A text with its length before it.
    pub(super) fn text(&mut self) -> Option<Text<'a>> {
        if self.0.first() == Some(&0xfb) {
            self.take(1)?;
            return Some(Text::Null);
        }
        let length = usize::try_from(self.length()?).ok()?;
        self.take(length).map(Text::Value)
    }
}

/// A value in a row.
#[derive(Clone, Copy, Debug)]
pub(super) enum Text<'a> {
    Null,
    Value(&'a [u8]),
}
