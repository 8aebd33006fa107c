//! Frames in, steps out.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::de::DeserializeOwned;

use super::clean;
use super::http::{self, At, Exchanges};
use super::postgres::Conversation;
use super::step::{Event, Step};
use crate::model::{Direction, FrameKind};
use crate::record::Frame;

/// How much of bytes that are not understood is shown.
const BEGINNING: usize = 64;
/// How much of a body of HTTP is shown.
const BODY: usize = 64 * 1024;

/// How much of a session's data is kept for showing.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Rows of a result, and lines of COPY data.
    pub rows: usize,
    /// Bytes of one value.
    pub value: usize,
}

/// Turns the frames of one session into steps.
#[derive(Debug)]
pub struct Player {
    limits: Limits,
    protocol: Protocol,
    clock: (Duration, DateTime<Utc>),
}

#[derive(Debug)]
enum Protocol {
    Postgres(Box<Conversation>),
    Http(Box<Exchanges>),
    Unknown,
}

impl Player {
    /// A player for the frames of a session, from its first.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            protocol: Protocol::Unknown,
            clock: (Duration::ZERO, DateTime::UNIX_EPOCH),
        }
    }

    /// Takes the next frame and appends the steps that it completes.
    pub fn push(&mut self, frame: &Frame, steps: &mut Vec<Step>) {
        self.clock = (Duration::from_nanos(frame.elapsed), frame.time);
        let mut events = Vec::new();
        self.events(frame, &mut events);
        self.stamp(events, steps);
    }

    /// Ends the record: appends what was left incomplete.
    pub fn finish(&mut self, steps: &mut Vec<Step>) {
        let mut events = Vec::new();
        self.protocol.finish(&mut events);
        self.stamp(events, steps);
    }

    fn stamp(&self, events: Vec<Event>, steps: &mut Vec<Step>) {
        let (at, time) = self.clock;
        steps.extend(events.into_iter().map(|event| Step { at, time, event }));
    }

    fn events(&mut self, frame: &Frame, events: &mut Vec<Event>) {
        if matches!(frame.kind, FrameKind::ClientBytes | FrameKind::ServerBytes) {
            self.bytes(frame, events);
            return;
        }
        let event = self
            .event(frame.kind, &frame.bytes)
            .unwrap_or_else(|error| Event::Unreadable {
                kind: frame.kind,
                reason: error.to_string(),
            });
        if matches!(event, Event::Close(_)) {
            self.protocol.finish(events);
        }
        events.push(event);
    }

    fn bytes(&mut self, frame: &Frame, events: &mut Vec<Event>) {
        match (&mut self.protocol, frame.direction) {
            (Protocol::Postgres(conversation), Direction::ToServer) => {
                conversation.client(&frame.bytes, events);
            }
            (Protocol::Postgres(conversation), Direction::ToClient) => {
                conversation.server(&frame.bytes, events);
            }
            (Protocol::Http(exchanges), direction) => {
                let (elapsed, time) = self.clock;
                let frame = (frame.bytes.as_ref(), frame.continued);
                http::events(exchanges, At { elapsed, time }, direction, frame, events);
            }
            (Protocol::Unknown, direction) => events.push(Event::Bytes {
                direction,
                length: frame.bytes.len(),
                beginning: clean::text(frame.bytes.get(..BEGINNING).unwrap_or(&frame.bytes)),
            }),
        }
    }

    fn event(&mut self, kind: FrameKind, json: &[u8]) -> serde_json::Result<Event> {
        Ok(match kind {
            FrameKind::Open => {
                let open: Box<crate::record::meta::OpenMeta> = read(json)?;
                match open.protocol.as_str() {
                    "postgres" => {
                        self.protocol = Protocol::Postgres(Box::new(Conversation::new(self.limits)));
                    }
                    "http" => self.protocol = Protocol::Http(Box::new(Exchanges::new(BODY))),
                    _ => {}
                }
                Event::Open(open)
            }
            FrameKind::Command => {
                let command: crate::record::meta::CommandMeta = read(json)?;
                if let Protocol::Postgres(conversation) = &mut self.protocol {
                    conversation.judged(command.number, &command.command.text);
                }
                Event::Command(command)
            }
            FrameKind::Verdict => Event::Verdict(read(json)?),
            FrameKind::Approval => Event::Approval(read(json)?),
            FrameKind::Mask => Event::Mask(read(json)?),
            FrameKind::Lease => Event::Lease(read(json)?),
            FrameKind::Identity => Event::Identity(read(json)?),
            FrameKind::Finding => Event::Finding(read(json)?),
            FrameKind::Error => Event::Error(read(json)?),
            FrameKind::Gap => Event::Gap(read(json)?),
            FrameKind::Close => Event::Close(read(json)?),
            FrameKind::ClientBytes | FrameKind::ServerBytes => Event::Unreadable {
                kind,
                reason: "these are bytes".into(),
            },
        })
    }
}

impl Protocol {
    fn finish(&mut self, events: &mut Vec<Event>) {
        match self {
            Self::Postgres(conversation) => conversation.finish(events),
            Self::Http(exchanges) => {
                let left = exchanges.finish().into_iter();
                events.extend(left.map(|exchange| Event::Exchange(Box::new(exchange))));
            }
            Self::Unknown => {}
        }
    }
}

fn read<T: DeserializeOwned>(json: &[u8]) -> serde_json::Result<T> {
    serde_json::from_slice(json)
}
