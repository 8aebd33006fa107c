//! Bytes on their way: what has arrived and is not worked off, what is to be sent and was not taken yet.

use std::io::{self, IoSlice};

use bytes::{Buf, BytesMut};
use futures_util::FutureExt;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::super::login::take_password;
use crate::model::Secret;

/// Bytes that are read at once. A message that is longer and has to be seen whole makes the box grow.
pub(super) const CHUNK: usize = 64 * 1024;

/// The longest message that is taken for a password: PostgreSQL's own limit is 65,535 bytes.
const LONGEST_PASSWORD: u32 = 60 * 1024;

/// What has arrived from one peer and is not worked off.
#[derive(Debug)]
pub(super) struct Inbox {
    bytes: BytesMut,
    /// How long the whole message is that stands at the front, where it does not fit.
    wanted: usize,
    open: bool,
}

impl Inbox {
    /// Adds what was read before.
    pub(super) fn put(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// What is there.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Takes off what was worked off.
    pub(super) fn consume(&mut self, count: usize) {
        self.bytes.advance(count.min(self.bytes.len()));
        if count > 0 {
            self.wanted = CHUNK;
        }
    }

    /// The message at the front needs more than the box holds.
    pub(super) fn grow(&mut self) {
        if self.bytes.len() >= self.wanted {
            self.wanted = self.wanted.saturating_mul(2);
        }
    }

    /// Whether there is room for more.
    pub(super) fn has_room(&self) -> bool {
        self.open && self.bytes.len() < self.wanted
    }

    /// Takes a password that nobody asked for off the front; see [`take_password`].
    pub(super) fn take_password(&mut self) -> Unasked {
        match *self.bytes {
            [b'p', a, b, c, d, ..] if (4..=LONGEST_PASSWORD).contains(&u32::from_be_bytes([a, b, c, d])) => {
                take_password(&mut self.bytes).map_or(Unasked::Part, Unasked::Password)
            }
            [] => Unasked::Part,
            [b'p', ..] if self.bytes.len() < 5 => Unasked::Part,
            _ => Unasked::No,
        }
    }

    /// Whether the peer may still send.
    pub(super) fn is_open(&self) -> bool {
        self.open
    }

    /// Reads once. At the end of the stream the box closes. Safe to drop while it waits.
    pub(super) async fn fill<R: AsyncRead + Unpin>(&mut self, reader: &mut R) -> io::Result<()> {
        let room = self.wanted.saturating_sub(self.bytes.len()).max(1);
        self.bytes.reserve(room);
        if reader.read_buf(&mut self.bytes).await? == 0 {
            self.open = false;
        }
        Ok(())
    }
}

impl Default for Inbox {
    fn default() -> Self {
        Self {
            bytes: BytesMut::with_capacity(CHUNK),
            wanted: CHUNK,
            open: true,
        }
    }
}

/// Whether a password stands at the front of what a client sent.
#[derive(Debug)]
pub(super) enum Unasked {
    /// It stood there: this is it.
    Password(Secret),
    /// That cannot be said before more has come.
    Part,
    /// Something else does.
    No,
}

/// What is to be sent to one peer and was not taken yet.
///
/// As a rule it is empty: bytes go straight from where they stand into the socket, and only what the socket does not take
/// is copied here. Whoever fills it stops reading the other side until it is empty, so it holds one turn at most.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    left: BytesMut,
    unflushed: bool,
    lost: bool,
}

impl Outbox {
    /// Whether everything has left.
    pub(super) fn is_empty(&self) -> bool {
        self.left.is_empty() && !self.unflushed
    }

    /// The peer takes nothing any more: what is left, and whatever comes, is dropped.
    pub(super) fn give_up(&mut self) {
        self.left.clear();
        self.unflushed = false;
        self.lost = true;
    }

    /// Whether the peer takes nothing any more.
    pub(super) fn is_lost(&self) -> bool {
        self.lost
    }

