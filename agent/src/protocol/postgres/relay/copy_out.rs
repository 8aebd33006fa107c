//! COPY data on their way to the client, masked.
//!
//! Fields are masked as they end; of a field longer than 256 KiB only its start is ever held. A row longer than
//! 1 MiB is given to the client in several messages, every other row in one, as the server does. A masked value
//! longer than 256 KiB is masked as the empty one would be.
//!
//! Known limit: COPY data do not say their types. What is written as an integer of at most ten digits is masked as
//! an integer, everything else as text.

use std::sync::Arc;

use crate::mask::Masked;
use crate::model::{ValueFormat, ValueType};
use crate::protocol::sql::CopyFormat;

use super::super::wire::{MAX_WHOLE, frame};
use super::copy_fields::{Fields, Piece};
use super::lineage::Treat;
use super::masking::{MaskStream, Masking};
use super::turn::MaskCount;

/// The COPY data of one statement.
#[derive(Debug)]
pub(super) struct CopyOut<'m, M: Masking + 'm> {
    masks: &'m M,
    /// One a column; empty: only the detectors look.
    treats: Arc<[Treat]>,
    fields: Fields,
    /// The row is the header line.
    header: bool,
    column: usize,
    /// The field so far, as it is written and as it is meant.
    raw: Vec<u8>,
    value: Vec<u8>,
    long: Long<M::Stream<'m>>,
    /// The row so far, as the client will see it.
    row: Vec<u8>,
    counts: Vec<u64>,
    scratch: Vec<u8>,
}

/// What is done with a field that is too long to be held.
#[derive(Debug)]
enum Long<S> {
    No,
    /// It passes as it is written.
    Passes,
    /// Its mask is out; the rest is dropped.
    Masked,
    /// Detectors run over it.
    Scanned(S),
}

const FIELD: usize = 256 << 10;

impl<'m, M: Masking> CopyOut<'m, M> {
    /// `None` where the format cannot be read.
    pub(super) fn new(masks: &'m M, treats: Arc<[Treat]>, format: CopyFormat) -> Option<Self> {
        Some(Self {
            masks,
            counts: vec![0; treats.len()],
            treats,
            fields: Fields::of(format)?,
            header: matches!(format, CopyFormat::Csv { header: true, .. }),
            column: 0,
            raw: Vec::new(),
            value: Vec::new(),
            long: Long::No,
            row: Vec::new(),
            scratch: Vec::new(),
        })
    }

