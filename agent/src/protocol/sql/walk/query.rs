//! Queries: WITH, SELECT, VALUES and set operations.

use sqlparser::ast::{
    BinaryOperator, Distinct, Expr, LockClause, NamedWindowDefinition, NamedWindowExpr, OrderBy, Query,
    Select, SelectFlavor, SelectInto, SelectItem, SelectItemQualifiedWildcardKind, SetExpr, TableWithJoins,
    WildcardAdditionalOptions, With,
};

use super::super::facts::{parts, relation};
use super::super::types::{Lineage, RelationName};
use super::call::literal;
use super::scope::{Item, Source};
use super::{DEPTH_MAX, Output, Shape, Walker};
use crate::model::Effect;

impl Walker {
    pub(super) fn query(&mut self, query: &Query) -> Shape {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            self.depth -= 1;
            self.unsupported("such deep nesting");
            return None;
        }
        let ctes = self.ctes.len();
        let shape = self.query_here(query);
        self.ctes.truncate(ctes);
        self.depth -= 1;
        shape
    }

    fn query_here(&mut self, query: &Query) -> Shape {
        let Query {
            with,
            body,
            order_by,
            limit_clause,
            fetch,
            locks,
            for_clause,
            settings,
            format_clause,
            pipe_operators,
        } = query;
        if for_clause.is_some() || settings.is_some() || format_clause.is_some() || !pipe_operators.is_empty()
        {
            self.unsupported("a FOR XML, SETTINGS, FORMAT or pipe clause");
        }
        let first_relation = self.facts.relations().len();
        if let Some(with) = with {
            self.with(with);
        }
        let shape = match (&**body, order_by) {
            (SetExpr::Select(select), _) => self.select(select, order_by.as_ref()),
            (body, order_by) => {
                let shape = self.set_expr(body);
                if let Some(order_by) = order_by {
                    self.order_by_names(order_by, &shape);
                }
                shape
            }
        };
        self.limit(limit_clause.as_ref(), fetch.as_ref());
        for LockClause {
            lock_type: _,
            of: _,
            nonblock: _,
        } in locks
        {
            // OF is not followed: more is said to be locked than is, never less.
            let relations: Vec<RelationName> = self
                .facts
                .relations()
                .get(first_relation..)
                .unwrap_or_default()
                .to_vec();
            if relations.is_empty() {
                self.facts.act(Effect::Lock, None);
            }
            for relation in &relations {
                self.facts.on(Effect::Lock, relation);
            }
        }
        shape
    }

    fn with(&mut self, with: &With) {
        let With {
            with_token: _,
            recursive,
            cte_tables,
        } = with;
        let first = self.ctes.len();
        if *recursive {
            // Each sees all of them; one that is used before it is known has unknown columns.
            self.ctes.extend(
                cte_tables
                    .iter()
                    .map(|cte| (cte.alias.name.value.as_str().into(), None)),
            );
        }
        for (index, cte) in cte_tables.iter().enumerate() {
            let sqlparser::ast::Cte {
                alias,
                query,
                from,
                materialized: _,
                closing_paren_token: _,
            } = cte;
            if from.is_some() {
                self.unsupported("WITH … FROM");
            }
            // In a sub-query, it sees the columns of the queries around it.
            let shape = self.query(query);
            let shape = self.renamed(shape, alias);
            match self.ctes.get_mut(first + index).filter(|_| *recursive) {
                Some((_, known)) => *known = shape,
                None => self.ctes.push((alias.name.value.as_str().into(), shape)),
            }
        }
    }

    fn set_expr(&mut self, body: &SetExpr) -> Shape {
        // `a UNION b UNION c …` leans to the left and can be long: no recursion along it.
        let mut rights = Vec::new();
        let mut leftmost = body;
        while let SetExpr::SetOperation {
            left,
            op: _,
            set_quantifier: _,
            right,
        } = leftmost
        {
            rights.push(&**right);
            leftmost = left;
        }
        let mut shape = self.set_operand(leftmost);
        for right in rights.into_iter().rev() {
            let other = self.set_operand(right);
            shape = merged(shape, other);
        }
        shape
    }

    fn set_operand(&mut self, operand: &SetExpr) -> Shape {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            self.depth -= 1;
            self.unsupported("such deep nesting");
            return None;
        }
        let shape = match operand {
            SetExpr::Select(select) => self.select(select, None),
            SetExpr::Query(query) => self.query(query),
            SetExpr::SetOperation { .. } => self.set_expr(operand),
            SetExpr::Values(values) => self.values(values),
            SetExpr::Insert(statement)
            | SetExpr::Update(statement)
            | SetExpr::Delete(statement)
            | SetExpr::Merge(statement) => self.inner_statement(statement).0,
            SetExpr::Table(_) => {
                // Rewritten to SELECT * before the parser sees it.
                self.unsupported("TABLE here");
                None
            }
        };
        self.depth -= 1;
        shape
    }

    pub(super) fn values(&mut self, values: &sqlparser::ast::Values) -> Shape {
        let sqlparser::ast::Values {
            explicit_row: _,
            value_keyword: _,
            rows,
        } = values;
        let mut shape: Option<Vec<Output>> = None;
        for row in rows {
            let lineages: Vec<Lineage> = row.content.iter().map(|value| self.expr(value)).collect();
            match &mut shape {
                None => {
                    let columns = lineages.into_iter().enumerate();
                    shape = Some(
                        columns
                            .map(|(index, lineage)| Output {
                                name: Some(format!("column{}", index + 1).into()),
                                lineage,
                            })
                            .collect(),
                    );
                }
                Some(columns) if columns.len() == lineages.len() => {
                    for (column, lineage) in columns.iter_mut().zip(lineages) {
                        column.lineage.merge(lineage);
                    }
                }
                Some(_) => return None,
            }
        }
        shape
    }

    fn select(&mut self, select: &Select, order_by: Option<&OrderBy>) -> Shape {
        let Select {
            select_token: _,
            optimizer_hints,
            distinct,
            select_modifiers,
            top,
            top_before_distinct: _,
            projection,
            exclude,
            into,
            from,
            lateral_views,
            prewhere,
            selection,
            connect_by,
            group_by,
            cluster_by,
            distribute_by,
            sort_by,
            having,
            named_window,
            qualify,
            window_before_qualify: _,
            value_table_mode,
            flavor,
        } = select;
        let foreign = !optimizer_hints.is_empty()
            || select_modifiers.is_some()
            || top.is_some()
            || exclude.is_some()
            || !lateral_views.is_empty()
            || prewhere.is_some()
            || !connect_by.is_empty()
            || !cluster_by.is_empty()
            || !distribute_by.is_empty()
            || !sort_by.is_empty()
            || qualify.is_some()
            || value_table_mode.is_some()
            || !matches!(flavor, SelectFlavor::Standard);
        if foreign {
            self.unsupported("a SELECT with clauses that PostgreSQL does not have");
        }
        self.scopes.push(Vec::new());
        for TableWithJoins { relation, joins } in from {
            self.table_with_joins(relation, joins);
        }
        let setting = self.fixed_setting.take();
        self.fixed_setting = fixed_setting(self.scopes.last().map(Vec::as_slice), selection.as_ref());
        let shape = self.projection(projection);
        self.fixed_setting = setting;
        match distinct {
            None | Some(Distinct::All | Distinct::Distinct) => {}
            Some(Distinct::On(on)) => self.exprs(on),
        }
        if let Some(selection) = selection {
            self.expr(selection);
        }
        self.group_by(group_by, &shape);
        if let Some(having) = having {
            self.expr(having);
        }
        for NamedWindowDefinition(_, window) in named_window {
            match window {
                NamedWindowExpr::NamedWindow(_) => {}
                NamedWindowExpr::WindowSpec(spec) => self.window(spec),
            }
        }
        if let Some(order_by) = order_by {
            self.order_by(order_by, &shape);
        }
        self.scopes.pop();
        if let Some(into) = into {
            self.select_into(into);
        }
        shape
    }

    fn select_into(&mut self, into: &SelectInto) {
        let SelectInto {
            temporary: _,
            unlogged: _,
            table: _,
            targets,
        } = into;
        let target = match targets.as_slice() {
            [Expr::Identifier(name)] => relation(&[name.value.as_str().into()]),
            [Expr::CompoundIdentifier(names)] => relation(
                &names
                    .iter()
                    .map(|name| name.value.as_str().into())
                    .collect::<Vec<_>>(),
            ),
            _ => None,
        };
        self.selects_into = true;
        self.facts.sink = true;
        match target {
            Some(target) => self.facts.on(Effect::SchemaCreate, &target),
            None => {
                self.unsupported("SELECT INTO something that is not one table");
            }
        }
    }

    pub(super) fn projection(&mut self, items: &[SelectItem]) -> Shape {
        let mut shape = Some(Vec::with_capacity(items.len()));
        for item in items {
            let columns = match item {
                SelectItem::UnnamedExpr(expr) => {
                    let lineage = self.expr(expr);
                    Some(vec![Output {
                        name: implied_name(expr),
                        lineage,
                    }])
                }
                SelectItem::ExprWithAlias { expr, alias } => {
                    let lineage = self.expr(expr);
                    Some(vec![Output {
                        name: Some(alias.value.as_str().into()),
                        lineage,
                    }])
                }
                SelectItem::ExprWithAliases { expr: _, aliases: _ } => {
                    self.unsupported("several aliases of one column");
                    None
                }
                SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), options) => {
                    self.wildcard_options(options);
                    match parts(name).as_deref() {
                        Some([alias]) => self.wildcard(Some(alias)),
                        _ => self.wildcard(Some("")),
                    }
                }
                SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::Expr(expr), options) => {
                    self.wildcard_options(options);
                    self.expr(expr);
                    self.facts.uses_any();
                    None
                }
                SelectItem::Wildcard(options) => {
                    self.wildcard_options(options);
                    self.wildcard(None)
                }
            };
            match (&mut shape, columns) {
                (Some(shape), Some(columns)) => shape.extend(columns),
                _ => shape = None,
            }
        }
        shape
    }

    pub(super) fn wildcard_options(&mut self, options: &WildcardAdditionalOptions) {
        let WildcardAdditionalOptions {
            wildcard_token: _,
            opt_ilike,
            opt_exclude,
            opt_except,
            opt_replace,
            opt_rename,
            opt_alias,
        } = options;
        if opt_ilike.is_some()
            || opt_exclude.is_some()
            || opt_except.is_some()
            || opt_replace.is_some()
            || opt_rename.is_some()
            || opt_alias.is_some()
        {
            self.unsupported("a wildcard with options");
        }
    }
}

