//! Where secrets stand in a text: passwords in role commands, connection strings and options.

use std::ops::Range;

use sqlparser::tokenizer::Token;

use super::lexer::{Lexeme, is_string};

/// What a secret is shown as.
const SHOWN: &str = "'***'";
/// How many tokens may stand between `PASSWORD` and its literal: `password => `, `PASSWORD = `.
const BETWEEN: usize = 1;

/// Byte ranges of the literals that hold secrets, in order.
pub(super) fn find(text: &str, lexemes: &[Lexeme]) -> Vec<Range<usize>> {
    let mut secrets = Vec::new();
    let mut armed = 0;
    for lexeme in lexemes {
        let literal = text.get(lexeme.start..lexeme.end).unwrap_or_default();
        if let Token::Word(word) = &lexeme.token {
            armed = if ends_with_password(&word.value) {
                BETWEEN + 2
            } else {
                armed
            };
        } else if is_string(&lexeme.token) && (armed > 0 || names_a_password(literal)) {
            secrets.push(lexeme.start..lexeme.end);
        }
        armed = usize::saturating_sub(armed, 1);
    }
    secrets
}

/// What to hide in a text that cannot be split: everything behind the first `password`.
pub(super) fn find_unsplit(text: &str) -> Vec<Range<usize>> {
    match find_password(text.as_bytes()) {
        Some(at) => std::iter::once(at..text.len())
            .filter(|range| !range.is_empty())
            .collect(),
        None => Vec::new(),
    }
}

/// `text` with its secrets replaced.
pub(super) fn hide(text: &str, secrets: &[Range<usize>]) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut at = 0;
    for secret in secrets {
        shown.push_str(text.get(at..secret.start).unwrap_or_default());
        shown.push_str(SHOWN);
        at = secret.end;
    }
    shown.push_str(text.get(at..).unwrap_or_default());
    shown
}

/// The value of a literal as the name of an object, unless a secret is in it.
pub(super) fn shown(value: &str) -> &str {
    if names_a_password(value) { "***" } else { value }
}

fn ends_with_password(word: &str) -> bool {
    let word = word.as_bytes();
    ["password", "passwd", "secret"].iter().any(|name| {
        word.len() >= name.len()
            && word
                .get(word.len() - name.len()..)
                .is_some_and(|end| end.eq_ignore_ascii_case(name.as_bytes()))
    })
}

/// Whether a literal has a secret inside: `password=…`, or a body with `PASSWORD '…'` in it.
fn names_a_password(literal: &str) -> bool {
    let mut rest = literal.as_bytes();
    while let Some(at) = find_password(rest) {
        rest = rest.get(at..).unwrap_or_default();
        let next = rest
            .iter()
            .find(|byte| !byte.is_ascii_whitespace() && **byte != b'"');
        // A quote that just ends the literal is none.
        let ends = rest.len() <= 1;
        if !ends && matches!(next, Some(b'=' | b'\'' | b':' | b'$' | b'E' | b'e')) {
            return true;
        }
    }
    false
}

/// Where the first `password` (or `passwd`) ends.
fn find_password(bytes: &[u8]) -> Option<usize> {
    let found = |name: &[u8]| {
        bytes
            .windows(name.len())
            .position(|window| window.eq_ignore_ascii_case(name))
            .map(|at| at + name.len())
    };
    match (found(b"password"), found(b"passwd")) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

#[cfg(test)]
mod tests {
    use super::super::lexer::lex;
    use super::super::types::LexState;
    use super::*;

    #[test]
    fn passwords_are_hidden_wherever_they_stand() {
        for (text, shown) in [
            ("ALTER ROLE a PASSWORD 'x'", "ALTER ROLE a PASSWORD '***'"),
            (
                "CREATE USER a WITH ENCRYPTED PASSWORD E'x\\'y' LOGIN",
                "CREATE USER a WITH ENCRYPTED PASSWORD '***' LOGIN",
            ),
            ("alter role a password $$x$$", "alter role a password '***'"),
            (
                "CREATE SUBSCRIPTION s CONNECTION 'host=h password=x' PUBLICATION p",
                "CREATE SUBSCRIPTION s CONNECTION '***' PUBLICATION p",
            ),
            (
                "CREATE USER MAPPING FOR a SERVER s OPTIONS (user 'u', password 'x')",
                "CREATE USER MAPPING FOR a SERVER s OPTIONS (user 'u', password '***')",
            ),
            ("DO $$ BEGIN ALTER ROLE a PASSWORD 'x'; END $$", "DO '***'"),
            ("SELECT f(password => 'x')", "SELECT f(password => '***')"),
            (
                "UPDATE u SET password = 'x' WHERE id = 'y'",
                "UPDATE u SET password = '***' WHERE id = 'y'",
            ),
            (
                "SELECT 1 FROM t WHERE name = 'password'",
                "SELECT 1 FROM t WHERE name = 'password'",
            ),
            (
                "ALTER ROLE a PASSWORD NULL VALID UNTIL 'x'",
                "ALTER ROLE a PASSWORD NULL VALID UNTIL 'x'",
            ),
        ] {
            let lexemes = lex(
                text,
                LexState {
                    standard_conforming_strings: true,
                },
            )
            .unwrap();
            assert_eq!(hide(text, &find(text, &lexemes)), shown);
        }
    }

    #[test]
    fn in_a_text_that_cannot_be_split_all_behind_the_word_is_hidden() {
        let text = "ALTER ROLE a PassWord 'x";
        assert_eq!(hide(text, &find_unsplit(text)), "ALTER ROLE a PassWord'***'");
        assert!(find_unsplit("SELECT 'x").is_empty());
    }
}
