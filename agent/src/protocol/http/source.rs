//! A body as it comes from its sender, through the masks that it has to go through.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::protocol::CommandNumber;

use super::body::Broken;
use super::mask::{BodyMask, HttpMasks, Masked};

/// A body on its way to be recorded and passed on.
pub(super) struct Source {
    inner: Incoming,
    /// `None`: it passes as it is.
    masking: Option<Box<Masking>>,
}

/// What an answer goes through.
struct Masking {
    body: Option<BodyMask>,
    masks: HttpMasks,
    /// The command that asked for it.
    command: CommandNumber,
    /// What was masked, and has not been recorded yet.
    masked: Vec<Masked>,
    /// They come when the rest of the body has been given on.
    trailers: Option<HeaderMap>,
    ended: bool,
}

impl Source {
    /// A body that no mask is about.
    pub(super) fn plain(inner: Incoming) -> Self {
        Self { inner, masking: None }
    }

    /// The body of the answer to `command`; `masked` is what was masked in its head.
    pub(super) fn masked(
        inner: Incoming,
        masks: HttpMasks,
        body: Option<BodyMask>,
        command: CommandNumber,
        masked: Vec<Masked>,
    ) -> Self {
        let masking = Masking {
            body,
            masks,
            command,
            masked,
            trailers: None,
            ended: false,
        };
        Self {
            inner,
            masking: Some(Box::new(masking)),
        }
    }

    /// What was masked since it was last asked, of the answer to which command.
    pub(super) fn report(&mut self) -> Option<(CommandNumber, Vec<Masked>)> {
        let masking = self.masking.as_mut()?;
        if let Some(body) = &mut masking.body {
            masking.masked.extend(body.masked());
        }
        let masked = std::mem::take(&mut masking.masked);
        (!masked.is_empty()).then_some((masking.command, masked))
    }
}

impl Masking {
    /// The end of the body: what is left of it.
    fn finish(&mut self) -> Result<Vec<u8>, Broken> {
        self.ended = true;
        let mut out = Vec::new();
        if let Some(body) = &mut self.body {
            body.finish(&mut out)?;
        }
        Ok(out)
    }

    fn poll(
        &mut self,
        mut inner: Pin<&mut Incoming>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        loop {
            if self.ended {
                return Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))));
            }
            let mut out = Vec::new();
            match inner.as_mut().poll_frame(cx) {
                Poll::Pending => {
                    // Nothing more for now: whoever waits for what is there gets it.
                    if let Some(body) = &mut self.body {
                        body.flush(&mut out)?;
                    }
                    if out.is_empty() {
                        return Poll::Pending;
                    }
                }
                Poll::Ready(None) => out = self.finish()?,
                Poll::Ready(Some(Err(error))) => {
                    self.ended = true;
                    return Poll::Ready(Some(Err(error.into())));
                }
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => match &mut self.body {
                        Some(body) => body.push(&data, &mut out)?,
                        None => return Poll::Ready(Some(Ok(Frame::data(data)))),
                    },
                    Err(other) => {
                        out = self.finish()?;
                        if let Ok(mut trailers) = other.into_trailers() {
                            self.masked.extend(self.masks.trailers(&mut trailers));
                            self.trailers = Some(trailers);
                        }
                    }
                },
            }
            if !out.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(out.into()))));
            }
        }
    }
}

impl Body for Source {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let this = self.get_mut();
        let inner = Pin::new(&mut this.inner);
        match &mut this.masking {
            Some(masking) => {
                let frame = ready!(masking.poll(inner, cx));
                if let Some(Err(Broken::Mask(why))) = &frame {
                    masking.ended = true;
                    tracing::warn!(%why, "an answer could not be masked to its end, and is broken off");
                }
                Poll::Ready(frame)
            }
            None => inner
                .poll_frame(cx)
                .map(|frame| frame.map(|frame| frame.map_err(Broken::from))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.masking {
            Some(masking) if masking.body.is_some() => masking.ended && masking.trailers.is_none(),
            Some(_) | None => self.inner.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.masking {
            Some(masking) if masking.body.is_some() => SizeHint::default(),
            Some(_) | None => self.inner.size_hint(),
        }
    }
}
