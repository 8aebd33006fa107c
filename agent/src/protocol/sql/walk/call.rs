//! Calls of functions, in all the ways that PostgreSQL has to write them.
//!
//! Known limits: a cast to a user's type or domain, or an operator that a user has defined on built-in names, calls
//! functions that cannot be seen here.

use sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgOperator, FunctionArgumentClause,
    FunctionArgumentList, FunctionArguments, ObjectName, ObjectNamePart, Value, ValueWithSpan, WindowType,
};

use super::super::catalog::{self, Class};
use super::super::facts::{parts, relation};
use super::super::names;
use super::super::types::{Lineage, RelationName};
use super::Walker;
use crate::model::{Effect, ObjectKind};

impl Walker {
    pub(super) fn function_call(&mut self, function: &Function) -> Lineage {
        let Function {
            name,
            uses_odbc_syntax,
            parameters,
            args,
            within_group,
            filter,
            null_treatment: _,
            over,
        } = function;
        if *uses_odbc_syntax || !matches!(parameters, FunctionArguments::None) {
            return self.unsupported("a function call of this form");
        }
        let mut values = Vec::new();
        let mut lineage = match args {
            FunctionArguments::None => Lineage::constant(),
            FunctionArguments::Subquery(query) => self.subquery(query),
            FunctionArguments::List(list) => self.arguments(list, &mut values),
        };
        for item in within_group {
            if let Some(expr) = self.sorted(item) {
                lineage.merge(self.expr(expr));
            }
        }
        if let Some(filter) = filter {
            self.expr(filter);
        }
        match over {
            None | Some(WindowType::NamedWindow(_)) => {}
            Some(WindowType::WindowSpec(window)) => self.window(window),
        }
        self.call(name, &values, lineage)
    }

