//! VACUUM and its like, TRUNCATE, LOCK.

use sqlparser::tokenizer::Token;

use super::cursor::Cursor;
use super::facts::Facts;
use crate::model::{Effect, ObjectKind};

/// `word` is the first word, already taken.
pub(super) fn maintenance(cursor: &mut Cursor<'_>, word: &str) -> Option<Facts> {
    let mut facts = Facts::new();
    match word {
        "checkpoint" => {}
        "refresh" => {
            cursor.eat(&["materialized", "view"]).then_some(())?;
            cursor.eat(&["concurrently"]);
            let view = cursor.relation()?;
            if cursor.eat(&["with"]) {
                cursor.eat(&["no"]);
                cursor.eat(&["data"]).then_some(())?;
            }
            // It runs the view's query and stores what it gives.
            facts.on(Effect::Write, &view);
            facts.on(Effect::Maintenance, &view);
            facts.opaque = true;
            facts.sink = true;
            facts.uses_any();
        }
        "reindex" => {
            cursor.parens();
            let schema = cursor.eat(&["schema"]);
            let database = !schema && (cursor.eat(&["database"]) || cursor.eat(&["system"]));
            let _ = schema || database || cursor.eat(&["table"]) || cursor.eat(&["index"]);
            cursor.eat(&["concurrently"]);
            if schema || database {
                let name = cursor.ident()?;
                let kind = if schema {
                    ObjectKind::Schema
                } else {
                    ObjectKind::Database
                };
                facts.on_named(Effect::Maintenance, kind, &name);
            } else {
                let name = cursor.relation()?;
                facts.on(Effect::Maintenance, &name);
            }
        }
        "cluster" => {
            cursor.parens();
            cursor.eat(&["verbose"]);
            if !cursor.is_end() {
                let name = cursor.relation()?;
                let table = if cursor.eat(&["on"]) {
                    cursor.relation()?
                } else {
                    name
                };
                facts.on(Effect::Maintenance, &table);
                if cursor.eat(&["using"]) {
                    cursor.ident()?;
                }
            }
        }
        _ => {
            cursor.parens();
            cursor.skip(&["full", "freeze", "verbose", "analyze", "analyse"]);
            if !cursor.is_end() {
                for table in cursor.list(|cursor| {
                    let table = cursor.relation()?;
                    if cursor.peek() == Some(&Token::LParen) {
                        cursor.column_list()?;
                    }
                    Some(table)
                })? {
                    facts.on(Effect::Maintenance, &table);
                }
            }
        }
    }
    if facts.actions().is_empty() {
        facts.act(Effect::Maintenance, None);
    }
    Some(facts)
}

/// `TRUNCATE [TABLE] name, … [RESTART | CONTINUE IDENTITY] [CASCADE | RESTRICT]`.
pub(super) fn truncate(cursor: &mut Cursor<'_>) -> Option<Facts> {
    let mut facts = Facts::new();
    cursor.eat(&["table"]);
    for table in cursor.list(Cursor::table)? {
        facts.on(Effect::Delete, &table);
    }
    if cursor.eat(&["restart"]) || cursor.eat(&["continue"]) {
        cursor.eat(&["identity"]).then_some(())?;
    }
    if cursor.eat(&["cascade"]) {
        // Tables that refer to these are emptied too; which, only the catalog knows.
        facts.act(Effect::Delete, None);
    } else {
        cursor.eat(&["restrict"]);
    }
    facts.without_where = true;
    Some(facts)
}

/// `LOCK [TABLE] name, … [IN mode MODE] [NOWAIT]`.
pub(super) fn lock(cursor: &mut Cursor<'_>) -> Option<Facts> {
    let mut facts = Facts::new();
    cursor.eat(&["table"]);
    for table in cursor.list(Cursor::table)? {
        facts.on(Effect::Lock, &table);
    }
    if cursor.eat(&["in"]) {
        let modes: &[&[&str]] = &[
            &["access", "share"],
            &["row", "share"],
            &["row", "exclusive"],
            &["share", "update", "exclusive"],
            &["share", "row", "exclusive"],
            &["share"],
            &["exclusive"],
            &["access", "exclusive"],
        ];
        modes.iter().any(|mode| cursor.eat(mode)).then_some(())?;
        cursor.eat(&["mode"]).then_some(())?;
    }
    cursor.eat(&["nowait"]);
    Some(facts)
}
