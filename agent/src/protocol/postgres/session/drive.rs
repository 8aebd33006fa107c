//! Moves bytes between a client and its server through the relay machine: recorded, judged, held.
//!
//! One task a session, no hop between reading and writing. Neither direction waits for the other's socket: each reads on
//! when what it read last has been taken.

use std::io::IoSlice;
use std::time::SystemTime;

use smallvec::SmallVec;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::mask::Masks;
use crate::model::{Direction, Effect, FrameKind};
use crate::protocol::{
    HoldDecision, HoldEnding, HoldOutcome, HoldRequest, MaskedBy, Occasion, PlacedHold, SessionEnd, Stages,
};

use super::super::cancel::{CancellableHold, Registration};
use super::super::catalog::Catalog;
use super::super::relay::{Ask, Event, JudgedAt, Output, ProtocolError, Relay, Turn};
use super::super::startup::Fatal;
use super::boxes::{Inbox, Outbox};
use super::statements::Statements;

/// Parts of one turn that fit without a heap allocation.
type Slices<'a> = SmallVec<[&'a [u8]; 16]>;

/// What a session consists of besides its two streams.
pub(super) struct Conversation<'a, S> {
    stages: &'a mut S,
    relay: Relay<'a, Masks, Statements>,
    catalog: Catalog,
    cancel: &'a Registration,
    from_client: Inbox,
    from_server: Inbox,
    to_client: Outbox,
    to_server: Outbox,
    turn: Turn,
    hold: Option<Waiting>,
    /// Rows that have been counted.
    rows: u64,
    /// Since when the open transaction has written.
    writing_since: Option<SystemTime>,
    /// The schema may have changed since the catalog was last forgotten.
    schema_changed: bool,
    terminated: bool,
}

/// A command that waits for a person.
struct Waiting {
    placed: PlacedHold,
    cancel: CancellableHold,
}

impl<'a, S: Stages> Conversation<'a, S> {
    pub(super) fn new(
        stages: &'a mut S,
        relay: Relay<'a, Masks, Statements>,
        catalog: Catalog,
        cancel: &'a Registration,
    ) -> Self {
        Self {
            stages,
            relay,
            catalog,
            cancel,
            from_client: Inbox::default(),
            from_server: Inbox::default(),
            to_client: Outbox::default(),
            to_server: Outbox::default(),
            turn: Turn::default(),
            hold: None,
            rows: 0,
            writing_since: None,
            schema_changed: false,
            terminated: false,
        }
    }

    /// What the peers sent before the conversation began.
    pub(super) fn begun(&mut self, by_client: &[u8], by_server: &[u8]) {
        self.from_client.put(by_client);
        self.from_server.put(by_server);
    }

    /// Runs the session to its end.
    pub(super) async fn run<C, T>(&mut self, client: C, server: T) -> Result<(), SessionEnd>
    where
        C: AsyncRead + AsyncWrite + Unpin,
        T: AsyncRead + AsyncWrite + Unpin,
    {
        let (mut client_read, mut client_write) = tokio::io::split(client);
        let (mut server_read, mut server_write) = tokio::io::split(server);
        let mut ending = self.stages.ending();
        let end = loop {
            match self.work(&mut client_write, &mut server_write).await {
                Ok(()) => {}
                Err(end) => break Err(end),
            }
            if self.terminated && self.to_server.is_empty() && self.to_client.is_empty() {
                break Ok(());
            }
            if !self.from_server.is_open() && self.to_client.is_empty() {
                break Err(SessionEnd::Target("the server closed the connection".to_owned()));
            }
            if !self.from_client.is_open() && self.hold.is_none() && self.to_server.is_empty() {
                // Gone without Terminate. What it sent has been worked off as far as it was whole.
                break Ok(());
            }
            let step = tokio::select! {
                end = &mut ending => Err(end),
                read = self.from_client.fill(&mut client_read), if self.from_client.has_room() => {
                    read.map_err(client_failed)
                }
                read = self.from_server.fill(&mut server_read), if self.from_server.has_room() && self.to_client.is_empty() => {
                    read.map_err(server_failed)
                }
                drained = self.to_server.drain(&mut server_write), if !self.to_server.is_empty() => {
                    drained.map_err(server_failed)
                }
                drained = self.to_client.drain(&mut client_write), if !self.to_client.is_empty() => {
                    drained.map_err(client_failed)
                }
                decision = decision(&mut self.hold), if self.hold.is_some() => self.hold_ends(decision),
            };
            if let Err(end) = step {
                break Err(end);
            }
            if !self.from_client.is_open() && self.hold.is_some() {
                self.hold_ends(taken_back("the client went away"))?;
                break Ok(());
            }
        };
        if let Err(end) = &end {
            self.farewell(&mut client_write, end).await;
        }
        end
    }

