//! What a statement's result columns are made of, and how each has to be treated.
//!
//! Works on names and the catalog's answers for them, before the statement runs. What is not known is masked: a
//! relation that the catalog does not know may be a view made in the open transaction.

use std::collections::HashSet;
use std::sync::Arc;

use crate::mask::MaskId;
use crate::protocol::sql::{ColumnRef, CopyFormat, CopyOut, Lineage, Outputs, RelationName, Statement};

use super::super::catalog::Relation;
use super::masking::Masking;

/// How a value is treated, apart from detectors. Ordered by strictness.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Treat {
    /// As it is.
    #[default]
    Pass,
    /// Masked.
    Mask(MaskId),
    /// Replaced by NULL: it may be a masked one, and nobody knows which.
    Null,
}

impl Treat {
    /// The stricter of two.
    pub(super) fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Null, _) | (_, Self::Null) => Self::Null,
            (Self::Mask(id), _) | (_, Self::Mask(id)) => Self::Mask(id),
            (Self::Pass, Self::Pass) => Self::Pass,
        }
    }

    fn mask(id: Option<MaskId>) -> Self {
        id.map_or(Self::Pass, Self::Mask)
    }

    /// Treatment of what is computed from a value that is treated so: nothing of it may be seen, since the workload
    /// chooses the computation.
    fn computed<M: Masking>(self, masks: &M) -> Self {
        match self {
            Self::Mask(id) => Self::Mask(masks.derived(id)),
            Self::Pass | Self::Null => self,
        }
    }
}

/// What is known of one statement's result before it runs.
#[derive(Debug, Default)]
pub(super) struct Shadow {
    /// Treatment of computed columns, one each, if their number is right.
    pub columns: Option<Vec<Treat>>,
    /// Treatment of computed columns otherwise.
    pub other: Treat,
    /// Treatment of columns whose relation the catalog does not know.
    pub stranger: Treat,
    /// The classifier says that it returns no rows.
    pub rowless: bool,
    /// Its COPY data.
    pub copy: CopyShadow,
}

/// How a statement's COPY data are treated.
#[derive(Clone, Debug, Default)]
pub(super) enum CopyShadow {
    /// It is no COPY TO STDOUT.
    #[default]
    None,
    /// By these columns.
    Columns(Arc<[Treat]>, CopyFormat),
    /// It must not run.
    Refused(&'static str),
}

/// What the names of a statement are looked up in.
pub(super) struct Scope<'a, M> {
    pub masks: &'a M,
    pub relations: &'a [Arc<Relation>],
    /// Tables made in the open transaction, of which the catalog cannot know yet.
    pub fresh: &'a HashSet<Arc<str>>,
    /// Names of relations that the open transaction changes, in a way that the catalog cannot know yet.
    pub altered: &'a HashSet<Arc<str>>,
}

impl<M> Scope<'_, M> {
    fn found(&self, name: &RelationName) -> impl Iterator<Item = &Relation> {
        self.relations.iter().map(AsRef::as_ref).filter(move |relation| {
            relation.name == name.name
                && name
                    .schema
                    .as_ref()
                    .is_none_or(|schema| *schema == relation.schema)
        })
    }

    /// Whether the catalog knows relations of that name, and none of them has such a column.
    pub(super) fn lacks(&self, name: &RelationName, column: &str) -> bool {
        if self.altered.contains(&name.name) {
            return false;
        }
        let mut known = false;
        for relation in self.found(name) {
            known = true;
            if SYSTEM.contains(&column) || relation.columns.values().any(|name| &**name == column) {
                return false;
            }
        }
        known
    }
}

