//! A PostgreSQL session as a conversation: which answer belongs to which command, and what the client saw.
//!
//! Follows both directions as far as showing needs it. It trusts nothing: a record may hold whatever a client or a
//! server sent.

mod client;
mod framing;
mod server;
mod slot;
mod value;

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

use super::player::Limits;
use super::step::{CopyData, End, Event, QueryResult};
use crate::model::{Direction, FrameKind};
use framing::Framing;
use slot::Slot;

/// Messages that may still get a number. A client that is never judged does not make it grow.
const LONGEST_MEMORY: usize = 4096;
/// How many characters of a text have to be the same where a part of it was replaced.
const ALIKE: usize = 12;

/// Both directions of one session.
#[derive(Debug)]
pub(super) struct Conversation {
    limits: Limits,
    client: Framing,
    server: Framing,
    /// Prepared statements and portals, by name.
    statements: HashMap<Vec<u8>, Rc<Slot>>,
    portals: HashMap<Vec<u8>, Rc<Slot>>,
    /// Messages of the client of which no command is known yet.
    unjudged: VecDeque<Rc<Slot>>,
    /// Commands whose message is not on record yet.
    early: VecDeque<(u64, String)>,
    /// What the server has yet to answer.
    due: VecDeque<Due>,
    /// The result that is being received.
    result: Option<QueryResult>,
    /// COPY data that the client sends.
    copy_in: Option<CopyData>,
}

/// An answer of the server that is due.
#[derive(Debug)]
enum Due {
    /// Results, then that the server is ready.
    Query(Rc<Slot>),
    /// Columns of a statement or portal; `None`: of one that is not known.
    Describe(Option<Rc<Slot>>),
    /// A result.
    Execute(Rc<Slot>),
    /// That the server is ready.
    Sync,
}

impl Conversation {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            client: Framing::client(),
            server: Framing::server(),
            statements: HashMap::new(),
            portals: HashMap::new(),
            unjudged: VecDeque::new(),
            early: VecDeque::new(),
            due: VecDeque::new(),
            result: None,
            copy_in: None,
        }
    }

    /// Takes bytes that the client sent.
    pub(super) fn client(&mut self, bytes: &[u8], events: &mut Vec<Event>) {
        let mut framing = std::mem::take(&mut self.client);
        if let Err(reason) = framing.push(bytes, |message| self.client_message(message)) {
            events.push(unreadable(FrameKind::ClientBytes, reason));
        }
        self.client = framing;
    }

    /// Takes bytes that the client got.
    pub(super) fn server(&mut self, bytes: &[u8], events: &mut Vec<Event>) {
        let mut framing = std::mem::take(&mut self.server);
        if let Err(reason) = framing.push(bytes, |message| self.server_message(message, events)) {
            events.push(unreadable(FrameKind::ServerBytes, reason));
        }
        self.server = framing;
    }

    /// The command of this number and text was judged: finds the message that it came in.
    pub(super) fn judged(&mut self, number: u64, text: &str) {
        let place = self
            .unjudged
            .iter()
            .position(|slot| slot.text() == text)
            .or_else(|| {
                // A text whose secrets were replaced is not equal, but it begins alike.
                let alike = |slot: &Rc<Slot>| {
                    text.chars()
                        .zip(slot.text().chars())
                        .take(ALIKE)
                        .all(|(a, b)| a == b)
                };
                self.unjudged.iter().position(alike)
            });
        if let Some(place) = place {
            // Messages before it were not judged by themselves.
            self.unjudged.drain(..place);
            if let Some(slot) = self.unjudged.pop_front() {
                slot.set_number(number);
            }
        } else {
            self.early.push_back((number, text.to_owned()));
            if self.early.len() > LONGEST_MEMORY {
                self.early.pop_front();
            }
        }
    }

    /// Ends the record.
    pub(super) fn finish(&mut self, events: &mut Vec<Event>) {
        self.take_result(End::Cut, events);
    }

    fn remember(&mut self, slot: &Rc<Slot>) {
        if let Some(place) = self.early.iter().position(|(_, text)| *text == slot.text()) {
            self.early.drain(..place);
            if let Some((number, _)) = self.early.pop_front() {
                slot.set_number(number);
            }
            return;
        }
        self.unjudged.push_back(Rc::clone(slot));
        if self.unjudged.len() > LONGEST_MEMORY {
            self.unjudged.pop_front();
        }
    }

    /// The server has answered the message at `slot`: nothing up to it will be judged any more.
    fn settle(&mut self, slot: &Rc<Slot>) {
        if let Some(place) = self
            .unjudged
            .iter()
            .position(|unjudged| Rc::ptr_eq(unjudged, slot))
        {
            self.unjudged.drain(..=place);
        }
    }

    /// The slot of the statement that the server is answering.
    fn answered(&self) -> Option<&Rc<Slot>> {
        match self.due.front()? {
            Due::Query(slot) | Due::Execute(slot) | Due::Describe(Some(slot)) => Some(slot),
            Due::Describe(None) | Due::Sync => None,
        }
    }

    /// The result that is being received; begins one.
    fn result(&mut self) -> &mut QueryResult {
        let slot = match &self.result {
            Some(_) => None,
            None => self.answered(),
        };
        let number = slot.and_then(|slot| slot.number());
        let columns = slot.and_then(|slot| slot.columns()).unwrap_or_default();
        self.result.get_or_insert_with(|| QueryResult {
            number,
            columns,
            ..QueryResult::default()
        })
    }

    fn take_result(&mut self, end: End, events: &mut Vec<Event>) {
        let copy_in = self.copy_in.take();
        if let Some(mut result) = self.result.take() {
            result.end = end;
            result.copy = result.copy.or(copy_in);
            events.push(Event::Result(result));
        }
    }
}

fn unreadable(kind: FrameKind, reason: &str) -> Event {
    Event::Unreadable {
        kind,
        reason: reason.to_owned(),
    }
}

/// Adds a piece of COPY data.
fn add_copy(copy: &mut CopyData, piece: &[u8], length: u64, limits: Limits) {
    copy.bytes += length;
    if copy.binary {
        return;
    }
    let room = limits.rows.saturating_sub(copy.lines.len());
    let lines = piece
        .strip_suffix(b"\n")
        .unwrap_or(piece)
        .split(|byte| *byte == b'\n');
    copy.lines.extend(
        lines
            .take(room)
            .map(|line| value::cut(line, line.len(), limits.value)),
    );
}

fn copy(direction: Direction, format: Option<&u8>) -> CopyData {
    CopyData {
        direction,
        lines: Vec::new(),
        bytes: 0,
        binary: format == Some(&1),
    }
}
