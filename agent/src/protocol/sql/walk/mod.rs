//! The walk over sqlparser's syntax tree of queries and of INSERT, UPDATE, DELETE and MERGE.
//!
//! No match over the parser's enums has a `_` arm, and no struct is taken apart with `..`: a node or field that a newer
//! parser brings does not compile until somebody has decided what it does. Nodes that PostgreSQL does not have are
//! listed and make the statement unknown.

mod call;
mod clauses;
mod dml;
mod expr;
mod from;
mod operator;
mod query;
mod scope;
mod statement;

use std::sync::Arc;

use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Span, Token, TokenWithSpan};

use self::scope::Item;
use super::facts::Facts;
use super::lexer::Lexeme;
use super::rewrite::rewrite;
use super::types::Lineage;
use crate::model::Effect;

/// Nested deeper than this is unknown.
const DEPTH_MAX: usize = 1_500;
/// sqlparser's own limit, in nested expressions and queries.
const PARSER_DEPTH: usize = 120;

/// A column of a query's result.
#[derive(Clone, Debug)]
pub(super) struct Output {
    /// Its name, where it is certain.
    pub(super) name: Option<Arc<str>>,
    pub(super) lineage: Lineage,
}

/// The columns of a query's result; `None`: not known.
pub(super) type Shape = Option<Vec<Output>>;

/// State of a walk.
pub(super) struct Walker {
    pub(super) facts: Facts,
    /// What column names can mean, the innermost query last.
    scopes: Vec<Vec<Item>>,
    /// Names of WITH that are visible.
    ctes: Vec<(Arc<str>, Shape)>,
    depth: usize,
    /// The query stores its rows instead of giving them: SELECT … INTO.
    selects_into: bool,
    /// The value of `name` where a query sees one row of `pg_settings` alone.
    fixed_setting: Option<String>,
}

impl Walker {
    fn new() -> Self {
        Self {
            facts: Facts::new(),
            scopes: Vec::new(),
            ctes: Vec::new(),
            depth: 0,
            selects_into: false,
            fixed_setting: None,
        }
    }

    /// A node that PostgreSQL does not have, or that is not supported here.
    fn unsupported(&mut self, node: &str) -> Lineage {
        self.facts.not_known(format!("{node} is not supported"));
        self.facts.opaque = true;
        self.facts.uses_any();
        Lineage::Unknown
    }
}

/// Parses and walks the tokens of a query, INSERT, UPDATE, DELETE or MERGE.
pub(super) fn query(lexemes: &[Lexeme]) -> Facts {
    parse(rewrite(lexemes))
}

/// Walks `expression` as if it stood behind SELECT; what it gives is the statement's output.
pub(super) fn expressions(lexemes: &[Lexeme]) -> Facts {
    let mut tokens = vec![Token::make_keyword("SELECT")];
    tokens.extend(rewrite(lexemes));
    parse(tokens)
}

fn parse(tokens: Vec<Token>) -> Facts {
    let first = tokens.first().map(ToString::to_string).unwrap_or_default();
    let tokens = tokens
        .into_iter()
        .map(|token| TokenWithSpan {
            token,
            span: Span::empty(),
        })
        .collect();
    let dialect = PostgreSqlDialect {};
    let mut parser = Parser::new(&dialect)
        .with_recursion_limit(PARSER_DEPTH)
        .with_tokens_with_locations(tokens);
    // The parser's own message quotes the text, and with it secrets.
    let parsed = parser
        .parse_statement()
        .ok()
        .filter(|_| parser.peek_token_ref().token == Token::EOF);
    let Some(statement) = parsed else {
        let word: String = first.chars().filter(char::is_ascii_alphabetic).take(16).collect();
        return Facts::not_understood(format!("this {} statement cannot be parsed", word.to_uppercase()));
    };
    let mut walker = Walker::new();
    walker.facts.outputs = walker.statement(&statement);
    if walker.facts.actions().is_empty() {
        walker.facts.act(Effect::Read, None);
    }
    walker.facts
}
