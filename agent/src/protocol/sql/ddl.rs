//! CREATE, ALTER, DROP, COMMENT.
//!
//! PostgreSQL's grammar lets no other command stand inside these but for those that are taken apart here (CREATE TABLE
//! AS, CREATE VIEW, CREATE SCHEMA with elements, CREATE RULE), so what follows a name is not followed word by word,
//! only searched for expressions (`definition`).

use super::cursor::{Cursor, unquoted};
use super::definition;
use super::facts::Facts;
use super::lexer::Lexeme;
use super::privilege;
use super::session;
use super::statements::Context;
use super::types::RelationName;
use crate::model::{Effect, ObjectKind};

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

/// `CREATE …`, the first word already taken.
pub(super) fn create(context: Context<'_>, cursor: &mut Cursor<'_>) -> Option<Facts> {
    cursor.eat(&["or", "replace"]);
    let mut facts = Facts::new();
    if cursor.eat(&["role"]) || cursor.eat(&["group"]) || (!cursor.at(&["user", "mapping"]) && cursor.eat(&["user"])) {
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
    // Types of fields or of labels, and what only names things.
    let data = ["type", "collation", "statistics", "publication"].iter().any(|word| cursor.at(&[word]));
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
        if !data || cursor.rest().iter().any(|lexeme| matches!(unquoted(&lexeme.token), Some("range" | "input"))) {
            code(&mut facts);
        }
        cursor.take_rest();
        return Some(facts);
    }
    if cursor.eat(&["cast"]) || cursor.eat(&["transform"]) {
        cursor.take_rest();
        facts.act(Effect::SchemaCreate, None);
        facts.act(Effect::Procedural, None);
        code(&mut facts);
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
        code(&mut facts);
        return Some(facts);
    }
    create_relation(context, cursor, facts)
}

/// The session can have this code run from now on where nobody sees a call of it: as an operator, a cast, or under a name
/// that a built-in function has too.
fn code(facts: &mut Facts) {
    facts.opaque = true;
    facts.sink = true;
    facts.uses_any();
}

fn not_exists(cursor: &mut Cursor<'_>) {
    cursor.eat(&["if", "not", "exists"]);
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
    let elements = cursor.rest().iter().any(|lexeme| matches!(unquoted(&lexeme.token), Some("create" | "grant")));
    cursor.take_rest();
    (!elements).then_some(facts)
}

