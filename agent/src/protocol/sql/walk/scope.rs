//! What a column name means where it stands.
//!
//! Known limit: no catalog is asked. A name that could be a column of several tables is a [`ColumnRef`] without a table;
//! and `t.f` is taken as column `f` of `t`, though it can be a call `f(t)` of a user's function: those are listed
//! as fields, for whoever has a catalog to check that the column exists.

use std::sync::Arc;

use super::super::catalog;
use super::super::types::{ColumnRef, Lineage, RelationName};
use super::{Output, Walker};

/// One entry of a FROM.
pub(super) struct Item {
    pub(super) alias: Arc<str>,
    pub(super) source: Source,
}

/// What stands behind an alias.
pub(super) enum Source {
    /// A stored relation.
    Table(RelationName),
    /// A stored relation, some of whose columns have these other names here.
    Renamed {
        relation: RelationName,
        columns: Vec<Arc<str>>,
    },
    /// A sub-query whose columns are known.
    Rows(Vec<Output>),
    /// A function in FROM with the columns it is known to have; each is made of the function's arguments.
    Function {
        columns: Vec<Arc<str>>,
        lineage: Lineage,
    },
    /// Something whose every column is made of this; its rows are of the type of `row`, where that is a table's.
    Computed {
        lineage: Lineage,
        row: Option<RelationName>,
    },
    /// Columns not known.
    Unknown,
}

