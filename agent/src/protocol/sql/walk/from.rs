//! FROM: tables, sub-queries, functions and joins.

use std::sync::Arc;

use sqlparser::ast::{
    FunctionArg, Join, JoinConstraint, JoinOperator, ObjectName, TableAlias, TableFactor, TableFunctionArgs,
    TableSample, TableSampleKind, TableSampleQuantity, TableWithJoins, XmlPassingArgument, XmlPassingClause,
    XmlTableColumnOption,
};

use super::super::catalog;
use super::super::facts::{is_reserved, parts, relation};
use super::super::types::Lineage;
use super::scope::{Item, Source};
use super::{DEPTH_MAX, Output, Shape, Walker};
use crate::model::Effect;

impl Walker {
    pub(super) fn table_with_joins(&mut self, table: &TableFactor, joins: &[Join]) {
        self.table_factor(table);
        for join in joins {
            let Join {
                relation,
                global,
                join_operator,
            } = join;
            if *global {
                self.unsupported("a GLOBAL join");
            }
            self.table_factor(relation);
            self.join(join_operator);
        }
    }

    fn join(&mut self, operator: &JoinOperator) {
        let constraint = match operator {
            JoinOperator::Join(constraint)
            | JoinOperator::Inner(constraint)
            | JoinOperator::Left(constraint)
            | JoinOperator::LeftOuter(constraint)
            | JoinOperator::Right(constraint)
            | JoinOperator::RightOuter(constraint)
            | JoinOperator::FullOuter(constraint)
            | JoinOperator::CrossJoin(constraint) => constraint,
            JoinOperator::Semi(_)
            | JoinOperator::LeftSemi(_)
            | JoinOperator::RightSemi(_)
            | JoinOperator::Anti(_)
            | JoinOperator::LeftAnti(_)
            | JoinOperator::RightAnti(_)
            | JoinOperator::CrossApply
            | JoinOperator::OuterApply
            | JoinOperator::AsOf {
                match_condition: _,
                constraint: _,
            }
            | JoinOperator::StraightJoin(_)
            | JoinOperator::ArrayJoin
            | JoinOperator::LeftArrayJoin
            | JoinOperator::InnerArrayJoin => {
                self.unsupported("a join that PostgreSQL does not have");
                return;
            }
        };
        match constraint {
            JoinConstraint::On(condition) => {
                self.expr(condition);
            }
            JoinConstraint::Using(columns) => {
                for column in columns {
                    match parts(column).as_deref() {
                        Some([name]) => {
                            self.column(name);
                        }
                        _ => {
                            self.unsupported("USING a qualified name");
                        }
                    }
                }
            }
            JoinConstraint::Natural => self.facts.uses_any(),
            JoinConstraint::None => {}
        }
    }

    fn push(&mut self, alias: Arc<str>, source: Source) {
        if let Some(scope) = self.scopes.last_mut() {
            scope.push(Item { alias, source });
        }
    }

