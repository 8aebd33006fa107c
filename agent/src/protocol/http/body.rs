//! Bodies on their way: each chunk is recorded before it is passed on.
//!
//! Nothing is stored up: a chunk is asked for when the other side has taken the one before it, so that a slow reader holds
//! back the writer.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use crate::model::{Direction, FrameKind};
use crate::protocol::{SessionEnd, Stages, Wait};

use super::credential::Unechoed;
use super::inject::{BodyWork, InjectError};
use super::mask::Unmaskable;
use super::record::{self, Part};
use super::session::Link;
use super::source::Source;

/// Recorded as one frame.
const MOST: usize = 64 * 1024 - record::HEADER;

/// Why a body breaks off.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    /// Its sender broke it off, or the connection failed.
    #[error("the message was broken off: {0}")]
    Sender(#[from] hyper::Error),
    /// It is not what it was said to be, so that masks cannot read it.
    #[error("the answer cannot be masked: {0}")]
    Mask(#[from] Unmaskable),
    /// The session ends.
    #[error("the session ends")]
    Session,
    /// It is not as its head says.
    #[error(transparent)]
    Work(InjectError),
}

/// A body, recorded as it passes.
pub(super) struct Recorded<S: Stages> {
    inner: Source,
    /// Read and recorded before it was asked for.
    ahead: VecDeque<Frame<Bytes>>,
    /// Received and not passed on yet.
    rest: Bytes,
    link: Arc<Link<S>>,
    exchange: u64,
    direction: Direction,
    /// What is waited for until something can be recorded.
    waiting: Option<Wait<()>>,
    /// Its last frame was recorded.
    ended: bool,
    /// What is done to it before it is recorded.
    unechoed: Option<Unechoed>,
    /// What is behind its end, and waits for what was held back.
    trailers: Option<HeaderMap>,
    /// What is done to it after it was recorded.
    work: BodyWork,
    /// All of it was passed on.
    done: bool,
}

impl<S: Stages> Recorded<S> {
    /// `inner` goes the way that `direction` says, as the body of `exchange`.
    pub(super) fn new(inner: Source, link: Arc<Link<S>>, exchange: u64, direction: Direction) -> Self {
        let ended = inner.is_end_stream();
        Self {
            inner,
            ahead: VecDeque::new(),
            rest: Bytes::new(),
            link,
            exchange,
            direction,
            waiting: None,
            ended,
            unechoed: None,
            trailers: None,
            work: BodyWork::None,
            done: ended,
        }
    }

    /// `work` is done to it after it was recorded: what the credential is in is in no record.
    pub(super) fn worked(mut self, work: BodyWork) -> Self {
        self.work = work;
        self
    }

    /// What echoes the credential is taken out of it before it is recorded.
    pub(super) fn unechoed(mut self, unechoed: Option<Unechoed>) -> Self {
        self.unechoed = unechoed;
        self
    }

    /// Reads and records until the body ends, and gives all of it; `None`: it is longer than `most` bytes. It is passed on as if it
    /// had not been read.
    pub(super) async fn read_ahead(&mut self, most: u64) -> Result<Option<Bytes>, Broken> {
        let mut ahead = VecDeque::new();
        let mut all = Vec::new();
        let mut short = true;
        while short {
            let Some(frame) = poll_fn(|cx| Pin::new(&mut *self).poll_frame(cx)).await else {
                break;
            };
            let frame = frame?;
            if let Some(data) = frame.data_ref() {
                all.extend_from_slice(data);
                short = all.len() as u64 <= most;
            }
            ahead.push_back(frame);
        }
        self.ahead = ahead;
        Ok(short.then(|| all.into()))
    }

    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        loop {
            if let Some(waiting) = &mut self.waiting {
                let waited = ready!(waiting.as_mut().poll(cx));
                self.waiting = None;
                self.link.check(waited).map_err(|_| Broken::Session)?;
            }
            self.waiting = self.link.stages.with(Stages::room);
            if self.waiting.is_none() {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Records what was masked.
    fn report(&mut self) -> Result<(), Broken> {
        let Some((command, masked)) = self.inner.report() else {
            return Ok(());
        };
        let recorded = self.link.stages.with(|stages| {
            masked
                .iter()
                .try_for_each(|line| stages.masked(command, &line.what, line.by, line.values))
        });
        self.link.check(recorded).map_err(|_| Broken::Session)
    }

    fn record(&mut self, part: Part, last: bool, bytes: &[u8]) -> Result<(), Broken> {
        self.ended |= last;
        if last {
            self.report()?;
        }
        let recorded = self
            .link
            .record(self.direction, (self.exchange, part, last), bytes);
        self.link.check(recorded).map_err(|_| Broken::Session)
    }
}

impl<S: Stages> Recorded<S> {
    /// The next frame, recorded.
    fn poll_recorded(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        if let Some(frame) = self.ahead.pop_front() {
            return Poll::Ready(Some(Ok(frame)));
        }
        ready!(self.poll_room(cx))?;
        while self.rest.is_empty() {
            if let Some(trailers) = self.trailers.take() {
                self.record(Part::Trailers, true, &record::trailers(&trailers))?;
                return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
            }
            match ready!(Pin::new(&mut self.inner).poll_frame(cx)) {
                None => {
                    self.rest = self.held_back();
                    if !self.rest.is_empty() {
                        break;
                    }
                    if !self.ended {
                        self.record(Part::Body, true, b"")?;
                    }
                    return Poll::Ready(None);
                }
                Some(Err(error)) => {
                    self.record(Part::Cut, true, b"")?;
                    return Poll::Ready(Some(Err(error)));
                }
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        let last = self.inner.is_end_stream();
                        self.rest = match &mut self.unechoed {
                            Some(unechoed) => unechoed.push(data, last),
                            None => data,
                        };
                        if last {
                            break;
                        }
                    }
                    Err(other) => {
                        let Ok(mut trailers) = other.into_trailers() else {
                            return Poll::Ready(Some(Err(Broken::Session)));
                        };
                        self.fields(&mut trailers)?;
                        self.trailers = Some(trailers);
                        self.rest = self.held_back();
                    }
                },
            }
        }
        let chunk = self.rest.split_to(self.rest.len().min(MOST));
        let last = self.rest.is_empty() && self.inner.is_end_stream() && self.trailers.is_none();
        self.record(Part::Body, last, &chunk)?;
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }

    /// Takes out of the fields behind it what is not to pass.
    fn fields(&self, trailers: &mut HeaderMap) -> Result<(), Broken> {
        match (self.direction, &self.unechoed) {
            (Direction::ToServer, _) => {
                let stripped = self.link.strip_trailers(trailers);
                self.link.check(stripped).map_err(|_| Broken::Session)
            }
            (Direction::ToClient, Some(unechoed)) => {
                unechoed.fields(trailers);
                Ok(())
            }
            (Direction::ToClient, None) => Ok(()),
        }
    }

    /// What was held back and is not the beginning of anything any more.
    fn held_back(&mut self) -> Bytes {
        match &mut self.unechoed {
            Some(unechoed) => unechoed.push(Bytes::new(), true),
            None => Bytes::new(),
        }
    }

    fn held(&self) -> usize {
        self.unechoed.as_ref().map_or(0, Unechoed::held)
    }

    fn worked_on(
        &mut self,
        work: impl FnOnce(&mut BodyWork) -> Result<Vec<u8>, InjectError>,
    ) -> Result<Bytes, Broken> {
        work(&mut self.work).map(Bytes::from).map_err(|error| {
            tracing::warn!(
                exchange = self.exchange,
                "the body of a request cannot go on: {error}"
            );
            Broken::Work(error)
        })
    }
}

impl<S: Stages> Body for Recorded<S> {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let this = self.get_mut();
        if this.link.is_over() {
            return Poll::Ready(Some(Err(Broken::Session)));
        }
        if this.work.is_none() {
            return this.poll_recorded(cx);
        }
        loop {
            let frame = ready!(this.poll_recorded(cx)).transpose()?;
            let data = frame.as_ref().and_then(Frame::data_ref);
            let out = match data {
                Some(data) => this.worked_on(|work| work.push(data))?,
                None if this.done => return Poll::Ready(frame.map(Ok)),
                None => {
                    this.done = true;
                    let end = this.worked_on(BodyWork::finish)?;
                    match frame {
                        // Fields behind it, which wait until its end was passed on.
                        Some(frame) if !end.is_empty() => this.ahead.push_front(frame),
                        frame if end.is_empty() => return Poll::Ready(frame.map(Ok)),
                        _ => {}
                    }
                    end
                }
            };
            if !out.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(out))));
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        let passed = self.work.is_none() || self.done;
        let held = self.held() > 0 || self.trailers.is_some();
        self.ahead.is_empty() && self.rest.is_empty() && !held && passed && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        if !self.work.keeps_length() {
            return SizeHint::default();
        }
        let mut hint = self.inner.size_hint();
        let ahead: usize = self
            .ahead
            .iter()
            .filter_map(Frame::data_ref)
            .map(Bytes::len)
            .sum();
        let rest = (self.rest.len() + ahead + self.held()) as u64;
        if let Some(exact) = hint.exact() {
            hint.set_exact(exact + rest);
        }
        hint
    }
}

