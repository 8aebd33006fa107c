//! Moves bytes between a client and its server through the relay machine: recorded, judged, held.
//!
//! One task a session, no hop between reading and writing. Neither direction waits for the other's socket: each reads on
//! when what it read last has been taken.
//!
//! How it ends: a client that has said Terminate, or has closed its half of the connection, still gets every answer that
//! the server owes it, and the server learns of the end as it would without the agent. Only where a command is held, a
//! client that closes takes it back, and what stands behind it does not run.

use std::io::IoSlice;
use std::time::SystemTime;

use smallvec::SmallVec;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::time::timeout;

use crate::finding::{SecretKind, SeenAt, Sighting};
use crate::mask::Masks;
use crate::model::{Direction, Effect, FrameKind};
use crate::protocol::{HoldDecision, HoldRequest, MaskedBy, Occasion, PlacedHold, SessionEnd, Stages};

use super::super::cancel::{CancellableHold, Registration};
use super::super::catalog::Catalog;
use super::super::relay::{Ask, Event, JudgedAt, Output, Relay, Turn};
use super::super::wire::TransactionStatus;
use super::LAST_WORDS;
use super::boxes::{Inbox, Outbox, Unasked};
use super::ends::{broken, client_failed, fatal, is_last_word, linger, server_failed, taken_back};
use super::statements::Statements;
use super::whole::Whole;

/// Parts of one turn that fit without a heap allocation.
type Slices<'a> = SmallVec<[&'a [u8]; 16]>;

