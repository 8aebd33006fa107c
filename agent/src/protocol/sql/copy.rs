//! COPY, in the syntax of today and in those of PostgreSQL 7.3 and 9.0.

use sqlparser::tokenizer::Token;

use super::cursor::Cursor;
use super::facts::Facts;
use super::lexer::{Lexeme, is_string};
use super::statements::Context;
use super::types::{ColumnRef, CopyFormat, CopyOut, Lineage, Outputs};
use super::{secrets, walk};
use crate::model::{Effect, ObjectKind};

/// Options of a COPY as far as they change its bytes.
#[derive(Default)]
struct Options<'a> {
    format: Option<&'a str>,
    delimiter: Option<&'a str>,
    null: Option<&'a str>,
    quote: Option<&'a str>,
    escape: Option<&'a str>,
    header: bool,
    /// An option that changes the bytes in a way that [`CopyFormat`] cannot say.
    other: bool,
}

/// `COPY …`, the first word already taken.
pub(super) fn copy(context: Context<'_>, cursor: &mut Cursor<'_>) -> Option<Facts> {
    let mut facts = Facts::new();
    let mut options = Options::default();
    if cursor.eat(&["binary"]) {
        options.format = Some("binary");
    }
    let mut table = None;
    if let Some(query) = cursor.parens() {
        let inner = context.inner(query);
        facts.absorb(&inner);
        facts.outputs = inner.outputs;
    } else {
        let name = cursor.relation()?;
        let columns = if cursor.peek() == Some(&Token::LParen) {
            Some(cursor.column_list()?)
        } else {
            None
        };
        table = Some((name, columns));
    }
    let out = cursor.eat(&["to"]);
    if !out {
        cursor.eat(&["from"]).then_some(())?;
        // Only a table can be loaded.
        table.as_ref()?;
    }
    if out && let Some((name, columns)) = &table {
        facts.on(Effect::Read, name);
        match columns {
            Some(columns) => {
                let columns: Vec<ColumnRef> = columns
                    .iter()
                    .map(|column| ColumnRef {
                        relation: Some(name.clone()),
                        column: column.clone(),
                    })
                    .collect();
                for column in &columns {
                    facts.uses(column);
                }
                facts.outputs = Outputs::Columns(
                    columns
                        .into_iter()
                        .map(|column| Lineage::From(vec![column]))
                        .collect(),
                );
            }
            None => {
                facts.uses_any();
                facts.outputs = Outputs::Unknown;
            }
        }
    }
    if !out && let Some((name, _)) = &table {
        facts.on(Effect::Write, name);
    }
    let stream = target(&mut facts, cursor)?;
    let effect = if out { Effect::BulkExport } else { Effect::BulkLoad };
    match &table {
        Some((name, _)) => facts.on(effect, name),
        None => facts.act(effect, None),
    }
    old_delimiters(cursor, &mut options)?;
    cursor.eat(&["with"]);
    if let Some(list) = cursor.parens() {
        new_options(list, &mut options)?;
    } else {
        old_options(cursor, &mut options)?;
    }
    if !out && cursor.eat(&["where"]) {
        let condition = walk::expressions(cursor.take_rest());
        facts.absorb(&condition);
    }
    if out && stream {
        facts.copy_out = Some(CopyOut {
            table,
            format: options.format(),
        });
    } else {
        // Into a file: nothing comes back but the count.
        facts.sink |= out;
        facts.outputs = Outputs::None;
    }
    Some(facts)
}

/// `STDIN`, `STDOUT` (both ways round), a file or a program; whether it is the client's stream.
fn target(facts: &mut Facts, cursor: &mut Cursor<'_>) -> Option<bool> {
    if cursor.eat(&["stdin"]) || cursor.eat(&["stdout"]) {
        return Some(true);
    }
    let kind = if cursor.eat(&["program"]) {
        ObjectKind::Program
    } else {
        ObjectKind::File
    };
    match cursor.string() {
        Some(name) => facts.on_named(Effect::UnsafeIo, kind, secrets::shown(name)),
        None => {
            is_string(cursor.next()?).then_some(())?;
            facts.act(Effect::UnsafeIo, None);
        }
    }
    Some(false)
}

fn old_delimiters<'a>(cursor: &mut Cursor<'a>, options: &mut Options<'a>) -> Option<()> {
    if cursor.eat(&["using", "delimiters"]) || cursor.eat(&["delimiters"]) {
        options.delimiter = Some(cursor.string()?);
    }
    Some(())
}

