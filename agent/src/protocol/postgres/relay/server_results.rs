//! Results of statements on their way to the client: descriptions, rows, COPY data, ends of commands.

use std::sync::Arc;

use crate::model::Effect;

use super::super::wire::{CommandComplete, CopyResponse, Header, MAX_WHOLE, RowDescription};
use super::client::Front;
use super::copy_out::CopyOut;
use super::lineage::{CopyShadow, Shadow, Treat};
use super::long_row::{LongRow, LongRowError};
use super::masking::{Classify, Masking};
use super::names::identifier;
use super::queue::Expect;
use super::rows::{Active, Formats, RowPlan, plan, tables};
use super::server::Answer;
use super::turn::{Ask, Event, MaskCount, Turn};
use super::unit::{Defined, Unit, opaque};
use super::{Describing, ProtocolError, Relay};

impl<'m, M: Masking, C: Classify> Relay<'m, M, C> {
    pub(super) fn row(&mut self, front: Front<'_>, turn: &mut Turn) -> Result<Answer, ProtocolError> {
        if self.masks.is_empty() {
            return match self.queue.front().map(|due| &due.what) {
                Some(Expect::Query { .. } | Expect::Execute { .. }) => {
                    self.rows += 1;
                    Ok(Answer::Pass)
                }
                _ => Err(self.undue("a row")),
            };
        }
        if self.active.is_none() {
            self.begin_rows()?;
        }
        let Some(active) = self.active.as_mut().filter(|active| active.plan.reads) else {
            self.rows += 1;
            return Ok(Answer::Pass);
        };
        if front.header.size() > MAX_WHOLE {
            turn.out.input(front.at..front.at + Header::SIZE);
            self.rows += 1;
            self.long_row = Some(LongRow::new(front.header.body, Arc::clone(&active.plan)));
            return Ok(Answer::Part(Header::SIZE));
        }
        let Some((_, body)) = front.whole() else {
            return Ok(Answer::More);
        };
        let masks = self.masks;
        let buffer = &mut self.value_buffer;
        let changed = turn
            .out
            .make(|out| active.rewrite(masks, body, buffer, out))
            .map_err(ProtocolError::ServerFormat)?;
        self.rows += 1;
        Ok(if changed { Answer::Done } else { Answer::Pass })
    }

    /// The first row of a result: how its rows are treated has to be known by now.
    fn begin_rows(&mut self) -> Result<(), ProtocolError> {
        let active = match self.queue.front().map(|due| &due.what) {
            Some(Expect::Execute { portal, .. }) => {
                let (Some(plan), Some(formats)) = (portal.plan.get(), portal.formats.get()) else {
                    return Err(ProtocolError::server(
                        "the server sent rows of a statement that returns none",
                    ));
                };
                Active::new(Arc::clone(plan), formats.clone())
            }
            // The rows of a query follow their description.
            _ => return Err(self.undue("a row")),
        };
        self.active = Some(active);
        Ok(())
    }

    /// Ends the rows of a result; tells what was masked in them.
    pub(super) fn finish_rows(&mut self, turn: &mut Turn) {
        let Some(active) = self.active.take() else {
            return;
        };
        let columns: Vec<_> = active
            .plan
            .columns
            .iter()
            .zip(&active.counts)
            .enumerate()
            .filter(|(_, (_, values))| **values > 0)
            .map(|(index, (column, values))| MaskCount {
                column: index,
                label: column.label.clone(),
                mask: match column.treat {
                    Treat::Mask(id) => Some(id),
                    Treat::Pass | Treat::Null => None,
                },
                values: *values,
            })
            .collect();
        if columns.is_empty() {
            return;
        }
        let command = match self.queue.front().map(|due| &due.what) {
            Some(Expect::Query { unit, .. }) => Arc::clone(&unit.command),
            Some(Expect::Execute { portal, .. }) => Arc::clone(&portal.unit.command),
            _ => return,
        };
        turn.events.push(Event::Masked { command, columns });
    }

    pub(super) fn description(&mut self, body: &[u8], turn: &mut Turn) -> Result<Answer, ProtocolError> {
        let description = RowDescription::decode(body).map_err(ProtocolError::ServerFormat)?;
        let reads = !self.masks.is_empty();
        let shadow = match self.queue.front().map(|due| &due.what) {
            Some(Expect::Query { unit, index, .. }) if self.active.is_none() => unit.shadows.get(*index),
            // Whoever executes it is told by the description of the portal.
            Some(Expect::DescribeStatement) => {
                self.queue.pop();
                return Ok(Answer::Pass);
            }
            Some(Expect::DescribePortal { portal, .. }) => {
                portal.as_ref().and_then(|portal| portal.unit.shadows.first())
            }
            _ => return Err(self.undue("RowDescription")),
        };
        let shadow = shadow.map(Arc::clone);
        let made = if reads {
            let oids = if self.masks.has_columns() {
                tables(&description)
            } else {
                Vec::new()
            };
            let relations = match std::mem::take(&mut self.describing) {
                Describing::Answered(relations) => relations,
                Describing::No | Describing::Asked if oids.is_empty() => Vec::new(),
                Describing::No | Describing::Asked => {
                    self.describing = Describing::Asked;
                    turn.ask = Some(Ask::Relations {
                        oids,
                        names: Vec::new(),
                        anew: false,
                    });
                    return Ok(Answer::Stop);
                }
            };
            let unknown;
            let shadow: &Shadow = if let Some(shadow) = &shadow {
                shadow
            } else {
                unknown = opaque(self.masks);
                &unknown
            };
            Some(Arc::new(plan(self.masks, &description, shadow, &relations)))
        } else {
            None
        };
        Ok(self.described_rows(&description, made))
    }

