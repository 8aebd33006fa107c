//! Expressions.

use sqlparser::ast::{
    AccessExpr, Array, CaseWhen, CastKind, CeilFloorKind, Expr, Ident, Interval, OrderByExpr, OrderByOptions,
    OrderBySort, Query, Subscript, TypedString, Value, ValueWithSpan, WindowFrame, WindowFrameBound,
    WindowSpec,
};

use super::super::facts::{is_reserved, parts};
use super::super::types::Lineage;
use super::{DEPTH_MAX, Walker};

impl Walker {
    pub(super) fn exprs(&mut self, exprs: &[Expr]) {
        for expr in exprs {
            self.expr(expr);
        }
    }

    /// Walks an expression and says what its value is made of.
    pub(super) fn expr(&mut self, expr: &Expr) -> Lineage {
        self.depth += 1;
        let lineage = if self.depth > DEPTH_MAX {
            self.unsupported("such deep nesting")
        } else {
            self.expr_here(expr)
        };
        self.depth -= 1;
        lineage
    }

    fn all<'a>(&mut self, exprs: impl IntoIterator<Item = &'a Expr>) -> Lineage {
        let mut lineage = Lineage::constant();
        for expr in exprs {
            lineage.merge(self.expr(expr));
        }
        lineage
    }

    #[expect(clippy::too_many_lines, reason = "one arm a node, all in one match")]
    fn expr_here(&mut self, expr: &Expr) -> Lineage {
        match expr {
            Expr::Identifier(name) => self.identifier(name),
            Expr::CompoundIdentifier(names) => self.compound(names),
            Expr::CompoundFieldAccess { root, access_chain } => self.access(root, access_chain),
            Expr::IsFalse(expr)
            | Expr::IsNotFalse(expr)
            | Expr::IsTrue(expr)
            | Expr::IsNotTrue(expr)
            | Expr::IsNull(expr)
            | Expr::IsNotNull(expr)
            | Expr::IsUnknown(expr)
            | Expr::IsNotUnknown(expr)
            | Expr::Nested(expr)
            | Expr::Collate { expr, collation: _ }
            | Expr::Extract {
                expr,
                field: _,
                syntax: _,
            }
            | Expr::IsJson {
                expr,
                kind: _,
                unique_keys: _,
                negated: _,
            }
            | Expr::IsNormalized {
                expr,
                form: _,
                negated: _,
            } => self.expr(expr),
            Expr::IsDistinctFrom(left, right) | Expr::IsNotDistinctFrom(left, right) => {
                self.all([&**left, &**right])
            }
            Expr::InList {
                expr,
                list,
                negated: _,
            } => {
                let lineage = self.all(list);
                self.and(lineage, expr)
            }
            Expr::InSubquery {
                expr,
                subquery,
                negated: _,
            } => {
                let lineage = self.subquery(subquery);
                self.and(lineage, expr)
            }
            Expr::Between {
                expr,
                negated: _,
                low,
                high,
            } => self.all([&**expr, &**low, &**high]),
            Expr::BinaryOp { .. } => self.binary(expr),
            Expr::Like {
                negated: _,
                any,
                expr,
                pattern,
                escape_char,
            }
            | Expr::ILike {
                negated: _,
                any,
                expr,
                pattern,
                escape_char,
            } => {
                if *any {
                    self.unsupported("LIKE ANY without an array");
                }
                self.all([&**expr, &**pattern].into_iter().chain(escape_char.as_deref()))
            }
            Expr::SimilarTo {
                negated: _,
                expr,
                pattern,
                escape_char,
            } => self.all([&**expr, &**pattern].into_iter().chain(escape_char.as_deref())),
            Expr::AnyOp {
                left,
                compare_op,
                right,
                is_some: _,
            }
            | Expr::AllOp {
                left,
                compare_op,
                right,
            } => {
                self.operator(compare_op);
                self.all([&**left, &**right])
            }
            Expr::UnaryOp { op, expr } => {
                self.unary_operator(*op);
                self.expr(expr)
            }
            Expr::Cast {
                kind,
                expr,
                data_type: _,
                format,
            } => {
                match kind {
                    CastKind::Cast | CastKind::DoubleColon => {}
                    CastKind::TryCast | CastKind::SafeCast => {
                        self.unsupported("TRY_CAST");
                    }
                }
                if format.is_some() {
                    self.unsupported("CAST … FORMAT");
                }
                self.expr(expr)
            }
            Expr::AtTimeZone { timestamp, time_zone } => self.all([&**timestamp, &**time_zone]),
            Expr::Ceil { expr, field } | Expr::Floor { expr, field } => {
                match field {
                    CeilFloorKind::DateTimeField(sqlparser::ast::DateTimeField::NoDateTime) => {}
                    CeilFloorKind::DateTimeField(_) | CeilFloorKind::Scale(_) => {
                        self.unsupported("CEIL and FLOOR with a scale");
                    }
                }
                self.expr(expr)
            }
            Expr::Position { expr, r#in } => self.all([&**expr, &**r#in]),
            Expr::Substring {
                expr,
                substring_from,
                substring_for,
                special: _,
                shorthand: _,
            } => self.all(
                [&**expr]
                    .into_iter()
                    .chain(substring_from.as_deref())
                    .chain(substring_for.as_deref()),
            ),
            Expr::Trim {
                trim_where: _,
                trim_what,
                expr,
                trim_characters,
            } => self.all(
                [&**expr]
                    .into_iter()
                    .chain(trim_what.as_deref())
                    .chain(trim_characters.iter().flatten()),
            ),
            Expr::Overlay {
                expr,
                overlay_what,
                overlay_from,
                overlay_for,
            } => self.all(
                [&**expr, &**overlay_what, &**overlay_from]
                    .into_iter()
                    .chain(overlay_for.as_deref()),
            ),
            Expr::Value(ValueWithSpan { value, span: _ })
            | Expr::TypedString(TypedString {
                data_type: _,
                value: ValueWithSpan { value, span: _ },
                uses_odbc_syntax: _,
            }) => self.value(value),
            Expr::Function(function) => self.function_call(function),
            Expr::Case {
                case_token: _,
                end_token: _,
                operand,
                conditions,
                else_result,
            } => {
                let mut lineage = self.all(operand.as_deref().into_iter().chain(else_result.as_deref()));
                for CaseWhen { condition, result } in conditions {
                    lineage.merge(self.all([condition, result]));
                }
                lineage
            }
            Expr::Exists { subquery, negated: _ } | Expr::Subquery(subquery) => self.subquery(subquery),
            Expr::GroupingSets(sets) | Expr::Cube(sets) | Expr::Rollup(sets) => {
                self.all(sets.iter().flatten())
            }
            Expr::Tuple(exprs) => self.all(exprs),
            Expr::Array(Array { elem, named: _ }) => self.all(elem),
            Expr::Interval(Interval {
                value,
                leading_field: _,
                leading_precision: _,
                last_field: _,
                fractional_seconds_precision: _,
            }) => self.expr(value),
            Expr::QualifiedWildcard(name, _) => {
                // `row_to_json(t.*)`
                match parts(name).as_deref() {
                    Some([alias]) => self.whole_row(alias).unwrap_or(Lineage::Unknown),
                    _ => {
                        self.facts.uses_any();
                        Lineage::Unknown
                    }
                }
            }
            Expr::JsonAccess { value: _, path: _ }
            | Expr::InUnnest { .. }
            | Expr::RLike { .. }
            | Expr::Convert { .. }
            | Expr::Prefixed { .. }
            | Expr::Struct { .. }
            | Expr::Named { .. }
            | Expr::Dictionary(_)
            | Expr::Map(_)
            | Expr::MatchAgainst { .. }
            | Expr::Wildcard(_)
            | Expr::OuterJoin(_)
            | Expr::Prior(_)
            | Expr::Lambda(_)
            | Expr::MemberOf(_) => self.unsupported("an expression of this kind"),
        }
    }

    fn and(&mut self, mut lineage: Lineage, expr: &Expr) -> Lineage {
        lineage.merge(self.expr(expr));
        lineage
    }

    /// `a + b + c …` leans to the left and can be long: no recursion along it.
    fn binary(&mut self, expr: &Expr) -> Lineage {
        let mut lineage = Lineage::constant();
        let mut rights = Vec::new();
        let mut leftmost = expr;
        while let Expr::BinaryOp { left, op, right } = leftmost {
            self.operator(op);
            rights.push(&**right);
            leftmost = left;
        }
        lineage.merge(self.expr(leftmost));
        for right in rights.into_iter().rev() {
            lineage.merge(self.expr(right));
        }
        lineage
    }

    pub(super) fn subquery(&mut self, query: &Query) -> Lineage {
        match self.query(query) {
            Some(columns) => {
                let mut lineage = Lineage::constant();
                for column in columns {
                    lineage.merge(column.lineage);
                }
                lineage
            }
            None => {
                self.facts.uses_any();
                Lineage::Unknown
            }
        }
    }

    fn identifier(&mut self, name: &Ident) -> Lineage {
        match name.quote_style {
            Some('"') => self.column(&name.value),
            // In VALUES, SET and the names of functions without parentheses.
            None if matches!(
                name.value.as_str(),
                "default"
                    | "current_role"
                    | "current_schema"
                    | "localtime"
                    | "localtimestamp"
                    | "user"
                    | "session_user"
            ) =>
            {
                Lineage::constant()
            }
            None if !is_reserved(name) => self.column(&name.value),
            None | Some(_) => self.unsupported("a reserved word as a name"),
        }
    }

    fn compound(&mut self, names: &[Ident]) -> Lineage {
        if names
            .iter()
            .any(|name| !matches!(name.quote_style, None | Some('"')))
            || names.first().is_some_and(is_reserved)
        {
            return self.unsupported("a reserved word as a name");
        }
        match names {
            [table, column] => self.qualified(&table.value, &column.value),
            [schema, table, column] | [_, schema, table, column] => {
                self.fully_qualified(&schema.value, &table.value, &column.value)
            }
            _ => self.unsupported("a column name of so many parts"),
        }
    }

    fn access(&mut self, root: &Expr, chain: &[AccessExpr]) -> Lineage {
        let mut lineage = self.expr(root);
        for access in chain {
            match access {
                AccessExpr::Dot(Expr::Identifier(name)) => {
                    lineage = match name.quote_style {
                        None | Some('"') => self.call_by_dot(&name.value, lineage),
                        Some(_) => self.unsupported("a string as a field"),
                    };
                }
                AccessExpr::Dot(_) => {
                    lineage = self.unsupported("a field that is not a name");
                }
                AccessExpr::Subscript(Subscript::Index { index }) => lineage.merge(self.expr(index)),
                AccessExpr::Subscript(Subscript::Slice {
                    lower_bound,
                    upper_bound,
                    stride,
                }) => {
                    if stride.is_some() {
                        self.unsupported("a slice with a stride");
                    }
                    lineage.merge(self.all(lower_bound.iter().chain(upper_bound)));
                }
            }
        }
        lineage
    }

    fn value(&mut self, value: &Value) -> Lineage {
        match value {
            Value::Number(_, _)
            | Value::SingleQuotedString(_)
            | Value::DollarQuotedString(_)
            | Value::EscapedStringLiteral(_)
            | Value::UnicodeStringLiteral(_)
            | Value::SingleQuotedByteStringLiteral(_)
            | Value::NationalStringLiteral(_)
            | Value::HexStringLiteral(_)
            | Value::Boolean(_)
            | Value::Null => Lineage::constant(),
            // The parser takes `@ email` and `:email` for placeholders as well.
            Value::Placeholder(name) if name.starts_with('$') => Lineage::constant(),
            Value::Placeholder(_)
            | Value::TripleSingleQuotedString(_)
            | Value::TripleDoubleQuotedString(_)
            | Value::DoubleQuotedByteStringLiteral(_)
            | Value::TripleSingleQuotedByteStringLiteral(_)
            | Value::TripleDoubleQuotedByteStringLiteral(_)
            | Value::SingleQuotedRawStringLiteral(_)
            | Value::DoubleQuotedRawStringLiteral(_)
            | Value::TripleSingleQuotedRawStringLiteral(_)
            | Value::TripleDoubleQuotedRawStringLiteral(_)
            | Value::QuoteDelimitedStringLiteral(_)
            | Value::NationalQuoteDelimitedStringLiteral(_)
            | Value::DoubleQuotedString(_) => self.unsupported("a literal or operator of this kind"),
        }
    }

    /// The expression of an ORDER BY item, where it is one of PostgreSQL's.
    pub(super) fn sorted<'a>(&mut self, item: &'a OrderByExpr) -> Option<&'a Expr> {
        let OrderByExpr {
            expr,
            options: OrderByOptions { sort, nulls_first: _ },
            with_fill,
        } = item;
        let operator_known = match sort {
            None | Some(OrderBySort::Asc | OrderBySort::Desc) => true,
            Some(OrderBySort::Using(_)) => false,
        };
        if with_fill.is_some() || !operator_known {
            self.unsupported("ORDER BY … USING or WITH FILL");
            return None;
        }
        Some(expr)
    }

    pub(super) fn window(&mut self, window: &WindowSpec) {
        let WindowSpec {
            window_name: _,
            partition_by,
            order_by,
            window_frame,
        } = window;
        self.exprs(partition_by);
        for item in order_by {
            if let Some(expr) = self.sorted(item) {
                self.expr(expr);
            }
        }
        if let Some(WindowFrame {
            units: _,
            start_bound,
            end_bound,
        }) = window_frame
        {
            for bound in [Some(start_bound), end_bound.as_ref()].into_iter().flatten() {
                match bound {
                    WindowFrameBound::CurrentRow => {}
                    WindowFrameBound::Preceding(offset) | WindowFrameBound::Following(offset) => {
                        if let Some(offset) = offset {
                            self.expr(offset);
                        }
                    }
                }
            }
        }
    }
}
