//! BEGIN, COMMIT, ROLLBACK, savepoints and two-phase commit.

use sqlparser::tokenizer::Token;

use super::cursor::Cursor;
use super::facts::Facts;
use crate::model::Effect;

fn done() -> Facts {
    let mut facts = Facts::new();
    facts.act(Effect::Transaction, None);
    facts
}

/// `word` is the first word, already taken.
pub(super) fn transaction(cursor: &mut Cursor<'_>, word: &str) -> Option<Facts> {
    match word {
        "begin" | "start" => {
            if word == "start" {
                cursor.eat(&["transaction"]).then_some(())?;
            } else {
                block(cursor);
            }
            modes(cursor)?;
        }
        "commit" | "rollback" if cursor.eat(&["prepared"]) => {
            cursor.string()?;
        }
        "savepoint" => {
            cursor.ident()?;
        }
        "release" => {
            // `RELEASE savepoint` alone releases a savepoint of that name.
            if cursor.rest().len() > 1 {
                cursor.eat(&["savepoint"]).then_some(())?;
            }
            cursor.ident()?;
        }
        _ => {
            block(cursor);
            if word == "rollback" && cursor.eat(&["to"]) {
                if cursor.rest().len() > 1 {
                    cursor.eat(&["savepoint"]).then_some(())?;
                }
                cursor.ident()?;
            } else if cursor.eat(&["and"]) {
                cursor.eat(&["no"]);
                cursor.eat(&["chain"]).then_some(())?;
            }
        }
    }
    Some(done())
}

/// `PREPARE TRANSACTION 'id'`, the first word already taken.
pub(super) fn prepared(cursor: &mut Cursor<'_>) -> Option<Facts> {
    cursor.eat(&["transaction"]).then_some(())?;
    cursor.string()?;
    Some(done())
}

/// `SET TRANSACTION …` and `SET SESSION CHARACTERISTICS AS TRANSACTION …`, up to the modes.
pub(super) fn set_transaction(cursor: &mut Cursor<'_>) -> Option<Facts> {
    if cursor.eat(&["snapshot"]) {
        cursor.string()?;
    } else {
        modes(cursor)?;
    }
    Some(done())
}

fn block(cursor: &mut Cursor<'_>) {
    if !cursor.eat(&["work"]) {
        cursor.eat(&["transaction"]);
    }
}

fn modes(cursor: &mut Cursor<'_>) -> Option<()> {
    while !cursor.is_end() {
        let known = if cursor.eat(&["isolation", "level"]) {
            cursor.eat(&["serializable"])
                || cursor.eat(&["repeatable", "read"])
                || cursor.eat(&["read", "committed"])
                || cursor.eat(&["read", "uncommitted"])
        } else {
            cursor.eat(&["read", "only"])
                || cursor.eat(&["read", "write"])
                || cursor.eat(&["deferrable"])
                || cursor.eat(&["not", "deferrable"])
        };
        if !known {
            return None;
        }
        cursor.punct(&Token::Comma);
    }
    Some(())
}
