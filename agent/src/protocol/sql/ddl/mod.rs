//! CREATE, ALTER, DROP, COMMENT.
//!
//! PostgreSQL's grammar lets no other command stand inside these but for those that are taken apart here (CREATE TABLE
//! AS, CREATE VIEW, CREATE SCHEMA with elements, CREATE RULE), so what follows a name is not followed word by word,
//! only searched for expressions (`definition`).

mod alter;
mod create;
mod drop;

pub(super) use self::alter::alter;
pub(super) use self::create::create;
pub(super) use self::drop::drop;

use super::cursor::{Cursor, unquoted};
use super::facts::Facts;
use super::lexer::Lexeme;
use super::names;
use crate::model::Effect;

/// Kinds of objects that have a schema and nothing in their definition that runs.
const PLAIN: &[&[&str]] = &[
    &["access", "method"],
    &["text", "search", "configuration"],
    &["text", "search", "dictionary"],
    &["text", "search", "parser"],
    &["text", "search", "template"],
    &["operator", "class"],
    &["operator", "family"],
    &["operator"],
    &["aggregate"],
    &["collation"],
    &["conversion"],
    &["statistics"],
    &["type"],
    &["publication"],
];

/// Kinds of objects that reach out of the server.
const OUTSIDE: &[&[&str]] = &[
    &["foreign", "data", "wrapper"],
    &["subscription"],
    &["server"],
    &["tablespace"],
];

/// `SET search_path = …` in the definition of a function.
fn settings_of_function(facts: &mut Facts, lexemes: &[Lexeme]) {
    let mut cursor = Cursor::new(lexemes);
    while !cursor.is_end() {
        if cursor.eat(&["set"]) {
            if let Some(name) = cursor.parts() {
                names::set(facts, &name.join(".").to_lowercase());
            }
        } else if cursor.parens().is_none() {
            cursor.next();
        }
    }
}

/// `COMMENT ON …`, the first word already taken.
pub(super) fn comment(cursor: &mut Cursor<'_>) -> Option<Facts> {
    cursor.eat(&["on"]).then_some(())?;
    let mut facts = Facts::new();
    cursor.eat(&["foreign"]);
    cursor.eat(&["materialized"]);
    if ["table", "view", "sequence", "index"]
        .iter()
        .any(|kind| cursor.eat(&[kind]))
    {
        let table = cursor.relation()?;
        facts.on(Effect::SchemaAlter, &table);
    } else if cursor.eat(&["column"]) {
        let mut parts = cursor.parts()?;
        parts.pop();
        facts.on(Effect::SchemaAlter, &super::facts::relation(&parts)?);
    } else {
        facts.act(Effect::SchemaAlter, None);
        while !cursor.at(&["is"]) {
            cursor.next()?;
        }
    }
    cursor.eat(&["is"]).then_some(())?;
    let comment = cursor.next()?;
    (super::lexer::is_string(comment) || unquoted(comment) == Some("null")).then_some(facts)
}

/// `IMPORT FOREIGN SCHEMA …`, the first word already taken.
pub(super) fn import(cursor: &mut Cursor<'_>) -> Option<Facts> {
    cursor.eat(&["foreign", "schema"]).then_some(())?;
    cursor.take_rest();
    let mut facts = Facts::new();
    facts.act(Effect::SchemaCreate, None);
    facts.act(Effect::UnsafeIo, None);
    Some(facts)
}
