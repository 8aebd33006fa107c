//! Column rules: which stored column has which mask.

use crate::config::{ColumnPattern, Glob};
use crate::model::ColumnName;

use super::{MaskId, NULL};

/// Columns of the catalog that hold samples of the values of other columns (PostgreSQL 12 to 18).
const STATISTICS: [(&str, &[&str]); 5] = [
    ("pg_stats", SAMPLES),
    ("pg_stats_ext", &["most_common_vals"]),
    ("pg_stats_ext_exprs", SAMPLES),
    ("pg_statistic", &["stavalues*"]),
    ("pg_statistic_ext_data", &["stxdmcv", "stxdexpr"]),
];
const SAMPLES: &[&str] = &[
    "most_common_vals",
    "histogram_bounds",
    "most_common_elems",
    "range_bounds_histogram",
];

/// The column rules of a policy, in its order.
#[derive(Debug, Default)]
pub(super) struct ColumnRules {
    rules: Vec<ColumnRule>,
}

#[derive(Debug)]
struct ColumnRule {
    schema: Glob,
    table: Glob,
    column: Glob,
    /// For the column's own values.
    stored: MaskId,
    /// For values computed from it.
    computed: MaskId,
}

impl ColumnRules {
    pub(super) fn add(&mut self, patterns: &[ColumnPattern], stored: MaskId, computed: MaskId) {
        self.rules.extend(patterns.iter().map(|pattern| ColumnRule {
            schema: compile(&pattern.schema),
            table: compile(&pattern.table),
            column: compile(&pattern.column),
            stored,
            computed,
        }));
    }

    /// Masks the catalog's samples, where there is anything that they could be samples of.
    pub(super) fn protect_statistics(&mut self) {
        if self.is_empty() {
            return;
        }
        for (table, columns) in STATISTICS {
            for column in columns {
                let pattern = ColumnPattern {
                    schema: "pg_catalog".into(),
                    table: table.into(),
                    column: (*column).into(),
                };
                self.add(&[pattern], NULL, NULL);
            }
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

fn compile(pattern: &str) -> Glob {
    // `config` has refused what is no pattern; should it come here all the same, too much is masked, not too little.
    Glob::name(pattern).unwrap_or_else(|_| Glob::any())
}