impl Walker {
    /// Lineage of a name that nothing qualifies.
    pub(super) fn column(&mut self, name: &str) -> Lineage {
        // An alias of that name counts only where no column has it, be it of a query further out: take both.
        let row = self.whole_row(name);
        let mut found = row.is_some();
        let mut lineage = row.unwrap_or_else(Lineage::constant);
        if lineage == Lineage::Unknown {
            return lineage;
        }
        let mut tables: Vec<&RelationName> = Vec::new();
        'scopes: for scope in self.scopes.iter().rev() {
            let mut exact = false;
            for item in scope {
                match &item.source {
                    Source::Table(relation) => {
                        if !tables.contains(&relation) {
                            tables.push(relation);
                        }
                    }
                    Source::Rows(columns) => match named(columns, name) {
                        Named::Is(column) => {
                            lineage.merge(column);
                            exact = true;
                        }
                        Named::MayBe => lineage = Lineage::Unknown,
                        Named::Not => {}
                    },
                    Source::Function {
                        columns,
                        lineage: made_of,
                    } => {
                        // An alias can rename its columns, so a column further out is possible too.
                        found |= columns.iter().any(|column| **column == *name);
                        lineage.merge(made_of.clone());
                    }
                    Source::Computed {
                        lineage: made_of,
                        row: _,
                    } => {
                        lineage.merge(made_of.clone());
                        found = true;
                    }
                    Source::Renamed { .. } | Source::Unknown => lineage = Lineage::Unknown,
                }
            }
            if exact {
                found = true;
                break 'scopes;
            }
        }
        let relation = match tables.as_slice() {
            [] if found => None,
            [] => {
                lineage.merge(self.stored(None, name));
                None
            }
            [only] => Some(Some((*only).clone())),
            [_, _, ..] => Some(None),
        };
        if let Some(relation) = relation {
            let column = self.stored(relation, name);
            lineage.merge(column);
        }
        self.known_or_any(lineage)
    }

    /// Lineage of `alias.name`.
    pub(super) fn qualified(&mut self, alias: &str, name: &str) -> Lineage {
        let Some(item) = self
            .scopes
            .iter()
            .rev()
            .flatten()
            .find(|item| *item.alias == *alias)
        else {
            return self.known_or_any(Lineage::Unknown);
        };
        match &item.source {
            Source::Table(_) | Source::Renamed { .. } | Source::Unknown if catalog::takes_row(name) => {
                self.known_or_any(Lineage::Unknown)
            }
            Source::Table(relation) => {
                let relation = relation.clone();
                self.field(relation, name)
            }
            Source::Renamed { relation, columns } => {
                if !columns.iter().any(|column| **column == *name) {
                    let relation = relation.clone();
                    self.field(relation, name);
                }
                self.known_or_any(Lineage::Unknown)
            }
            Source::Rows(columns) => match named(columns, name) {
                Named::Is(lineage) => self.known_or_any(lineage),
                Named::MayBe => self.known_or_any(Lineage::Unknown),
                Named::Not => {
                    let whole = whole(columns);
                    self.call_by_dot(name, whole)
                }
            },
            Source::Function { columns, lineage } => {
                let lineage = lineage.clone();
                if columns.iter().any(|column| **column == *name) {
                    return self.known_or_any(lineage);
                }
                // `SELECT f.pg_read_file FROM concat('/etc/', 'passwd') f` is a call.
                self.call_by_dot(name, lineage)
            }
            Source::Computed { lineage, row } => {
                let lineage = lineage.clone();
                if let Some(row) = row.clone() {
                    self.field(row, name);
                }
                self.known_or_any(lineage)
            }
            Source::Unknown => self.known_or_any(Lineage::Unknown),
        }
    }

    /// Lineage of `schema.table.name`: a table without an alias, whatever nearer thing has its name.
    pub(super) fn fully_qualified(&mut self, schema: &str, table: &str, name: &str) -> Lineage {
        let is_meant = |item: &Item| match &item.source {
            Source::Table(relation) if *item.alias == *table && *relation.name == *table => relation
                .schema
                .as_deref()
                .is_none_or(|known| known == schema)
                .then(|| relation.clone()),
            _ => None,
        };
        let found: Vec<RelationName> = self.scopes.iter().flatten().filter_map(is_meant).collect();
        if found.is_empty() || catalog::takes_row(name) {
            return self.known_or_any(Lineage::Unknown);
        }
        let mut lineage = Lineage::constant();
        for relation in found {
            lineage.merge(self.field(relation, name));
        }
        lineage
    }

    /// Lineage of a bare alias, which is the whole row of it. `None`: it is no alias.
    pub(super) fn whole_row(&mut self, alias: &str) -> Option<Lineage> {
        let item = self
            .scopes
            .iter()
            .rev()
            .flatten()
            .find(|item| *item.alias == *alias)?;
        let lineage = match &item.source {
            Source::Rows(columns) => whole(columns),
            Source::Function { lineage, .. } | Source::Computed { lineage, .. } => lineage.clone(),
            Source::Table(_) | Source::Renamed { .. } | Source::Unknown => Lineage::Unknown,
        };
        Some(self.known_or_any(lineage))
    }

    /// The columns that `*` (or, with an alias, `alias.*`) stands for, where all of them are known.
    pub(super) fn wildcard(&mut self, alias: Option<&str>) -> Option<Vec<Output>> {
        let items: Vec<&Item> = match alias {
            Some(alias) => self
                .scopes
                .iter()
                .rev()
                .flatten()
                .find(|item| *item.alias == *alias)
                .into_iter()
                .collect(),
            None => self.scopes.last().into_iter().flatten().collect(),
        };
        // With several of them, a USING could merge columns.
        let columns = match items.as_slice() {
            [
                Item {
                    source: Source::Rows(columns),
                    ..
                },
            ] => Some(columns.clone()),
            _ => None,
        };
        if columns.is_none() {
            self.facts.uses_any();
        }
        columns
    }

    fn stored(&mut self, relation: Option<RelationName>, name: &str) -> Lineage {
        let column = ColumnRef {
            relation,
            column: name.into(),
        };
        self.facts.uses(&column);
        Lineage::From(vec![column])
    }

    /// `relation.name`: a column, or a call of `name` with the row.
    fn field(&mut self, relation: RelationName, name: &str) -> Lineage {
        let field = ColumnRef {
            relation: Some(relation.clone()),
            column: name.into(),
        };
        self.facts.names_field(&field);
        self.stored(Some(relation), name)
    }

    fn known_or_any(&mut self, lineage: Lineage) -> Lineage {
        if lineage == Lineage::Unknown {
            self.facts.uses_any();
        }
        lineage
    }
}

enum Named {
    Is(Lineage),
    /// A column has a name that is not certain.
    MayBe,
    Not,
}

fn named(columns: &[Output], name: &str) -> Named {
    let mut found: Option<Lineage> = None;
    let mut uncertain = false;
    for column in columns {
        match &column.name {
            Some(known) if **known == *name => match &mut found {
                Some(lineage) => lineage.merge(column.lineage.clone()),
                None => found = Some(column.lineage.clone()),
            },
            Some(_) => {}
            None => uncertain = true,
        }
    }
    match found {
        Some(lineage) => Named::Is(lineage),
        None if uncertain => Named::MayBe,
        None => Named::Not,
    }
}

fn whole(columns: &[Output]) -> Lineage {
    let mut lineage = Lineage::constant();
    for column in columns {
        lineage.merge(column.lineage.clone());
    }
    lineage
}