    /// Works off what has arrived until nothing moves any more.
    async fn work<C, T>(&mut self, client: &mut C, server: &mut T) -> Result<(), SessionEnd>
    where
        C: AsyncWrite + Unpin,
        T: AsyncWrite + Unpin,
    {
        loop {
            let mut moved = false;
            if self.to_client.is_empty() && !self.from_server.bytes().is_empty() {
                moved |= self.server_turn(client).await?;
            }
            if self.hold.is_none() && self.to_server.is_empty() && !self.from_client.bytes().is_empty() {
                moved |= self.client_turn(client, server).await?;
            }
            if !moved {
                return Ok(());
            }
        }
    }

    async fn client_turn<C, T>(&mut self, client: &mut C, server: &mut T) -> Result<bool, SessionEnd>
    where
        C: AsyncWrite + Unpin,
        T: AsyncWrite + Unpin,
    {
        let input = self.from_client.bytes();
        let outcome = self.relay.client(input, &mut self.turn);
        record(self.stages, FrameKind::ClientBytes, Direction::ToServer, &self.turn.record, input)?;
        send(&mut self.to_server, server, &self.turn.out, input).map_err(server_failed)?;
        outcome.map_err(broken)?;
        let consumed = self.turn.consumed;
        self.from_client.consume(consumed);
        self.events()?;
        match self.turn.ask.take() {
            Some(ask) => {
                self.answer(ask).await?;
                // A notice about a hold goes out at once, if the server is between messages.
                self.server_turn(client).await?;
                return Ok(true);
            }
            None if consumed == 0 && !self.turn.stalled => self.from_client.grow(),
            None => {}
        }
        Ok(consumed > 0)
    }

    async fn server_turn<C: AsyncWrite + Unpin>(&mut self, client: &mut C) -> Result<bool, SessionEnd> {
        let input = self.from_server.bytes();
        let outcome = self.relay.server(input, &mut self.turn);
        let rows = self.relay.rows();
        if !self.turn.out.is_empty() {
            record(self.stages, FrameKind::ServerBytes, Direction::ToClient, &self.turn.out, input)?;
            send(&mut self.to_client, client, &self.turn.out, input).map_err(client_failed)?;
            self.stages.count(rows.saturating_sub(self.rows), self.turn.out.len() as u64)?;
            self.rows = rows;
        }
        outcome.map_err(broken)?;
        let consumed = self.turn.consumed;
        self.from_server.consume(consumed);
        self.events()?;
        let asked = self.turn.ask.take();
        match asked {
            Some(ask) => {
                self.answer(ask).await?;
                return Ok(true);
            }
            None if consumed == 0 => self.from_server.grow(),
            None => {}
        }
        Ok(consumed > 0)
    }

    fn events(&mut self) -> Result<(), SessionEnd> {
        for event in self.turn.events.drain(..) {
            match event {
                Event::Masked { columns, .. } => {
                    for column in columns {
                        let by = if column.mask.is_some() { MaskedBy::Column } else { MaskedBy::Detector };
                        self.stages.masked(&column.label, by, column.values)?;
                    }
                }
                Event::Completed { command, .. } => {
                    let effects = command.effects();
                    self.schema_changed |= [Effect::SchemaCreate, Effect::SchemaAlter, Effect::SchemaDestroy]
                        .into_iter()
                        .any(|effect| effects.contains(effect));
                }
                Event::Ready(_) => {
                    if self.relay.has_written() {
                        self.writing_since.get_or_insert_with(SystemTime::now);
                    } else {
                        self.writing_since = None;
                    }
                    if std::mem::take(&mut self.schema_changed) {
                        self.catalog.forget();
                    }
                }
                Event::Terminated => self.terminated = true,
                // Commands, verdicts and the bytes of errors are on record already.
                Event::Refused { .. } | Event::Failed { .. } => {}
            }
        }
        Ok(())
    }

