//! Column rules: which stored column has which mask.

use globset::{GlobBuilder, GlobMatcher};

use crate::config::ColumnPattern;
use crate::model::ColumnName;

use super::{MaskId, NULL};

/// Columns of the catalog that hold samples of the values of other columns (PostgreSQL 12 to 18).
const STATISTICS: [(&str, &str); 5] = [
    (
        "pg_stats",
        "{most_common_vals,histogram_bounds,most_common_elems,range_bounds_histogram}",
    ),
    ("pg_stats_ext", "most_common_vals"),
    (
        "pg_stats_ext_exprs",
        "{most_common_vals,histogram_bounds,most_common_elems,range_bounds_histogram}",
    ),
    ("pg_statistic", "stavalues*"),
    ("pg_statistic_ext_data", "stxd{mcv,expr}"),
];

/// The column rules of a policy, in its order.
#[derive(Debug, Default)]
pub(super) struct ColumnRules {
    rules: Vec<ColumnRule>,
}

#[derive(Debug)]
struct ColumnRule {
    schema: Part,
    table: Part,
    column: Part,
    /// For the column's own values.
    stored: MaskId,
    /// For values computed from it.
    computed: MaskId,
}

impl ColumnRules {
    pub(super) fn add(&mut self, patterns: &[ColumnPattern], stored: MaskId, computed: MaskId) {
        self.rules.extend(patterns.iter().map(|pattern| ColumnRule {
            schema: Part::compile(&pattern.schema),
            table: Part::compile(&pattern.table),
            column: Part::compile(&pattern.column),
            stored,
            computed,
        }));
    }

    /// Masks the catalog's samples, where there is anything that they could be samples of.
    pub(super) fn protect_statistics(&mut self) {
        if self.is_empty() {
            return;
        }
        for (table, column) in STATISTICS {
            let pattern = ColumnPattern {
                schema: "pg_catalog".into(),
                table: table.into(),
                column: column.into(),
            };
            self.add(&[pattern], NULL, NULL);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    pub(super) fn of(&self, origin: &ColumnName) -> Option<MaskId> {
        self.rules
            .iter()
            .find(|rule| {
                rule.column.matches(&origin.column)
                    && rule.table.matches(&origin.table)
                    && rule.schema.matches(&origin.schema)
            })
            .map(|rule| rule.stored)
    }

    pub(super) fn possible(&self, table: Option<&str>, column: &str) -> Option<MaskId> {
        self.rules
            .iter()
            .find(|rule| rule.column.matches(column) && table.is_none_or(|table| rule.table.matches(table)))
            .map(|rule| rule.computed)
    }

    pub(super) fn of_table(&self, schema: Option<&str>, table: &str) -> Option<MaskId> {
        self.rules
            .iter()
            .find(|rule| rule.table.matches(table) && schema.is_none_or(|schema| rule.schema.matches(schema)))
            .map(|rule| rule.computed)
    }
}

/// One part of a pattern. Most are plain names or `*`, which need no glob.
#[derive(Debug)]
enum Part {
    Any,
    Name(Box<str>),
    Glob(GlobMatcher),
}

impl Part {
    fn compile(pattern: &str) -> Self {
        if pattern == "*" {
            return Self::Any;
        }
        if !pattern.contains(['*', '?', '[', ']', '{', '}', '\\']) {
            return Self::Name(pattern.into());
        }
        match GlobBuilder::new(pattern).literal_separator(false).build() {
            Ok(glob) => Self::Glob(glob.compile_matcher()),
            // `config` has refused such a pattern; should one come here all the same, too much is masked, not too little.
            Err(_) => Self::Any,
        }
    }

    fn matches(&self, name: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Name(only) => **only == *name,
            Self::Glob(glob) => glob.is_match(name),
        }
    }
}
