//! GRANT, REVOKE, roles, ownership, labels.

use super::cursor::Cursor;
use super::facts::Facts;
use super::session;
use crate::model::{Effect, ObjectKind};

/// `GRANT …` and `REVOKE …`; the first word already taken.
pub(super) fn grant(cursor: &mut Cursor<'_>, word: &str) -> Option<Facts> {
    let mut facts = Facts::new();
    let end = if word == "grant" { "to" } else { "from" };
    // Privileges, or roles, up to ON or the roles that get them; a column list may stand behind a privilege.
    let mut named = Vec::new();
    while !cursor.at(&["on"]) && !cursor.at(&[end]) {
        if cursor.parens().is_none() {
            match cursor.ident() {
                Some(name) => named.push(name),
                None => {
                    cursor.next()?;
                }
            }
        }
    }
    if cursor.eat(&["on"]) {
        let kind = granted_kind(cursor);
        match kind {
            Some(ObjectKind::Table) => {
                for table in cursor.list(Cursor::relation)? {
                    facts.on(Effect::Privilege, &table);
                }
            }
            Some(kind @ (ObjectKind::Function | ObjectKind::Other)) => {
                for name in cursor.list(|cursor| {
                    let name = cursor.relation()?;
                    cursor.parens();
                    Some(name)
                })? {
                    facts.on_object(Effect::Privilege, kind, &name);
                }
            }
            Some(kind) => {
                for name in cursor.list(Cursor::parts)? {
                    facts.on_named(Effect::Privilege, kind, &name.join("."));
                }
            }
            None => facts.act(Effect::Privilege, None),
        }
    } else {
        for role in named {
            facts.on_named(Effect::Privilege, ObjectKind::Role, &role);
        }
    }
    facts.act(Effect::Privilege, None);
    cursor.take_rest();
    Some(facts)
}

/// `None`: objects that are not named one by one.
fn granted_kind(cursor: &mut Cursor<'_>) -> Option<ObjectKind> {
    if cursor.at(&["all"]) || cursor.at(&["large", "object"]) {
        return None;
    }
    if cursor.eat(&["schema"]) {
        return Some(ObjectKind::Schema);
    }
    if cursor.eat(&["database"]) {
        return Some(ObjectKind::Database);
    }
    if cursor.eat(&["parameter"]) {
        return Some(ObjectKind::Setting);
    }
    if cursor.eat(&["function"]) || cursor.eat(&["procedure"]) || cursor.eat(&["routine"]) {
        return Some(ObjectKind::Function);
    }
    let other = [
        &["foreign", "data", "wrapper"][..],
        &["foreign", "server"],
        &["domain"],
        &["type"],
        &["language"],
        &["tablespace"],
    ];
    if other.iter().any(|words| cursor.eat(words)) {
        return Some(ObjectKind::Other);
    }
    let _ = cursor.eat(&["table"]) || cursor.eat(&["sequence"]);
    Some(ObjectKind::Table)
}

/// `REASSIGN OWNED BY …`, the first word already taken.
pub(super) fn reassign(cursor: &mut Cursor<'_>) -> Option<Facts> {
    cursor.eat(&["owned", "by"]).then_some(())?;
    let mut facts = Facts::new();
    for role in cursor.list(Cursor::ident)? {
        facts.on_named(Effect::Privilege, ObjectKind::Role, &role);
    }
    cursor.eat(&["to"]).then_some(())?;
    cursor.ident()?;
    Some(facts)
}

/// `SECURITY LABEL …`: labels can be a policy of their own (sepgsql, anonymizers).
pub(super) fn security_label(cursor: &mut Cursor<'_>) -> Option<Facts> {
    cursor.eat(&["label"]).then_some(())?;
    cursor.take_rest();
    let mut facts = Facts::new();
    facts.act(Effect::Privilege, None);
    facts.act(Effect::SchemaAlter, None);
    Some(facts)
}

/// `CREATE | ALTER ROLE | USER | GROUP name …`, up to the name.
pub(super) fn role(cursor: &mut Cursor<'_>) -> Option<Facts> {
    let mut facts = Facts::new();
    cursor.eat(&["if", "exists"]);
    let name = cursor.ident()?;
    facts.on_named(Effect::Privilege, ObjectKind::Role, &name);
    role_settings(&mut facts, cursor)?;
    cursor.take_rest();
    Some(facts)
}

/// `… [IN DATABASE name] SET setting …` of a role or a database: seen as a change of that setting.
pub(super) fn role_settings(facts: &mut Facts, cursor: &mut Cursor<'_>) -> Option<()> {
    if cursor.eat(&["in", "database"]) {
        cursor.ident()?;
    }
    if cursor.eat(&["set"]) && !cursor.at(&["tablespace"]) {
        session::setting(facts, cursor)?;
    } else if cursor.eat(&["reset"]) {
        session::reset_setting(facts, cursor)?;
    }
    Some(())
}
