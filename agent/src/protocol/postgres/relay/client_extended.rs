//! `Bind`, `Execute`, `Describe` and `Close`: the messages that work on what was prepared.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::super::wire::{Bind, Described, Execute, Header, MAX_WHOLE, Target};
use super::client::{Front, Step};
use super::client_text::{Decision, no_room};
use super::masking::{Classify, Masking};
use super::names::{Lookup, identifier};
use super::parameters::shown;
use super::queue::Expect;
use super::refusal::Refusal;
use super::rows::Formats;
use super::turn::Turn;
use super::unit::{Portal, Refers, Unit, bind};
use super::{ProtocolError, Relay, Stage, Work};

impl<M: Masking, C: Classify> Relay<'_, M, C> {
    pub(super) fn bind(&mut self, front: Front<'_>, turn: &mut Turn) -> Result<Step, ProtocolError> {
        let large = front.header.size() > MAX_WHOLE;
        let message = match front.whole() {
            Some((message, _)) if !large => message,
            None if large && front.here() >= NAMED => front.rest.get(..front.here()).unwrap_or_default(),
            Some((message, _)) => message,
            None => return Ok(Step::More),
        };
        let body = message.get(Header::SIZE..).unwrap_or_default();
        let (portal_name, statement) = Bind::names(body).map_err(ProtocolError::ClientFormat)?;
        match std::mem::take(&mut self.stage) {
            Stage::Fresh => {
                let unit = match self.statements.look(statement, self.epoch) {
                    Lookup::Known(unit) => match self.still_refers(&unit) {
                        Some(true) => unit,
                        Some(false) => self.changed(),
                        None => return Ok(self.stall(turn)),
                    },
                    Lookup::Unknown => {
                        let why = "Bind of a prepared statement that this session has not prepared";
                        Arc::new(Unit::unknown(self.masks, "", why, bind(&[0; 32], statement)))
                    }
                    Lookup::Wait => return Ok(self.stall(turn)),
                };
                let mut portal = Portal::of(unit, self.epoch);
                if !large {
                    let decoded = Bind::decode(body).map_err(ProtocolError::ClientFormat)?;
                    portal.parameters = shown(self.masks, &decoded, &portal.unit.types);
                    portal.hash = bind(&portal.unit.hash, body);
                    let _ = portal.formats.set(Formats::of_codes(decoded.results));
                }
                Ok(self.judge(front, Work::Portal(Arc::new(portal)), turn))
            }
            stage => {
                let Some((work, decision)) = self.decide(message, stage, turn) else {
                    if large && matches!(self.stage, Stage::Holding(_)) {
                        turn.ask = None;
                        return Ok(self.refuse(
                            front,
                            Refusal::too_long("what has to be approved"),
                            &[],
                            turn,
                        ));
                    }
                    return Ok(Step::Stop);
                };
                Ok(match (work, decision) {
                    (_, Decision::Refuse(refusal)) => self.refuse(front, refusal, &[], turn),
                    (Work::Portal(_), Decision::Run) if !self.portals.has_room() => {
                        self.refuse(front, no_room(), &[], turn)
                    }
                    (Work::Portal(portal), Decision::Run) => {
                        let name = portal_name.into();
                        let serial = self.queue.push(Expect::Bind {
                            name,
                            portal: Arc::clone(&portal),
                        });
                        self.portals.pend(portal_name, portal, serial, self.epoch);
                        self.pass(front, turn)
                    }
                    (Work::Text(_), Decision::Run) => Step::Stop,
                })
            }
        }
    }

    pub(super) fn execute(&mut self, front: Front<'_>, turn: &mut Turn) -> Result<Step, ProtocolError> {
        let Some((message, body)) = front.whole() else {
            return Ok(Step::More);
        };
        let execute = Execute::decode(body).map_err(ProtocolError::ClientFormat)?;
        let portal = match std::mem::take(&mut self.stage) {
            Stage::Fresh => match self.portals.look(execute.portal, self.epoch) {
                // Judged with its Bind, and nothing can have changed since.
                Lookup::Known(portal)
                    if portal.epoch == self.epoch
                        && !portal.cursor
                        && !portal.executed.load(Ordering::Relaxed) =>
                {
                    portal
                }
                Lookup::Known(portal) => {
                    let Some(same) = self.still_refers(&portal.unit) else {
                        return Ok(self.stall(turn));
                    };
                    let portal = if same {
                        portal
                    } else {
                        Arc::new(Portal::of(self.changed(), self.epoch))
                    };
                    return Ok(self.judge(front, Work::Portal(portal), turn));
                }
                Lookup::Unknown => {
                    let why = "Execute of a portal that this session has not bound";
                    let unit = Unit::unknown(self.masks, "", why, bind(&[1; 32], execute.portal));
                    let portal = Arc::new(Portal::of(Arc::new(unit), self.epoch));
                    return Ok(self.judge(front, Work::Portal(portal), turn));
                }
                Lookup::Wait => return Ok(self.stall(turn)),
            },
            stage => match self.decide(message, stage, turn) {
                Some((_, Decision::Refuse(refusal))) => return Ok(self.refuse(front, refusal, &[], turn)),
                Some((Work::Portal(portal), Decision::Run)) => portal,
                Some((Work::Text(_), Decision::Run)) | None => return Ok(Step::Stop),
            },
        };
        portal.executed.store(true, Ordering::Relaxed);
        if self.needs_description(&portal) {
            portal.describe_in(self.epoch);
            let described = Described {
                target: Target::Portal,
                name: execute.portal,
            };
            turn.out.make(|out| described.encode(Described::DESCRIBE, out));
            let portal = Some(Arc::clone(&portal));
            self.queue.push(Expect::DescribePortal {
                portal,
                injected: true,
            });
        }
        let serial = self.queue.next_serial();
        self.runs(&portal.unit, serial);
        self.queue.push(Expect::Execute {
            portal,
            copying: false,
        });
        Ok(self.pass(front, turn))
    }

    /// Whether the names that a unit looks up when it runs stand for what they stood for when it was judged.
    /// `None`: not known yet.
    fn still_refers(&self, unit: &Unit) -> Option<bool> {
        for (name, refers) in &unit.refers {
            let name = identifier(name);
            let same = match refers {
                Refers::Statement(Some(then)) => match self.statements.look(name, self.epoch) {
                    Lookup::Known(now) => Arc::ptr_eq(then, &now),
                    Lookup::Unknown => false,
                    Lookup::Wait => return None,
                },
                Refers::Cursor(Some(then)) => match self.portals.look(name, self.epoch) {
                    Lookup::Known(now) => Arc::ptr_eq(then, &now),
                    Lookup::Unknown => false,
                    Lookup::Wait => return None,
                },
                // Judged as unknown, whatever it is.
                Refers::Nothing | Refers::Statement(None) | Refers::Cursor(None) => true,
            };
            if !same {
                return Some(false);
            }
        }
        Some(true)
    }

    fn changed(&self) -> Arc<Unit> {
        let why = "it names a prepared statement or a cursor that is another one by now";
        Arc::new(Unit::unknown(self.masks, "", why, bind(&[2; 32], b"")))
    }

    /// Whether the rows of a portal could not be read without asking the server for their shape.
    fn needs_description(&self, portal: &Portal) -> bool {
        if self.masks.is_empty() {
            return false;
        }
        let known = portal.plan.get().is_some() && portal.formats.get().is_some();
        !known && !portal.unit.is_rowless() && !portal.is_described_in(self.epoch)
    }

    pub(super) fn describe(&mut self, front: Front<'_>, turn: &mut Turn) -> Result<Step, ProtocolError> {
        let Some((_, body)) = front.whole() else {
            return Ok(Step::More);
        };
        let described = Described::decode(body).map_err(ProtocolError::ClientFormat)?;
        let expect = match described.target {
            Target::Statement => match self.statements.look(described.name, self.epoch) {
                Lookup::Known(_) | Lookup::Unknown => Expect::DescribeStatement,
                Lookup::Wait => return Ok(self.stall(turn)),
            },
            Target::Portal => {
                let portal = match self.portals.look(described.name, self.epoch) {
                    Lookup::Known(portal) => {
                        portal.describe_in(self.epoch);
                        Some(portal)
                    }
                    Lookup::Unknown => None,
                    Lookup::Wait => return Ok(self.stall(turn)),
                };
                Expect::DescribePortal {
                    portal,
                    injected: false,
                }
            }
        };
        self.queue.push(expect);
        Ok(self.pass(front, turn))
    }

    pub(super) fn close(&mut self, front: Front<'_>, turn: &mut Turn) -> Result<Step, ProtocolError> {
        let Some((_, body)) = front.whole() else {
            return Ok(Step::More);
        };
        let Described { target, name } = Described::decode(body).map_err(ProtocolError::ClientFormat)?;
        self.queue.push(Expect::Close {
            target,
            name: name.into(),
        });
        Ok(self.pass(front, turn))
    }
}

/// Bytes of an over-long `Bind` within which its two names have to end: identifiers are cut at 63 bytes.
const NAMED: usize = 4096;
