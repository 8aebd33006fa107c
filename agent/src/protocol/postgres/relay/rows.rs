//! Rows on their way to the client: which values are masked, and how a row is rewritten.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::mask::Masked;
use crate::model::{ValueFormat, ValueType};

use super::super::catalog::Relation;
use super::super::wire::{DataRow, RowDescription, WireError};
use super::lineage::{Shadow, Treat, origin, whole};
use super::masking::{MaskStream, Masking};

/// Result formats of a portal: none (all text), one for all, or one each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Formats(SmallVec<[bool; 16]>);

impl Formats {
    /// From the format codes of a `Bind`.
    pub(super) fn of_codes(codes: &[u8]) -> Self {
        Self(codes.chunks_exact(2).map(|code| code != [0, 0]).collect())
    }

    /// From a description of what will be sent.
    pub(super) fn of_description(description: &RowDescription<'_>) -> Self {
        let mut formats: SmallVec<_> = description.fields().map(|field| field.format != 0).collect();
        // One code would stand for all columns; with one column that is the same.
        if formats.is_empty() {
            formats.push(false);
        }
        Self(formats)
    }

    pub(super) fn of(&self, column: usize) -> ValueFormat {
        let binary = match self.0.as_slice() {
            [] => false,
            [all] => *all,
            each => each.get(column).copied().unwrap_or(true),
        };
        if binary {
            ValueFormat::Binary
        } else {
            ValueFormat::Text
        }
    }
}

/// How the rows of a statement are treated.
#[derive(Debug)]
pub(super) struct RowPlan {
    pub columns: Vec<Column>,
    /// Any column may have to be changed.
    pub reads: bool,
}

/// How a result column is treated.
#[derive(Debug)]
pub(super) struct Column {
    pub label: String,
    pub treat: Treat,
    pub ty: ValueType,
    pub shape: Shape,
}

/// What detectors see of a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// Numbers, times, and the like: not scanned.
    Plain,
    /// Characters in both formats.
    Characters,
    /// jsonb: characters, in binary format behind one version byte.
    Jsonb,
    /// Arrays, composites, types of extensions: text format is scanned; binary format too, but its lengths must stay.
    Structured,
}

impl Column {
    pub(super) fn scanned<M: Masking>(&self, masks: &M) -> bool {
        masks.has_detectors() && self.shape != Shape::Plain
    }
}

/// Makes the plan for a description. `relations`: what the catalog says of the tables in it.
pub(super) fn plan<M: Masking>(
    masks: &M,
    description: &RowDescription<'_>,
    shadow: &Shadow,
    relations: &[Arc<Relation>],
) -> RowPlan {
    let computed = shadow
        .columns
        .as_deref()
        .filter(|columns| columns.len() == description.len());
    let columns: Vec<_> = description
        .fields()
        .enumerate()
        .map(|(index, field)| {
            let treat = if !masks.has_columns() {
                Treat::Pass
            } else if field.table == 0 {
                computed
                    .and_then(|columns| columns.get(index))
                    .copied()
                    .unwrap_or(shadow.other)
            } else {
                let relation = relations.iter().find(|relation| relation.oid == field.table);
                match (relation, field.attribute) {
                    (None, _) => shadow.stranger,
                    // System columns: ctid, xmin, tableoid.
                    (Some(_), ..0) => Treat::Pass,
                    (Some(relation), 0) => whole(masks, relation),
                    (Some(relation), attribute) => origin(masks, relation, attribute),
                }
            };
            let (ty, shape) = kind(field.type_oid);
            let label =
                String::from_utf8(field.label.to_vec()).unwrap_or_else(|_| format!("column {}", index + 1));
            Column {
                label,
                treat,
                ty,
                shape,
            }
        })
        .collect();
    let reads = columns
        .iter()
        .any(|column| column.treat != Treat::Pass || column.scanned(masks));
    RowPlan { columns, reads }
}

/// OIDs of the tables of a description.
pub(super) fn tables(description: &RowDescription<'_>) -> Vec<u32> {
    let mut oids: Vec<_> = description
        .fields()
        .map(|field| field.table)
        .filter(|table| *table != 0)
        .collect();
    oids.sort_unstable();
    oids.dedup();
    oids
}

/// The built-in types by OID (`pg_type.dat`); domains are described by their base type.
fn kind(oid: u32) -> (ValueType, Shape) {
    match oid {
        19 | 25 | 705 | 1042 | 1043 => (ValueType::Text, Shape::Characters),
        114 => (ValueType::Json, Shape::Characters),
        3802 => (ValueType::Json, Shape::Jsonb),
        142 => (ValueType::Other, Shape::Characters),
        21 => (ValueType::Integer(2), Shape::Plain),
        23 => (ValueType::Integer(4), Shape::Plain),
        20 => (ValueType::Integer(8), Shape::Plain),
        16..=18
        | 24
        | 26..=29
        | 700
        | 701
        | 790
        | 1082
        | 1083
        | 1114
        | 1184
        | 1186
        | 1266
        | 1700
        | 2278
        | 2950
        | 3220
        | 5069 => (ValueType::Other, Shape::Plain),
        _ => (ValueType::Other, Shape::Structured),
    }
}

