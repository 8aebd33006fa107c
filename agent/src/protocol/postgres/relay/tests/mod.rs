//! Tests of the machine: hand-made batches and masks, scripted conversations, and a real server.

mod chunks;
mod fixture;
mod live_copies;
mod live_masks;
mod live_refusals;
mod live_whole;
mod script;
mod verdicts;

use std::collections::HashMap;
use std::sync::Arc;

use crate::mask::{MaskId, Masked};
use crate::model::{Action, ColumnName, Command, Effect, Object, ObjectKind, Schema, ValueFormat, ValueType};
use crate::policy::{Denied, HoldTerms, Ruling};
use crate::protocol::sql::{
    Batch, ColumnRef, CopyFormat, CopyOut, LexState, Lineage, Outputs, RelationName, SessionChange, Statement,
};

use super::{MaskStream, Masking};

/// Masks of a test: these columns become `***`, and `SECRET` is found everywhere.
#[derive(Debug, Default)]
pub(super) struct TestMasks {
    pub columns: Vec<(&'static str, &'static str)>,
    pub detect: bool,
}

impl Masking for TestMasks {
    type Stream<'a> = TestStream;

    fn is_empty(&self) -> bool {
        self.columns.is_empty() && !self.detect
    }
    fn has_columns(&self) -> bool {
        !self.columns.is_empty()
    }
    fn has_detectors(&self) -> bool {
        self.detect
    }
    fn column(&self, origin: &ColumnName) -> Option<MaskId> {
        self.may_mask(Some(&origin.table), &origin.column)
    }
    fn may_mask(&self, table: Option<&str>, column: &str) -> Option<MaskId> {
        self.columns
            .iter()
            .any(|(masked, name)| *name == column && table.is_none_or(|table| table == *masked))
            .then_some(MaskId(0))
    }
    fn concerns_table(&self, _schema: Option<&str>, table: &str) -> Option<MaskId> {
        self.columns
            .iter()
            .any(|(masked, _)| *masked == table)
            .then_some(MaskId(0))
    }
    fn mask(&self, _: MaskId, _: &[u8], ty: ValueType, format: ValueFormat, out: &mut Vec<u8>) -> Masked {
        match (ty, format) {
            (ValueType::Text, _) => out.extend_from_slice(b"***"),
            (ValueType::Json, _) => out.extend_from_slice(b"\"***\""),
            (ValueType::Integer(_), ValueFormat::Text) => out.push(b'0'),
            (ValueType::Integer(bytes), ValueFormat::Binary) => out.resize(out.len() + usize::from(bytes), 0),
            (ValueType::Other, _) => return Masked::Null,
        }
        Masked::Value
    }
    fn derived(&self, id: MaskId) -> MaskId {
        id
    }
    fn detect_json(&self, value: &[u8], out: &mut Vec<u8>) -> u32 {
        self.detect(value, out)
    }
    fn detect(&self, value: &[u8], out: &mut Vec<u8>) -> u32 {
        let start = out.len();
        let mut hits = 0;
        let mut rest = value;
        while let Some(at) = memchr::memmem::find(rest, b"SECRET") {
            out.extend_from_slice(&rest[..at]);
            out.extend_from_slice(b"<gone>!");
            rest = &rest[at + 6..];
            hits += 1;
        }
        out.extend_from_slice(rest);
        if hits == 0 {
            out.truncate(start);
        }
        hits
    }
    fn stream(&self) -> TestStream {
        TestStream {
            held: Vec::new(),
            hits: 0,
        }
    }
}

/// Overwrites `SECRET` with `*`, holding back five bytes.
#[derive(Debug)]
pub(super) struct TestStream {
    held: Vec<u8>,
    hits: u32,
}