/// `(name [value], …)`
fn new_options<'a>(list: &'a [Lexeme], options: &mut Options<'a>) -> Option<()> {
    let mut cursor = Cursor::new(list);
    cursor.list(|cursor| {
        let name = cursor.ident()?;
        match &*name {
            "format" => options.format = Some(cursor.string().or_else(|| word(cursor))?),
            "delimiter" => options.delimiter = Some(cursor.string()?),
            "null" => options.null = Some(cursor.string()?),
            "quote" => options.quote = Some(cursor.string()?),
            "escape" => options.escape = Some(cursor.string()?),
            "header" => {
                options.header = true;
                if !matches!(cursor.peek(), None | Some(Token::Comma)) {
                    let value = cursor
                        .string()
                        .map(str::to_ascii_lowercase)
                        .or_else(|| word(cursor).map(str::to_owned));
                    match value.as_deref() {
                        Some("true" | "on" | "match") => {}
                        Some("false" | "off") => options.header = false,
                        _ => {
                            options.other = true;
                            if value.is_none() {
                                cursor.next();
                            }
                        }
                    }
                }
            }
            // How the bytes are cut does not depend on these.
            "freeze" | "force_quote" | "force_not_null" | "force_null" => skip_value(cursor)?,
            _ => {
                options.other = true;
                skip_value(cursor)?;
            }
        }
        Some(())
    })?;
    cursor.is_end().then_some(())
}

fn word<'a>(cursor: &mut Cursor<'a>) -> Option<&'a str> {
    let word = cursor.peek_word()?;
    cursor.next();
    Some(word)
}

fn skip_value(cursor: &mut Cursor<'_>) -> Option<()> {
    if cursor.parens().is_none() && !matches!(cursor.peek(), None | Some(Token::Comma)) {
        let _sign = cursor.punct(&Token::Minus);
        cursor.next()?;
    }
    Some(())
}

/// `BINARY`, `DELIMITER [AS] 'x'`, `CSV`, … without parentheses.
fn old_options<'a>(cursor: &mut Cursor<'a>, options: &mut Options<'a>) -> Option<()> {
    let value = |cursor: &mut Cursor<'a>| {
        cursor.eat(&["as"]);
        cursor.string()
    };
    loop {
        if cursor.eat(&["binary"]) {
            options.format = Some("binary");
        } else if cursor.eat(&["csv"]) {
            options.format = Some("csv");
        } else if cursor.eat(&["header"]) {
            options.header = true;
        } else if cursor.eat(&["freeze"]) {
        } else if cursor.eat(&["delimiter"]) {
            options.delimiter = Some(value(cursor)?);
        } else if cursor.eat(&["null"]) {
            options.null = Some(value(cursor)?);
        } else if cursor.eat(&["quote"]) {
            options.quote = Some(value(cursor)?);
        } else if cursor.eat(&["escape"]) {
            options.escape = Some(value(cursor)?);
        } else if cursor.eat(&["encoding"]) {
            value(cursor)?;
            options.other = true;
        } else if cursor.eat(&["force", "quote"])
            || cursor.eat(&["force", "not", "null"])
            || cursor.eat(&["force", "null"])
        {
            if !cursor.punct(&Token::Mul) {
                cursor.list(Cursor::ident)?;
            }
        } else {
            return Some(());
        }
    }
}

impl Options<'_> {
    fn format(&self) -> CopyFormat {
        let byte = |value: Option<&str>, default: u8| match value.map(str::as_bytes) {
            None => Some(default),
            Some(&[byte]) => Some(byte),
            Some(_) => None,
        };
        let csv = self.format.is_some_and(|format| format == "csv");
        // A NULL marker of one's own cannot be said in the format.
        let null = self.null.is_none_or(|null| null == if csv { "" } else { "\\N" });
        if self.other || !null {
            return CopyFormat::Other;
        }
        match self.format {
            Some("binary") => CopyFormat::Binary,
            Some("csv") => {
                let quote = byte(self.quote, b'"');
                match (
                    byte(self.delimiter, b','),
                    quote,
                    byte(self.escape, quote.unwrap_or(b'"')),
                ) {
                    (Some(delimiter), Some(quote), Some(escape)) => CopyFormat::Csv {
                        delimiter,
                        quote,
                        escape,
                        header: self.header,
                    },
                    _ => CopyFormat::Other,
                }
            }
            // In text, HEADER is a first line of names (since 15): no format of ours.
            None | Some("text") if !self.header => byte(self.delimiter, b'\t')
                .map_or(CopyFormat::Other, |delimiter| CopyFormat::Text { delimiter }),
            _ => CopyFormat::Other,
        }
    }
}