    /// Sends `parts` in order; keeps what the socket does not take now.
    pub(super) fn send<W: AsyncWrite + Unpin>(
        &mut self,
        writer: &mut W,
        parts: &[IoSlice<'_>],
    ) -> io::Result<()> {
        let total: usize = parts.iter().map(|part| part.len()).sum();
        if total == 0 || self.lost {
            return Ok(());
        }
        // TLS keeps what it was given until it is flushed.
        self.unflushed = true;
        let mut taken = 0;
        if self.left.is_empty() {
            // A refusal to take anything now is no error: the driver waits for the socket in `drain`.
            taken = writer
                .write_vectored(parts)
                .now_or_never()
                .transpose()?
                .unwrap_or(0);
        }
        for part in parts {
            let skip = taken.min(part.len());
            taken -= skip;
            self.left.extend_from_slice(part.get(skip..).unwrap_or_default());
        }
        if self.left.is_empty() && writer.flush().now_or_never().transpose()?.is_some() {
            self.unflushed = false;
        }
        Ok(())
    }

    /// Sends what is left. Safe to drop while it waits.
    pub(super) async fn drain<W: AsyncWrite + Unpin>(&mut self, writer: &mut W) -> io::Result<()> {
        while !self.left.is_empty() {
            if writer.write_buf(&mut self.left).await? == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
        }
        writer.flush().await?;
        self.unflushed = false;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;

    use tokio::io::AsyncReadExt;

    use super::{Inbox, Outbox, Unasked};

    #[tokio::test]
    async fn what_a_full_socket_does_not_take_arrives_later_and_in_order() {
        let (mut near, mut far) = tokio::io::duplex(8);
        let mut outbox = Outbox::default();
        outbox
            .send(&mut near, &[IoSlice::new(b"0123"), IoSlice::new(b"456789")])
            .unwrap();
        outbox.send(&mut near, &[IoSlice::new(b"abc")]).unwrap();
        assert!(!outbox.is_empty());
        let mut arrived = [0; 13];
        let (drained, read) = tokio::join!(outbox.drain(&mut near), far.read_exact(&mut arrived));
        drained.unwrap();
        read.unwrap();
        assert_eq!(&arrived, b"0123456789abc");
        assert!(outbox.is_empty());
    }

    #[tokio::test]
    async fn an_inbox_closes_at_the_end_and_keeps_what_it_has() {
        let mut inbox = Inbox::default();
        inbox.put(b"ab");
        inbox.fill(&mut &b"cd"[..]).await.unwrap();
        inbox.fill(&mut &b""[..]).await.unwrap();
        assert_eq!(inbox.bytes(), b"abcd");
        assert!(!inbox.is_open() && !inbox.has_room());
        inbox.consume(3);
        assert_eq!(inbox.bytes(), b"d");
    }

    #[test]
    fn a_password_that_nobody_asked_for_is_taken_off_and_what_follows_stays() {
        let mut inbox = Inbox::default();
        let message = b"p\0\0\0\x0chunter2\0Q\0\0\0\x05\0";
        for byte in &message[..12] {
            assert!(matches!(inbox.take_password(), Unasked::Part));
            inbox.put(&[*byte]);
        }
        inbox.put(&message[12..]);
        assert!(matches!(inbox.take_password(), Unasked::Password(secret) if secret.expose() == b"hunter2"));
        assert_eq!(inbox.bytes(), b"Q\0\0\0\x05\0");
        assert!(matches!(inbox.take_password(), Unasked::No));
    }

    #[test]
    fn a_length_that_no_password_has_is_left_to_those_who_refuse_it() {
        for length in [[0xff; 4], [0; 4], [0, 1, 0, 0]] {
            let mut inbox = Inbox::default();
            inbox.put(b"p");
            inbox.put(&length);
            assert!(matches!(inbox.take_password(), Unasked::No), "{length:?}");
        }
    }

    #[tokio::test]
    async fn what_is_sent_to_a_peer_that_is_lost_is_dropped() {
        let (mut near, mut far) = tokio::io::duplex(4);
        let mut outbox = Outbox::default();
        outbox.send(&mut near, &[IoSlice::new(b"0123456789")]).unwrap();
        outbox.give_up();
        outbox.send(&mut near, &[IoSlice::new(b"abc")]).unwrap();
        assert!(outbox.is_empty());
        drop(near);
        let mut arrived = Vec::new();
        far.read_to_end(&mut arrived).await.unwrap();
        assert_eq!(arrived, b"0123");
    }
}