/// The one setting that `SELECT … FROM pg_settings WHERE name = 'setting'` sees. `pg_dump` calls `set_config` so, to
/// set what only newer servers have.
fn fixed_setting(scope: Option<&[Item]>, selection: Option<&Expr>) -> Option<String> {
    let Some(
        [
            Item {
                alias: _,
                source: Source::Table(relation),
            },
        ],
    ) = scope
    else {
        return None;
    };
    let Some(Expr::BinaryOp {
        left,
        op: BinaryOperator::Eq,
        right,
    }) = selection
    else {
        return None;
    };
    let catalog = &*relation.name == "pg_settings"
        && relation
            .schema
            .as_deref()
            .is_none_or(|schema| schema == "pg_catalog");
    let is_name = matches!(&**left, Expr::Identifier(name) if name.value == "name");
    literal(right).filter(|_| catalog && is_name).map(str::to_owned)
}

/// The name that the server gives a column without an alias, where it is certain.
fn implied_name(expr: &Expr) -> Option<std::sync::Arc<str>> {
    if let Expr::Identifier(name) = expr {
        return Some(name.value.as_str().into());
    }
    if let Expr::CompoundIdentifier(names) = expr {
        return names.last().map(|name| name.value.as_str().into());
    }
    None
}

fn merged(left: Shape, right: Shape) -> Shape {
    let (mut left, right) = (left?, right?);
    if left.len() != right.len() {
        return None;
    }
    for (column, other) in left.iter_mut().zip(right) {
        column.lineage.merge(other.lineage);
    }
    Some(left)
}
