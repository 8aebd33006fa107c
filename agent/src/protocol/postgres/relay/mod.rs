//! The PostgreSQL session after login, as a machine: bytes of both sides in, bytes for both sides, questions and
//! events out.
//!
//! It does no I/O and holds no clock. Two inputs, [`Relay::client`] and [`Relay::server`], each with a slice that
//! starts where the last call stopped; what they give refers to ranges of that slice (forwarded verbatim) or to
//! bytes made here. When a direction asks ([`Ask`]) it stops before the message concerned until it is answered; the
//! other direction goes on. Where a call fails, what its [`Turn`] holds came before the failure and is good.
//!
//! Promises kept here: nothing runs that was not ruled on, what cannot be decoded is unknown, a refusal leaves the
//! session as the server's own would, masked values do not pass.
//!
//! Known limits: texts longer than 1 MiB are refused. A `Bind` longer than 1 MiB is judged without its parameters,
//! and refused where it would be held. In a value longer than 1 MiB, masks and detectors overwrite with `*` and keep
//! its length. Columns of a view are masked as soon as any column that the view is made of is. The fast path,
//! replication and messages after Terminate are refused.

mod client;
mod client_extended;
mod client_text;
mod copy_fields;
mod copy_out;
mod error;
mod errors;
mod lineage;
mod long_row;
mod masking;
mod names;
mod parameters;
mod queue;
mod refusal;
mod rows;
mod server;
mod server_results;
mod traits;
mod turn;
mod unit;

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::sync::Arc;

use crate::policy::Ruling;
use crate::protocol::HoldOutcome;

use super::catalog::Relation;
use super::wire::TransactionStatus;

pub use error::ProtocolError;
pub use masking::{Classify, MaskStream, Masking};
pub use turn::{Ask, Event, JudgedAt, MaskCount, Output, Turn};

use copy_out::CopyOut;
use long_row::LongRow;
use names::Names;
use queue::{Expect, Queue};
use rows::Active;
use unit::{Draft, Portal, Unit};

/// The machine. `M`: the masks of the service; `C`: the classifier.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts of a session, not states of one machine"
)]
pub struct Relay<'m, M: Masking + 'm, C> {
    masks: &'m M,
    classify: C,
    user: Box<[u8]>,
    queue: Queue,
    statements: Names<Unit>,
    portals: Names<Portal>,
    /// Tables made in the open transaction.
    fresh: HashSet<Arc<str>>,
    /// Relations that it has changed.
    altered: HashSet<Arc<str>>,
    status: TransactionStatus,
    wrote: bool,
    rows: u64,

    // How texts are read.
    standard_conforming_strings: bool,
    utf8: bool,
    /// In the client's encoding, every byte below 0x80 is the ASCII character, wherever it stands.
    bytes_are_plain: bool,
    /// The settings above are not the usual ones, or the session has changed them at least once.
    lexing_touched: bool,
    /// Stretch of the last statement that may have changed them.
    lexing_in: Option<u64>,

    // The client's side. A stretch ("epoch") ends with a Sync or a simple query.
    epoch: u64,
    /// Stretches before this one are answered.
    settled: u64,
    stage: Stage,
    inflow: Inflow,
    /// A refusal stands in this stretch: the server will skip the rest of it.
    doomed: bool,
    /// The server awaits COPY data, and the client has not ended them.
    copy_in: bool,
    /// A Flush was sent for the sake of the message that waits for an answer.
    flushed: bool,
    terminated: bool,

    // The server's side.
    outflow: usize,
    describing: Describing,
    active: Option<Active>,
    /// A row that is masked in pieces.
    long_row: Option<LongRow<M::Stream<'m>>>,
    copy_out: Option<CopyOut<'m, M>>,
    /// Bytes of a `CopyData` message that are still to be masked.
    copy_left: usize,
    notices: Vec<u8>,
    value_buffer: Vec<u8>,
}

/// The rest of a message of the client that did not come whole.
#[derive(Clone, Copy, Debug, Default)]
struct Inflow {
    left: usize,
    forward: bool,
}

/// How far the message at the front of the client's bytes is.
#[derive(Debug, Default)]
enum Stage {
    /// Not looked at.
    #[default]
    Fresh,
    /// The catalog is asked.
    Resolving(Draft),
    /// The catalog has answered.
    Resolved(Draft, Vec<Arc<Relation>>),
    /// The rules are asked.
    Judging(Work),
    /// The rules have answered.
    Ruled(Work, Ruling),
    /// An approver is asked.
    Holding(Work),
    /// The hold has ended.
    Held(Work, HoldOutcome),
}

/// What the message at the front does.
#[derive(Debug)]
enum Work {
    Text(Arc<Unit>),
    Portal(Arc<Portal>),
}

impl Work {
    fn unit(&self) -> &Unit {
        match self {
            Self::Text(unit) => unit,
            Self::Portal(portal) => &portal.unit,
        }
    }