    /// A description, and the plan made of it where there are masks, for the answer that comes next.
    fn described_rows(&mut self, description: &RowDescription<'_>, made: Option<Arc<RowPlan>>) -> Answer {
        let mut hidden = false;
        match self.queue.front().map(|due| &due.what) {
            Some(Expect::Query { .. }) => {
                self.active = made.map(|plan| Active::new(plan, Formats::of_description(description)));
                return Answer::Pass;
            }
            Some(Expect::DescribePortal { portal, injected }) => {
                hidden = *injected;
                if let (Some(portal), Some(plan)) = (portal, made) {
                    let _ = portal.plan.set(plan);
                    let _ = portal.formats.set(Formats::of_description(description));
                }
            }
            _ => {}
        }
        self.queue.pop();
        if hidden { Answer::Done } else { Answer::Pass }
    }

    pub(super) fn complete(&mut self, body: &[u8], turn: &mut Turn) -> Result<Answer, ProtocolError> {
        let complete = CommandComplete::decode(body).map_err(ProtocolError::ServerFormat)?;
        self.finish_rows(turn);
        self.copy_ended(turn);
        let (unit, index, serial) = match self.queue.front().map(|due| (due.serial, &mut due.what)) {
            Some((
                serial,
                Expect::Query {
                    unit, index, copying, ..
                },
            )) => {
                let this = *index;
                *index = index.saturating_add(1);
                *copying = false;
                (Arc::clone(unit), this, serial)
            }
            Some((serial, Expect::Execute { portal, .. })) => {
                let unit = Arc::clone(&portal.unit);
                self.queue.pop();
                (unit, 0, serial)
            }
            _ => return Err(self.undue("CommandComplete")),
        };
        self.copy_in = false;
        self.wrote |= unit.traits.writes;
        for define in unit.defines.iter().filter(|define| define.statement == index) {
            let name = identifier(&define.name);
            match &define.what {
                Defined::Statement(made) => self.statements.confirm(name, made, serial),
                Defined::Cursor(made) => self.portals.confirm(name, made, serial),
            }
        }
        if unit.traits.creates {
            self.created(&unit, complete.tag);
        }
        let tag = String::from_utf8(complete.tag.to_vec()).unwrap_or_default();
        if tag == "DISCARD ALL" || tag == "DEALLOCATE ALL" {
            self.statements.keep_confirmed(|_, _| false);
        }
        turn.events.push(Event::Completed {
            command: Arc::clone(&unit.command),
            tag,
        });
        Ok(Answer::Pass)
    }

    /// Remembers a table made in the open transaction, which the catalog cannot see yet. It holds nothing that a mask
    /// protects: filling it with that would be a declassification.
    fn created(&mut self, unit: &Unit, tag: &[u8]) {
        let plain = tag == b"CREATE TABLE" || tag.starts_with(b"SELECT ");
        let effects = unit.command.effects();
        // A partition or an heir of a table that is there already shows rows of it.
        let heir = effects.contains(Effect::SchemaAlter);
        if !plain || heir || effects.contains(Effect::Declassify) || self.fresh.len() >= MOST_FRESH {
            return;
        }
        for action in unit
            .command
            .actions
            .iter()
            .filter(|action| action.effect == Effect::SchemaCreate)
        {
            if let Some(object) = &action.object {
                self.fresh.insert(Arc::clone(&object.name));
            }
        }
    }

    pub(super) fn copy_response(
        &mut self,
        tag: u8,
        body: &[u8],
        turn: &mut Turn,
    ) -> Result<Answer, ProtocolError> {
        let reads = !self.masks.is_empty();
        match (tag, self.queue.front().map(|due| &mut due.what)) {
            (CopyResponse::IN, Some(Expect::Query { copying, .. } | Expect::Execute { copying, .. })) => {
                *copying = true;
                self.copy_in = !self.queue.copy_begins();
                Ok(Answer::Pass)
            }
            (CopyResponse::OUT, Some(Expect::Query { .. } | Expect::Execute { .. })) if !reads => {
                Ok(Answer::Pass)
            }
            (CopyResponse::OUT, Some(Expect::Query { unit, index, .. })) => {
                let shadow = unit.shadows.get(*index).map(Arc::clone);
                self.begin_copy(shadow.as_deref(), body)
            }
            (CopyResponse::OUT, Some(Expect::Execute { portal, .. })) => {
                let shadow = portal.unit.shadows.first().map(Arc::clone);
                self.begin_copy(shadow.as_deref(), body)
            }
            (b'c', Some(Expect::Query { .. } | Expect::Execute { .. })) => {
                self.copy_ended(turn);
                Ok(Answer::Pass)
            }
            _ => Err(self.undue("a COPY message")),
        }
    }

