//! What is wrong in one file, collected while it is read.
//!
//! What could be a secret that was written into the file by mistake is blotted out of everything that is shown.

use std::cell::RefCell;
use std::ops::Range;
use std::path::Path;

use toml_span::ErrorKind;

use super::problem::{PolicyErrors, Problem, Problems};

/// Collects what is wrong in one file.
#[derive(Debug, Default)]
pub(super) struct Report {
    problems: RefCell<Vec<Problem>>,
    hidden: RefCell<Vec<Range<usize>>>,
}

impl Report {
    pub(super) fn add(&self, problem: Problem) {
        self.problems.borrow_mut().push(problem);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.problems.borrow().is_empty()
    }

    /// The problems, with every place that could hold a secret blotted out of the text.
    pub(super) fn into_errors(self, path: &Path, text: &str) -> PolicyErrors {
        let mut shown = text.to_owned();
        for at in self.hidden.into_inner() {
            if let Some(secret) = shown.get(at.clone()) {
                shown.replace_range(at.clone(), &"*".repeat(secret.len()));
            }
        }
        PolicyErrors::new(Problems::new(path, &shown, self.problems.into_inner()))
    }

    /// Keeps a place out of everything that is drawn: it could be a secret written here by mistake.
    pub(super) fn hide(&self, at: Range<usize>) {
        self.hidden.borrow_mut().push(at);
    }

    /// Reports that the text is not TOML.
    pub(super) fn syntax(&self, error: &toml_span::Error, text: &str) {
        self.hide_by_line(text);
        let at = error.span.start..error.span.end;
        let (message, help, also) = match &error.kind {
            ErrorKind::DuplicateKey { key, first } => (
                format!("\"{key}\" is given twice"),
                "keep one of them".to_owned(),
                Some((first.start..first.end, "given here first".to_owned())),
            ),
            ErrorKind::DuplicateTable { name, first } => (
                format!("the table \"{name}\" is given twice"),
                "keep one of them, or write [[…]] where a list of tables is wanted".to_owned(),
                Some((first.start..first.end, "given here first".to_owned())),
            ),
            ErrorKind::DottedKeyInvalidType { first } => (
                "a dotted key adds to something that is not a table".to_owned(),
                "give the key another name, or make the first one a table".to_owned(),
                Some((first.start..first.end, "given here as a value".to_owned())),
            ),
            ErrorKind::UnquotedString => (
                "a text stands without quotes".to_owned(),
                "put it in double quotes; dates and times are not used here".to_owned(),
                None,
            ),
            ErrorKind::RedefineAsArray => (
                "a table is given both as [name] and as [[name]]".to_owned(),
                "write [[name]] for each of them, before their own tables".to_owned(),
                None,
            ),
            other => (
                format!(
                    "this is not TOML: {}",
                    toml_span::Error {
                        kind: other.clone(),
                        span: error.span,
                        line_info: None
                    }
                ),
                "correct the syntax here or on the line before".to_owned(),
                None,
            ),
        };
        self.add(Problem {
            also,
            ..Problem::error(at, message).with_help(help)
        });
    }

    /// Text that is not TOML has no values yet, so what stands behind the keys of secrets is hidden line by line.
    fn hide_by_line(&self, text: &str) {
        let mut start = 0;
        for line in text.split_inclusive('\n') {
            let value = line.split_once('=').filter(|(key, _)| sounds_secret(key.trim()));
            if let Some((_, value)) = value {
                let end = start + line.trim_end().len();
                self.hide((start + line.len() - value.len()).min(end)..end);
            }
            start += line.len();
        }
    }
}

/// Whether a value of a key of this name may be a secret.
pub(super) fn sounds_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    ["pass", "pwd", "secret", "key", "token"]
        .iter()
        .any(|word| key.contains(word))
}
