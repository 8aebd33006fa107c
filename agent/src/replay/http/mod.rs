//! A session of HTTP as exchanges: which answer belongs to which request, and when the parts of both came.
//!
//! It trusts nothing: a record may hold whatever a client or a server sent. Bodies are kept as they stand in the record, with
//! their content codings; known limit: a body that is compressed is not unpacked.

mod exchange;
pub mod har;
mod show;

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::step::Event;
use crate::model::{Direction, FrameKind};
use crate::protocol::http::record::{Part, Piece};

pub use exchange::{Body, Exchange, Message, WebSocketMessage};
pub(super) use show::show;

/// Most exchanges that are under way at once. HTTP/2 has a hundred or so.
const MOST_OPEN: usize = 4096;

/// When something was recorded.
#[derive(Clone, Copy, Debug)]
pub struct At {
    /// Since the session began.
    pub elapsed: Duration,
    /// By the host's clock.
    pub time: DateTime<Utc>,
}

/// Exchanges of one session that are under way.
#[derive(Debug)]
pub struct Exchanges {
    /// Bytes of a body that are kept.
    keep: usize,
    open: BTreeMap<u64, Exchange>,
    /// What goes on in the next frame, each way.
    carried: [Vec<u8>; 2],
}

impl Exchanges {
    /// Of each body at most `keep` bytes are kept.
    pub fn new(keep: usize) -> Self {
        Self {
            keep,
            open: BTreeMap::new(),
            carried: [Vec::new(), Vec::new()],
        }
    }

    /// Takes a frame of bytes; `continued`: what was recorded at once goes on in the next. Exchanges that are complete by it go
    /// to `done`.
    ///
    /// # Errors
    /// The frame is not of HTTP, or of a later version.
    pub fn push(
        &mut self,
        at: At,
        direction: Direction,
        (bytes, continued): (&[u8], bool),
        done: &mut Vec<Exchange>,
    ) -> Result<(), &'static str> {
        let [up, down] = &mut self.carried;
        let carried = match direction {
            Direction::ToServer => up,
            Direction::ToClient => down,
        };
        if continued || !carried.is_empty() {
            carried.extend_from_slice(bytes);
            if continued {
                return Ok(());
            }
            let whole = std::mem::take(carried);
            return self.piece(at, direction, &whole, done);
        }
        self.piece(at, direction, bytes, done)
    }

    fn piece(
        &mut self,
        at: At,
        direction: Direction,
        bytes: &[u8],
        done: &mut Vec<Exchange>,
    ) -> Result<(), &'static str> {
        let piece = Piece::read(bytes).ok_or("this is no part of a message, or one of a later version")?;
        let number = piece.exchange;
        if self.open.len() >= MOST_OPEN
            && !self.open.contains_key(&number)
            && let Some((_, oldest)) = self.open.pop_first()
        {
            done.push(oldest);
        }
        let exchange = self
            .open
            .entry(number)
            .or_insert_with(|| Exchange::begun(number, at));
        let message = match direction {
            Direction::ToServer => &mut exchange.request,
            Direction::ToClient => &mut exchange.response,
        };
        match piece.part {
            Part::Head => {
                // Answers that come before the answer (1xx) are replaced by it.
                message.head(at, piece.bytes);
            }
            Part::Body => message.body(piece.bytes, self.keep),
            Part::Trailers => message.trailers(piece.bytes),
            Part::Cut => message.cut = true,
            Part::Tunnel => message.tunnelled(piece.bytes),
            Part::Text | Part::Binary => {
                let text = piece.part == Part::Text;
                exchange.say(at, direction, text, piece.bytes, self.keep);
            }
        }
        let message = match direction {
            Direction::ToServer => &mut exchange.request,
            Direction::ToClient => &mut exchange.response,
        };
        if piece.last || piece.part == Part::Cut {
            message.ended = Some(at.elapsed);
        }
        if exchange.is_over()
            && let Some(exchange) = self.open.remove(&number)
        {
            done.push(exchange);
        }
        Ok(())
    }

    /// What is not complete at the end of the record.
    pub fn finish(&mut self) -> Vec<Exchange> {
        std::mem::take(&mut self.open).into_values().collect()
    }
}

/// A frame of bytes as events of a replay.
pub(super) fn events(
    exchanges: &mut Exchanges,
    at: At,
    direction: Direction,
    frame: (&[u8], bool),
    events: &mut Vec<Event>,
) {
    let mut done = Vec::new();
    let pushed = exchanges.push(at, direction, frame, &mut done);
    events.extend(
        done.into_iter()
            .map(|exchange| Event::Exchange(Box::new(exchange))),
    );
    if let Err(reason) = pushed {
        let kind = match direction {
            Direction::ToServer => FrameKind::ClientBytes,
            Direction::ToClient => FrameKind::ServerBytes,
        };
        events.push(Event::Unreadable {
            kind,
            reason: reason.to_owned(),
        });
    }
}

#[cfg(test)]
mod tests;