    async fn answer(&mut self, ask: Ask) -> Result<(), SessionEnd> {
        match ask {
            Ask::Relations { oids, names } => {
                if !names.is_empty() {
                    let found = self.catalog.relations_named(self.stages, &names).await?;
                    self.relay.resolved(found);
                } else if oids.is_empty() {
                    self.relay.resolved(Vec::new());
                } else {
                    let found = self.catalog.relations_by_oid(self.stages, &oids).await?;
                    self.relay.described(found);
                }
            }
            Ask::Judge { command, parameters, at } => {
                let occasion = match at {
                    JudgedAt::Query | JudgedAt::Bind => Occasion::Run(&parameters),
                    JudgedAt::Parse | JudgedAt::Execute => Occasion::Check,
                };
                let ruling = self.stages.judge(&command, occasion)?;
                self.relay.ruled(ruling);
            }
            Ask::Hold { command, parameters, binding, terms, written } => {
                let approvers = terms.approvers.join(", ");
                let writing_since = written.then(|| self.writing_since.unwrap_or_else(SystemTime::now));
                let placed =
                    self.stages.hold(HoldRequest { command, parameters, binding, terms, writing_since })?;
                if writing_since.is_none() {
                    self.relay.notice(
                        &format!("tollgate: this command is held as {} until it is approved by one of: {approvers}", placed.id),
                        &format!("an approver runs: tollgate approve {}", placed.id),
                    );
                }
                self.hold = Some(Waiting { placed, cancel: self.cancel.begin_hold() });
            }
        }
        Ok(())
    }

    fn hold_ends(&mut self, decision: HoldDecision) -> Result<(), SessionEnd> {
        if let Some(waiting) = self.hold.take() {
            self.stages.hold_ended(&waiting.placed.id, &decision)?;
            self.relay.hold_ended(decision.outcome);
        }
        Ok(())
    }

    /// Tells the client why its session ends, in the protocol's own words, if it can be told: not in the middle of a
    /// message, and not when it has gone or broken the protocol itself beyond words.
    async fn farewell<C: AsyncWrite + Unpin>(&mut self, client: &mut C, end: &SessionEnd) {
        if !self.relay.is_between_messages() {
            return;
        }
        let fatal = fatal(end).encode();
        if self.stages.record(FrameKind::ServerBytes, Direction::ToClient, &[&fatal]).is_err()
            && !matches!(end, SessionEnd::Record(_))
        {
            return;
        }
        if self.to_client.send(client, &[IoSlice::new(&fatal)]).is_ok() {
            // A client that does not read is not waited for.
            tokio::time::timeout(super::LAST_WORDS, self.to_client.drain(client)).await.ok();
        }
    }
}

/// How the session's end is told to the client; the target's and the agent's own details stay in the log.
pub(super) fn fatal(end: &SessionEnd) -> Fatal {
    match end {
        SessionEnd::Client(why) => Fatal::new("08P01", format!("tollgate: the client broke the protocol: {why}"))
            .with_hint("the client's driver does not speak this protocol correctly"),
        SessionEnd::Target(why) => Fatal::new("08006", format!("tollgate: the target failed: {why}"))
            .with_hint("connect again when the server is well; its administrator finds the reason in its log"),
        SessionEnd::Record(_) => Fatal::new("58030", "tollgate: this session cannot be recorded, so it ends here")
            .with_hint("the host's administrator finds the reason in the log of tollgate.service (disk full?)"),
        SessionEnd::Agent(_) => Fatal::new("58000", "tollgate: the agent failed in this session")
            .with_hint("the host's administrator finds the reason in the log of tollgate.service"),
        SessionEnd::Policy(denied) => Fatal::new("42501", denied.message.clone()).with_hint(denied.hint.clone()),
    }
}

async fn decision(hold: &mut Option<Waiting>) -> HoldDecision {
    match hold {
        Some(waiting) => tokio::select! {
            decision = &mut waiting.placed.decision => decision,
            () = waiting.cancel.cancelled() => taken_back("the client cancelled it"),
        },
        None => std::future::pending().await,
    }
}

fn taken_back(why: &str) -> HoldDecision {
    HoldDecision {
        outcome: HoldOutcome::Cancelled,
        end: HoldEnding::Cancelled,
        by: None,
        reason: Some(why.to_owned()),
    }
}

fn record(
    stages: &mut impl Stages,
    kind: FrameKind,
    direction: Direction,
    output: &Output,
    input: &[u8],
) -> Result<(), SessionEnd> {
    if output.is_empty() {
        return Ok(());
    }
    let parts: Slices<'_> = output.parts(input).collect();
    stages.record(kind, direction, &parts)
}

fn send<W: AsyncWrite + Unpin>(
    outbox: &mut Outbox,
    writer: &mut W,
    output: &Output,
    input: &[u8],
) -> std::io::Result<()> {
    let parts: SmallVec<[IoSlice<'_>; 16]> = output.parts(input).map(IoSlice::new).collect();
    outbox.send(writer, &parts)
}

fn broken(error: ProtocolError) -> SessionEnd {
    if error.is_clients() { SessionEnd::Client(error.to_string()) } else { SessionEnd::Target(error.to_string()) }
}

fn client_failed(error: std::io::Error) -> SessionEnd {
    SessionEnd::Client(format!("the connection failed: {error}"))
}

fn server_failed(error: std::io::Error) -> SessionEnd {
    SessionEnd::Target(format!("the connection failed: {error}"))
}