impl MaskStream for TestStream {
    fn push(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        self.held.extend_from_slice(piece);
        while let Some(at) = memchr::memmem::find(&self.held, b"SECRET") {
            self.held[at..at + 6].fill(b'*');
            self.hits += 1;
        }
        let certain = self.held.len().saturating_sub(5);
        out.extend(self.held.drain(..certain));
    }
    fn finish(mut self, out: &mut Vec<u8>) -> u32 {
        out.append(&mut self.held);
        self.hits
    }
}

/// Batches by text; what is not listed reads nothing.
#[derive(Clone, Debug, Default)]
pub(super) struct Batches(pub HashMap<String, Arc<Batch>>);

impl Batches {
    pub(super) fn with(mut self, text: &str, batch: Batch) -> Self {
        self.0.insert(text.to_owned(), Arc::new(batch));
        self
    }
}

impl super::Classify for Batches {
    fn classify(&mut self, text: &str, _lex: LexState) -> Arc<Batch> {
        match self.0.get(text) {
            Some(batch) => Arc::clone(batch),
            None => Arc::new(batch(text, &[Effect::Read], vec![statement()])),
        }
    }
}

pub(super) fn batch(text: &str, effects: &[Effect], statements: Vec<Statement>) -> Batch {
    let actions = effects
        .iter()
        .map(|effect| Action {
            effect: *effect,
            object: None,
        })
        .collect();
    let command = Command {
        text: text.into(),
        actions,
        without_where: false,
        unknown: None,
        http: None,
    };
    Batch {
        command,
        statements,
        secrets: Vec::new(),
    }
}

pub(super) fn statement() -> Statement {
    Statement {
        relations: Vec::new(),
        outputs: Outputs::Unknown,
        sink: false,
        opaque: false,
        columns_used: Some(Vec::new()),
        fields: Some(Vec::new()),
        session: SessionChange::None,
        copy_out: None,
    }
}

pub(super) fn relation(name: &str) -> RelationName {
    RelationName {
        schema: None,
        name: name.into(),
    }
}

/// Reads one table; each output is made of these columns of it.
pub(super) fn reading(table: &str, outputs: &[&[&str]]) -> Statement {
    let column = |column: &&str| ColumnRef {
        relation: Some(relation(table)),
        column: (*column).into(),
    };
    Statement {
        relations: vec![relation(table)],
        outputs: Outputs::Columns(
            outputs
                .iter()
                .map(|columns| Lineage::From(columns.iter().map(column).collect()))
                .collect(),
        ),
        columns_used: Some(outputs.iter().copied().flatten().map(column).collect()),
        fields: Some(Vec::new()),
        ..statement()
    }
}

pub(super) fn copying(table: &str, columns: Option<&[&str]>, format: CopyFormat) -> Statement {
    let columns = columns.map(|columns| columns.iter().map(|column| (*column).into()).collect());
    Statement {
        relations: vec![relation(table)],
        outputs: Outputs::None,
        columns_used: None,
        fields: Some(Vec::new()),
        copy_out: Some(CopyOut {
            table: Some((relation(table), columns)),
            format,
        }),
        ..statement()
    }
}

pub(super) fn unresolved(table: &str, effect: Effect) -> Action {
    let kind = ObjectKind::Table;
    Action {
        effect,
        object: Some(Object {
            kind,
            schema: Schema::Unresolved,
            name: table.into(),
        }),
    }
}

pub(super) fn terms() -> HoldTerms {
    let timeout = std::time::Duration::from_secs(1);
    HoldTerms {
        rules: Vec::new(),
        approvers: vec!["dba".to_owned()],
        timeout,
    }
}

pub(super) fn allow() -> Ruling {
    Ruling::Allow(terms().approved())
}

pub(super) fn denied() -> Denied {
    Denied {
        rules: Vec::new(),
        message: "refused by rule no".to_owned(),
        hint: "ask".to_owned(),
    }
}

/// Refuses what has the word "forbidden" in it.
pub(super) fn by_word(command: &Command) -> Ruling {
    if command.text.contains("forbidden") {
        Ruling::Deny(denied())
    } else {
        allow()
    }
}
