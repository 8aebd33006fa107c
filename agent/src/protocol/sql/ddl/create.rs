//! CREATE.

use super::super::cursor::{Cursor, unquoted};
use super::super::facts::Facts;
use super::super::lexer::Lexeme;
use super::super::statements::Context;
use super::super::{definition, privilege};
use super::{OUTSIDE, PLAIN, settings_of_function};
use crate::model::{Effect, ObjectKind};

/// `CREATE …`, the first word already taken.
pub(in super::super) fn create(context: Context<'_>, cursor: &mut Cursor<'_>) -> Option<Facts> {
    cursor.eat(&["or", "replace"]);
    let mut facts = Facts::new();
    if cursor.eat(&["role"])
        || cursor.eat(&["group"])
        || (!cursor.at(&["user", "mapping"]) && cursor.eat(&["user"]))
    {
        return privilege::role(cursor);
    }
    if cursor.eat(&["user", "mapping"]) {
        cursor.take_rest();
        facts.act(Effect::SchemaCreate, None);
        facts.act(Effect::UnsafeIo, None);
        facts.act(Effect::Privilege, None);
        return Some(facts);
    }
    if OUTSIDE.iter().any(|words| cursor.eat(words)) {
        not_exists(cursor);
        let name = cursor.ident()?;
        cursor.take_rest();
        facts.on_named(Effect::SchemaCreate, ObjectKind::Other, &name);
        facts.on_named(Effect::UnsafeIo, ObjectKind::Other, &name);
        return Some(facts);
    }
    let of_data = ["type", "collation", "statistics", "publication"]
        .iter()
        .any(|word| cursor.at(&[word]));
    if PLAIN.iter().any(|words| cursor.eat(words)) {
        not_exists(cursor);
        // An operator's name is none; a cast has none.
        if let Some(name) = cursor.relation() {
            facts.on_object(Effect::SchemaCreate, ObjectKind::Other, &name);
        } else {
            facts.act(Effect::SchemaCreate, None);
        }
        // What operators, aggregates and types call is code.
        facts.act(Effect::Procedural, None);
        let definition = cursor.take_rest();
        let calls = |lexeme: &Lexeme| matches!(unquoted(&lexeme.token), Some("range" | "input"));
        if !of_data || definition.iter().any(calls) {
            plants(&mut facts);
        }
        return Some(facts);
    }
    if cursor.eat(&["cast"]) || cursor.eat(&["transform"]) {
        cursor.take_rest();
        facts.act(Effect::SchemaCreate, None);
        facts.act(Effect::Procedural, None);
        plants(&mut facts);
        return Some(facts);
    }
    if cursor.eat(&["database"]) || cursor.eat(&["schema"]) {
        return create_container(cursor);
    }
    if cursor.eat(&["event", "trigger"]) || cursor.eat(&["extension"]) {
        not_exists(cursor);
        let name = cursor.ident()?;
        cursor.take_rest();
        facts.on_named(Effect::SchemaCreate, ObjectKind::Other, &name);
        facts.act(Effect::Procedural, None);
        return Some(facts);
    }
    if cursor.eat(&["policy"]) {
        cursor.ident()?;
        cursor.eat(&["on"]).then_some(())?;
        let table = cursor.relation()?;
        facts.on(Effect::SchemaCreate, &table);
        facts.on(Effect::Privilege, &table);
        definition::search(&mut facts, cursor.take_rest());
        return Some(facts);
    }
    if cursor.eat(&["rule"]) {
        // The server will run other commands than those that it is sent.
        cursor.ident()?;
        cursor.eat(&["as", "on"]).then_some(())?;
        cursor.ident()?;
        cursor.eat(&["to"]).then_some(())?;
        let table = cursor.relation()?;
        cursor.take_rest();
        facts.on(Effect::SchemaCreate, &table);
        facts.act(Effect::Procedural, None);
        plants(&mut facts);
        return Some(facts);
    }
    create_relation(context, cursor, facts)
}

/// From now on the session can have code run where nobody sees that it is called: as an operator, as a cast, by a
/// trigger, or under a name that a built-in function has too.
fn plants(facts: &mut Facts) {
    facts.opaque = true;
    facts.sink = true;
    facts.uses_any();
}

fn create_container(cursor: &mut Cursor<'_>) -> Option<Facts> {
    let mut facts = Facts::new();
    not_exists(cursor);
    if !cursor.at(&["authorization"]) {
        let name = cursor.ident()?;
        facts.on_named(Effect::SchemaCreate, ObjectKind::Schema, &name);
    }
    if cursor.eat(&["authorization"]) {
        let role = cursor.ident()?;
        facts.on_named(Effect::Privilege, ObjectKind::Role, &role);
        facts.act(Effect::SchemaCreate, None);
    }
    // A schema with elements has whole commands inside.
    let elements = cursor
        .rest()
        .iter()
        .any(|lexeme| matches!(unquoted(&lexeme.token), Some("create" | "grant")));
    cursor.take_rest();
    (!elements).then_some(facts)
}