impl<S: Stages> Drop for Recorded<S> {
    fn drop(&mut self) {
        if !self.ended {
            // Whoever was to read it is gone. Where this cannot be recorded the session ends anyway.
            let _ = self
                .link
                .record(self.direction, (self.exchange, Part::Cut, true), b"");
        }
    }
}

/// The body of an answer.
pub(super) enum Answer<S: Stages> {
    /// The target's.
    Target(Box<Recorded<S>>),
    /// The agent's own.
    Own(Bytes),
}

impl<S: Stages> Body for Answer<S> {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match self.get_mut() {
            Self::Target(body) => Pin::new(body).poll_frame(cx),
            Self::Own(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Own(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Target(body) => body.is_end_stream(),
            Self::Own(bytes) => bytes.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Target(body) => body.size_hint(),
            Self::Own(bytes) => SizeHint::with_exact(bytes.len() as u64),
        }
    }
}

impl<S: Stages> Link<S> {
    /// Records a part of a message, and counts it where it goes to the client.
    pub(super) fn record(
        &self,
        direction: Direction,
        (exchange, part, last): (u64, Part, bool),
        bytes: &[u8],
    ) -> Result<(), SessionEnd> {
        let kind = match direction {
            Direction::ToServer => FrameKind::ClientBytes,
            Direction::ToClient => FrameKind::ServerBytes,
        };
        self.stages.with(|stages| {
            if direction == Direction::ToClient {
                stages.count(0, bytes.len() as u64)?;
            }
            stages.record(kind, direction, &[&record::mark(exchange, part, last), bytes])
        })
    }
}
