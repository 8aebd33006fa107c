//! Strict reading of TOML values: every problem is reported with its place, and reading goes on to find the next.
//!
//! Readers give `None` after they reported; only a document without a report is used.

use std::fmt::Write as _;
use std::ops::Range;
use std::path::PathBuf;

use toml_span::Value;
use toml_span::value::{Table as TomlTable, ValueInner};

use super::keys::{ALL, TableKeys};
use super::problem::Problem;
use super::report::{Report, sounds_secret};

/// One table of the file, its keys checked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Table<'v> {
    keys: &'static TableKeys,
    entries: &'v TomlTable<'v>,
    span: toml_span::Span,
    report: &'v Report,
}

/// One value of the file, and the key that it stands under.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field<'v> {
    key: &'v str,
    value: &'v Value<'v>,
    report: &'v Report,
}

impl<'v> Table<'v> {
    /// The whole document.
    pub(super) fn root(keys: &'static TableKeys, value: &'v Value<'v>, report: &'v Report) -> Option<Self> {
        Field {
            key: keys.heading,
            value,
            report,
        }
        .table(keys)
    }

    /// A value that has to be there.
    pub(super) fn required(&self, key: &'static str) -> Option<Field<'v>> {
        let found = self.optional(key);
        if found.is_none() {
            let example = self.example(key);
            self.error(format!("{} has no \"{key}\"", self.keys.heading), example);
        }
        found
    }

    /// A value that may be left out.
    pub(super) fn optional(&self, key: &'static str) -> Option<Field<'v>> {
        debug_assert!(
            self.keys.keys.iter().any(|(known, _)| *known == key),
            "{key} is missing in the table of keys"
        );
        self.entries.get_key_value(key).map(|(_, value)| Field {
            key,
            value,
            report: self.report,
        })
    }

    /// Reports a value that has no meaning here, where it is given.
    pub(super) fn refuse(&self, key: &'static str, why: &str, help: &str) {
        if let Some((name, _)) = self.entries.get_key_value(key) {
            self.report
                .add(Problem::error(name.span.start..name.span.end, why).with_help(help));
        }
    }

    /// Every entry, for tables whose keys are free.
    pub(super) fn free(field: Field<'v>) -> Option<Vec<Field<'v>>> {
        let table = field.entries()?;
        Some(
            table
                .iter()
                .map(|(key, value)| Field {
                    key: key.name.as_ref(),
                    value,
                    report: field.report,
                })
                .collect(),
        )
    }

    pub(super) fn error(&self, message: impl Into<String>, help: impl Into<String>) {
        self.report
            .add(Problem::error(self.span.start..self.span.end, message).with_help(help));
    }

    /// What is wrong elsewhere in the file, for checks of one part against another.
    pub(super) fn error_at(&self, at: Range<usize>, message: impl Into<String>, help: impl Into<String>) {
        self.report.add(Problem::error(at, message).with_help(help));
    }

    fn example(&self, key: &str) -> String {
        let example = self.keys.keys.iter().find(|(known, _)| *known == key);
        match example {
            Some((_, table)) if table.starts_with("a table") => format!("add {table}"),
            Some((_, value)) => format!("add a line such as {key} = {value}"),
            None => String::new(),
        }
    }

    fn check_keys(&self) {
        for (key, value) in self.entries {
            let name = key.name.as_ref();
            if self.keys.keys.iter().any(|(known, _)| *known == name) {
                continue;
            }
            if self.keys.secret || sounds_secret(name) {
                self.report.hide(value.span.start..value.span.end);
            }
            let at = key.span.start..key.span.end;
            let problem = if self.keys.later.contains(&name) {
                Problem::error(
                    at,
                    format!(
                        "\"{name}\" in {} is not supported in this version",
                        self.keys.heading
                    ),
                )
                .with_help("remove it")
            } else {
                Problem::error(at, format!("unknown key \"{name}\" in {}", self.keys.heading))
                    .with_help(self.suggest(name))
            };
            self.report.add(problem);
        }
    }

    fn suggest(&self, name: &str) -> String {
        let known: Vec<&str> = self.keys.keys.iter().map(|(key, _)| *key).collect();
        if let Some(near) = nearest(name, &known) {
            return format!("did you mean \"{near}\"? {}", listed("keys here are", &known));
        }
        let elsewhere = ALL
            .iter()
            .find(|table| table.heading.starts_with('[') && table.keys.iter().any(|(key, _)| *key == name));
        match elsewhere {
            Some(table) => format!(
                "\"{name}\" is a key of {}; {}",
                table.heading,
                listed("keys here are", &known)
            ),
            None => listed("keys here are", &known),
        }
    }
}

impl<'v> Field<'v> {
    /// The key that it stands under.
    pub(super) fn key(self) -> &'v str {
        self.key
    }

    pub(super) fn span(self) -> Range<usize> {
        self.value.span.start..self.value.span.end
    }

    pub(super) fn error(self, message: impl Into<String>, help: impl Into<String>) {
        self.report
            .add(Problem::error(self.span(), message).with_help(help));
    }

    /// As [`Report::hide`].
    pub(super) fn hide(self) {
        self.report.hide(self.span());
    }

    pub(super) fn is_table(self) -> bool {
        matches!(self.value.as_ref(), ValueInner::Table(_))
    }

    pub(super) fn is_list(self) -> bool {
        matches!(self.value.as_ref(), ValueInner::Array(_))
    }

    pub(super) fn is_integer(self) -> bool {
        matches!(self.value.as_ref(), ValueInner::Integer(_))
    }

    pub(super) fn table(self, keys: &'static TableKeys) -> Option<Table<'v>> {
        let entries = self.entries()?;
        let table = Table {
            keys,
            entries,
            span: self.value.span,
            report: self.report,
        };
        table.check_keys();
        Some(table)
    }

    /// A list of tables, `[[…]]`.
    pub(super) fn tables(self, keys: &'static TableKeys) -> Vec<Table<'v>> {
        let ValueInner::Array(items) = self.value.as_ref() else {
            self.wrong_type("a list of tables", &format!("write {} above it", keys.heading));
            return Vec::new();
        };
        items
            .iter()
            .filter_map(|value| Field { value, ..self }.table(keys))
            .collect()
    }

    pub(super) fn string(self) -> Option<&'v str> {
        if let ValueInner::String(text) = self.value.as_ref() {
            return Some(text);
        }
        let help = match self.value.as_ref() {
            ValueInner::Integer(_) | ValueInner::Float(_) | ValueInner::Boolean(_) => {
                "put it in double quotes"
            }
            _ => "write a text in double quotes",
        };
        self.wrong_type("a text", help);
        None
    }

    pub(super) fn boolean(self) -> Option<bool> {
        let value = self.value.as_bool();
        if value.is_none() {
            self.wrong_type("true or false", "write true or false, without quotes");
        }
        value
    }

    /// A text, a number, true or false.
    pub(super) fn json_scalar(self) -> Option<serde_json::Value> {
        let value = match self.value.as_ref() {
            ValueInner::String(text) => Some(text.as_ref().into()),
            ValueInner::Integer(number) => Some((*number).into()),
            ValueInner::Float(number) => serde_json::Number::from_f64(*number).map(Into::into),
            ValueInner::Boolean(flag) => Some((*flag).into()),
            ValueInner::Array(_) | ValueInner::Table(_) => None,
        };
        if value.is_none() {
            self.wrong_type(
                "a text, a number, true or false",
                "write one value, without brackets",
            );
        }
        value
    }

    /// A whole number from `least` to `most`.
    pub(super) fn integer(self, least: u64, most: u64) -> Option<u64> {
        let Some(number) = self.value.as_integer() else {
            self.wrong_type(
                "a whole number",
                "write a number without quotes, such as 5_000_000",
            );
            return None;
        };
        let fitting = u64::try_from(number)
            .ok()
            .filter(|number| (least..=most).contains(number));
        if fitting.is_none() {
            self.error(
                format!("\"{}\" is {number}, which is out of range", self.key),
                format!("write a number from {least} to {most}"),
            );
        }
        fitting
    }

    /// A list with at least one entry; `if_empty` says what an empty one would have meant.
    pub(super) fn list(self, if_empty: &str) -> Option<Vec<Field<'v>>> {
        let ValueInner::Array(items) = self.value.as_ref() else {
            self.wrong_type("a list", "put it in brackets: [ … ]");
            return None;
        };
        if items.is_empty() {
            self.error(format!("\"{}\" is an empty list", self.key), if_empty);
            return None;
        }
        Some(items.iter().map(|value| Field { value, ..self }).collect())
    }

    /// A list of texts, each parsed; all that fail are reported, and so is one that is given twice.
    pub(super) fn parsed_list<T>(
        self,
        if_empty: &str,
        parse: impl Fn(&str) -> Result<T, Wrong>,
    ) -> Option<Vec<T>> {
        self.parsed_items(&self.list(if_empty)?, parse)
    }

    /// The same of a list that may be empty.
    pub(super) fn parsed_list_or_none<T>(self, parse: impl Fn(&str) -> Result<T, Wrong>) -> Option<Vec<T>> {
        match self.value.as_ref() {
            ValueInner::Array(items) if items.is_empty() => Some(Vec::new()),
            _ => self.parsed_list("", parse),
        }
    }

    fn parsed_items<T>(self, items: &[Self], parse: impl Fn(&str) -> Result<T, Wrong>) -> Option<Vec<T>> {
        let mut seen: Vec<(&str, Range<usize>)> = Vec::new();
        let mut values = Vec::with_capacity(items.len());
        let mut complete = true;
        for item in items {
            let text = item.string();
            if let Some((text, first)) = text.and_then(|text| seen.iter().find(|(other, _)| *other == text)) {
                self.report.add(Problem {
                    also: Some((first.clone(), "given here first".into())),
                    ..Problem::error(
                        item.span(),
                        format!("\"{text}\" is given twice in \"{}\"", self.key),
                    )
                    .with_help("keep one of them")
                });
                complete = false;
                continue;
            }
            match text.and_then(|_| item.parsed(&parse)) {
                Some(value) => values.push(value),
                None => complete = false,
            }
            seen.extend(text.map(|text| (text, item.span())));
        }
        complete.then_some(values)
    }

    /// A text that `parse` turns into a value.
    pub(super) fn parsed<T>(self, parse: impl Fn(&str) -> Result<T, Wrong>) -> Option<T> {
        match parse(self.string()?) {
            Ok(value) => Some(value),
            Err(Wrong { what, help }) => {
                self.error(what, help);
                None
            }
        }
    }

    /// One of a set of words. `later` are words that the design has and this version has not.
    pub(super) fn one_of<T: Copy>(self, choices: &[(&'static str, T)], later: &[&str]) -> Option<T> {
        self.parsed(|text| choose(self.key, text, choices, later))
    }

    /// An absolute path.
    pub(super) fn path(self) -> Option<PathBuf> {
        self.parsed(|text| {
            if text.starts_with('/') && !text.contains('\0') {
                Ok(PathBuf::from(text))
            } else {
                Err(Wrong::new(
                    format!("\"{}\" is not an absolute path", self.key),
                    "write the whole path, from /",
                ))
            }
        })
    }

    fn entries(self) -> Option<&'v TomlTable<'v>> {
        let table = self.value.as_table();
        if table.is_none() {
            self.wrong_type("a table", "write { … } or a table heading");
        }
        table
    }

    fn wrong_type(self, wanted: &str, help: &str) {
        self.error(
            format!(
                "\"{}\" has to be {wanted}, not {}",
                self.key,
                kind(self.value.as_ref())
            ),
            help,
        );
    }
}

/// A text that is not what it has to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    /// What is wrong.
    pub(super) what: String,
    /// What to do.
    pub(super) help: String,
}

impl Wrong {
    pub(super) fn new(what: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            help: help.into(),
        }
    }
}

/// Finds `text` among `choices`.
pub(super) fn choose<T: Copy>(
    key: &str,
    text: &str,
    choices: &[(&'static str, T)],
    later: &[&str],
) -> Result<T, Wrong> {
    if let Some((_, value)) = choices.iter().find(|(word, _)| *word == text) {
        return Ok(*value);
    }
    let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
    let mut help = String::new();
    if later.contains(&text) {
        let _ = write!(help, "{}", listed("this version has", &words));
        return Err(Wrong::new(
            format!("{key} \"{text}\" is not supported in this version"),
            help,
        ));
    }
    if let Some(near) = nearest(text, &words) {
        let _ = write!(help, "did you mean \"{near}\"? ");
    }
    help.push_str(&listed("it has to be one of", &words));
    Err(Wrong::new(format!("\"{text}\" is no value of \"{key}\""), help))
}

/// The word that was probably meant.
pub(super) fn nearest<'w>(text: &str, words: &[&'w str]) -> Option<&'w str> {
    let wanted = text.to_lowercase();
    words
        .iter()
        .map(|word| (strsim::damerau_levenshtein(&wanted, &word.to_lowercase()), *word))
        .filter(|(distance, word)| *distance <= (word.chars().count() / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

fn listed(lead: &str, words: &[&str]) -> String {
    format!("{lead} {}", words.join(", "))
}

fn kind(value: &ValueInner<'_>) -> &'static str {
    match value {
        ValueInner::String(_) => "a text",
        ValueInner::Integer(_) => "a whole number",
        ValueInner::Float(_) => "a number with a fraction",
        ValueInner::Boolean(_) => "true or false",
        ValueInner::Array(_) => "a list",
        ValueInner::Table(_) => "a table",
    }
}
