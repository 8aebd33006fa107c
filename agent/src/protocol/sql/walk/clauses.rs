//! GROUP BY, ORDER BY, LIMIT.

use sqlparser::ast::{Expr, Fetch, GroupByExpr, Ident, LimitClause, Offset, OrderBy, OrderByKind};

use super::{Shape, Walker};

impl Walker {
    pub(super) fn group_by(&mut self, group_by: &GroupByExpr, shape: &Shape) {
        match group_by {
            GroupByExpr::Expressions(exprs, modifiers) if modifiers.is_empty() => {
                for expr in exprs {
                    self.expr_or_output(expr, shape);
                }
            }
            GroupByExpr::Expressions(_, _) | GroupByExpr::All(_) => {
                self.unsupported("GROUP BY ALL or WITH ROLLUP");
            }
        }
    }

    pub(super) fn order_by(&mut self, order_by: &OrderBy, shape: &Shape) {
        let OrderBy { kind, interpolate } = order_by;
        match kind {
            OrderByKind::Expressions(exprs) if interpolate.is_none() => {
                for expr in exprs {
                    if let Some(sorted) = self.sorted(expr) {
                        self.expr_or_output(sorted, shape);
                    }
                }
            }
            OrderByKind::Expressions(_) | OrderByKind::All(_) => {
                self.unsupported("ORDER BY ALL or INTERPOLATE");
            }
        }
    }

    /// ORDER BY of a set operation: its names are those of the result.
    pub(super) fn order_by_names(&mut self, order_by: &OrderBy, shape: &Shape) {
        self.scopes.push(Vec::new());
        self.order_by(order_by, shape);
        self.scopes.pop();
    }

    /// An expression, unless it is just the name of a result column.
    pub(super) fn expr_or_output(&mut self, expr: &Expr, shape: &Shape) {
        let is_output = |name: &Ident| {
            shape
                .iter()
                .flatten()
                .any(|output| output.name.as_deref() == Some(name.value.as_str()))
        };
        match expr {
            Expr::Identifier(name) if is_output(name) => {}
            other => {
                self.expr(other);
            }
        }
    }

    pub(super) fn limit(&mut self, limit: Option<&LimitClause>, fetch: Option<&Fetch>) {
        match limit {
            None => {}
            Some(LimitClause::LimitOffset {
                limit,
                offset,
                limit_by,
            }) => {
                if !limit_by.is_empty() {
                    self.unsupported("LIMIT BY");
                }
                if let Some(limit) = limit {
                    self.expr(limit);
                }
                if let Some(Offset { value, rows: _ }) = offset {
                    self.expr(value);
                }
            }
            Some(LimitClause::OffsetCommaLimit { offset: _, limit: _ }) => {
                self.unsupported("LIMIT with a comma");
            }
        }
        if let Some(Fetch {
            with_ties: _,
            percent,
            quantity,
        }) = fetch
        {
            if *percent {
                self.unsupported("FETCH … PERCENT");
            }
            if let Some(quantity) = quantity {
                self.expr(quantity);
            }
        }
    }
}
