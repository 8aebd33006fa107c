//! The client's direction: which message may pass, which is asked about, which is skipped.

use super::super::wire::{Header, WireError, flush, frontend_limit};
use super::masking::{Classify, Masking};
use super::queue::Expect;
use super::refusal::{Refusal, failing_parse, failing_query};
use super::turn::{Event, Turn};
use super::{Inflow, ProtocolError, Relay, Stage, Work};

use std::ops::Range;
use std::sync::Arc;

/// What became of the message at the front.
pub(super) enum Step {
    /// This many bytes are dealt with.
    Done(usize),
    /// More bytes are needed.
    More,
    /// An answer is needed.
    Stop,
}

/// A message of the client, or the start of one.
#[derive(Clone, Copy)]
pub(super) struct Front<'a> {
    pub header: Header,
    /// Bytes from its start on.
    pub rest: &'a [u8],
    /// Position of its start in the input.
    pub at: usize,
}

impl<'a> Front<'a> {
    /// Bytes of the message that are there.
    pub(super) fn here(&self) -> usize {
        self.rest.len().min(self.header.size())
    }

    pub(super) fn whole(&self) -> Option<(&'a [u8], &'a [u8])> {
        self.header.whole(self.rest)
    }
}

impl<M: Masking, C: Classify> Relay<'_, M, C> {
    /// Takes bytes of the client. Consumes whole messages as far as they can go; stops at a question, at an answer
    /// of the server that has to be awaited, or at the end of the input.
    pub fn client(&mut self, input: &[u8], turn: &mut Turn) -> Result<(), ProtocolError> {
        turn.clear();
        let mut at = 0;
        while let Some(rest) = input.get(at..).filter(|rest| !rest.is_empty()) {
            if self.inflow.left > 0 {
                let count = rest.len().min(self.inflow.left);
                self.flow(at, count, turn);
                self.inflow.left -= count;
                at += count;
                continue;
            }
            if self.terminated {
                return Err(ProtocolError::client("bytes follow the Terminate message"));
            }
            if matches!(
                self.stage,
                Stage::Resolving(_) | Stage::Judging(_) | Stage::Holding(_)
            ) {
                break;
            }
            let Some(header) = Header::peek(rest).map_err(ProtocolError::ClientFormat)? else {
                break;
            };
            match self.message(Front { header, rest, at }, turn)? {
                Step::Done(count) => {
                    at += count;
                    self.flushed = false;
                }
                Step::More | Step::Stop => break,
            }
        }
        turn.consumed = at;
        Ok(())
    }

    fn flow(&self, at: usize, count: usize, turn: &mut Turn) {
        turn.record.input(at..at + count);
        if self.inflow.forward {
            turn.out.input(at..at + count);
        }
    }

    /// Passes the message on, in pieces if it is not whole.
    pub(super) fn pass(&mut self, front: Front<'_>, turn: &mut Turn) -> Step {
        self.stream(front, true, turn)
    }

    /// Records the message and does not pass it on.
    pub(super) fn swallow(&mut self, front: Front<'_>, turn: &mut Turn) -> Step {
        self.stream(front, false, turn)
    }

    fn stream(&mut self, front: Front<'_>, forward: bool, turn: &mut Turn) -> Step {
        let here = front.here();
        self.inflow = Inflow {
            left: front.header.size() - here,
            forward,
        };
        self.flow(front.at, here, turn);
        Step::Done(here)
    }

    fn message(&mut self, front: Front<'_>, turn: &mut Turn) -> Result<Step, ProtocolError> {
        let Header { tag, body } = front.header;
        let Some(most) = frontend_limit(tag) else {
            return Err(ProtocolError::client(format!(
                "the client sent a message of type {tag:#04x}, which has no place after login"
            )));
        };
        if body > most {
            return Err(ProtocolError::ClientFormat(WireError::TooLong {
                tag,
                body,
                most,
            }));
        }
        match tag {
            b'd' => return Ok(self.pass(front, turn)),
            b'X' => {
                if front.whole().is_none() {
                    return Ok(Step::More);
                }
                self.terminated = true;
                turn.events.push(Event::Terminated);
                return Ok(self.pass(front, turn));
            }
            b'H' => {
                return Ok(if front.whole().is_some() {
                    self.pass(front, turn)
                } else {
                    Step::More
                });
            }
            b'S' => return Ok(self.sync(front, turn)),
            _ if self.queue.skipping || self.doomed => return Ok(self.swallow(front, turn)),
            b'c' | b'f' => return Ok(self.copy_end(front, turn)),
            _ if self.copy_in => {
                return Err(ProtocolError::client(
                    "the client sent a command while the server awaits COPY data",
                ));
            }
            _ => {}
        }
        match tag {
            b'Q' | b'P' => self.text(front, turn),
            b'B' => self.bind(front, turn),
            b'E' => self.execute(front, turn),
            b'D' => self.describe(front, turn),
            b'C' => self.close(front, turn),
            _ => {
                let refusal = Refusal::unsupported(
                    "calling functions by the fast path (FunctionCall) is not supported",
                    "call the function with SELECT",
                );
                Ok(self.refuse(front, refusal, &[], turn))
            }
        }
    }

    fn sync(&mut self, front: Front<'_>, turn: &mut Turn) -> Step {
        if front.whole().is_none() {
            return Step::More;
        }
        // While it reads COPY data, the server takes no notice of it.
        if !self.copy_in {
            self.queue.skipping = false;
            self.doomed = false;
            let epoch = self.epoch;
            self.queue.push(Expect::Sync { epoch });
            self.epoch += 1;
        }
        self.pass(front, turn)
    }

    fn copy_end(&mut self, front: Front<'_>, turn: &mut Turn) -> Step {
        if front.whole().is_none() {
            return Step::More;
        }
        if self.copy_in {
            self.copy_in = false;
        } else if !self.queue.is_empty() {
            self.queue.push(Expect::CopyEnd);
        }
        self.pass(front, turn)
    }

    /// Waits for the server's next answer. A Flush makes it give what it holds back.
    pub(super) fn stall(&mut self, turn: &mut Turn) -> Step {
        if !self.flushed {
            self.flushed = true;
            turn.out.make(flush);
        }
        turn.stalled = true;
        Step::Stop
    }

    /// Sends, in place of the message, one that is certain to fail.
    pub(super) fn refuse(
        &mut self,
        front: Front<'_>,
        refusal: Refusal,
        secrets: &[Range<usize>],
        turn: &mut Turn,
    ) -> Step {
        turn.events.push(Event::Refused {
            code: refusal.code,
            message: refusal.message.clone(),
        });
        let refusal = Arc::new(refusal);
        if matches!(front.header.tag, b'Q' | b'F') {
            turn.out.make(failing_query);
            let epoch = self.epoch;
            self.queue.push(Expect::RefusedQuery {
                refusal,
                epoch,
                failed: false,
            });
            self.epoch += 1;
        } else {
            let name = if front.header.tag == b'P' {
                parsed_name(front)
            } else {
                None
            };
            turn.out.make(|out| failing_parse(name, out));
            self.queue.push(Expect::Refused { refusal });
            self.doomed = true;
        }
        self.stage = Stage::Fresh;
        self.record_refused(front, secrets, turn)
    }

    /// Asks the rules.
    pub(super) fn judge(&mut self, front: Front<'_>, work: Work, turn: &mut Turn) -> Step {
        use super::turn::{Ask, JudgedAt};
        let at = match front.header.tag {
            b'Q' => JudgedAt::Query,
            b'P' => JudgedAt::Parse,
            b'B' => JudgedAt::Bind,
            _ => JudgedAt::Execute,
        };
        let (command, parameters) = match &work {
            Work::Text(unit) => (Arc::clone(&unit.command), Vec::new()),
            Work::Portal(portal) => (Arc::clone(&portal.unit.command), portal.parameters.clone()),
        };
        turn.ask = Some(Ask::Judge {
            command,
            parameters,
            at,
        });
        self.stage = Stage::Judging(work);
        Step::Stop
    }
}

/// Name in a `Parse` message of which at least the start is there.
fn parsed_name(front: Front<'_>) -> Option<&[u8]> {
    let body = front.rest.get(Header::SIZE..front.here())?;
    let end = memchr::memchr(0, body)?;
    body.get(..end)
}
