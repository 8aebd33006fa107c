//! From a text to a [`Batch`]: splitting, the stack to work on, and putting statements together.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use sqlparser::tokenizer::Token;

use super::facts::Facts;
use super::lexer::{Lexeme, lex};
use super::secrets;
use super::statements::{Context, statement};
use super::types::{Batch, LexState};
use crate::model::{Action, Command, Effect};

/// Longer texts are unknown.
const TEXT_MAX: usize = 1 << 20;
/// More tokens than this in a row, with no comma between them, are unknown: each could be a level of the syntax tree.
const RUN_MAX: usize = 20_000;
/// More nested parentheses than this are unknown.
const PARENS_MAX: usize = 400;
/// Up to here, the caller's stack is enough.
const RUN_HERE: usize = 250;
const PARENS_HERE: usize = 24;
/// Stack of the thread that takes what is larger. Reserved, and used only as far as it is needed.
const STACK: usize = 256 << 20;

/// Classifies one command text. Never panics, whatever the text; more than 1 MiB of it is unknown.
pub fn classify(text: &str, state: LexState) -> Batch {
    if text.len() > TEXT_MAX {
        return unsplit(text, "it is longer than 1 MiB");
    }
    let lexemes = match lex(text, state) {
        Ok(lexemes) => lexemes,
        Err(error) => return unsplit(text, &error.to_string()),
    };
    let size = Size::of(&lexemes);
    if size.parens > PARENS_MAX || size.run > RUN_MAX {
        return unknown(text, &lexemes, "it is nested or chained too deep");
    }
    let work = || split(text, state, &lexemes);
    let batch = if size.parens <= PARENS_HERE && size.run <= RUN_HERE {
        catch_unwind(AssertUnwindSafe(work)).ok()
    } else {
        thread::scope(|scope| {
            let thread = thread::Builder::new().name("sql-parser".into()).stack_size(STACK);
            thread
                .spawn_scoped(scope, work)
                .ok()
                .and_then(|thread| thread.join().ok())
        })
    };
    batch.unwrap_or_else(|| unknown(text, &lexemes, "the parser failed"))
}

/// How deep a syntax tree of these tokens could be.
#[derive(Clone, Copy, Debug, Default)]
struct Size {
    parens: usize,
    run: usize,
}

impl Size {
    fn of(lexemes: &[Lexeme]) -> Self {
        let mut size = Self::default();
        // Tokens since the last comma, for each parenthesis that is open; and their sum.
        let mut open = vec![0usize];
        let mut run = 0usize;
        for lexeme in lexemes {
            match lexeme.token {
                Token::LParen | Token::LBracket => open.push(0),
                Token::RParen | Token::RBracket if open.len() > 1 => {
                    run -= open.pop().unwrap_or_default();
                }
                Token::Comma | Token::SemiColon => {
                    run -= open.last_mut().map(std::mem::take).unwrap_or_default();
                }
                _ => {
                    run += 1;
                    if let Some(last) = open.last_mut() {
                        *last += 1;
                    }
                }
            }
            size.parens = size.parens.max(open.len());
            size.run = size.run.max(run);
        }
        size
    }
}

fn split(text: &str, lex: LexState, lexemes: &[Lexeme]) -> Batch {
    let context = Context {
        text,
        lex,
        nesting: 0,
    };
    let statements: Vec<Facts> = lexemes
        .split(|lexeme| lexeme.token == Token::SemiColon)
        .filter(|statement| !statement.is_empty())
        .map(|lexemes| statement(context, lexemes))
        .collect();
    assemble(text, secrets::find(text, lexemes), statements)
}

/// A batch of a text that is part of another, already classified.
pub(super) fn batch_of(text: &str, state: LexState, statements: Vec<Facts>) -> Batch {
    let secrets = lex(text, state).map_or_else(
        |_| secrets::find_unsplit(text),
        |lexemes| secrets::find(text, &lexemes),
    );
    assemble(text, secrets, statements)
}

fn assemble(text: &str, secrets: Vec<std::ops::Range<usize>>, statements: Vec<Facts>) -> Batch {
    let mut all = Facts::new();
    for statement in &statements {
        all.absorb(statement);
    }
    // An empty query does nothing; so that no command is without an action, it is of the session.
    if all.actions().is_empty() {
        all.act(Effect::Session, None);
    }
    Batch {
        command: Command {
            text: if secrets.is_empty() {
                text.into()
            } else {
                secrets::hide(text, &secrets).into()
            },
            actions: all.actions().to_vec(),
            without_where: all.without_where,
            unknown: all.unknown,
            http: None,
        },
        statements: statements.into_iter().map(Facts::statement).collect(),
        secrets,
    }
}

fn unsplit(text: &str, why: &str) -> Batch {
    assemble(
        text,
        secrets::find_unsplit(text),
        vec![Facts::not_understood(why)],
    )
}

fn unknown(text: &str, lexemes: &[Lexeme], why: &str) -> Batch {
    assemble(
        text,
        secrets::find(text, lexemes),
        vec![Facts::not_understood(why)],
    )
}

impl Batch {
    /// The effects and their objects, for a log or a test: `read:public.orders, delete:orders`.
    pub fn summary(&self) -> String {
        let actions = self
            .command
            .actions
            .iter()
            .map(|Action { effect, object }| match object {
                Some(object) => format!("{effect}:{object}"),
                None => effect.to_string(),
            });
        actions.collect::<Vec<_>>().join(", ")
    }
}
