//! What the server will answer, in order: one entry for each message that it was sent and that it answers.

use std::collections::VecDeque;
use std::sync::Arc;

use super::super::wire::Target;
use super::refusal::Refusal;
use super::unit::{Portal, Unit};

/// An answer that is due.
#[derive(Debug)]
pub(super) struct Due {
    /// Number of the message, for names that it defines.
    pub serial: u64,
    pub what: Expect,
}

/// Which answer is due.
#[derive(Debug)]
pub(super) enum Expect {
    /// Results of each statement of a simple query, then `ReadyForQuery`.
    Query {
        unit: Arc<Unit>,
        /// Statement whose result comes next.
        index: usize,
        epoch: u64,
        /// It is COPY data from the client that the server awaits.
        copying: bool,
    },
    /// The failure of a simple query that stands in place of a refused one, then `ReadyForQuery`.
    RefusedQuery {
        refusal: Arc<Refusal>,
        epoch: u64,
        failed: bool,
    },
    /// The failure of a `Parse` that stands in place of a refused message.
    Refused { refusal: Arc<Refusal> },
    /// `ParseComplete`.
    Parse { name: Box<[u8]>, unit: Arc<Unit> },
    /// `BindComplete`.
    Bind { name: Box<[u8]>, portal: Arc<Portal> },
    /// `ParameterDescription`, then the description of rows.
    DescribeStatement,
    /// The description of rows.
    DescribePortal {
        portal: Option<Arc<Portal>>,
        /// The client did not ask for it and must not see it.
        injected: bool,
    },
    /// Rows or COPY data, then the end of the command.
    Execute { portal: Arc<Portal>, copying: bool },
    /// `CloseComplete`.
    Close { target: Target, name: Box<[u8]> },
    /// `ReadyForQuery`.
    Sync { epoch: u64 },
    /// Nothing: the client has ended COPY data here, of a COPY that the server has not begun yet.
    CopyEnd,
}

/// Answers that are due.
#[derive(Debug, Default)]
pub(super) struct Queue {
    due: VecDeque<Due>,
    serial: u64,
    /// The server has failed and skips everything up to the next Sync, which it has not been sent yet.
    pub skipping: bool,
}

impl Queue {
    pub(super) fn next_serial(&self) -> u64 {
        self.serial + 1
    }

    /// Adds an answer; gives its number.
    pub(super) fn push(&mut self, what: Expect) -> u64 {
        self.serial += 1;
        self.due.push_back(Due {
            serial: self.serial,
            what,
        });
        self.serial
    }

    /// The answer that comes next.
    pub(super) fn front(&mut self) -> Option<&mut Due> {
        while self
            .due
            .front()
            .is_some_and(|due| matches!(due.what, Expect::CopyEnd))
        {
            self.due.pop_front();
        }
        self.due.front_mut()
    }

    pub(super) fn pop(&mut self) -> Option<Due> {
        self.due.pop_front()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.due.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Expect> {
        self.due.iter().map(|due| &due.what)
    }

    /// The server has failed in the extended protocol: takes out what it skips, and gives it.
    pub(super) fn skip(&mut self) -> Vec<Due> {
        let to = self
            .due
            .iter()
            .position(|due| matches!(due.what, Expect::Sync { .. }));
        self.skipping = to.is_none();
        self.due.drain(..to.unwrap_or(self.due.len())).collect()
    }

    /// The server awaits COPY data for the answer that comes next. It takes no notice of a Sync until the client
    /// has ended them; whether it has done so already is what this gives.
    pub(super) fn copy_begins(&mut self) -> bool {
        let end = self
            .due
            .iter()
            .position(|due| matches!(due.what, Expect::CopyEnd));
        let until = end.unwrap_or(self.due.len());
        let mut position = 0;
        self.due.retain(|due| {
            let swallowed = position > 0
                && position <= until
                && matches!(due.what, Expect::Sync { .. } | Expect::CopyEnd);
            position += 1;
            !swallowed
        });
        end.is_some()
    }
}