    /// Takes the next bytes of data; appends messages to `out`. `Err`: a row has more columns than were announced.
    pub(super) fn take(&mut self, data: &[u8], out: &mut Vec<u8>) -> Result<(), &'static str> {
        for byte in data.iter().copied() {
            let piece = self.fields.next(byte);
            match piece {
                Piece::FieldEnd | Piece::RowEnd => {
                    if !self.treats.is_empty() && self.column >= self.treats.len() {
                        return Err("a row of COPY data has more columns than were announced");
                    }
                    self.end_field();
                    self.row.push(byte);
                    self.column += 1;
                    if piece == Piece::RowEnd {
                        self.end_row(out)?;
                    }
                    continue;
                }
                Piece::Value(value) => match self.long {
                    Long::No | Long::Scanned(_) => self.value.push(value),
                    Long::Passes | Long::Masked => {}
                },
                Piece::Writing => {}
            }
            match self.long {
                Long::No => self.raw.push(byte),
                Long::Passes => self.row.push(byte),
                Long::Masked | Long::Scanned(_) => {}
            }
            if self.raw.len() > FIELD || self.value.len() > FIELD {
                self.lengthen();
            }
            if self.row.len() > MAX_WHOLE {
                self.give(out);
            }
        }
        Ok(())
    }

    fn treat(&self) -> Treat {
        if self.header {
            Treat::Pass
        } else {
            self.treats.get(self.column).copied().unwrap_or_default()
        }
    }

    fn scanned(&self) -> bool {
        self.masks.has_detectors() && !self.header
    }

    /// The field is too long to be held any longer.
    fn lengthen(&mut self) {
        if matches!(self.long, Long::No) {
            self.long = match self.treat() {
                Treat::Null => {
                    self.fields.write_null(&mut self.row);
                    self.count();
                    Long::Masked
                }
                Treat::Mask(_) => {
                    self.value.clear();
                    self.masked_value();
                    Long::Masked
                }
                Treat::Pass if self.scanned() => {
                    self.fields.open(&mut self.row);
                    Long::Scanned(self.masks.stream())
                }
                Treat::Pass => {
                    self.row.extend_from_slice(&self.raw);
                    Long::Passes
                }
            };
            self.raw.clear();
        }
        if let Long::Scanned(stream) = &mut self.long {
            self.scratch.clear();
            stream.push(&self.value, &mut self.scratch);
            self.fields.write(&self.scratch, &mut self.row);
        }
        self.value.clear();
    }

    fn end_field(&mut self) {
        let null = self.fields.end_field(&self.raw);
        match std::mem::replace(&mut self.long, Long::No) {
            Long::No if null => self.row.extend_from_slice(&self.raw),
            Long::No => match self.treat() {
                Treat::Null => {
                    self.fields.write_null(&mut self.row);
                    self.count();
                }
                Treat::Mask(_) => self.masked_value(),
                Treat::Pass => self.passed_value(),
            },
            Long::Passes | Long::Masked => {}
            Long::Scanned(mut stream) => {
                self.scratch.clear();
                stream.push(&self.value, &mut self.scratch);
                if stream.finish(&mut self.scratch) > 0 {
                    self.count();
                }
                self.fields.write(&self.scratch, &mut self.row);
                self.fields.close(&mut self.row);
            }
        }
        self.raw.clear();
        self.value.clear();
    }

    fn masked_value(&mut self) {
        let Treat::Mask(id) = self.treat() else {
            return;
        };
        self.scratch.clear();
        let (ty, format) = (value_type(&self.value), ValueFormat::Text);
        match self.masks.mask(id, &self.value, ty, format, &mut self.scratch) {
            Masked::Value => {
                self.fields.open(&mut self.row);
                self.fields.write(&self.scratch, &mut self.row);
                self.fields.close(&mut self.row);
            }
            Masked::Null => self.fields.write_null(&mut self.row),
        }
        self.count();
    }

    fn passed_value(&mut self) {
        self.scratch.clear();
        if self.scanned() && self.masks.detect(&self.value, &mut self.scratch) > 0 {
            self.fields.open(&mut self.row);
            self.fields.write(&self.scratch, &mut self.row);
            self.fields.close(&mut self.row);
            self.count();
        } else {
            self.row.extend_from_slice(&self.raw);
        }
    }

    fn count(&mut self) {
        if self.counts.len() <= self.column {
            self.counts.resize(self.column + 1, 0);
        }
        if let Some(count) = self.counts.get_mut(self.column) {
            *count += 1;
        }
    }

    fn end_row(&mut self, out: &mut Vec<u8>) -> Result<(), &'static str> {
        let columns = std::mem::take(&mut self.column);
        if !self.treats.is_empty() && columns != self.treats.len() {
            return Err("a row of COPY data has fewer columns than were announced");
        }
        self.header = false;
        self.give(out);
        Ok(())
    }

    fn give(&mut self, out: &mut Vec<u8>) {
        frame(out, b'd', |out| out.append(&mut self.row));
    }

    /// The data have ended: appends what does not end with a line feed, and tells what was masked.
    pub(super) fn finish(mut self, out: &mut Vec<u8>) -> Vec<MaskCount> {
        if !self.raw.is_empty() || !self.row.is_empty() || !self.value.is_empty() {
            self.end_field();
            self.give(out);
        }
        let treats = &self.treats;
        self.counts
            .iter()
            .enumerate()
            .filter(|(_, values)| **values > 0)
            .map(|(column, values)| MaskCount {
                column,
                label: format!("column {}", column + 1),
                mask: match treats.get(column) {
                    Some(Treat::Mask(id)) => Some(*id),
                    _ => None,
                },
                values: *values,
            })
            .collect()
    }
}

/// The narrowest type that a value can be of, so that its mask is valid whatever the column's type is.
fn value_type(value: &[u8]) -> ValueType {
    let digits = value.strip_prefix(b"-").unwrap_or(value);
    let canonical = matches!(digits, [b'0'] | [b'1'..=b'9', ..]) && digits.len() <= 10;
    let number: Option<i64> = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
    match number.filter(|_| canonical) {
        Some(number) if i16::try_from(number).is_ok() => ValueType::Integer(2),
        Some(number) if i32::try_from(number).is_ok() => ValueType::Integer(4),
        _ => ValueType::Text,
    }
}
