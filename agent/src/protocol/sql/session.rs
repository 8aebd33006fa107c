//! Statements about the session: settings, prepared statements, cursors, notifications; and the calls of code whose
//! body is not followed: DO, CALL, LOAD.

use sqlparser::tokenizer::Token;

use super::cursor::Cursor;
use super::facts::Facts;
use super::lexer::{Lexeme, is_string};
use super::statements::Context;
use super::types::{Lineage, Outputs, SessionChange};
use super::{names, secrets, transaction, walk};
use crate::model::{Effect, ObjectKind};

fn session() -> Facts {
    let mut facts = Facts::new();
    facts.act(Effect::Session, None);
    facts
}

/// `PREPARE name [(types)] AS statement`. It has the effects of what it prepares, so that EXECUTE brings nothing new.
pub(super) fn prepare(context: Context<'_>, cursor: &mut Cursor<'_>) -> Option<Facts> {
    let name = cursor.ident()?;
    cursor.parens();
    cursor.eat(&["as"]).then_some(())?;
    let mut facts = session();
    let statement = context.inner_batch(cursor.take_rest(), &mut facts);
    facts.session = SessionChange::Prepare { name, statement };
    Some(facts)
}

/// `EXECUTE name [(arguments)]`. What it does was said of the PREPARE; its result is not known here.
pub(super) fn execute(cursor: &mut Cursor<'_>) -> Option<Facts> {
    let name = cursor.ident()?;
    let mut facts = session();
    if let Some(arguments) = cursor.parens() {
        let walked = walk::expressions(arguments);
        facts.sink |=
            !matches!(&walked.outputs, Outputs::Columns(columns) if columns.iter().all(Lineage::is_constant));
        let only_constants = walked
            .actions()
            .iter()
            .all(|action| action.effect == Effect::Read && action.object.is_none());
        if !only_constants {
            facts.absorb(&walked);
        }
    }
    facts.outputs = Outputs::Unknown;
    facts.uses_any();
    facts.session = SessionChange::Execute { name };
    Some(facts)
}

pub(super) fn deallocate(cursor: &mut Cursor<'_>) -> Option<Facts> {
    if cursor.rest().len() > 1 {
        cursor.eat(&["prepare"]);
    }
    cursor.ident()?;
    Some(session())
}

/// `DECLARE name [options] CURSOR [WITH | WITHOUT HOLD] FOR query`.
pub(super) fn declare(context: Context<'_>, cursor: &mut Cursor<'_>) -> Option<Facts> {
    let name = cursor.ident()?;
    cursor.skip(&["binary", "asensitive", "insensitive", "no", "scroll"]);
    cursor.eat(&["cursor"]).then_some(())?;
    if cursor.eat(&["with"]) || cursor.eat(&["without"]) {
        cursor.eat(&["hold"]).then_some(())?;
    }
    cursor.eat(&["for"]).then_some(())?;
    let mut facts = session();
    let statement = context.inner_batch(cursor.take_rest(), &mut facts);
    facts.session = SessionChange::Declare { name, statement };
    Some(facts)
}

/// `FETCH | MOVE [direction] [FROM | IN] name`.
pub(super) fn fetch(cursor: &mut Cursor<'_>, word: &str) -> Option<Facts> {
    // The name is the last word; what stands before it must be a direction.
    let (last, before) = cursor.take_rest().split_last()?;
    let name = Cursor::new(std::slice::from_ref(last)).ident()?;
    let mut direction = Cursor::new(before);
    while !direction.is_end() {
        let word = direction.peek_word().is_some_and(|word| {
            matches!(
                word,
                "next"
                    | "prior"
                    | "first"
                    | "last"
                    | "absolute"
                    | "relative"
                    | "all"
                    | "forward"
                    | "backward"
                    | "from"
                    | "in"
            )
        });
        if !word
            && !matches!(
                direction.peek(),
                Some(Token::Number(_, _) | Token::Minus | Token::Plus)
            )
        {
            return None;
        }
        direction.next();
    }
    let mut facts = session();
    facts.session = SessionChange::Fetch { name };
    if word == "fetch" {
        facts.outputs = Outputs::Unknown;
        facts.uses_any();
    }
    Some(facts)
}

