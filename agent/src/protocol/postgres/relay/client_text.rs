//! `Query` and `Parse`: the two messages that carry a text, from its bytes to a verdict.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::policy::Ruling;
use crate::protocol::HoldOutcome;
use crate::protocol::sql::{Batch, LexState, SessionChange};

use super::super::wire::{Header, MAX_WHOLE, Parse, Query, WireError, frame};
use super::client::{Front, Step};
use super::lineage::Scope;
use super::masking::{Classify, Masking};
use super::names::{Lookup, identifier};
use super::queue::Expect;
use super::refusal::Refusal;
use super::turn::{Ask, Turn};
use super::unit::{Defined, Draft, Refers, Unit, alters, bind};
use super::{ProtocolError, Relay, Stage, Work};

/// What the bytes of a text are.
enum Lexed<'a> {
    Text(&'a str),
    /// Nobody can tell how the server will read it.
    Unknown(&'static str),
    /// The answers on their way decide how the server will read it.
    Wait,
}

/// What the verdict makes of a message.
pub(super) enum Decision {
    Run,
    Refuse(Refusal),
}

struct Words<'a> {
    text: &'a [u8],
    name: &'a [u8],
    types: &'a [u8],
}

fn decode<'a>(front: Front<'a>, body: &'a [u8]) -> Result<Words<'a>, WireError> {
    if front.header.tag == Query::TAG {
        Query::decode(body).map(|query| Words {
            text: query.text,
            name: &[],
            types: &[],
        })
    } else {
        Parse::decode(body).map(|parse| Words {
            text: parse.text,
            name: parse.name,
            types: parse.types,
        })
    }
}

