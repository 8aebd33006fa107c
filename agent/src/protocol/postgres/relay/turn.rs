//! What one call of the machine gives: bytes to pass on, bytes to record, questions, events.

use std::ops::Range;
use std::sync::Arc;

use crate::mask::MaskId;
use crate::model::{Command, Parameter};
use crate::policy::HoldTerms;
use crate::protocol::sql::RelationName;

use super::super::wire::TransactionStatus;

/// Bytes to pass on: ranges of the input, and bytes made by the machine, in order.
#[derive(Debug, Default)]
pub struct Output {
    segments: Vec<Segment>,
    made: Vec<u8>,
}

#[derive(Clone, Debug)]
enum Segment {
    Input(Range<usize>),
    Made(Range<usize>),
}

impl Output {
    /// The bytes, in order, as slices of `input` (the slice that the call was given) and of this output.
    pub fn parts<'a>(&'a self, input: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        self.segments.iter().map(move |segment| match segment {
            Segment::Input(range) => input.get(range.clone()).unwrap_or_default(),
            Segment::Made(range) => self.made.get(range.clone()).unwrap_or_default(),
        })
    }

    /// Number of bytes.
    pub fn len(&self) -> usize {
        self.segments
            .iter()
            .map(|segment| match segment {
                Segment::Input(range) | Segment::Made(range) => range.len(),
            })
            .sum()
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.segments.clear();
        self.made.clear();
        // A single large message must not keep its memory for the life of the session.
        if self.made.capacity() > KEPT {
            self.made.shrink_to(KEPT);
        }
    }

    /// Adds a range of the input; one that follows the last is joined to it.
    pub(super) fn input(&mut self, range: Range<usize>) {
        if range.is_empty() {
            return;
        }
        match self.segments.last_mut() {
            Some(Segment::Input(last)) if last.end == range.start => last.end = range.end,
            _ => self.segments.push(Segment::Input(range)),
        }
    }

    /// Adds what `make` appends.
    pub(super) fn make<T>(&mut self, make: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        let start = self.made.len();
        let given = make(&mut self.made);
        let range = start..self.made.len();
        if !range.is_empty() {
            match self.segments.last_mut() {
                Some(Segment::Made(last)) if last.end == range.start => last.end = range.end,
                _ => self.segments.push(Segment::Made(range)),
            }
        }
        given
    }
}

const KEPT: usize = 256 << 10;

/// What one call of the machine gives. Reused from call to call.
#[derive(Debug, Default)]
pub struct Turn {
    /// Bytes of the input that are dealt with; the rest has to be given again, with more behind it.
    pub consumed: usize,
    /// Bytes to pass on: to the server where the client's bytes were the input, else to the client.
    pub out: Output,
    /// Client's direction only: what is to be recorded of the consumed bytes (secrets replaced). In the server's
    /// direction, `out` is what is recorded.
    pub record: Output,
    /// What happened, in order.
    pub events: Vec<Event>,
    /// A question that has to be answered before this direction can go on.
    pub ask: Option<Ask>,
    /// Client's direction only: it goes on after the next answer of the server.
    pub stalled: bool,
}

impl Turn {
    pub(super) fn clear(&mut self) {
        self.consumed = 0;
        self.out.clear();
        self.record.clear();
        self.events.clear();
        self.ask = None;
        self.stalled = false;
    }
}

/// A question of the machine. The direction that asked stops until it is answered; the other goes on.
#[derive(Clone, Debug)]
pub enum Ask {
    /// What the catalog knows of these: answered with [`resolved`](super::Relay::resolved), in the client's
    /// direction by `names` (each in every schema that has it), in the server's by `oids` with
    /// [`described`](super::Relay::described).
    Relations {
        /// By OID.
        oids: Vec<u32>,
        /// By name.
        names: Vec<RelationName>,
        /// What was found out a while ago does not do.
        anew: bool,
    },
    /// The verdict on a command: answered with [`ruled`](super::Relay::ruled).
    Judge {
        /// The command.
        command: Arc<Command>,
        /// Its parameters, where they are known, for people.
        parameters: Vec<Parameter>,
        /// At which message.
        at: JudgedAt,
    },
    /// The command that was judged last is to be held: answered with [`hold_ended`](super::Relay::hold_ended).
    Hold {
        /// The command.
        command: Arc<Command>,
        /// Its parameters, for people.
        parameters: Vec<Parameter>,
        /// BLAKE3 of the exact bytes that will run.
        binding: [u8; 32],
        /// On which terms.
        terms: HoldTerms,
        /// The session's transaction has written: a hold would keep its locks.
        written: bool,
    },
}

/// At which message a command is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JudgedAt {
    /// A simple query, before it runs.
    Query,
    /// A statement that is prepared; it does not run yet.
    Parse,
    /// A prepared statement gets its parameters.
    Bind,
    /// A portal that was bound earlier runs, or goes on running.
    Execute,
}

/// Something that happened, for the record and for limits.
#[derive(Clone, Debug)]
pub enum Event {
    /// A message was refused; the client will see this error if the server gets to it.
    Refused {
        /// SQLSTATE.
        code: &'static str,
        /// What the client is told.
        message: String,
    },
    /// A statement has ended well.
    Completed {
        /// The command that it was part of.
        command: Arc<Command>,
        /// Its command tag.
        tag: String,
    },
    /// A statement has failed at the server.
    Failed {
        /// SQLSTATE.
        code: String,
    },
    /// Values of a statement's result were masked.
    Masked {
        /// The command.
        command: Arc<Command>,
        /// One entry a column in which anything was masked.
        columns: Vec<MaskCount>,
    },
    /// A cycle has ended.
    Ready(TransactionStatus),
    /// The client has ended the session.
    Terminated,
}

/// How many values of one result column were masked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MaskCount {
    /// Position of the column, from 0.
    pub column: usize,
    /// Its name in the result.
    pub label: String,
    /// By which column mask; `None`: by detectors, or because its origin cannot be known.
    pub mask: Option<MaskId>,
    /// Number of values.
    pub values: u64,
}