pub(super) fn close(cursor: &mut Cursor<'_>) -> Option<Facts> {
    cursor.ident()?;
    Some(session())
}

/// `SET …`, in all its forms.
pub(super) fn set(cursor: &mut Cursor<'_>) -> Option<Facts> {
    if cursor.eat(&["transaction"]) || cursor.eat(&["session", "characteristics", "as", "transaction"]) {
        return transaction::set_transaction(cursor);
    }
    if cursor.eat(&["constraints"]) {
        let all = cursor.eat(&["all"]);
        if !all {
            cursor.list(Cursor::parts)?;
        }
        (cursor.eat(&["deferred"]) || cursor.eat(&["immediate"])).then_some(())?;
        let mut facts = Facts::new();
        facts.act(Effect::Transaction, None);
        return Some(facts);
    }
    let _scope =
        cursor.eat(&["local"]) || cursor.at(&["session", "authorization"]) || cursor.eat(&["session"]);
    let mut facts = Facts::new();
    setting(&mut facts, cursor)?;
    Some(facts)
}

/// What stands behind SET in `SET`, `ALTER ROLE … SET`, `ALTER SYSTEM SET`: `name = value` and the special forms.
pub(super) fn setting(facts: &mut Facts, cursor: &mut Cursor<'_>) -> Option<()> {
    if cursor.eat(&["session", "authorization"]) {
        names::set(facts, "session_authorization");
        return values(cursor);
    }
    if cursor.eat(&["time", "zone"]) {
        names::set(facts, "timezone");
        if cursor.eat(&["interval"]) {
            cursor.parens();
            cursor.string()?;
            cursor.skip(&["hour", "to", "minute"]);
            return Some(());
        }
        return values(cursor);
    }
    if cursor.eat(&["xml", "option"]) {
        names::set(facts, "xmloption");
        return values(cursor);
    }
    if cursor.at(&["role"]) && cursor.rest().len() == 2 {
        cursor.next();
        names::set(facts, "role");
        return values(cursor);
    }
    if cursor.eat(&["names"]) {
        names::set(facts, "client_encoding");
        return if cursor.is_end() { Some(()) } else { values(cursor) };
    }
    // `SET SCHEMA 'x'` is a search_path.
    if cursor.at(&["schema"])
        && cursor
            .rest()
            .get(1)
            .is_some_and(|lexeme| is_string(&lexeme.token))
    {
        cursor.next();
        names::set(facts, "search_path");
        return values(cursor);
    }
    let name = cursor.parts()?.join(".").to_lowercase();
    names::set(facts, &name);
    if cursor.eat(&["from", "current"]) {
        return Some(());
    }
    (cursor.eat(&["to"]) || cursor.punct(&Token::Eq)).then_some(())?;
    values(cursor)
}

/// `value, value, …`: literals and words.
fn values(cursor: &mut Cursor<'_>) -> Option<()> {
    cursor.list(|cursor| match cursor.next()? {
        Token::Word(_) | Token::Number(_, _) => Some(()),
        Token::Minus | Token::Plus => matches!(cursor.next()?, Token::Number(_, _)).then_some(()),
        token if is_string(token) => Some(()),
        _ => None,
    })?;
    Some(())
}

pub(super) fn reset(cursor: &mut Cursor<'_>) -> Option<Facts> {
    let mut facts = Facts::new();
    reset_setting(&mut facts, cursor)?;
    Some(facts)
}

/// What stands behind RESET.
pub(super) fn reset_setting(facts: &mut Facts, cursor: &mut Cursor<'_>) -> Option<()> {
    if cursor.eat(&["session", "authorization"]) {
        names::set(facts, "session_authorization");
    } else if cursor.eat(&["time", "zone"]) {
        names::set(facts, "timezone");
    } else if cursor.eat(&["transaction", "isolation", "level"]) {
        facts.act(Effect::Transaction, None);
    } else if cursor.eat(&["all"]) {
        names::set(facts, "all");
        names::set(facts, "search_path");
    } else {
        let name = cursor.parts()?.join(".").to_lowercase();
        names::set(facts, &name);
    }
    Some(())
}