fn create_relation(context: Context<'_>, cursor: &mut Cursor<'_>, mut facts: Facts) -> Option<Facts> {
    cursor.skip(&["global", "local", "temp", "temporary", "unlogged", "recursive", "constraint", "trusted", "procedural", "unique"]);
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
        code(&mut facts);
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
        // Its function gets the table's rows, and can put their values into other columns.
        moved(&mut facts);
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

/// `SET search_path = …` in the definition of a function.
fn settings_of_function(facts: &mut Facts, lexemes: &[Lexeme]) {
    let mut cursor = Cursor::new(lexemes);
    while !cursor.is_end() {
        if cursor.eat(&["set"]) {
            if let Some(name) = cursor.parts() {
                super::names::set(facts, &name.join("."));
            }
        } else if cursor.parens().is_none() {
            cursor.next();
        }
    }
}

/// `ALTER …`, the first word already taken.
pub(super) fn alter(cursor: &mut Cursor<'_>) -> Option<Facts> {
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
    if cursor.eat(&["role"]) || cursor.eat(&["group"]) || (!cursor.at(&["user", "mapping"]) && cursor.eat(&["user"])) {
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
    if ["table", "view", "sequence", "index"].iter().any(|kind| cursor.eat(&[kind])) {
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
    if cursor.rest().iter().any(|lexeme| unquoted(&lexeme.token) == Some("update")) {
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
        if cursor.eat(&["enable"]) || cursor.eat(&["disable"]) || cursor.eat(&["force"]) || cursor.eat(&["no", "force"]) {
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
    let words = |words: &[&str]| rest.windows(words.len()).any(|window| Cursor::new(window).at(words));
    if words(&["owner", "to"]) {
        facts.act(Effect::Privilege, None);
    }
    if words(&["rename", "to"]) || words(&["set", "schema"]) {
        moved(facts);
        // Functions, and schemas with all that is in them.
        facts.opaque |= facts.relations().is_empty();
    }
}

/// `DROP …`, the first word already taken.
pub(super) fn drop(cursor: &mut Cursor<'_>) -> Option<Facts> {
    let mut facts = Facts::new();
    if cursor.eat(&["owned", "by"]) {
        for role in cursor.list(Cursor::ident)? {
            facts.on_named(Effect::Privilege, ObjectKind::Role, &role);
        }
        facts.act(Effect::SchemaDestroy, None);
        behaviour(cursor);
        return Some(facts);
    }
    if cursor.eat(&["user", "mapping"]) || cursor.eat(&["cast"]) || cursor.eat(&["transform"]) || cursor.eat(&["operator"]) {
        cursor.take_rest();
        facts.act(Effect::SchemaDestroy, None);
        return Some(facts);
    }
    if cursor.eat(&["role"]) || cursor.eat(&["user"]) || cursor.eat(&["group"]) {
        cursor.eat(&["if", "exists"]);
        for role in cursor.list(Cursor::ident)? {
            facts.on_named(Effect::Privilege, ObjectKind::Role, &role);
        }
        return Some(facts);
    }
    if cursor.eat(&["policy"]) || cursor.eat(&["trigger"]) || cursor.eat(&["rule"]) {
        cursor.eat(&["if", "exists"]);
        cursor.ident()?;
        cursor.eat(&["on"]).then_some(())?;
        let table = cursor.relation()?;
        facts.on(Effect::SchemaDestroy, &table);
        facts.on(Effect::Privilege, &table);
        behaviour(cursor);
        return Some(facts);
    }
    let container = if cursor.eat(&["database"]) {
        Some(ObjectKind::Database)
    } else if cursor.eat(&["schema"]) {
        Some(ObjectKind::Schema)
    } else if cursor.eat(&["extension"]) || cursor.eat(&["event", "trigger"]) || cursor.eat(&["language"]) || OUTSIDE.iter().any(|words| cursor.eat(words))
    {
        Some(ObjectKind::Other)
    } else {
        None
    };
    if let Some(kind) = container {
        cursor.eat(&["if", "exists"]);
        for name in cursor.list(Cursor::ident)? {
            facts.on_named(Effect::SchemaDestroy, kind, &name);
        }
        if cursor.eat(&["with"]) {
            cursor.parens()?;
        }
        behaviour(cursor);
        return Some(facts);
    }
    let function = cursor.eat(&["function"]) || cursor.eat(&["procedure"]) || cursor.eat(&["routine"]) || cursor.eat(&["aggregate"]);
    let table = !function && {
        cursor.eat(&["foreign"]);
        cursor.eat(&["materialized"]);
        ["table", "view", "sequence", "index"].iter().any(|kind| cursor.eat(&[kind]))
    };
    if !function && !table && !cursor.eat(&["domain"]) && !PLAIN.iter().any(|words| cursor.eat(words)) {
        return None;
    }
    cursor.eat(&["concurrently"]);
    cursor.eat(&["if", "exists"]);
    for name in cursor.list(|cursor| {
        let name = cursor.relation()?;
        cursor.parens();
        Some(name)
    })? {
        match (table, function) {
            (true, _) => facts.on(Effect::SchemaDestroy, &name),
            (false, true) => facts.on_object(Effect::SchemaDestroy, ObjectKind::Function, &name),
            (false, false) => facts.on_object(Effect::SchemaDestroy, ObjectKind::Other, &name),
        }
    }
    behaviour(cursor);
    Some(facts)
}

fn behaviour(cursor: &mut Cursor<'_>) {
    let _ = cursor.eat(&["cascade"]) || cursor.eat(&["restrict"]);
}

/// `COMMENT ON …`, the first word already taken.
pub(super) fn comment(cursor: &mut Cursor<'_>) -> Option<Facts> {
    cursor.eat(&["on"]).then_some(())?;
    let mut facts = Facts::new();
    cursor.eat(&["foreign"]);
    cursor.eat(&["materialized"]);
    if ["table", "view", "sequence", "index"].iter().any(|kind| cursor.eat(&[kind])) {
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

