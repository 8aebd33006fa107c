//! Small changes to tokens before sqlparser sees them: what it does not know, and what can be said without a loss of
//! anything that is asked here.

use sqlparser::tokenizer::Token;

use super::catalog;
use super::cursor::unquoted;
use super::lexer::Lexeme;

/// The tokens for the parser.
///
/// - `ONLY` in front of a table is dropped (the parser would take it for the table's name).
/// - `VARIADIC` is dropped.
/// - `FOR NO KEY UPDATE` and `FOR KEY SHARE` become `FOR UPDATE`, `FOR SHARE`; their `OF` list is dropped.
/// - `TABLE t` becomes `SELECT * FROM t`.
/// - `WHERE CURRENT OF c` becomes `WHERE true`.
/// - `OPERATOR(pg_catalog.=)` becomes `=`, where that is an operator of PostgreSQL's own.
pub(super) fn rewrite(lexemes: &[Lexeme]) -> Vec<Token> {
    let word = |at: usize| lexemes.get(at).and_then(|lexeme| unquoted(&lexeme.token));
    let mut tokens = Vec::with_capacity(lexemes.len());
    let mut at = 0;
    while let Some(lexeme) = lexemes.get(at) {
        let before = at.checked_sub(1).and_then(word);
        let after_dot = at
            .checked_sub(1)
            .and_then(|at| lexemes.get(at))
            .is_some_and(|last| last.token == Token::Period);
        let mut used = 1;
        match unquoted(&lexeme.token) {
            _ if after_dot || before == Some("as") => tokens.push(lexeme.token.clone()),
            Some("only") if !matches!(before, Some("row" | "rows")) => {}
            Some("variadic") => {}
            Some("table") if !matches!(before, Some("into" | "temp" | "temporary" | "unlogged")) => {
                tokens.extend(["SELECT", "*", "FROM"].map(|word| match word {
                    "*" => Token::Mul,
                    word => Token::make_keyword(word),
                }));
            }
            Some("where")
                if word(at + 1) == Some("current")
                    && word(at + 2) == Some("of")
                    && word(at + 3).is_some() =>
            {
                tokens.extend(["WHERE", "true"].map(Token::make_keyword));
                used = 4;
            }
            Some("operator") => match built_in_operator(lexemes.get(at + 1..at + 6).unwrap_or_default()) {
                Some(operator) => {
                    tokens.push(operator.clone());
                    used = 6;
                }
                None => tokens.push(lexeme.token.clone()),
            },
            Some("for") => {
                let (lock, length) = match (word(at + 1), word(at + 2), word(at + 3)) {
                    (Some("no"), Some("key"), Some("update")) => ("UPDATE", 4),
                    (Some("key"), Some("share"), _) => ("SHARE", 3),
                    (Some("update"), _, _) => ("UPDATE", 2),
                    (Some("share"), _, _) => ("SHARE", 2),
                    _ => ("", 1),
                };
                tokens.push(Token::make_keyword("FOR"));
                if !lock.is_empty() {
                    tokens.push(Token::make_keyword(lock));
                    used = length + locked_names(lexemes.get(at + length..).unwrap_or_default());
                }
            }
            _ => tokens.push(lexeme.token.clone()),
        }
        at += used;
    }
    tokens
}

/// The operator of `(pg_catalog.operator)`.
fn built_in_operator(lexemes: &[Lexeme]) -> Option<&Token> {
    match lexemes {
        [open, schema, dot, operator, close]
            if open.token == Token::LParen
                && unquoted(&schema.token) == Some("pg_catalog")
                && dot.token == Token::Period
                && catalog::is_operator(&operator.token.to_string())
                && close.token == Token::RParen =>
        {
            Some(&operator.token)
        }
        _ => None,
    }
}

/// How many tokens `OF a, b.c` takes.
fn locked_names(lexemes: &[Lexeme]) -> usize {
    let is_name = |at: usize| {
        lexemes.get(at).is_some_and(|lexeme| {
            matches!(&lexeme.token, Token::Word(_))
                && !unquoted(&lexeme.token).is_some_and(catalog::is_reserved)
        })
    };
    if lexemes.first().and_then(|lexeme| unquoted(&lexeme.token)) != Some("of") || !is_name(1) {
        return 0;
    }
    let mut used = 2;
    while lexemes
        .get(used)
        .is_some_and(|lexeme| matches!(lexeme.token, Token::Comma | Token::Period))
        && is_name(used + 1)
    {
        used += 2;
    }
    used
}