impl<M: Masking> Scope<'_, M> {
    /// Treatment of anything made of a relation in a way that cannot be followed.
    fn relation(&self, name: &RelationName) -> Treat {
        let mut known = false;
        let mut treat = Treat::Pass;
        for relation in self.found(name) {
            known = true;
            treat = treat.and(whole(self.masks, relation));
        }
        if known { treat } else { self.unknown(name) }
    }

    fn unknown(&self, name: &RelationName) -> Treat {
        let schema = name.schema.as_deref();
        match self.masks.concerns_table(schema, &name.name) {
            Some(id) => Treat::Mask(id),
            None if self.fresh.contains(&name.name) => Treat::Pass,
            None => Treat::Null,
        }
    }

    /// Treatment of what is computed from a column.
    fn column(&self, name: &RelationName, column: &str) -> Treat {
        self.stored(name, column).computed(self.masks)
    }

    /// Treatment of a column as it is stored.
    fn stored(&self, name: &RelationName, column: &str) -> Treat {
        let mut known = false;
        let mut treat = Treat::Pass;
        for relation in self.found(name) {
            known = true;
            treat = treat.and(one(self.masks, relation, column));
        }
        if known {
            treat
        } else if let Some(id) = self.masks.may_mask(Some(&name.name), column) {
            Treat::Mask(id)
        } else if self.fresh.contains(&name.name) {
            Treat::Pass
        } else {
            self.unknown(name)
        }
    }

    fn used(&self, statement: &Statement, used: &ColumnRef) -> Treat {
        match &used.relation {
            Some(relation) => self.column(relation, &used.column),
            None => statement
                .relations
                .iter()
                .map(|relation| self.column(relation, &used.column))
                .fold(Treat::mask(self.masks.may_mask(None, &used.column)), Treat::and),
        }
    }

    fn all(&self, statement: &Statement) -> Treat {
        let opaque = if statement.opaque {
            Treat::Null
        } else {
            Treat::Pass
        };
        statement
            .relations
            .iter()
            .map(|relation| self.relation(relation))
            .fold(opaque, Treat::and)
    }

    fn output(&self, statement: &Statement, lineage: &Lineage, all: Treat) -> Treat {
        match lineage {
            Lineage::From(columns) if !statement.opaque => columns
                .iter()
                .map(|column| self.used(statement, column))
                .fold(Treat::Pass, Treat::and),
            Lineage::From(_) | Lineage::Unknown => all,
        }
    }

    /// Whether a statement may read what a mask protects; `except`: names that the statement itself makes.
    pub(super) fn reads_masked(&self, statement: &Statement, except: &dyn Fn(&str) -> bool) -> bool {
        if statement.opaque {
            return true;
        }
        match &statement.columns_used {
            Some(columns) => columns.iter().any(|column| {
                let own = column
                    .relation
                    .as_ref()
                    .is_some_and(|relation| except(&relation.name));
                !own && self.used(statement, column) != Treat::Pass
            }),
            None => statement
                .relations
                .iter()
                .any(|relation| !except(&relation.name) && self.relation(relation) != Treat::Pass),
        }
    }

    /// What is known of `statement`'s result.
    pub(super) fn shadow(&self, statement: &Statement) -> Shadow {
        if !self.masks.has_columns() {
            let copy = match &statement.copy_out {
                Some(copy) => self.copy_without_columns(copy),
                None => CopyShadow::None,
            };
            let rowless = statement.outputs == Outputs::None;
            return Shadow {
                rowless,
                copy,
                ..Shadow::default()
            };
        }
        let all = self.all(statement);
        let columns = match &statement.outputs {
            Outputs::Columns(columns) => Some(
                columns
                    .iter()
                    .map(|lineage| self.output(statement, lineage, all))
                    .collect(),
            ),
            Outputs::None | Outputs::Unknown => None,
        };
        let copy = match &statement.copy_out {
            Some(copy) => self.copy(copy, columns.as_deref(), all),
            None => CopyShadow::None,
        };
        let all_fresh = !statement.relations.is_empty()
            && statement
                .relations
                .iter()
                .all(|name| self.fresh.contains(&name.name) || self.found(name).next().is_some());
        Shadow {
            columns,
            other: all,
            stranger: if all_fresh && !statement.opaque {
                Treat::Pass
            } else {
                Treat::Null
            },
            rowless: statement.outputs == Outputs::None,
            copy,
        }
    }

    fn copy_without_columns(&self, copy: &CopyOut) -> CopyShadow {
        if !self.masks.has_detectors() {
            return CopyShadow::Columns(Arc::new([]), copy.format);
        }
        match copy.format {
            CopyFormat::Binary | CopyFormat::Other => CopyShadow::Refused(COPY_FORMAT),
            CopyFormat::Text { .. } | CopyFormat::Csv { .. } => {
                CopyShadow::Columns(Arc::new([]), copy.format)
            }
        }
    }

    fn copy(&self, copy: &CopyOut, outputs: Option<&[Treat]>, all: Treat) -> CopyShadow {
        let columns = match &copy.table {
            Some((table, Some(names))) => names
                .iter()
                .map(|column| self.stored(table, column))
                .collect::<Vec<_>>(),
            Some((table, None)) => {
                let mut found = self.found(table);
                let first = found.next().map(|relation| every(self.masks, relation));
                match (first, found.next(), self.relation(table)) {
                    (Some(columns), None, _) => columns,
                    (_, _, Treat::Pass) => Vec::new(),
                    _ => return CopyShadow::Refused(COPY_TABLE),
                }
            }
            None => match outputs {
                Some(columns) => columns.to_vec(),
                None if all == Treat::Pass => Vec::new(),
                None => return CopyShadow::Refused(COPY_QUERY),
            },
        };
        let untouched = columns.iter().all(|treat| *treat == Treat::Pass);
        match copy.format {
            _ if untouched && !self.masks.has_detectors() => CopyShadow::Columns(Arc::new([]), copy.format),
            CopyFormat::Binary | CopyFormat::Other => CopyShadow::Refused(COPY_FORMAT),
            CopyFormat::Text { .. } | CopyFormat::Csv { .. } if untouched => {
                CopyShadow::Columns(Arc::new([]), copy.format)
            }
            CopyFormat::Text { .. } | CopyFormat::Csv { .. } => {
                CopyShadow::Columns(columns.into(), copy.format)
            }
        }
    }
}