    fn table_factor(&mut self, factor: &TableFactor) {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            self.unsupported("such deep nesting");
        } else {
            self.table_factor_here(factor);
        }
        self.depth -= 1;
    }

    fn table_factor_here(&mut self, factor: &TableFactor) {
        match factor {
            TableFactor::Table {
                name,
                alias,
                args,
                with_hints,
                version,
                with_ordinality: _,
                partitions,
                json_path,
                sample,
                index_hints,
            } => {
                if !with_hints.is_empty()
                    || version.is_some()
                    || !partitions.is_empty()
                    || json_path.is_some()
                    || !index_hints.is_empty()
                {
                    self.unsupported("a table with hints, versions or partitions");
                }
                self.sample(sample.as_ref());
                match args {
                    None => self.table(name, alias.as_ref()),
                    Some(TableFunctionArgs { args, settings }) => {
                        if settings.is_some() {
                            self.unsupported("a function with SETTINGS");
                        }
                        self.function(name, args, alias.as_ref());
                    }
                }
            }
            TableFactor::Derived {
                lateral,
                subquery,
                alias,
                sample,
            } => {
                self.sample(sample.as_ref());
                let siblings = if *lateral {
                    None
                } else {
                    self.scopes.last_mut().map(std::mem::take)
                };
                let shape = self.query(subquery);
                if let (Some(siblings), Some(scope)) = (siblings, self.scopes.last_mut()) {
                    *scope = siblings;
                }
                self.derived(shape, alias.as_ref());
            }
            TableFactor::Function {
                lateral: _,
                name,
                args,
                with_ordinality: _,
                alias,
            } => {
                self.function(name, args, alias.as_ref());
            }
            TableFactor::UNNEST {
                alias,
                array_exprs,
                with_offset,
                with_offset_alias,
                with_ordinality: _,
            } => {
                if *with_offset || with_offset_alias.is_some() {
                    self.unsupported("UNNEST WITH OFFSET");
                }
                let mut lineage = Lineage::constant();
                for expr in array_exprs {
                    lineage.merge(self.expr(expr));
                }
                self.function_item("unnest", lineage, alias.as_ref());
            }
            TableFactor::NestedJoin {
                table_with_joins,
                alias,
            } => {
                let TableWithJoins { relation, joins } = &**table_with_joins;
                let outside = self.scopes.last().map_or(0, Vec::len);
                self.table_with_joins(relation, joins);
                if let Some(alias) = alias {
                    // The alias hides the names inside, and may rename their columns.
                    if let Some(scope) = self.scopes.last_mut() {
                        scope.truncate(outside);
                    }
                    self.push(alias.name.value.as_str().into(), Source::Unknown);
                }
            }
            TableFactor::XmlTable {
                namespaces,
                row_expression,
                passing,
                columns,
                alias,
            } => {
                let mut lineage = self.expr(row_expression);
                for namespace in namespaces {
                    lineage.merge(self.expr(&namespace.uri));
                }
                let XmlPassingClause { arguments } = passing;
                for XmlPassingArgument {
                    expr,
                    alias: _,
                    by_value: _,
                } in arguments
                {
                    lineage.merge(self.expr(expr));
                }
                for column in columns {
                    match &column.option {
                        XmlTableColumnOption::NamedInfo {
                            r#type: _,
                            path,
                            default,
                            nullable: _,
                        } => {
                            for expr in path.iter().chain(default) {
                                lineage.merge(self.expr(expr));
                            }
                        }
                        XmlTableColumnOption::ForOrdinality => {}
                    }
                }
                let alias = alias.as_ref().map_or("xmltable", |alias| &alias.name.value);
                self.push(alias.into(), Source::Computed { lineage, row: None });
            }
            TableFactor::TableFunction { .. }
            | TableFactor::JsonTable { .. }
            | TableFactor::OpenJsonTable { .. }
            | TableFactor::Pivot { .. }
            | TableFactor::Unpivot { .. }
            | TableFactor::UnpivotExpr { .. }
            | TableFactor::MatchRecognize { .. }
            | TableFactor::SemanticView { .. } => {
                self.unsupported("a table expression of this kind");
            }
        }
    }

    fn table(&mut self, name: &ObjectName, alias: Option<&TableAlias>) {
        let Some(named) = parts(name) else {
            self.unsupported("a reserved word as a table");
            return;
        };
        if let [unqualified] = named.as_slice()
            && let Some((_, shape)) = self.ctes.iter().rev().find(|(cte, _)| cte == unqualified)
        {
            let shape = shape.clone();
            match alias {
                Some(alias) => self.derived(shape, Some(alias)),
                None => self.push(unqualified.clone(), shape.map_or(Source::Unknown, Source::Rows)),
            }
            return;
        }
        let Some(relation) = relation(&named) else {
            self.unsupported("a table name of so many parts");
            return;
        };
        self.facts.on(Effect::Read, &relation);
        match alias {
            None => self.push(relation.name.clone(), Source::Table(relation)),
            Some(alias) => {
                self.check_alias(alias);
                // Renamed columns: which is which, only the catalog knows.
                let columns: Vec<Arc<str>> = alias
                    .columns
                    .iter()
                    .map(|column| column.name.value.as_str().into())
                    .collect();
                let source = if columns.is_empty() {
                    Source::Table(relation)
                } else {
                    Source::Renamed { relation, columns }
                };
                self.push(alias.name.value.as_str().into(), source);
            }
        }
    }

    fn derived(&mut self, shape: Shape, alias: Option<&TableAlias>) {
        let (name, shape) = match alias {
            Some(alias) => (alias.name.value.as_str(), self.renamed(shape, alias)),
            None => ("", shape),
        };
        self.push(name.into(), shape.map_or(Source::Unknown, Source::Rows));
    }

    /// The columns under the names that an alias gives them.
    pub(super) fn renamed(&mut self, shape: Shape, alias: &TableAlias) -> Shape {
        self.check_alias(alias);
        let mut columns = shape?;
        if alias.columns.len() > columns.len() {
            return None;
        }
        for (column, named) in columns.iter_mut().zip(&alias.columns) {
            column.name = Some(named.name.value.as_str().into());
        }
        Some(columns)
    }

    fn check_alias(&mut self, alias: &TableAlias) {
        let TableAlias {
            explicit: _,
            name,
            columns: _,
            at,
        } = alias;
        if is_reserved(name) || at.is_some() {
            self.unsupported("a reserved word as an alias");
        }
    }

    fn function(&mut self, name: &ObjectName, args: &[FunctionArg], alias: Option<&TableAlias>) {
        let mut lineage = Lineage::constant();
        let mut values = Vec::new();
        for arg in args {
            lineage.merge(self.function_arg(arg, &mut values));
        }
        let lineage = self.call(name, &values, lineage);
        let last = name
            .0
            .last()
            .and_then(|part| part.as_ident())
            .map_or("", |ident| ident.value.as_str());
        self.function_item(last, lineage, alias);
    }

    /// The entry of a function in FROM: its columns are those of the alias, its own, or one of its own name.
    fn function_item(&mut self, function: &str, lineage: Lineage, alias: Option<&TableAlias>) {
        let mut columns: Vec<Arc<str>> = catalog::out_columns(function)
            .iter()
            .map(|column| (*column).into())
            .collect();
        columns.push("ordinality".into());
        let mut name = function;
        if let Some(alias) = alias {
            self.check_alias(alias);
            name = &alias.name.value;
            columns.extend(
                alias
                    .columns
                    .iter()
                    .map(|column| Arc::from(column.name.value.as_str())),
            );
        }
        columns.push(name.into());
        columns.push(function.into());
        self.push(name.into(), Source::Function { columns, lineage });
    }

    fn sample(&mut self, sample: Option<&TableSampleKind>) {
        let Some(TableSampleKind::BeforeTableAlias(sample) | TableSampleKind::AfterTableAlias(sample)) =
            sample
        else {
            return;
        };
        let TableSample {
            modifier: _,
            name: _,
            quantity,
            seed: _,
            bucket,
            offset,
        } = &**sample;
        if bucket.is_some() || offset.is_some() {
            self.unsupported("a sample by bucket");
        }
        if let Some(TableSampleQuantity {
            parenthesized: _,
            value,
            unit: _,
        }) = quantity
        {
            self.expr(value);
        }
    }

    /// Puts the table that a statement changes into scope.
    pub(super) fn push_target(
        &mut self,
        alias: Option<Arc<str>>,
        target: &super::super::types::RelationName,
    ) {
        self.push(
            alias.unwrap_or_else(|| target.name.clone()),
            Source::Table(target.clone()),
        );
    }

    /// Puts `excluded`, the row that ON CONFLICT did not insert, into scope.
    pub(super) fn push_excluded(&mut self, target: &super::super::types::RelationName, rows: &[Output]) {
        let mut lineage = Lineage::constant();
        for column in rows {
            lineage.merge(column.lineage.clone());
        }
        let row = Some(target.clone());
        self.push("excluded".into(), Source::Computed { lineage, row });
    }
}