    /// What an approval is bound to besides the message itself.
    fn hash(&self) -> &[u8; 32] {
        match self {
            Self::Text(unit) => &unit.hash,
            Self::Portal(portal) => &portal.hash,
        }
    }
}

/// How far a description of rows at the front of the server's bytes is.
#[derive(Debug, Default)]
enum Describing {
    #[default]
    No,
    Asked,
    Answered(Vec<Arc<Relation>>),
}

impl<'m, M: Masking, C: Classify> Relay<'m, M, C> {
    /// A session just logged in. `user`: the name that the client logged in with, which it is to see as
    /// `session_authorization`.
    pub fn new(masks: &'m M, classify: C, user: &[u8]) -> Self {
        Self {
            masks,
            classify,
            user: user.into(),
            queue: Queue::default(),
            statements: Names::new(),
            portals: Names::new(),
            fresh: HashSet::new(),
            altered: HashSet::new(),
            status: TransactionStatus::Idle,
            wrote: false,
            rows: 0,
            standard_conforming_strings: true,
            utf8: false,
            bytes_are_plain: false,
            lexing_touched: false,
            lexing_in: None,
            epoch: 0,
            settled: 0,
            stage: Stage::Fresh,
            inflow: Inflow::default(),
            doomed: false,
            copy_in: false,
            flushed: false,
            terminated: false,
            outflow: 0,
            describing: Describing::No,
            active: None,
            long_row: None,
            copy_out: None,
            copy_left: 0,
            notices: Vec::new(),
            value_buffer: Vec::new(),
        }
    }

    /// Tells a setting that the server reported during login (`ParameterStatus`). To be called for each of them;
    /// without `client_encoding`, no text but ASCII is understood.
    pub fn reported(&mut self, name: &[u8], value: &[u8]) {
        match name {
            b"standard_conforming_strings" => {
                self.standard_conforming_strings = value == b"on";
                self.lexing_touched |= value != b"on";
            }
            b"client_encoding" => {
                self.utf8 = matches!(value, b"UTF8" | b"SQL_ASCII");
                self.lexing_touched |= !self.utf8;
                self.bytes_are_plain = self.utf8
                    || ["EUC_", "ISO_8859_", "KOI8", "LATIN", "WIN"]
                        .iter()
                        .any(|family| value.starts_with(family.as_bytes()));
            }
            _ => {}
        }
    }

    /// Answers [`Ask::Relations`] by names: every relation of the catalog that has one of them.
    pub fn resolved(&mut self, relations: Vec<Arc<Relation>>) {
        self.stage = match std::mem::take(&mut self.stage) {
            Stage::Resolving(draft) => Stage::Resolved(draft, relations),
            stage => stage,
        };
    }

    /// Answers [`Ask::Relations`] by OIDs: those that the catalog knows.
    pub fn described(&mut self, relations: Vec<Arc<Relation>>) {
        if matches!(self.describing, Describing::Asked) {
            self.describing = Describing::Answered(relations);
        }
    }

    /// Answers [`Ask::Judge`].
    pub fn ruled(&mut self, ruling: Ruling) {
        self.stage = match std::mem::take(&mut self.stage) {
            Stage::Judging(work) => Stage::Ruled(work, ruling),
            stage => stage,
        };
    }

    /// Answers [`Ask::Hold`]. An approval counts only for the bytes that it is bound to.
    pub fn hold_ended(&mut self, outcome: HoldOutcome) {
        self.stage = match std::mem::take(&mut self.stage) {
            Stage::Holding(work) => Stage::Held(work, outcome),
            stage => stage,
        };
    }

    /// Puts a remark before the client: it goes out with the next call of [`server`](Self::server) between two of
    /// the server's messages. Call that at once, with whatever input there is, even none.
    pub fn notice(&mut self, message: &str, hint: &str) {
        super::wire::NoticeResponse { message, hint }.encode(&mut self.notices);
    }

    /// State of the transaction, as the server last said.
    pub fn status(&self) -> TransactionStatus {
        self.status
    }

    /// Whether the open transaction has written, or will have when what is on its way has run.
    pub fn has_written(&self) -> bool {
        self.wrote
            || self.queue.iter().any(|expect| match expect {
                Expect::Query { unit, .. } => unit.traits.writes,
                Expect::Execute { portal, .. } => portal.unit.traits.writes,
                _ => false,
            })
    }

    /// Rows that the session has returned to the client so far. A message of COPY data, which is how a server sends a
    /// row, counts as one.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Whether the client has had only whole messages, so that an error or a notice can be put behind them.
    pub fn is_between_messages(&self) -> bool {
        self.outflow == 0 && self.long_row.is_none()
    }

    /// Whether the server owes the client no answer: the session can be ended without cutting anything off.
    pub fn is_quiet(&self) -> bool {
        self.queue.is_empty() && self.outflow == 0 && self.copy_left == 0
    }
}