pub(super) fn show(cursor: &mut Cursor<'_>) -> Option<Facts> {
    let mut columns = 1;
    let name = if cursor.eat(&["time", "zone"]) {
        "timezone".to_owned()
    } else if cursor.eat(&["session", "authorization"]) {
        "session_authorization".to_owned()
    } else if cursor.eat(&["transaction", "isolation", "level"]) {
        "transaction_isolation".to_owned()
    } else if cursor.eat(&["all"]) {
        columns = 3;
        "all".to_owned()
    } else {
        cursor.parts()?.join(".").to_lowercase()
    };
    let mut facts = Facts::new();
    facts.on_named(Effect::Session, ObjectKind::Setting, &name);
    facts.outputs = Outputs::Columns(vec![Lineage::constant(); columns]);
    Some(facts)
}

/// DISCARD; `ALL` also ends a SET ROLE and resets every setting.
pub(super) fn discard(cursor: &mut Cursor<'_>) -> Option<Facts> {
    let mut facts = session();
    if cursor.eat(&["all"]) {
        names::set(&mut facts, "search_path");
        names::set(&mut facts, "session_authorization");
        return Some(facts);
    }
    let known = cursor.eat(&["plans"])
        || cursor.eat(&["sequences"])
        || cursor.eat(&["temp"])
        || cursor.eat(&["temporary"]);
    known.then_some(facts)
}

pub(super) fn notify(cursor: &mut Cursor<'_>, word: &str) -> Option<Facts> {
    let mut facts = Facts::new();
    if word == "unlisten" && cursor.punct(&Token::Mul) {
        facts.act(Effect::Notify, None);
        return Some(facts);
    }
    let channel = cursor.ident()?;
    facts.on_named(Effect::Notify, ObjectKind::Channel, &channel);
    if word == "notify" && cursor.punct(&Token::Comma) {
        is_string(cursor.next()?).then_some(())?;
    }
    Some(facts)
}

pub(super) fn load(cursor: &mut Cursor<'_>) -> Option<Facts> {
    let file = cursor.string()?;
    let mut facts = Facts::new();
    facts.on_named(Effect::UnsafeIo, ObjectKind::File, secrets::shown(file));
    facts.opaque = true;
    Some(facts)
}

/// `DO [LANGUAGE name] 'code' [LANGUAGE name]`.
pub(super) fn anonymous_block(cursor: &mut Cursor<'_>) -> Option<Facts> {
    let mut code = false;
    while !cursor.is_end() {
        if cursor.eat(&["language"]) {
            if cursor.ident().is_none() {
                cursor.string()?;
            }
        } else {
            is_string(cursor.next()?).then_some(())?;
            code = true;
        }
    }
    let mut facts = Facts::new();
    facts.act(Effect::Procedural, None);
    // It can read anything and put it anywhere.
    facts.opaque = true;
    facts.sink = true;
    facts.uses_any();
    code.then_some(facts)
}

/// `CALL procedure(arguments)`.
pub(super) fn call(cursor: &mut Cursor<'_>) -> Option<Facts> {
    let procedure = cursor.relation()?;
    let arguments = cursor.parens()?;
    let mut facts = Facts::new();
    facts.on_object(Effect::Procedural, ObjectKind::Function, &procedure);
    absorb_arguments(&mut facts, arguments);
    facts.opaque = true;
    facts.outputs = Outputs::Unknown;
    facts.uses_any();
    Some(facts)
}

fn absorb_arguments(facts: &mut Facts, arguments: &[Lexeme]) {
    if arguments.is_empty() {
        return;
    }
    let walked = walk::expressions(arguments);
    let only_constants = walked
        .actions()
        .iter()
        .all(|action| action.effect == Effect::Read && action.object.is_none());
    if !only_constants {
        facts.absorb(&walked);
    }
}
