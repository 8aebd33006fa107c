//! ALTER.

use super::super::cursor::{Cursor, unquoted};
use super::super::facts::Facts;
use super::super::lexer::Lexeme;
use super::super::types::RelationName;
use super::super::{definition, privilege, session};
use super::{OUTSIDE, PLAIN, settings_of_function};
use crate::model::{Effect, ObjectKind};

/// `ALTER …`, the first word already taken.
pub(in super::super) fn alter(cursor: &mut Cursor<'_>) -> Option<Facts> {
    let mut facts = Facts::new();
    if cursor.eat(&["system"]) {
        facts.act(Effect::UnsafeIo, None);
        facts.act(Effect::Privilege, None);
        if cursor.eat(&["reset"]) {
            session::reset_setting(&mut facts, cursor)?;
        } else {
            cursor.eat(&["set"]).then_some(())?;
            session::setting(&mut facts, cursor)?;
        }
        return Some(facts);
    }
    if cursor.eat(&["role"])
        || cursor.eat(&["group"])
        || (!cursor.at(&["user", "mapping"]) && cursor.eat(&["user"]))
    {
        return privilege::role(cursor);
    }
    if cursor.eat(&["default", "privileges"]) || cursor.eat(&["policy"]) || cursor.eat(&["large", "object"]) {
        cursor.take_rest();
        facts.act(Effect::Privilege, None);
        facts.act(Effect::SchemaAlter, None);
        return Some(facts);
    }
    if cursor.eat(&["user", "mapping"]) || OUTSIDE.iter().any(|words| cursor.eat(words)) {
        cursor.take_rest();
        facts.act(Effect::SchemaAlter, None);
        facts.act(Effect::UnsafeIo, None);
        return Some(facts);
    }
    if cursor.eat(&["database"]) {
        let name = cursor.ident()?;
        facts.on_named(Effect::SchemaAlter, ObjectKind::Database, &name);
        privilege::role_settings(&mut facts, cursor)?;
        finish_alter(&mut facts, cursor);
        return Some(facts);
    }
    if cursor.eat(&["schema"]) {
        let name = cursor.ident()?;
        facts.on_named(Effect::SchemaAlter, ObjectKind::Schema, &name);
        finish_alter(&mut facts, cursor);
        return Some(facts);
    }
    if cursor.eat(&["function"]) || cursor.eat(&["procedure"]) || cursor.eat(&["routine"]) {
        let name = cursor.relation()?;
        facts.on_object(Effect::SchemaAlter, ObjectKind::Function, &name);
        facts.on_object(Effect::Procedural, ObjectKind::Function, &name);
        settings_of_function(&mut facts, cursor.rest());
        finish_alter(&mut facts, cursor);
        return Some(facts);
    }
    cursor.eat(&["foreign"]);
    cursor.eat(&["materialized"]);
    if ["table", "view", "sequence", "index"]
        .iter()
        .any(|kind| cursor.eat(&[kind]))
    {
        if cursor.eat(&["all", "in", "tablespace"]) {
            cursor.take_rest();
            facts.act(Effect::SchemaAlter, None);
            return Some(facts);
        }
        cursor.eat(&["if", "exists"]);
        let table = cursor.table()?;
        facts.on(Effect::SchemaAlter, &table);
        alter_table(&mut facts, cursor.rest(), &table)?;
        definition::search(&mut facts, cursor.rest());
        finish_alter(&mut facts, cursor);
        return Some(facts);
    }
    let known = cursor.eat(&["domain"])
        || cursor.eat(&["trigger"])
        || cursor.eat(&["rule"])
        || cursor.eat(&["event", "trigger"])
        || cursor.eat(&["extension"])
        || cursor.eat(&["language"])
        || cursor.eat(&["procedural", "language"])
        || PLAIN.iter().any(|words| cursor.eat(words));
    if !known {
        return None;
    }
    match cursor.relation() {
        Some(name) => facts.on_object(Effect::SchemaAlter, ObjectKind::Other, &name),
        None => facts.act(Effect::SchemaAlter, None),
    }
    if cursor
        .rest()
        .iter()
        .any(|lexeme| unquoted(&lexeme.token) == Some("update"))
    {
        // ALTER EXTENSION … UPDATE runs scripts.
        facts.act(Effect::Procedural, None);
    }
    definition::search(&mut facts, cursor.rest());
    finish_alter(&mut facts, cursor);
    Some(facts)
}

/// What an ALTER TABLE does beyond the table's form.
fn alter_table(facts: &mut Facts, lexemes: &[Lexeme], table: &RelationName) -> Option<()> {
    let mut cursor = Cursor::new(lexemes);
    while !cursor.is_end() {
        if cursor.eat(&["enable"])
            || cursor.eat(&["disable"])
            || cursor.eat(&["force"])
            || cursor.eat(&["no", "force"])
        {
            // Triggers, rules and row-level security.
            facts.on(Effect::Privilege, table);
        } else if cursor.eat(&["attach", "partition"])
            || cursor.eat(&["detach", "partition"])
            || cursor.eat(&["no", "inherit"])
            || cursor.eat(&["inherit"])
        {
            let other = cursor.relation()?;
            facts.on(Effect::SchemaAlter, &other);
            moved(facts);
        } else if cursor.eat(&["rename"])
            || cursor.eat(&["using"])
            || cursor.eat(&["generated"])
            || cursor.at(&["set", "schema"])
        {
            moved(facts);
            cursor.next();
        } else {
            cursor.next();
        }
    }
    Some(())
}

/// Stored values come to be found under another name, where no mask looks for them.
fn moved(facts: &mut Facts) {
    facts.sink = true;
    facts.uses_any();
}

fn finish_alter(facts: &mut Facts, cursor: &mut Cursor<'_>) {
    let rest = cursor.take_rest();
    let words = |words: &[&str]| {
        rest.windows(words.len())
            .any(|window| Cursor::new(window).at(words))
    };
    if words(&["owner", "to"]) {
        facts.act(Effect::Privilege, None);
    }
    if words(&["rename", "to"]) || words(&["set", "schema"]) {
        moved(facts);
        // Functions, operators, and schemas with all that is in them.
        facts.opaque |= facts.relations().is_empty();
    }
}
