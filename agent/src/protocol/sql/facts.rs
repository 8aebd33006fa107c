//! What has been found out about one statement so far.

use std::collections::HashSet;
use std::sync::Arc;

use sqlparser::ast::{Ident, ObjectName, ObjectNamePart};

use super::catalog;
use super::types::{ColumnRef, CopyOut, Lineage, Outputs, RelationName, SessionChange, Statement};
use crate::model::{Action, Effect, Object, ObjectKind, Schema};

/// More columns than this are not followed: nobody names so many by hand, and each list of them is searched.
const COLUMNS_MAX: usize = 512;

/// Findings of one statement. Starts as a statement that does nothing.
#[derive(Debug)]
pub(super) struct Facts {
    actions: Vec<Action>,
    seen: HashSet<Action>,
    relations: Vec<RelationName>,
    seen_relations: HashSet<RelationName>,
    columns: Option<HashSet<ColumnRef>>,
    fields: Option<HashSet<ColumnRef>>,
    pub(super) outputs: Outputs,
    pub(super) sink: bool,
    pub(super) opaque: bool,
    pub(super) session: SessionChange,
    pub(super) copy_out: Option<CopyOut>,
    pub(super) without_where: bool,
    pub(super) unknown: Option<String>,
}

impl Facts {
    pub(super) fn new() -> Self {
        Self {
            actions: Vec::new(),
            seen: HashSet::new(),
            relations: Vec::new(),
            seen_relations: HashSet::new(),
            columns: Some(HashSet::new()),
            fields: Some(HashSet::new()),
            outputs: Outputs::None,
            sink: false,
            opaque: false,
            session: SessionChange::None,
            copy_out: None,
            without_where: false,
            unknown: None,
        }
    }

    /// A statement that is not understood, because of `why`.
    pub(super) fn not_understood(why: impl Into<String>) -> Self {
        let mut facts = Self::new();
        facts.not_known(why);
        facts.opaque = true;
        facts.columns = None;
        facts.outputs = Outputs::Unknown;
        facts
    }

    pub(super) fn act(&mut self, effect: Effect, object: Option<Object>) {
        let action = Action { effect, object };
        if !self.seen.contains(&action) {
            self.seen.insert(action.clone());
            self.actions.push(action);
        }
    }

    /// `effect` on a relation.
    pub(super) fn on(&mut self, effect: Effect, relation: &RelationName) {
        if self.seen_relations.insert(relation.clone()) {
            self.relations.push(relation.clone());
        }
        self.act(effect, Some(table(relation)));
    }

    /// `effect` on something that is in no schema.
    pub(super) fn on_named(&mut self, effect: Effect, kind: ObjectKind, name: &str) {
        self.act(
            effect,
            Some(Object {
                kind,
                schema: Schema::Named("".into()),
                name: name.into(),
            }),
        );
    }

    /// `effect` on something of `kind` that a schema holds.
    pub(super) fn on_object(&mut self, effect: Effect, kind: ObjectKind, name: &RelationName) {
        self.act(effect, Some(object(kind, name)));
    }

    /// Something in the statement is not understood. The first reason is the one that people see.
    pub(super) fn not_known(&mut self, why: impl Into<String>) {
        self.act(Effect::Unknown, None);
        self.unknown.get_or_insert_with(|| why.into());
    }

    /// A column is used.
    pub(super) fn uses(&mut self, column: &ColumnRef) {
        if let Some(columns) = &mut self.columns {
            columns.insert(column.clone());
            if columns.len() > COLUMNS_MAX {
                self.columns = None;
            }
        }
    }

    /// Columns are used, and it is not known which.
    pub(super) fn uses_any(&mut self) {
        self.columns = None;
    }

    /// `relation.name` is written: a column, or a call.
    pub(super) fn names_field(&mut self, column: &ColumnRef) {
        if let Some(fields) = &mut self.fields {
            fields.insert(column.clone());
            if fields.len() > COLUMNS_MAX {
                self.fields = None;
            }
        }
    }