/// The rows of one statement as they come.
#[derive(Debug)]
pub(super) struct Active {
    pub plan: Arc<RowPlan>,
    pub formats: Formats,
    /// Masked values, one count a column; empty where the plan reads nothing.
    pub counts: Vec<u64>,
}

impl Active {
    pub(super) fn new(plan: Arc<RowPlan>, formats: Formats) -> Self {
        let counts = if plan.reads {
            vec![0; plan.columns.len()]
        } else {
            Vec::new()
        };
        Self {
            plan,
            formats,
            counts,
        }
    }

    pub(super) fn count(&mut self, column: usize) {
        if let Some(count) = self.counts.get_mut(column) {
            *count += 1;
        }
    }

    /// Appends the masked form of a whole `DataRow` to `out`; `false`: nothing is changed, `out` is untouched.
    pub(super) fn rewrite<M: Masking>(
        &mut self,
        masks: &M,
        body: &[u8],
        value_buffer: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<bool, WireError> {
        let mut row = DataRow::decode(body)?;
        let plan = Arc::clone(&self.plan);
        if row.len() != plan.columns.len() {
            return Err(WireError::Body {
                message: "DataRow",
                what: "its columns are not those that were described",
            });
        }
        let start = out.len();
        let mut copied = 0;
        let mut changed = false;
        for (index, column) in plan.columns.iter().enumerate() {
            let before = body.len() - row.remaining();
            let Some(Some(value)) = row.next_value()? else {
                continue;
            };
            value_buffer.clear();
            let masked = match apply(masks, column, self.formats.of(index), value, value_buffer) {
                Outcome::Same => continue,
                Outcome::Value => i32::try_from(value_buffer.len()).unwrap_or(i32::MAX),
                Outcome::Null => -1,
            };
            if !changed {
                out.extend_from_slice(&[DataRow::TAG, 0, 0, 0, 0]);
                changed = true;
            }
            out.extend_from_slice(body.get(copied..before).unwrap_or_default());
            out.extend_from_slice(&masked.to_be_bytes());
            if masked >= 0 {
                out.extend_from_slice(value_buffer);
            }
            copied = body.len() - row.remaining();
            self.count(index);
        }
        row.next_value()?;
        if changed {
            out.extend_from_slice(body.get(copied..).unwrap_or_default());
            let length = i32::try_from(out.len() - start - 1).unwrap_or(i32::MAX);
            if let Some(field) = out.get_mut(start + 1..start + 5) {
                field.copy_from_slice(&length.to_be_bytes());
            }
        }
        Ok(changed)
    }
}

enum Outcome {
    Same,
    Value,
    Null,
}

fn apply<M: Masking>(
    masks: &M,
    column: &Column,
    format: ValueFormat,
    value: &[u8],
    out: &mut Vec<u8>,
) -> Outcome {
    let id = match column.treat {
        Treat::Null => return Outcome::Null,
        Treat::Mask(id) => Some(id),
        Treat::Pass if column.scanned(masks) => None,
        Treat::Pass => return Outcome::Same,
    };
    // The binary form of json is its text; that of jsonb has a version byte before it.
    let (value, format) = match (column.shape, format) {
        (Shape::Jsonb, ValueFormat::Binary) => match value.split_first() {
            Some((1, text)) => {
                out.push(1);
                (text, ValueFormat::Text)
            }
            _ => return Outcome::Null,
        },
        (Shape::Characters, ValueFormat::Binary) if column.ty == ValueType::Json => {
            (value, ValueFormat::Text)
        }
        (_, format) => (value, format),
    };
    match id {
        Some(id) => match masks.mask(id, value, column.ty, format, out) {
            Masked::Value => Outcome::Value,
            Masked::Null => Outcome::Null,
        },
        None if column.shape == Shape::Structured && format == ValueFormat::Binary => {
            let mut stream = masks.stream();
            stream.push(value, out);
            if stream.finish(out) == 0 {
                Outcome::Same
            } else {
                Outcome::Value
            }
        }
        None if column.ty == ValueType::Json => match masks.detect_json(value, out) {
            0 => Outcome::Same,
            _ => Outcome::Value,
        },
        None if masks.detect(value, out) == 0 => Outcome::Same,
        None => Outcome::Value,
    }
}