/// What a session consists of besides its two streams.
pub(super) struct Conversation<'a, S> {
    stages: &'a mut S,
    relay: Relay<'a, Masks, Statements>,
    catalog: Catalog,
    cancel: &'a Registration,
    /// As whom the client logged in.
    user: &'a str,
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
    /// Where the server's stream stands, as far as the relay has had it.
    whole: Whole,
    /// What the client has had ends with a whole message. The relay may know better already: of bytes that were not sent.
    between_messages: bool,
    /// The client's next message waits for an answer of the server.
    stalled: bool,
    /// Nothing but passwords has come from the client so far, which it was not asked for.
    at_first_message: bool,
    terminated: bool,
    /// The server has been told that no more comes from the client.
    half_closed: bool,
    /// The server has told the client itself that the session is over.
    said: bool,
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
        user: &'a str,
    ) -> Self {
        Self {
            stages,
            relay,
            catalog,
            cancel,
            user,
            from_client: Inbox::default(),
            from_server: Inbox::default(),
            to_client: Outbox::default(),
            to_server: Outbox::default(),
            turn: Turn::default(),
            hold: None,
            rows: 0,
            writing_since: None,
            schema_changed: false,
            whole: Whole::default(),
            between_messages: true,
            stalled: false,
            at_first_message: true,
            terminated: false,
            half_closed: false,
            said: false,
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
        let end = self
            .converse(
                (&mut client_read, &mut client_write),
                (&mut server_read, &mut server_write),
            )
            .await;
        if self.hold.is_some() {
            // Where the record has failed this fails as well; the end that is told is the first.
            let _ = self.hold_ends(taken_back("the session ended"));
        }
        if let Err(end) = &end {
            self.farewell(&mut client_write, end).await;
            linger(&mut client_read, &mut client_write).await;
        }
        end
    }

    async fn converse<C, T>(
        &mut self,
        (client_read, client_write): (&mut ReadHalf<C>, &mut WriteHalf<C>),
        (server_read, server_write): (&mut ReadHalf<T>, &mut WriteHalf<T>),
    ) -> Result<(), SessionEnd>
    where
        C: AsyncRead + AsyncWrite + Unpin,
        T: AsyncRead + AsyncWrite + Unpin,
    {
        let mut ending = self.stages.ending();
        loop {
            tokio::select! {
                biased;
                worked = self.work(client_write, server_write) => worked?,
                end = &mut ending => return Err(end),
            }
            if !self.from_server.is_open() && self.to_client.is_empty() {
                return self.server_closed();
            }
            if !self.from_client.is_open() {
                if self.hold.is_some() {
                    self.hold_ends(taken_back("the client went away"))?;
                    return Ok(());
                }
                // What the client sent has been worked off as far as it was whole.
                if !self.stalled && self.to_server.is_empty() && !self.half_closed {
                    self.half_closed = true;
                    // A server that takes it no more shows when it is read from.
                    timeout(LAST_WORDS, server_write.shutdown()).await.ok();
                }
            }
            let sends_more = !self.terminated && self.from_client.has_room();
            tokio::select! {
                end = &mut ending => return Err(end),
                read = self.from_client.fill(client_read), if sends_more => {
                    read.map_err(client_failed)?;
                }
                read = self.from_server.fill(server_read), if self.from_server.has_room() && self.to_client.is_empty() => {
                    read.map_err(server_failed)?;
                }
                drained = self.to_server.drain(server_write), if !self.to_server.is_empty() => {
                    if drained.is_err() {
                        // Before it closed the connection it may have said why: that is read first.
                        self.to_server.give_up();
                    }
                }
                drained = self.to_client.drain(client_write), if !self.to_client.is_empty() => {
                    if let Err(error) = drained {
                        return self.client_lost(error);
                    }
                }
                decision = decision(&mut self.hold), if self.hold.is_some() => self.hold_ends(decision)?,
            }
        }
    }

    /// How the session has ended when the server has closed the connection.
    fn server_closed(&self) -> Result<(), SessionEnd> {
        if self.terminated || self.half_closed {
            return Ok(());
        }
        Err(SessionEnd::Target("the server closed the connection".to_owned()))
    }

    /// How the session has ended when the client takes nothing any more.
    fn client_lost(&self, error: std::io::Error) -> Result<(), SessionEnd> {
        if self.terminated || !self.from_client.is_open() {
            return Ok(());
        }
        Err(client_failed(error))
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
            if self.client_may_speak()? {
                moved |= self.client_turn(client, server).await?;
            }
            if !moved {
                return Ok(());
            }
        }
    }

    /// Whether there is a message of the client to be worked off.
    fn client_may_speak(&mut self) -> Result<bool, SessionEnd> {
        if self.hold.is_some() || !self.to_server.is_empty() || self.to_server.is_lost() {
            return Ok(false);
        }
        while self.at_first_message {
            match self.from_client.take_password() {
                // It is for the target, which is logged in to already.
                Unasked::Password(secret) => self.stages.found(Sighting {
                    kind: SecretKind::Password,
                    at: SeenAt::Login {
                        user: self.user.to_owned(),
                    },
                    secret,
                })?,
                Unasked::Part => return Ok(false),
                Unasked::No => self.at_first_message = false,
            }
        }
        Ok(!self.from_client.bytes().is_empty())
    }

    async fn client_turn<C, T>(&mut self, client: &mut C, server: &mut T) -> Result<bool, SessionEnd>
    where
        C: AsyncWrite + Unpin,
        T: AsyncWrite + Unpin,
    {
        self.stages.ready().await?;
        let input = self.from_client.bytes();
        let outcome = self.relay.client(input, &mut self.turn);
        record(
            self.stages,
            FrameKind::ClientBytes,
            Direction::ToServer,
            &self.turn.record,
            input,
        )?;
        if send(&mut self.to_server, server, &self.turn.out, input).is_err() {
            self.to_server.give_up();
        }
        outcome.map_err(broken)?;
        let consumed = self.turn.consumed;
        self.stalled = self.turn.stalled;
        self.from_client.consume(consumed);
        self.events()?;
        match self.turn.ask.take() {
            Some(ask) => {
                self.answer(ask).await?;
                // A notice about a hold goes out at once, if the server is between messages.
                self.server_turn(client).await?;
                return Ok(true);
            }
            None if consumed == 0 && !self.stalled => self.from_client.grow(),
            None => {}
        }
        Ok(consumed > 0)
    }

    async fn server_turn<C: AsyncWrite + Unpin>(&mut self, client: &mut C) -> Result<bool, SessionEnd> {
        self.stages.ready().await?;
        let (offered, after) = self.whole.offer(self.from_server.bytes());
        let input = self.from_server.bytes().get(..offered).unwrap_or_default();
        let outcome = self.relay.server(input, &mut self.turn);
        let rows = self.relay.rows();
        if !self.turn.out.is_empty() {
            // Counted before it is sent: what passes a limit does not reach the client.
            self.stages
                .count(rows.saturating_sub(self.rows), self.turn.out.len() as u64)?;
            self.rows = rows;
            record(
                self.stages,
                FrameKind::ServerBytes,
                Direction::ToClient,
                &self.turn.out,
                input,
            )?;
            if let Err(error) = send(&mut self.to_client, client, &self.turn.out, input) {
                // Of a client that has ended its session it shows again when the rest is sent, and is no failure.
                if !self.terminated && self.from_client.is_open() {
                    return Err(client_failed(error));
                }
            }
            self.between_messages = self.relay.is_between_messages();
        }
        outcome.map_err(broken)?;
        let consumed = self.turn.consumed;
        self.whole = if consumed == offered {
            after
        } else {
            // The relay stops at a question between two messages, or inside of one that it takes in pieces.
            self.whole.advance(input.get(..consumed).unwrap_or_default())
        };
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
                    let command = self.stages.judged();
                    for column in columns {
                        let by = if column.mask.is_some() {
                            MaskedBy::Column
                        } else {
                            MaskedBy::Detector
                        };
                        self.stages.masked(command, &column.label, by, column.values)?;
                    }
                }
                Event::Completed { command, .. } => {
                    let effects = command.effects();
                    self.schema_changed |= [Effect::SchemaCreate, Effect::SchemaAlter, Effect::SchemaDestroy]
                        .into_iter()
                        .any(|effect| effects.contains(effect));
                }
                Event::Ready(status) => {
                    self.said = false;
                    if self.relay.has_written() {
                        self.writing_since.get_or_insert_with(SystemTime::now);
                    } else {
                        self.writing_since = None;
                    }
                    // What a transaction has changed, the catalog's own session sees when it has ended.
                    if self.schema_changed {
                        self.schema_changed = status != TransactionStatus::Idle;
                        self.catalog.forget();
                    }
                }
                Event::Terminated => self.terminated = true,
                // Commands, verdicts and the bytes of errors are on record already.
                Event::Refused { .. } => {}
                Event::Failed { code } => self.said = is_last_word(&code),
            }
        }
        Ok(())
    }

    async fn answer(&mut self, ask: Ask) -> Result<(), SessionEnd> {
        match ask {
            Ask::Relations { oids, names, anew } => {
                if anew {
                    let found = self.catalog.relations_anew(self.stages, &names).await?;
                    self.relay.resolved(found);
                } else if !names.is_empty() {
                    let found = self.catalog.relations_named(self.stages, &names).await?;
                    self.relay.resolved(found);
                } else if oids.is_empty() {
                    self.relay.resolved(Vec::new());
                } else {
                    let found = self.catalog.relations_by_oid(self.stages, &oids).await?;
                    self.relay.described(found);
                }
            }
            Ask::Judge {
                command,
                parameters,
                at,
            } => {
                let occasion = match at {
                    JudgedAt::Query | JudgedAt::Bind => Occasion::Run(&parameters),
                    JudgedAt::Parse | JudgedAt::Execute => Occasion::Check,
                };
                let ruling = self.stages.judge(&command, occasion)?;
                self.relay.ruled(ruling);
            }
            Ask::Hold {
                command,
                parameters,
                binding,
                terms,
                written,
            } => {
                let approvers = terms.approvers.join(", ");
                let writing_since = written.then(|| self.writing_since.unwrap_or_else(SystemTime::now));
                let placed = self.stages.hold(HoldRequest {
                    command,
                    parameters,
                    binding,
                    terms,
                    writing_since,
                })?;
                if writing_since.is_none() {
                    self.relay.notice(
                        &format!("tollgate: this command is held as {} until it is approved by one of: {approvers}", placed.id),
                        &format!("an approver runs: tollgate approve {}", placed.id),
                    );
                }
                self.hold = Some(Waiting {
                    placed,
                    cancel: self.cancel.begin_hold(),
                });
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
    /// message, and not where the server has said so already.
    async fn farewell<C: AsyncWrite + Unpin>(&mut self, client: &mut C, end: &SessionEnd) {
        if !self.between_messages || self.said && matches!(end, SessionEnd::Target(_)) {
            return;
        }
        let fatal = fatal(end).encode();
        if self
            .stages
            .record(FrameKind::ServerBytes, Direction::ToClient, &[&fatal])
            .is_err()
            && !matches!(end, SessionEnd::Record(_))
        {
            return;
        }
        if self.to_client.send(client, &[IoSlice::new(&fatal)]).is_ok() {
            // A client that does not read is not waited for.
            timeout(LAST_WORDS, self.to_client.drain(client)).await.ok();
        }
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
