//! The workload's end of a connection of HTTP/1.1, with only such bytes to be read from it as [`Wire`] lets pass.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use super::wire::{Fault, Wire};

/// Bytes that are read at once where they have to be looked at.
const READ: usize = 16 * 1024;
/// How long a client is listened to that was told that the connection ends, so that closing does not overtake the answer.
const LINGER: Duration = Duration::from_secs(1);

/// Stands for a request that does not pass: the library hands it over in its turn, and it is answered in its turn.
const REFUSED: &[u8] = b"GET /.tollgate/refused HTTP/1.1\r\nhost: refused\r\nconnection: close\r\n\r\n";

/// What is known of the requests of a connection beside what the library says of them.
#[derive(Clone, Debug)]
pub(super) struct Heads(Arc<Mutex<Known>>);

#[derive(Debug)]
struct Known {
    wire: Wire,
    /// Requests that have passed, not yet taken.
    passed: u64,
    /// The one behind them does not.
    fault: Option<Fault>,
}

impl Heads {
    /// Called once for each request that the library hands over: why it does not pass.
    pub(super) fn take(&self) -> Result<(), Fault> {
        let mut known = self.0.lock();
        match (known.passed.checked_sub(1), known.fault) {
            (Some(left), _) => {
                known.passed = left;
                Ok(())
            }
            (None, Some(fault)) => Err(fault),
            // The library has read a head that was not looked at: that cannot be.
            (None, None) => Err(Fault::Ambiguous("it came where none can be")),
        }
    }

    /// The connection speaks something else now.
    pub(super) fn upgraded(&self) {
        self.0.lock().wire.upgraded();
    }
}

/// A stream of which only what passes is read.
pub(super) struct Guarded<I> {
    inner: I,
    heads: Heads,
    /// Read, and not given to the library.
    held: BytesMut,
    /// The first of these may be given.
    clear: usize,
    /// What stands for a request that does not pass was given.
    answered: bool,
    linger: Option<Pin<Box<Sleep>>>,
}

impl<I> Guarded<I> {
    /// Guards `inner`.
    pub(super) fn new(inner: I) -> (Self, Heads) {
        let heads = Heads(Arc::new(Mutex::new(Known {
            wire: Wire::new(),
            passed: 0,
            fault: None,
        })));
        let guarded = Self {
            inner,
            heads: heads.clone(),
            held: BytesMut::new(),
            clear: 0,
            answered: false,
            linger: None,
        };
        (guarded, heads)
    }

    /// Lets pass what may.
    fn look(&mut self) {
        let mut known = self.heads.0.lock();
        if known.fault.is_some() {
            return;
        }
        let head = known.wire.is_at_head();
        match known.wire.check(&self.held) {
            Ok(passed) => {
                self.clear = passed;
                known.passed += u64::from(head && passed > 0);
            }
            Err(fault) if head => {
                known.fault = Some(fault);
                self.held = BytesMut::from(REFUSED);
                self.clear = REFUSED.len();
                self.answered = true;
            }
            // In the middle of a message there is no turn to answer in: the body breaks off.
            Err(fault) => {
                known.fault = Some(fault);
                self.held.clear();
            }
        }
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Guarded<I> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.clear == 0 && !this.held.is_empty() {
                this.look();
            }
            if this.clear > 0 {
                let given = this.clear.min(out.remaining());
                out.put_slice(this.held.get(..given).unwrap_or_default());
                this.held.advance(given);
                this.clear -= given;
                return Poll::Ready(Ok(()));
            }
            let (fault, plain) = {
                let known = this.heads.0.lock();
                (known.fault, known.wire.plain())
            };
            match fault {
                // What stands for the request is answered, and that ends the connection.
                Some(_) if this.answered => return Poll::Pending,
                Some(fault) => return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, fault))),
                None => {}
            }
            if this.held.is_empty() && plain > 0 {
                // A body of known length goes straight to whoever reads it.
                let read = ready!(read_some(&mut this.inner, cx, out, plain))?;
                this.heads.0.lock().wire.passed(read);
                return Poll::Ready(Ok(()));
            }
            if ready!(poll_read_buf(Pin::new(&mut this.inner), cx, &mut this.held))? == 0 {
                // What is held is no whole message, and never will be.
                return Poll::Ready(Ok(()));
            }
        }
    }
}

/// Reads at most `most` bytes, and gives their number.
fn read_some<I: AsyncRead + Unpin>(
    inner: &mut I,
    cx: &mut Context<'_>,
    out: &mut ReadBuf<'_>,
    most: u64,
) -> Poll<io::Result<u64>> {
    let before = out.filled().len();
    match usize::try_from(most) {
        Ok(most) if most < out.remaining() => {
            let mut part = ReadBuf::new(out.initialize_unfilled_to(most));
            ready!(Pin::new(inner).poll_read(cx, &mut part))?;
            let filled = part.filled().len();
            out.advance(filled);
        }
        _ => ready!(Pin::new(inner).poll_read(cx, out))?,
    }
    Poll::Ready(Ok((out.filled().len() - before) as u64))
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Guarded<I> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    /// Closes the connection so that the client can read what was sent last: closing a socket with unread bytes resets it,
    /// and the reset takes with it what the client has not read yet.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.linger.is_none() {
            ready!(Pin::new(&mut this.inner).poll_shutdown(cx))?;
        }
        let linger = this.linger.get_or_insert_with(|| Box::pin(sleep(LINGER)));
        if linger.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        loop {
            let mut rest = [0; 4096];
            let mut rest = ReadBuf::new(&mut rest);
            match ready!(Pin::new(&mut this.inner).poll_read(cx, &mut rest)) {
                Ok(()) if !rest.filled().is_empty() => {}
                // It has closed its end, or is gone.
                Ok(()) | Err(_) => return Poll::Ready(Ok(())),
            }
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

fn poll_read_buf<I: AsyncRead>(
    inner: Pin<&mut I>,
    cx: &mut Context<'_>,
    held: &mut BytesMut,
) -> Poll<io::Result<usize>> {
    let mut space = [0; READ];
    let mut space = ReadBuf::new(&mut space);
    ready!(inner.poll_read(cx, &mut space))?;
    held.extend_from_slice(space.filled());
    Poll::Ready(Ok(space.filled().len()))
}
