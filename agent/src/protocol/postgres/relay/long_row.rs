//! A `DataRow` of more than 1 MiB that has to be masked, in constant memory.
//!
//! Its length is on the wire before its values are known, so lengths stay: masked characters are overwritten with
//! `*` (a JSON value with a JSON string), masked integers with zero, and detectors overwrite what they find. A
//! masked value of another type has no such form: then the session ends.

use std::sync::Arc;

use crate::model::{ValueFormat, ValueType};

use super::super::wire::WireError;
use super::lineage::Treat;
use super::masking::{MaskStream, Masking};
use super::rows::{Active, Column, RowPlan, Shape};
use super::turn::Output;

/// A row on its way.
#[derive(Debug)]
pub(super) struct LongRow<S> {
    /// Bytes of the message that have not come yet.
    left: usize,
    plan: Arc<RowPlan>,
    column: usize,
    state: State<S>,
}

#[derive(Debug)]
enum State<S> {
    /// A number of so many bytes comes: of columns (2), or the length of a value (4).
    Number {
        bytes: [u8; 4],
        have: usize,
        need: usize,
    },
    Value {
        left: usize,
        size: usize,
        how: How<S>,
    },
}

#[derive(Debug)]
enum How<S> {
    Pass,
    Fill(Fill),
    Scan(S),
}

/// What a value is overwritten with.
#[derive(Clone, Copy, Debug)]
enum Fill {
    Stars,
    /// A JSON string; `version`: behind the version byte of jsonb's binary form.
    Json {
        version: bool,
    },
    Zeros,
    Digits,
}

/// Why a row cannot go on.
#[derive(Debug)]
pub(super) enum LongRowError {
    Format(WireError),
    /// No value of that length could stand for the masked one.
    Unmaskable,
}

impl<S> LongRow<S> {
    /// A row whose header has been passed on; `body`: bytes of its body.
    pub(super) fn new(body: usize, plan: Arc<RowPlan>) -> Self {
        Self {
            left: body,
            plan,
            column: 0,
            state: State::Number {
                bytes: [0; 4],
                have: 0,
                need: 2,
            },
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.left == 0
    }

    /// Takes the next bytes of the body, which stand at `at` in the input; gives how many of them.
    pub(super) fn take<'m, M: Masking<Stream<'m> = S>>(
        &mut self,
        masks: &'m M,
        active: &mut Active,
        input: &[u8],
        at: usize,
        out: &mut Output,
    ) -> Result<usize, LongRowError>
    where
        S: MaskStream,
    {
        let count = input.len().min(self.left);
        let mut rest = input.get(..count).unwrap_or_default();
        let mut position = at;
        while !rest.is_empty() {
            let taken = match &mut self.state {
                State::Number { bytes, have, need } => {
                    let taken = rest.len().min(*need - *have);
                    for (to, from) in bytes.iter_mut().skip(*have).zip(rest.iter().take(taken)) {
                        *to = *from;
                    }
                    *have += taken;
                    out.input(position..position + taken);
                    taken
                }
                State::Value { left, size, how } => {
                    let taken = rest.len().min(*left);
                    let piece = rest.get(..taken).unwrap_or_default();
                    match how {
                        How::Pass => out.input(position..position + taken),
                        How::Fill(fill) => {
                            let from = *size - *left;
                            out.make(|out| fill.write(piece, from, *size, out));
                        }
                        How::Scan(stream) => out.make(|out| stream.push(piece, out)),
                    }
                    *left -= taken;
                    taken
                }
            };
            self.left -= taken;
            position += taken;
            rest = rest.get(taken..).unwrap_or_default();
            self.step(masks, active, out)?;
        }
        if self.left == 0 && self.column != self.plan.columns.len() {
            return Err(malformed("it ends within its columns"));
        }
        Ok(count)
    }

    /// Goes on to the next state where this one is complete.
    fn step<'m, M: Masking<Stream<'m> = S>>(
        &mut self,
        masks: &'m M,
        active: &mut Active,
        out: &mut Output,
    ) -> Result<(), LongRowError>
    where
        S: MaskStream,
    {
        const LENGTH: [u8; 4] = [0; 4];
        match &mut self.state {
            State::Number {
                bytes: [a, b, ..],
                have: 2,
                need: 2,
            } => {
                let columns = usize::from(u16::from_be_bytes([*a, *b]));
                if columns != self.plan.columns.len() {
                    return Err(malformed("its columns are not those that were described"));
                }
                self.state = State::Number {
                    bytes: LENGTH,
                    have: 0,
                    need: 4,
                };
            }
            State::Number {
                bytes,
                have: 4,
                need: 4,
            } => {
                let length = i32::from_be_bytes(*bytes);
                let Some(column) = self.plan.columns.get(self.column) else {
                    return Err(malformed("bytes follow its last column"));
                };
                match usize::try_from(length) {
                    Ok(0) | Err(_) => {
                        self.column += 1;
                        self.state = State::Number {
                            bytes: LENGTH,
                            have: 0,
                            need: 4,
                        };
                    }
                    Ok(size) => {
                        let how = how(masks, column, active.formats.of(self.column))?;
                        if matches!(how, How::Fill(_)) {
                            active.count(self.column);
                        }
                        self.state = State::Value {
                            left: size,
                            size,
                            how,
                        };
                    }
                }
            }
            State::Value { left: 0, .. } => {
                let next = State::Number {
                    bytes: LENGTH,
                    have: 0,
                    need: 4,
                };
                if let State::Value {
                    how: How::Scan(stream),
                    ..
                } = std::mem::replace(&mut self.state, next)
                    && out.make(|out| stream.finish(out)) > 0
                {
                    active.count(self.column);
                }
                self.column += 1;
            }
            State::Number { .. } | State::Value { .. } => {}
        }
        Ok(())
    }
}

fn malformed(what: &'static str) -> LongRowError {
    LongRowError::Format(WireError::Body {
        message: "DataRow",
        what,
    })
}

fn how<'m, M: Masking>(
    masks: &'m M,
    column: &Column,
    format: ValueFormat,
) -> Result<How<M::Stream<'m>>, LongRowError> {
    if column.treat == Treat::Pass {
        return Ok(if column.scanned(masks) {
            How::Scan(masks.stream())
        } else {
            How::Pass
        });
    }
    Ok(How::Fill(match (column.ty, format) {
        (ValueType::Text, _) => Fill::Stars,
        (ValueType::Json, _) => Fill::Json {
            version: column.shape == Shape::Jsonb && format == ValueFormat::Binary,
        },
        (ValueType::Integer(_), ValueFormat::Text) => Fill::Digits,
        (ValueType::Integer(_), ValueFormat::Binary) => Fill::Zeros,
        (ValueType::Other, _) => return Err(LongRowError::Unmaskable),
    }))
}

impl Fill {
    /// Appends as many bytes as `piece` has; it stands at `from` in a value of `size` bytes.
    fn write(self, piece: &[u8], from: usize, size: usize, out: &mut Vec<u8>) {
        out.extend((from..).take(piece.len()).map(|at| match self {
            Self::Stars => b'*',
            Self::Zeros => 0,
            Self::Digits => b'0',
            Self::Json { version: true } if at == 0 => 1,
            Self::Json { version } => {
                let start = usize::from(version);
                match size - start {
                    // Too short for a string.
                    1 => b'0',
                    _ if at == start || at == size - 1 => b'"',
                    _ => b'*',
                }
            }
        }));
    }
}