impl<M: Masking, C: Classify> Relay<'_, M, C> {
    pub(super) fn text(&mut self, front: Front<'_>, turn: &mut Turn) -> Result<Step, ProtocolError> {
        let is_query = front.header.tag == Query::TAG;
        if front.header.size() > MAX_WHOLE {
            // The name of a Parse has to be there before it can be refused under that name.
            if !is_query && front.here() < front.header.size().min(NAMED) {
                return Ok(Step::More);
            }
            let what = if is_query { "the query" } else { "the statement" };
            return Ok(self.refuse(front, Refusal::too_long(what), &[], turn));
        }
        let Some((message, body)) = front.whole() else {
            return Ok(Step::More);
        };
        let words = decode(front, body).map_err(ProtocolError::ClientFormat)?;
        let unit = match std::mem::take(&mut self.stage) {
            Stage::Fresh => match self.draft(&words) {
                Ok(draft) => {
                    let names = draft.names(self.masks);
                    if !names.is_empty() {
                        turn.ask = Some(Ask::Relations {
                            oids: Vec::new(),
                            names,
                            anew: false,
                        });
                        self.stage = Stage::Resolving(draft);
                        return Ok(Step::Stop);
                    }
                    self.unit(draft, &[])
                }
                Err(Some(unit)) => *unit,
                Err(None) => return Ok(self.stall(turn)),
            },
            Stage::Resolved(draft, relations) if draft.doubts(&self.scope(&relations)) => {
                turn.ask = Some(Ask::Relations {
                    oids: Vec::new(),
                    names: draft.names(self.masks),
                    anew: true,
                });
                self.stage = Stage::Resolving(Draft { anew: true, ..draft });
                return Ok(Step::Stop);
            }
            Stage::Resolved(draft, relations) => self.unit(draft, &relations),
            stage => return Ok(self.decided(front, message, &words, stage, turn)),
        };
        Ok(self.judge(front, Work::Text(Arc::new(unit)), turn))
    }

    fn decided(
        &mut self,
        front: Front<'_>,
        message: &[u8],
        words: &Words<'_>,
        stage: Stage,
        turn: &mut Turn,
    ) -> Step {
        let Some((work, decision)) = self.decide(message, stage, turn) else {
            return Step::Stop;
        };
        match (work, decision) {
            (work, Decision::Refuse(refusal)) => self.refuse(front, refusal, &work.unit().secrets, turn),
            (Work::Text(unit), Decision::Run) if front.header.tag == Query::TAG => {
                let serial = self.queue.next_serial();
                let epoch = self.epoch;
                self.runs(&unit, serial);
                let step = self.recorded(front, true, words, &unit.secrets, turn);
                self.queue.push(Expect::Query {
                    unit,
                    index: 0,
                    epoch,
                    copying: false,
                });
                self.epoch += 1;
                step
            }
            (Work::Text(unit), Decision::Run) => {
                if !self.statements.has_room() {
                    return self.refuse(front, no_room(), &unit.secrets, turn);
                }
                let step = self.recorded(front, true, words, &unit.secrets, turn);
                let expect = Expect::Parse {
                    name: words.name.into(),
                    unit: Arc::clone(&unit),
                };
                let serial = self.queue.push(expect);
                self.statements.pend(words.name, unit, serial, self.epoch);
                step
            }
            (Work::Portal(_), Decision::Run) => Step::Stop,
        }
    }

    /// What becomes of the message at the front after the answer that `stage` holds. `None`: there is no answer.
    pub(super) fn decide(
        &mut self,
        message: &[u8],
        stage: Stage,
        turn: &mut Turn,
    ) -> Option<(Work, Decision)> {
        let is_parse = message.first() == Some(&Parse::TAG);
        let (work, ruling) = match stage {
            Stage::Ruled(work, ruling) => (work, ruling),
            Stage::Held(work, outcome) => {
                let decision = match outcome {
                    HoldOutcome::Approved(_, binding) if binding == bind(work.hash(), message) => {
                        if let Work::Portal(portal) = &work {
                            portal.approved.store(true, Ordering::Relaxed);
                        }
                        Decision::Run
                    }
                    HoldOutcome::Approved(..) => Decision::Refuse(Refusal {
                        code: "42501",
                        message: "the command is not the one that was approved".to_owned(),
                        hint: "ask for approval again".to_owned(),
                    }),
                    HoldOutcome::Refused(denied) => Decision::Refuse(Refusal::policy(&denied)),
                    HoldOutcome::Cancelled => Decision::Refuse(Refusal::cancelled()),
                };
                return Some((work, decision));
            }
            stage => {
                self.stage = stage;
                return None;
            }
        };
        let unit = work.unit();
        let doubtful = !self.bytes_are_plain
            || unit.traits.lexing
            || self.lexing_in.is_some_and(|epoch| epoch >= self.settled);
        let obstacle = if doubtful && unit.masks_copy(self.masks) {
            Some("set client_encoding to UTF8, and wait for its answer")
        } else {
            unit.obstacle
        };
        let decision = match (ruling, obstacle) {
            (Ruling::Deny(denied), _) => Decision::Refuse(Refusal::policy(&denied)),
            (_, Some(hint)) => Decision::Refuse(Refusal::unsupported(
                "the data of this COPY cannot be masked as the policy asks",
                hint,
            )),
            (Ruling::Allow(_), None) => Decision::Run,
            // It only runs when it is bound.
            (Ruling::Hold(_), None) if is_parse => Decision::Run,
            (Ruling::Hold(terms), None) => {
                let approved = match &work {
                    Work::Text(_) => false,
                    Work::Portal(portal) => portal.approved.load(Ordering::Relaxed),
                };
                if approved {
                    Decision::Run
                } else {
                    let parameters = match &work {
                        Work::Text(_) => Vec::new(),
                        Work::Portal(portal) => portal.parameters.clone(),
                    };
                    turn.ask = Some(Ask::Hold {
                        command: Arc::clone(&unit.command),
                        parameters,
                        binding: bind(work.hash(), message),
                        terms,
                        written: self.has_written(),
                    });
                    self.stage = Stage::Holding(work);
                    return None;
                }
            }
        };
        Some((work, decision))
    }

    fn lex<'a>(&self, text: &'a [u8]) -> Lexed<'a> {
        let ascii = text.is_ascii();
        let plain = ascii && memchr::memchr(b'\\', text).is_none();
        // What is in flight may fail, and with it would fall the settings that its transaction has made.
        if self.lexing_touched && !plain && self.settled < self.epoch {
            return Lexed::Wait;
        }
        match self.lexing_in {
            Some(epoch) if !plain && epoch >= self.settled => {
                return if epoch < self.epoch {
                    Lexed::Wait
                } else {
                    Lexed::Unknown(CHANGED)
                };
            }
            _ => {}
        }
        if !ascii && !self.utf8 {
            return Lexed::Unknown("its encoding is not UTF-8");
        }
        match std::str::from_utf8(text) {
            Ok(text) => Lexed::Text(text),
            Err(_) => Lexed::Unknown("it is not valid UTF-8"),
        }
    }

    /// The text, classified; or a unit of which nothing is known; or nothing yet.
    fn draft(&mut self, words: &Words<'_>) -> Result<Draft, Option<Box<Unit>>> {
        let hash = bind(&[0; 32], words.text);
        let hash = bind(&hash, words.types);
        let text = match self.lex(words.text) {
            Lexed::Text(text) => text,
            Lexed::Wait => return Err(None),
            Lexed::Unknown(why) => {
                let secret = guessed_secret(words.text);
                let shown = words
                    .text
                    .get(..secret.start)
                    .unwrap_or_default()
                    .escape_ascii()
                    .to_string();
                let mut unit = Unit::unknown(self.masks, &shown, why, hash);
                unit.secrets.extend((!secret.is_empty()).then_some(secret));
                return Err(Some(Box::new(unit)));
            }
        };
        let lex = LexState {
            standard_conforming_strings: self.standard_conforming_strings,
        };
        let batch = self.classify.classify(text, lex);
        let refers = self.refers(&batch).ok_or(None)?;
        Ok(Draft {
            batch,
            hash,
            types: words.types.into(),
            refers,
            anew: false,
        })
    }

    /// What EXECUTE and FETCH refer to, names made by the same text included. `None`: not known yet.
    fn refers(&self, batch: &Batch) -> Option<Vec<Refers>> {
        let plain = |change: &SessionChange| {
            !matches!(
                change,
                SessionChange::Execute { .. } | SessionChange::Fetch { .. }
            )
        };
        if batch.statements.iter().all(|statement| plain(&statement.session)) {
            return Some(Vec::new());
        }
        let mut all = Vec::with_capacity(batch.statements.len());
        let mut made: Vec<(&str, bool)> = Vec::new();
        for statement in &batch.statements {
            all.push(match &statement.session {
                // What the same text makes is judged with it, but its result's shape is not carried over.
                SessionChange::Prepare { name, .. } => {
                    made.push((name, true));
                    Refers::Nothing
                }
                SessionChange::Declare { name, .. } => {
                    made.push((name, false));
                    Refers::Nothing
                }
                SessionChange::Execute { name } if made.contains(&(&**name, true)) => Refers::Cursor(None),
                SessionChange::Fetch { name } if made.contains(&(&**name, false)) => Refers::Cursor(None),
                SessionChange::Execute { name } => match self.statements.look(identifier(name), self.epoch) {
                    Lookup::Known(unit) => Refers::Statement(Some(unit)),
                    Lookup::Unknown => Refers::Statement(None),
                    Lookup::Wait => return None,
                },
                SessionChange::Fetch { name } => match self.portals.look(identifier(name), self.epoch) {
                    Lookup::Known(portal) => Refers::Cursor(Some(portal)),
                    Lookup::Unknown => Refers::Cursor(None),
                    Lookup::Wait => return None,
                },
                SessionChange::None => Refers::Nothing,
            });
        }
        Some(all)
    }

    fn scope<'a>(&'a self, relations: &'a [Arc<super::Relation>]) -> Scope<'a, M> {
        Scope {
            masks: self.masks,
            relations,
            fresh: &self.fresh,
            altered: &self.altered,
        }
    }

    fn unit(&self, draft: Draft, relations: &[Arc<super::Relation>]) -> Unit {
        draft.unit(&self.scope(relations), self.epoch)
    }

    /// A unit is on its way to the server, where it will run as answer number `serial`.
    pub(super) fn runs(&mut self, unit: &Unit, serial: u64) {
        if unit.traits.names {
            self.statements.forget(|_| true);
            self.portals.forget(|_| true);
        } else if unit.traits.cursors {
            self.portals.forget(|portal| portal.cursor);
        }
        if unit.traits.lexing || (unit.traits.transaction && self.lexing_touched) {
            self.lexing_in = Some(self.epoch);
        }
        for action in &unit.command.actions {
            if let Some(object) = action
                .object
                .as_ref()
                .filter(|object| alters(action, &object.name))
            {
                self.altered.insert(Arc::clone(&object.name));
            }
        }
        for define in &unit.defines {
            let name = identifier(&define.name);
            match &define.what {
                Defined::Statement(unit) => self.statements.pend(name, Arc::clone(unit), serial, self.epoch),
                Defined::Cursor(portal) => self.portals.pend(name, Arc::clone(portal), serial, self.epoch),
            }
        }
    }

    /// Records a whole `Query` or `Parse` message with its secrets replaced, and passes it on if it is to run.
    fn recorded(
        &mut self,
        front: Front<'_>,
        forward: bool,
        words: &Words<'_>,
        secrets: &[Range<usize>],
        turn: &mut Turn,
    ) -> Step {
        let Some((message, _)) = front.whole().filter(|_| !secrets.is_empty()) else {
            return if forward {
                self.pass(front, turn)
            } else {
                self.swallow(front, turn)
            };
        };
        if forward {
            turn.out.input(front.at..front.at + message.len());
        }
        let start = words.text.as_ptr().addr().saturating_sub(message.as_ptr().addr());
        turn.record.make(|out| {
            frame(out, front.header.tag, |out| {
                let mut copied = Header::SIZE;
                for range in secrets {
                    out.extend_from_slice(message.get(copied..start + range.start).unwrap_or_default());
                    out.extend_from_slice(b"'***'");
                    copied = copied.max(start + range.end);
                }
                out.extend_from_slice(message.get(copied..).unwrap_or_default());
            });
        });
        Step::Done(message.len())
    }

    /// Records a refused message, its secrets replaced.
    pub(super) fn record_refused(
        &mut self,
        front: Front<'_>,
        secrets: &[Range<usize>],
        turn: &mut Turn,
    ) -> Step {
        let words = match front.whole() {
            Some((_, body)) if !secrets.is_empty() => decode(front, body).ok(),
            _ => None,
        };
        match words {
            Some(words) => self.recorded(front, false, &words, secrets, turn),
            None => self.swallow(front, turn),
        }
    }
}

/// Where a password may stand in a text that cannot be read: everything from the word on.
fn guessed_secret(text: &[u8]) -> Range<usize> {
    let at = text
        .windows(5)
        .position(|word| word.eq_ignore_ascii_case(b"passw"));
    at.unwrap_or(text.len())..text.len()
}

pub(super) fn no_room() -> Refusal {
    Refusal {
        code: "54000",
        message: "the session holds more prepared statements and portals than can be followed".to_owned(),
        hint: "close those that are not used any more".to_owned(),
    }
}

const CHANGED: &str = "a statement just before it may change how texts are read; wait for its answer first";

/// Bytes of an over-long `Parse` within which its name has to end.
const NAMED: usize = 1024;