const COPY_FORMAT: &str = "use COPY in text or CSV format, with single-byte delimiters";
const COPY_TABLE: &str = "qualify the table with its schema";
const COPY_QUERY: &str = "name each column in the query of the COPY instead of * or an expression";

/// Treatment of one column of a known relation, by name.
fn one<M: Masking>(masks: &M, relation: &Relation, column: &str) -> Treat {
    let attribute = relation.columns.iter().find(|(_, name)| &***name == column);
    match attribute {
        Some((attribute, _)) => origin(masks, relation, *attribute),
        // A system column, or the relation's own name for a whole row.
        None if SYSTEM.contains(&column) => Treat::Pass,
        None => whole(masks, relation),
    }
}

/// Treatment of one column of a known relation, by number.
pub(super) fn origin<M: Masking>(masks: &M, relation: &Relation, attribute: i16) -> Treat {
    if relation.opaque {
        return Treat::Null;
    }
    let Some(own) = relation.columns.get(&attribute) else {
        return Treat::Null;
    };
    relation
        .origins(attribute)
        .enumerate()
        .map(|(index, column)| {
            let treat = Treat::mask(masks.column(&column));
            // The column itself, or the same one of a table whose rows this table shows too; else computed from it.
            let stored = index == 0 || (!relation.rewritten && column.column == *own);
            if stored { treat } else { treat.computed(masks) }
        })
        .fold(Treat::Pass, Treat::and)
}

fn every<M: Masking>(masks: &M, relation: &Relation) -> Vec<Treat> {
    relation
        .columns
        .keys()
        .map(|attribute| origin(masks, relation, *attribute))
        .collect()
}

/// Treatment of anything computed from a known relation.
pub(super) fn whole<M: Masking>(masks: &M, relation: &Relation) -> Treat {
    every(masks, relation)
        .into_iter()
        .fold(Treat::Pass, Treat::and)
        .computed(masks)
}

const SYSTEM: &[&str] = &["ctid", "xmin", "xmax", "cmin", "cmax", "tableoid"];