    fn begin_copy(&mut self, shadow: Option<&Shadow>, body: &[u8]) -> Result<Answer, ProtocolError> {
        let response = CopyResponse::decode(body).map_err(ProtocolError::ServerFormat)?;
        let Some(CopyShadow::Columns(treats, format)) = shadow.map(|shadow| &shadow.copy) else {
            return Err(ProtocolError::server(
                "the server sends COPY data of a statement that could not be understood, so they cannot be masked",
            ));
        };
        if treats.is_empty() && !self.masks.has_detectors() {
            return Ok(Answer::Pass);
        }
        if !self.bytes_are_plain {
            return Err(ProtocolError::server(
                "the server sends COPY data in an encoding in which they cannot be masked",
            ));
        }
        if !treats.is_empty() && treats.len() != response.columns {
            return Err(ProtocolError::server(
                "the COPY has other columns than the catalog knows; name its columns",
            ));
        }
        self.copy_out = CopyOut::new(self.masks, Arc::clone(treats), *format).filter(|_| !response.binary);
        match self.copy_out {
            Some(_) => Ok(Answer::Pass),
            None => Err(ProtocolError::server(
                "the server sends COPY data in another format than was asked for",
            )),
        }
    }

    pub(super) fn copy_data(&mut self, front: Front<'_>) -> Result<Answer, ProtocolError> {
        match self.queue.front().map(|due| &due.what) {
            Some(Expect::Query { .. } | Expect::Execute { .. }) => {}
            _ => return Err(self.undue("COPY data")),
        }
        self.rows += 1;
        if self.copy_out.is_none() {
            return Ok(Answer::Pass);
        }
        self.copy_left = front.header.body;
        Ok(Answer::Part(Header::SIZE))
    }

    /// Bytes of the body of a `CopyData` message that is masked; gives how many were taken.
    pub(super) fn copy_body(&mut self, rest: &[u8], turn: &mut Turn) -> Result<usize, ProtocolError> {
        let count = rest.len().min(self.copy_left).min(COPY_PIECE);
        let data = rest.get(..count).unwrap_or_default();
        self.copy_left -= count;
        match &mut self.copy_out {
            Some(copy) => {
                turn.out
                    .make(|out| copy.take(data, out))
                    .map_err(ProtocolError::server)?;
                Ok(count)
            }
            None => Err(ProtocolError::server("COPY data end within a message")),
        }
    }

    /// Bytes of the body of a row that is masked in pieces; gives how many were taken.
    pub(super) fn row_body(
        &mut self,
        rest: &[u8],
        at: usize,
        turn: &mut Turn,
    ) -> Result<usize, ProtocolError> {
        let (Some(row), Some(active)) = (&mut self.long_row, &mut self.active) else {
            return Err(ProtocolError::server("a row has no description"));
        };
        let masks: &'m M = self.masks;
        let count = row.take(masks, active, rest, at, &mut turn.out).map_err(|error| match error {
            LongRowError::Format(error) => ProtocolError::ServerFormat(error),
            LongRowError::Unmaskable => ProtocolError::server(
                "a row of more than 1 MiB has a masked value of a type that cannot be overwritten in place",
            ),
        })?;
        if row.is_done() {
            self.long_row = None;
        }
        Ok(count)
    }

    /// COPY data from the server have ended, or failed.
    pub(super) fn copy_ended(&mut self, turn: &mut Turn) {
        let Some(copy) = self.copy_out.take() else {
            return;
        };
        let columns = turn.out.make(|out| copy.finish(out));
        let command = match self.queue.front().map(|due| &due.what) {
            Some(Expect::Query { unit, .. }) => Arc::clone(&unit.command),
            Some(Expect::Execute { portal, .. }) => Arc::clone(&portal.unit.command),
            _ => return,
        };
        if !columns.is_empty() {
            turn.events.push(Event::Masked { command, columns });
        }
    }
}

/// Bytes of COPY data that are masked at a time: what a call makes stays small.
const COPY_PIECE: usize = 64 << 10;

/// The plan of a statement that the server says returns no rows.
pub(super) fn no_rows() -> Arc<RowPlan> {
    Arc::new(RowPlan {
        columns: Vec::new(),
        reads: false,
    })
}

const MOST_FRESH: usize = 1000;
