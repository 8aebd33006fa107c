//! Which recogniser a statement goes to: by its first word, and never by a prefix of the text.
//!
//! A recogniser takes a statement whole or not at all; what is left over makes the statement unknown.

use std::sync::Arc;

use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::Token;

use super::classify::batch_of;
use super::cursor::Cursor;
use super::facts::Facts;
use super::lexer::Lexeme;
use super::types::{Batch, LexState, Lineage, Outputs, SessionChange};
use super::{copy, ddl, maintenance, privilege, session, transaction, walk};
use crate::model::{Action, Effect, ObjectKind};

/// How deep statements are followed into each other: EXPLAIN PREPARE p AS …
const NESTING_MAX: u8 = 4;

/// Text around the statement, for the statements inside it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Context<'a> {
    pub(super) text: &'a str,
    pub(super) lex: LexState,
    pub(super) nesting: u8,
}

impl Context<'_> {
    /// A statement inside this one.
    pub(super) fn inner(self, lexemes: &[Lexeme]) -> Facts {
        let inner = Self {
            nesting: self.nesting + 1,
            ..self
        };
        statement(inner, lexemes)
    }

    /// A statement inside this one, as a batch of its own; what it does is added to `outer`.
    pub(super) fn inner_batch(self, lexemes: &[Lexeme], outer: &mut Facts) -> Arc<Batch> {
        let facts = self.inner(lexemes);
        outer.absorb(&facts);
        let text = match (lexemes.first(), lexemes.last()) {
            (Some(first), Some(last)) => self.text.get(first.start..last.end).unwrap_or_default(),
            _ => "",
        };
        Arc::new(batch_of(text, self.lex, vec![facts]))
    }
}

/// Classifies one statement, without its semicolon.
pub(super) fn statement(context: Context<'_>, lexemes: &[Lexeme]) -> Facts {
    if context.nesting > NESTING_MAX {
        return Facts::not_understood("statements inside statements are not followed so deep");
    }
    let mut cursor = Cursor::new(lexemes);
    let Some(word) = cursor.peek_word() else {
        return walk::query(lexemes);
    };
    if matches!(
        word,
        "select" | "with" | "values" | "table" | "insert" | "update" | "delete" | "merge"
    ) {
        return walk::query(lexemes);
    }
    cursor.next();
    let recognised = match word {
        "explain" => explain(context, &mut cursor),
        "prepare" if cursor.at(&["transaction"]) => transaction::prepared(&mut cursor),
        "prepare" => session::prepare(context, &mut cursor),
        "execute" => session::execute(&mut cursor),
        "deallocate" => session::deallocate(&mut cursor),
        "declare" => session::declare(context, &mut cursor),
        "fetch" | "move" => session::fetch(&mut cursor, word),
        "close" => session::close(&mut cursor),
        "set" => session::set(&mut cursor),
        "reset" => session::reset(&mut cursor),
        "show" => session::show(&mut cursor),
        "discard" => session::discard(&mut cursor),
        "listen" | "unlisten" | "notify" => session::notify(&mut cursor, word),
        "load" => session::load(&mut cursor),
        "begin" | "start" | "commit" | "end" | "rollback" | "abort" | "savepoint" | "release" => {
            transaction::transaction(&mut cursor, word)
        }
        "copy" => copy::copy(context, &mut cursor),
        "do" => session::anonymous_block(&mut cursor),
        "call" => session::call(&mut cursor),
        "vacuum" | "analyze" | "analyse" | "reindex" | "cluster" | "checkpoint" | "refresh" => {
            maintenance::maintenance(&mut cursor, word)
        }
        "truncate" => maintenance::truncate(&mut cursor),
        "lock" => maintenance::lock(&mut cursor),
        "grant" | "revoke" => privilege::grant(&mut cursor, word),
        "reassign" => privilege::reassign(&mut cursor),
        "security" => privilege::security_label(&mut cursor),
        "create" => ddl::create(context, &mut cursor),
        "alter" => ddl::alter(&mut cursor),
        "drop" => ddl::drop(&mut cursor),
        "comment" => ddl::comment(&mut cursor),
        "import" => ddl::import(&mut cursor),
        _ => None,
    };
    match recognised {
        Some(facts) if cursor.is_end() => facts,
        Some(_) | None => {
            // Only a keyword is quoted: the first word of a garbled text could be anything.
            let keyword = match lexemes.first().map(|lexeme| &lexeme.token) {
                Some(Token::Word(word)) if word.keyword != Keyword::NoKeyword => {
                    format!("{} ", word.value.to_uppercase())
                }
                _ => String::new(),
            };
            Facts::not_understood(format!("this {keyword}statement is not supported"))
        }
    }
}

/// EXPLAIN: the plan is read; with ANALYZE, everything is done as well.
fn explain(context: Context<'_>, cursor: &mut Cursor<'_>) -> Option<Facts> {
    let mut analyze = false;
    if let Some(options) = cursor.parens() {
        let mut options = Cursor::new(options);
        options.list(|options| {
            let name = options.ident()?;
            // A value is a word, a number or a string. Anything that is not plainly off is on.
            let off = options.at(&["false"]) || options.at(&["off"]);
            if !matches!(options.peek(), None | Some(Token::Comma)) {
                options.next();
            }
            if matches!(&*name, "analyze" | "analyse") {
                analyze |= !off;
            }
            Some(())
        })?;
        if !options.is_end() {
            return None;
        }
    } else {
        analyze = cursor.eat(&["analyze"]) || cursor.eat(&["analyse"]);
        cursor.eat(&["verbose"]);
    }
    let explained = cursor.take_rest();
    if explained.is_empty() {
        return None;
    }
    let mut inner = context.inner(explained);
    if !analyze {
        inner.sink = false;
        inner.without_where = false;
        inner.map_actions(planned);
    }
    inner.act(Effect::Session, None);
    // EXPLAIN DECLARE makes no cursor: an older one of that name goes on to be what it was.
    if !matches!(inner.session, SessionChange::Execute { .. }) {
        inner.session = SessionChange::None;
    }
    inner.copy_out = None;
    inner.outputs = Outputs::Columns(vec![Lineage::From(Vec::new())]);
    Some(inner)
}

/// What planning an action does. Functions may be called by the planner, so they stay what they are.
fn planned(action: Action) -> Action {
    let on_table = action
        .object
        .as_ref()
        .is_some_and(|object| object.kind == ObjectKind::Table);
    match action.effect {
        Effect::Write | Effect::Modify | Effect::Delete | Effect::Lock | Effect::SchemaCreate if on_table => {
            Action {
                effect: Effect::Read,
                object: action.object,
            }
        }
        _ => action,
    }
}