fn create_relation(context: Context<'_>, cursor: &mut Cursor<'_>, mut facts: Facts) -> Option<Facts> {
    cursor.skip(&[
        "global",
        "local",
        "temp",
        "temporary",
        "unlogged",
        "recursive",
        "constraint",
        "trusted",
        "procedural",
        "unique",
    ]);
    if cursor.eat(&["foreign", "table"]) {
        facts.act(Effect::UnsafeIo, None);
        return create_table(context, cursor, facts);
    }
    if cursor.eat(&["table"]) {
        return create_table(context, cursor, facts);
    }
    if cursor.eat(&["view"]) || cursor.eat(&["materialized", "view"]) {
        not_exists(cursor);
        let name = cursor.relation()?;
        facts.on(Effect::SchemaCreate, &name);
        let (_, query) = split_at_as(cursor.take_rest())?;
        let inner = context.inner(query);
        facts.absorb(&inner);
        // Who reads the view reads a column of another name.
        facts.sink = true;
        return Some(facts);
    }
    if cursor.eat(&["sequence"]) {
        not_exists(cursor);
        let name = cursor.relation()?;
        facts.on(Effect::SchemaCreate, &name);
        cursor.take_rest();
        return Some(facts);
    }
    if cursor.eat(&["index"]) {
        cursor.eat(&["concurrently"]);
        not_exists(cursor);
        if !cursor.at(&["on"]) {
            cursor.ident()?;
        }
        cursor.eat(&["on"]).then_some(())?;
        let table = cursor.table()?;
        facts.on(Effect::SchemaCreate, &table);
        if cursor.eat(&["using"]) {
            cursor.ident()?;
        }
        definition::search(&mut facts, cursor.take_rest());
        return Some(facts);
    }
    if cursor.eat(&["domain"]) {
        let name = cursor.relation()?;
        facts.on_object(Effect::SchemaCreate, ObjectKind::Other, &name);
        definition::search(&mut facts, cursor.take_rest());
        return Some(facts);
    }
    if cursor.eat(&["function"]) || cursor.eat(&["procedure"]) {
        let name = cursor.relation()?;
        let rest = cursor.take_rest();
        facts.on_object(Effect::SchemaCreate, ObjectKind::Function, &name);
        facts.on_object(Effect::Procedural, ObjectKind::Function, &name);
        settings_of_function(&mut facts, rest);
        plants(&mut facts);
        return Some(facts);
    }
    if cursor.eat(&["trigger"]) {
        cursor.ident()?;
        while !cursor.eat(&["on"]) {
            cursor.next()?;
        }
        let table = cursor.relation()?;
        cursor.take_rest();
        facts.on(Effect::SchemaCreate, &table);
        facts.act(Effect::Procedural, None);
        // Its function gets the table's rows, and can put what it finds into other columns.
        facts.sink = true;
        facts.uses_any();
        return Some(facts);
    }
    if cursor.eat(&["language"]) {
        let name = cursor.ident()?;
        cursor.take_rest();
        facts.on_named(Effect::SchemaCreate, ObjectKind::Other, &name);
        facts.on_named(Effect::Privilege, ObjectKind::Other, &name);
        facts.act(Effect::Procedural, None);
        return Some(facts);
    }
    None
}

fn create_table(context: Context<'_>, cursor: &mut Cursor<'_>, mut facts: Facts) -> Option<Facts> {
    not_exists(cursor);
    let name = cursor.relation()?;
    facts.on(Effect::SchemaCreate, &name);
    if cursor.eat(&["partition", "of"]) {
        let parent = cursor.relation()?;
        facts.on(Effect::SchemaAlter, &parent);
    }
    let rest = cursor.take_rest();
    let Some((head, query)) = split_at_as(rest) else {
        definition::search(&mut facts, rest);
        inherited(&mut facts, rest)?;
        return Some(facts);
    };
    definition::search(&mut facts, head);
    let inner = context.inner(query);
    facts.absorb(&inner);
    facts.session = inner.session;
    facts.sink = true;
    Some(facts)
}

/// `INHERITS (parent, …)` changes what a read of the parent gives.
fn inherited(facts: &mut Facts, lexemes: &[Lexeme]) -> Option<()> {
    let mut cursor = Cursor::new(lexemes);
    while !cursor.is_end() {
        if cursor.eat(&["inherits"]) {
            let mut parents = Cursor::new(cursor.parens()?);
            for parent in parents.list(Cursor::relation)? {
                facts.on(Effect::SchemaAlter, &parent);
            }
        } else if cursor.parens().is_none() {
            cursor.next();
        }
    }
    Some(())
}

/// What stands before and after the first AS outside of parentheses; endings that belong to the outer command are cut.
fn split_at_as(lexemes: &[Lexeme]) -> Option<(&[Lexeme], &[Lexeme])> {
    let mut cursor = Cursor::new(lexemes);
    loop {
        if cursor.at(&["as"]) {
            break;
        }
        if cursor.parens().is_none() {
            cursor.next()?;
        }
    }
    let head = lexemes.get(..lexemes.len() - cursor.rest().len())?;
    cursor.next();
    let mut query = cursor.rest();
    let endings: &[&[&str]] = &[
        &["with", "data"],
        &["with", "no", "data"],
        &["with", "check", "option"],
        &["with", "local", "check", "option"],
        &["with", "cascaded", "check", "option"],
    ];
    for ending in endings {
        if let Some(at) = query.len().checked_sub(ending.len())
            && let Some((before, last)) = query.split_at_checked(at)
            && Cursor::new(last).at(ending)
        {
            query = before;
            break;
        }
    }
    Some((head, query))
}

fn not_exists(cursor: &mut Cursor<'_>) {
    cursor.eat(&["if", "not", "exists"]);
}
