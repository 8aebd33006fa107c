//! Expressions inside definitions (DEFAULT, CHECK, USING, index expressions): which functions they call.
//!
//! Looks at tokens: a word with a parenthesis behind it is a call, unless it is known to be none. What is not plainly
//! harmless is unknown.

use sqlparser::tokenizer::Token;

use super::catalog::{self, Class};
use super::cursor::unquoted;
use super::facts::{Facts, relation};
use super::lexer::Lexeme;
use crate::model::{Effect, ObjectKind};

/// Reserved words of the syntax that have a parenthesis behind them; they cannot be functions.
const SYNTAX: &[&str] = &[
    "all", "and", "any", "array", "as", "between", "check", "default", "distinct", "else", "from", "in",
    "is", "not", "null", "on", "or", "row", "some", "then", "to", "unique", "using", "values", "when",
    "where", "with",
];

/// Built-in types that take a length or a precision.
const TYPES: &[&str] = &[
    "bit",
    "bpchar",
    "char",
    "character",
    "dec",
    "decimal",
    "float",
    "interval",
    "numeric",
    "time",
    "timestamp",
    "timestamptz",
    "timetz",
    "varbit",
    "varchar",
];

/// Index access methods.
const METHODS: &[&str] = &["bloom", "brin", "btree", "gin", "gist", "hash", "spgist"];

/// Searches `lexemes` for calls and adds what is found to `facts`.
pub(super) fn search(facts: &mut Facts, lexemes: &[Lexeme]) {
    for (at, lexeme) in lexemes.iter().enumerate() {
        let token = |offset: usize| lexemes.get(at + offset).map(|lexeme| &lexeme.token);
        match &lexeme.token {
            Token::Word(_) if unquoted(&lexeme.token) == Some("select") => {
                unknown(facts, "a sub-query in a definition");
            }
            Token::Word(_)
                if unquoted(&lexeme.token) == Some("operator") && token(1) == Some(&Token::LParen) =>
            {
                unknown(facts, "OPERATOR(…) in a definition");
            }
            Token::Word(word) if token(1) == Some(&Token::LParen) => called(facts, lexemes, at, &word.value),
            Token::RParen | Token::RBracket if token(1) == Some(&Token::Period) => {
                unknown(facts, "a field of an expression in a definition");
            }
            Token::CustomBinaryOperator(operator) if !catalog::is_operator(operator) => {
                unknown(facts, "an operator that is not PostgreSQL's own");
            }
            _ => {}
        }
    }
}

fn unknown(facts: &mut Facts, what: &str) {
    facts.not_known(format!("{what} is not supported"));
    facts.opaque = true;
}

/// The word at `at` has a parenthesis behind it.
fn called(facts: &mut Facts, lexemes: &[Lexeme], at: usize, word: &str) {
    let token = |at: usize| lexemes.get(at).map(|lexeme| &lexeme.token);
    let mut parts = vec![word.into()];
    let mut first = at;
    while let Some([name, Token::Period]) = first
        .checked_sub(2)
        .and_then(|start| Some([token(start)?, token(start + 1)?]))
        && let Token::Word(name) = name
    {
        parts.insert(0, name.value.as_str().into());
        first -= 2;
    }
    let before = first.checked_sub(1).and_then(token).and_then(unquoted);
    // `REFERENCES t (…)`, `ON t (…)`
    if matches!(before, Some("references" | "on" | "inherits" | "of")) {
        return;
    }
    let word_at = |back: usize| at.checked_sub(back).and_then(token).and_then(unquoted);
    if parts.len() == 1
        && token(at).and_then(unquoted).is_some()
        && (SYNTAX.contains(&word) || TYPES.contains(&word))
    {
        return;
    }
    // Words that could be functions elsewhere.
    let after_paren = at.checked_sub(1).and_then(token) == Some(&Token::RParen);
    let syntax = match word {
        "key" => matches!(before, Some("primary" | "foreign")),
        "range" | "list" | "hash" if before == Some("by") => true,
        "include" | "inherits" => after_paren,
        "identity" => before == Some("as"),
        "set" | "reset" => at == 0 || matches!(word_at(2), Some("column" | "alter")),
        "options" => word_at(2) == Some("server"),
        "varying" => matches!(before, Some("character" | "char" | "bit" | "nchar")),
        method => METHODS.contains(&method) && before == Some("using") && word_at(2) == Some("exclude"),
    };
    if syntax && parts.len() == 1 && token(at).and_then(unquoted).is_some() {
        return;
    }
    // `CONSTRAINT c CHECK (…)` is syntax; `ADD COLUMN c numeric(…)` a type; anything else is a call.
    let Some(function) = relation(&parts) else {
        unknown(facts, "such a name in a definition");
        return;
    };
    let built_in = match function.schema.as_deref() {
        Some("pg_catalog") if TYPES.contains(&&*function.name) => Some(Class::Pure),
        None | Some("pg_catalog") => catalog::function(&function.name),
        Some(_) => None,
    };
    // A default of `nextval` is not called now.
    if !matches!(built_in, Some(Class::Pure | Class::Syntax | Class::Sequence)) {
        facts.on_object(Effect::Unknown, ObjectKind::Function, &function);
        facts
            .unknown
            .get_or_insert_with(|| format!("what function {} does is not known", function.name));
        facts.opaque = true;
    }
}