    /// Takes over what another statement inside this one does.
    pub(super) fn absorb(&mut self, inner: &Facts) {
        for action in &inner.actions {
            self.act(action.effect, action.object.clone());
        }
        for relation in &inner.relations {
            if self.seen_relations.insert(relation.clone()) {
                self.relations.push(relation.clone());
            }
        }
        match &inner.columns {
            Some(columns) => {
                for column in columns {
                    self.uses(column);
                }
            }
            None => self.columns = None,
        }
        match &inner.fields {
            Some(fields) => fields.iter().for_each(|field| self.names_field(field)),
            None => self.fields = None,
        }
        self.sink |= inner.sink;
        self.opaque |= inner.opaque;
        self.without_where |= inner.without_where;
        if self.unknown.is_none() {
            self.unknown.clone_from(&inner.unknown);
        }
    }

    pub(super) fn actions(&self) -> &[Action] {
        &self.actions
    }

    pub(super) fn relations(&self) -> &[RelationName] {
        &self.relations
    }

    /// The actions, replaced.
    pub(super) fn map_actions(&mut self, map: impl Fn(Action) -> Action) {
        self.seen.clear();
        for action in std::mem::take(&mut self.actions) {
            let action = map(action);
            self.act(action.effect, action.object);
        }
    }

    pub(super) fn statement(self) -> Statement {
        Statement {
            relations: self.relations,
            outputs: self.outputs,
            sink: self.sink,
            opaque: self.opaque,
            columns_used: self.columns.map(|columns| columns.into_iter().collect()),
            fields: self.fields.map(|fields| fields.into_iter().collect()),
            session: self.session,
            copy_out: self.copy_out,
        }
    }
}

/// An object as policies name it.
pub(super) fn object(kind: ObjectKind, name: &RelationName) -> Object {
    let schema = name.schema.clone().map_or(Schema::Unresolved, Schema::Named);
    Object {
        kind,
        schema,
        name: name.name.clone(),
    }
}

/// A relation as policies name it: one of `pg_catalog` is known as such without its schema.
///
/// Known limit: a temporary table of that name would come first.
pub(super) fn table(name: &RelationName) -> Object {
    if name.schema.is_none() && catalog::is_system_relation(&name.name) {
        let schema = Schema::Named("pg_catalog".into());
        return Object {
            kind: ObjectKind::Table,
            schema,
            name: name.name.clone(),
        };
    }
    object(ObjectKind::Table, name)
}

/// The relation that dotted `parts` name; the database in front of a schema is left out.
pub(super) fn relation(parts: &[Arc<str>]) -> Option<RelationName> {
    match parts {
        [name] => Some(RelationName {
            schema: None,
            name: name.clone(),
        }),
        [schema, name] | [_, schema, name] => Some(RelationName {
            schema: Some(schema.clone()),
            name: name.clone(),
        }),
        _ => None,
    }
}

/// The parts of a name of the syntax tree. `None`: it is not a plain name, or its first part is an unquoted reserved
/// word, which the server would never take as a name.
pub(super) fn parts(name: &ObjectName) -> Option<Vec<Arc<str>>> {
    let mut parts = Vec::with_capacity(name.0.len());
    for (index, part) in name.0.iter().enumerate() {
        match part {
            ObjectNamePart::Identifier(ident) if index > 0 || !is_reserved(ident) => {
                parts.push(ident.value.as_str().into());
            }
            ObjectNamePart::Identifier(_) | ObjectNamePart::Function(_) => return None,
        }
    }
    Some(parts)
}

/// Whether the server would read the word as syntax and not as a name.
pub(super) fn is_reserved(ident: &Ident) -> bool {
    ident.quote_style.is_none() && catalog::is_reserved(&ident.value)
}

impl Lineage {
    /// Made of nothing stored.
    pub(super) const fn constant() -> Self {
        Self::From(Vec::new())
    }

    /// Whether nothing stored is in it.
    pub(super) fn is_constant(&self) -> bool {
        matches!(self, Self::From(columns) if columns.is_empty())
    }

    /// Adds what `other` is made of.
    pub(super) fn merge(&mut self, other: Self) {
        match (&mut *self, other) {
            (Self::From(mine), Self::From(theirs)) => {
                for column in theirs {
                    if !mine.contains(&column) {
                        mine.push(column);
                    }
                }
                if mine.len() > COLUMNS_MAX {
                    *self = Self::Unknown;
                }
            }
            (_, Self::Unknown) => *self = Self::Unknown,
            (Self::Unknown, Self::From(_)) => {}
        }
    }
}
