//! Names that stand in strings, and settings.

use super::cursor::Cursor;
use super::facts::{Facts, relation};
use super::lexer::lex;
use super::types::{LexState, RelationName};
use crate::model::{Effect, ObjectKind};

/// The relation that a string names as a `regclass` would: `'public."Orders"'`.
pub(super) fn relation_of_literal(literal: &str) -> Option<RelationName> {
    let lexemes = lex(
        literal,
        LexState {
            standard_conforming_strings: true,
        },
    )
    .ok()?;
    let mut cursor = Cursor::new(&lexemes);
    let mut parts = vec![cursor.ident()?];
    while cursor.punct(&sqlparser::tokenizer::Token::Period) {
        parts.push(cursor.ident()?);
    }
    relation(&parts).filter(|_| cursor.is_end())
}

/// A change of a setting, and what more it means. `name` is folded.
pub(super) fn set(facts: &mut Facts, name: &str) {
    facts.on_named(Effect::Session, ObjectKind::Setting, name);
    match name {
        // SET ROLE and SET SESSION AUTHORIZATION are these.
        "role" | "session_authorization" => facts.on_named(Effect::Privilege, ObjectKind::Setting, name),
        "local_preload_libraries" | "session_preload_libraries" | "dynamic_library_path" | "jit_provider" => {
            facts.on_named(Effect::UnsafeIo, ObjectKind::Setting, name);
        }
        "transaction_isolation" | "transaction_read_only" | "transaction_deferrable" => {
            facts.act(Effect::Transaction, None);
        }
        _ => {}
    }
}
