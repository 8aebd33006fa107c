//! DROP.

use super::super::cursor::Cursor;
use super::super::facts::Facts;
use super::{OUTSIDE, PLAIN};
use crate::model::{Effect, ObjectKind};

/// `DROP …`, the first word already taken.
pub(in super::super) fn drop(cursor: &mut Cursor<'_>) -> Option<Facts> {
    let mut facts = Facts::new();
    if cursor.eat(&["owned", "by"]) {
        for role in cursor.list(Cursor::ident)? {
            facts.on_named(Effect::Privilege, ObjectKind::Role, &role);
        }
        facts.act(Effect::SchemaDestroy, None);
        behaviour(cursor);
        return Some(facts);
    }
    if cursor.eat(&["user", "mapping"])
        || cursor.eat(&["cast"])
        || cursor.eat(&["transform"])
        || cursor.eat(&["operator"])
    {
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
    } else if cursor.eat(&["extension"])
        || cursor.eat(&["event", "trigger"])
        || cursor.eat(&["language"])
        || OUTSIDE.iter().any(|words| cursor.eat(words))
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
    let function = cursor.eat(&["function"])
        || cursor.eat(&["procedure"])
        || cursor.eat(&["routine"])
        || cursor.eat(&["aggregate"]);
    let table = !function && {
        cursor.eat(&["foreign"]);
        cursor.eat(&["materialized"]);
        ["table", "view", "sequence", "index"]
            .iter()
            .any(|kind| cursor.eat(&[kind]))
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