    fn arguments<'a>(&mut self, list: &'a FunctionArgumentList, values: &mut Vec<&'a Expr>) -> Lineage {
        let FunctionArgumentList {
            duplicate_treatment: _,
            args,
            clauses,
        } = list;
        let mut lineage = Lineage::constant();
        for arg in args {
            lineage.merge(self.function_arg(arg, values));
        }
        for clause in clauses {
            match clause {
                FunctionArgumentClause::OrderBy(items) => {
                    for item in items {
                        if let Some(expr) = self.sorted(item) {
                            self.expr(expr);
                        }
                    }
                }
                FunctionArgumentClause::JsonNullClause(_)
                | FunctionArgumentClause::JsonReturningClause(_) => {}
                FunctionArgumentClause::IgnoreOrRespectNulls(_)
                | FunctionArgumentClause::Where(_)
                | FunctionArgumentClause::Limit(_)
                | FunctionArgumentClause::OnOverflow(_)
                | FunctionArgumentClause::Having(_)
                | FunctionArgumentClause::Separator(_) => {
                    self.unsupported("a function call with such a clause");
                }
            }
        }
        lineage
    }

    /// Walks an argument; its expression is added to `values`.
    pub(super) fn function_arg<'a>(&mut self, arg: &'a FunctionArg, values: &mut Vec<&'a Expr>) -> Lineage {
        let (name, arg) = match arg {
            FunctionArg::Unnamed(arg) => (None, arg),
            FunctionArg::Named {
                name: _,
                arg,
                operator,
            }
            | FunctionArg::ExprNamed {
                name: Expr::Identifier(_),
                arg,
                operator,
            } if matches!(
                operator,
                FunctionArgOperator::RightArrow | FunctionArgOperator::Assignment
            ) =>
            {
                (None, arg)
            }
            FunctionArg::ExprNamed {
                name,
                arg,
                operator: _,
            } => (Some(name), arg),
            FunctionArg::Named {
                name: _,
                arg: _,
                operator: _,
            } => return self.unsupported("a named argument of this form"),
        };
        let mut lineage = name.map_or_else(Lineage::constant, |name| self.expr(name));
        match arg {
            FunctionArgExpr::Expr(expr) => {
                values.push(expr);
                lineage.merge(self.expr(expr));
            }
            FunctionArgExpr::QualifiedWildcard(name) => {
                let row = match parts(name).as_deref() {
                    Some([alias]) => self.whole_row(alias),
                    _ => None,
                };
                self.facts.uses_any();
                lineage.merge(row.unwrap_or(Lineage::Unknown));
            }
            // `count(*)`: rows, not columns.
            FunctionArgExpr::Wildcard => {}
            FunctionArgExpr::WildcardWithOptions(options) => self.wildcard_options(options),
        }
        lineage
    }

    /// `(expression).name`: a field, or a call of `name`. What is not a known function is not known.
    pub(super) fn call_by_dot(&mut self, name: &str, lineage: Lineage) -> Lineage {
        let function = RelationName {
            schema: None,
            name: name.into(),
        };
        let class = catalog::function(name).filter(|class| *class != Class::Syntax);
        self.called(&function, class, &[], lineage)
    }

    /// A call of `name`; `lineage` is what its arguments are made of.
    pub(super) fn call(&mut self, name: &ObjectName, args: &[&Expr], lineage: Lineage) -> Lineage {
        let mut parts = Vec::with_capacity(name.0.len());
        let mut quoted = false;
        for part in &name.0 {
            match part {
                ObjectNamePart::Identifier(ident) => {
                    quoted |= ident.quote_style.is_some();
                    parts.push(ident.value.as_str().into());
                }
                ObjectNamePart::Function(_) => return self.unsupported("a computed function name"),
            }
        }
        let Some(function) = relation(&parts) else {
            return self.unsupported("a function name of so many parts");
        };
        let class = match function.schema.as_deref() {
            None => catalog::function(&function.name).filter(|class| *class != Class::Syntax || !quoted),
            Some("pg_catalog") => catalog::function(&function.name).filter(|class| *class != Class::Syntax),
            Some("information_schema") if function.name.starts_with("_pg_") => Some(Class::Pure),
            Some(_) => None,
        };
        self.called(&function, class, args, lineage)
    }

    fn called(
        &mut self,
        function: &RelationName,
        class: Option<Class>,
        args: &[&Expr],
        lineage: Lineage,
    ) -> Lineage {
        let built_in = RelationName {
            schema: Some("pg_catalog".into()),
            name: function.name.clone(),
        };
        let Some(class) = class else {
            return self.called_unknown(function);
        };
        let first = args.first().copied().and_then(literal);
        let effect = match class {
            Class::Pure | Class::Syntax => return lineage,
            Class::Sequence => {
                // Its value can be asked for afterwards.
                self.facts.sink |= !lineage.is_constant();
                match first.and_then(names::relation_of_literal) {
                    Some(sequence) => self.facts.on(Effect::Write, &sequence),
                    None => self.facts.act(Effect::Write, None),
                }
                return lineage;
            }
            Class::SetConfig => {
                self.facts.sink |= !lineage.is_constant();
                let column = args
                    .first()
                    .is_some_and(|arg| matches!(arg, Expr::Identifier(name) if name.value == "name"));
                let fixed = self.fixed_setting.clone().filter(|_| column);
                match first.or(fixed.as_deref()) {
                    Some(setting) => names::set(&mut self.facts, &setting.to_ascii_lowercase()),
                    None => {
                        self.facts.act(Effect::Session, None);
                        self.facts
                            .not_known("set_config of a setting whose name is computed");
                    }
                }
                return lineage;
            }
            Class::Notify => {
                self.facts.sink |= !lineage.is_constant();
                match first {
                    Some(channel) => self.facts.on_named(Effect::Notify, ObjectKind::Channel, channel),
                    None => self.facts.act(Effect::Notify, None),
                }
                return lineage;
            }
            Class::LargeObjectWrite => {
                self.facts.sink |= !lineage.is_constant();
                self.facts
                    .on_named(Effect::Write, ObjectKind::Other, "large_object");
                return lineage;
            }
            Class::LargeObjectDelete => {
                self.facts
                    .on_named(Effect::Delete, ObjectKind::Other, "large_object");
                return lineage;
            }
            Class::LargeObjectRead => {
                self.facts
                    .on_named(Effect::Read, ObjectKind::Other, "large_object");
                self.facts.uses_any();
                return Lineage::Unknown;
            }
            Class::UnsafeIo => Effect::UnsafeIo,
            Class::Session => Effect::Session,
            Class::Lock => Effect::Lock,
            Class::Maintenance => Effect::Maintenance,
            Class::Privilege => Effect::Privilege,
            Class::Opaque => Effect::Procedural,
        };
        self.facts.on_object(effect, ObjectKind::Function, &built_in);
        match class {
            // What a lock is on, and what a seed was, can be found out afterwards.
            Class::Session | Class::Lock | Class::Maintenance => {
                self.facts.sink |= !lineage.is_constant();
                lineage
            }
            _ => {
                self.facts.sink |= !lineage.is_constant();
                self.facts.opaque = true;
                self.facts.uses_any();
                Lineage::Unknown
            }
        }
    }

    fn called_unknown(&mut self, function: &RelationName) -> Lineage {
        self.facts.opaque = true;
        self.facts.uses_any();
        let unqualified = function.schema.is_none();
        if function.name.starts_with("dblink") {
            self.facts
                .on_object(Effect::UnsafeIo, ObjectKind::Function, function);
        }
        self.facts
            .on_object(Effect::Unknown, ObjectKind::Function, function);
        let name = match (&function.schema, unqualified) {
            (Some(schema), _) => format!("{schema}.{}", function.name),
            (None, _) => function.name.to_string(),
        };
        self.facts
            .unknown
            .get_or_insert_with(|| format!("what function {name} does is not known"));
        Lineage::Unknown
    }
}

/// The string that an expression is, whatever it is cast to.
pub(super) fn literal(expr: &Expr) -> Option<&str> {
    if let Expr::Cast {
        kind: _,
        expr,
        data_type: _,
        format: _,
    }
    | Expr::Nested(expr) = expr
    {
        return literal(expr);
    }
    let Expr::Value(ValueWithSpan { value, span: _ }) = expr else {
        return None;
    };
    if let Value::DollarQuotedString(dollar) = value {
        return Some(&dollar.value);
    }
    if let Value::SingleQuotedString(value) | Value::NationalStringLiteral(value) = value {
        return Some(value);
    }
    None
}
