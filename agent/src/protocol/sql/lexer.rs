//! PostgreSQL's lexer (`scan.l` of version 15), giving sqlparser's tokens.
//!
//! sqlparser's own tokenizer is not used: wherever it and the server split a text differently, a statement could be
//! hidden from the parser. Here identifiers are already folded and cut to 63 bytes, as the server does it. What the
//! server's versions lex differently (`1_000`, `0x10`, `1abc`), and `U&"…"` identifiers, are refused.
//!
//! Known limit: identifiers are folded as under a multi-byte server encoding (ASCII alone); the text is taken as UTF-8.

use sqlparser::ast::DollarQuotedString;
use sqlparser::tokenizer::Token;

use super::operators::operator_token;
use super::types::LexState;

/// Longest identifier, in bytes: `NAMEDATALEN` - 1.
const NAME_MAX: usize = 63;

/// A token and the bytes of the text that it covers.
#[derive(Clone, Debug)]
pub(super) struct Lexeme {
    pub(super) token: Token,
    pub(super) start: usize,
    pub(super) end: usize,
}

/// Why a text cannot be split into tokens with certainty. Never quotes the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum LexError {
    #[error("a comment does not end")]
    Comment,
    #[error("a quoted string or name does not end")]
    Unterminated,
    #[error(
        "a string with a backslash means something else while standard_conforming_strings is off; write it as E'…'"
    )]
    Backslash,
    #[error("string literals that follow each other are not supported; write one literal")]
    AdjacentStrings,
    #[error("U&\"…\" names are not supported; write the name itself")]
    UnicodeName,
    #[error("an empty quoted name")]
    EmptyName,
    #[error("a number runs into a name; put a space between them")]
    NumberJunk,
    #[error("a character that cannot stand there")]
    Character,
}

/// Splits `text` as the server does. Comments and white space are left out.
pub(super) fn lex(text: &str, lex: LexState) -> Result<Vec<Lexeme>, LexError> {
    let mut lexer = Lexer {
        text,
        bytes: text.as_bytes(),
        at: 0,
        lex,
    };
    let mut lexemes: Vec<Lexeme> = Vec::with_capacity(text.len() / 5 + 1);
    loop {
        lexer.skip_blank()?;
        if lexer.at >= lexer.bytes.len() {
            return Ok(lexemes);
        }
        let start = lexer.at;
        let token = lexer.token()?;
        // `'a' <newline> 'b'` is one literal to the server, and on one line a syntax error.
        if is_string(&token)
            && lexer.bytes.get(start) == Some(&b'\'')
            && lexemes.last().is_some_and(|last| {
                is_string(&last.token) && lexer.bytes.get(last.end.wrapping_sub(1)) == Some(&b'\'')
            })
        {
            return Err(LexError::AdjacentStrings);
        }
        lexemes.push(Lexeme {
            token,
            start,
            end: lexer.at,
        });
    }
}

/// Whether the token is a string literal of any kind.
pub(super) fn is_string(token: &Token) -> bool {
    matches!(
        token,
        Token::SingleQuotedString(_)
            | Token::EscapedStringLiteral(_)
            | Token::UnicodeStringLiteral(_)
            | Token::NationalStringLiteral(_)
            | Token::SingleQuotedByteStringLiteral(_)
            | Token::HexStringLiteral(_)
            | Token::DollarQuotedString(_)
    )
}

struct Lexer<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    lex: LexState,
}

impl Lexer<'_> {
    fn peek(&self, ahead: usize) -> Option<u8> {
        self.bytes.get(self.at + ahead).copied()
    }

    fn slice(&self, start: usize, end: usize) -> &str {
        self.text.get(start..end).unwrap_or_default()
    }

    fn skip_blank(&mut self) -> Result<(), LexError> {
        loop {
            match (self.peek(0), self.peek(1)) {
                (Some(b' ' | b'\t' | b'\n' | b'\r' | 0x0c), _) => self.at += 1,
                (Some(b'-'), Some(b'-')) => {
                    while self.peek(0).is_some_and(|byte| byte != b'\n' && byte != b'\r') {
                        self.at += 1;
                    }
                }
                (Some(b'/'), Some(b'*')) => self.skip_comment()?,
                _ => return Ok(()),
            }
        }
    }

    fn skip_comment(&mut self) -> Result<(), LexError> {
        self.at += 2;
        let mut depth = 1usize;
        while depth > 0 {
            match (self.peek(0), self.peek(1)) {
                (Some(b'/'), Some(b'*')) => {
                    depth += 1;
                    self.at += 2;
                }
                (Some(b'*'), Some(b'/')) => {
                    depth -= 1;
                    self.at += 2;
                }
                (Some(_), _) => self.at += 1,
                (None, _) => return Err(LexError::Comment),
            }
        }
        Ok(())
    }

    fn token(&mut self) -> Result<Token, LexError> {
        let Some(byte) = self.peek(0) else {
            return Ok(Token::EOF);
        };
        let next = self.peek(1);
        match byte {
            b'\'' => self.plain_string().map(Token::SingleQuotedString),
            b'"' => self.quoted_name(),
            b'e' | b'E' if next == Some(b'\'') => {
                self.at += 1;
                self.escaped_string().map(Token::EscapedStringLiteral)
            }
            b'n' | b'N' if next == Some(b'\'') => {
                self.at += 1;
                self.plain_string().map(Token::NationalStringLiteral)
            }
            b'b' | b'B' if next == Some(b'\'') => {
                self.at += 1;
                self.quoted(b'\'').map(Token::SingleQuotedByteStringLiteral)
            }
            b'x' | b'X' if next == Some(b'\'') => {
                self.at += 1;
                self.quoted(b'\'').map(Token::HexStringLiteral)
            }
            b'u' | b'U' if next == Some(b'&') && self.peek(2) == Some(b'"') => Err(LexError::UnicodeName),
            b'u' | b'U' if next == Some(b'&') && self.peek(2) == Some(b'\'') => {
                if !self.lex.standard_conforming_strings {
                    return Err(LexError::Backslash);
                }
                self.at += 2;
                self.quoted(b'\'').map(Token::UnicodeStringLiteral)
            }
            b'$' => self.dollar(),
            b'0'..=b'9' => self.number(),
            b'.' if next.is_some_and(|byte| byte.is_ascii_digit()) => self.number(),
            _ if is_name_start(byte) => Ok(self.name()),
            _ => self.punctuation(byte, next),
        }
    }

    /// The inside of a quoted thing whose only escape is its own quote, doubled.
    fn quoted(&mut self, quote: u8) -> Result<String, LexError> {
        self.at += 1;
        let mut value = String::new();
        let mut start = self.at;
        loop {
            match self.peek(0) {
                None => return Err(LexError::Unterminated),
                Some(byte) if byte == quote => {
                    value.push_str(self.slice(start, self.at));
                    self.at += 1;
                    if self.peek(0) != Some(quote) {
                        return Ok(value);
                    }
                    start = self.at;
                    self.at += 1;
                }
                Some(_) => self.at += 1,
            }
        }
    }

    fn plain_string(&mut self) -> Result<String, LexError> {
        let start = self.at;
        if self.lex.standard_conforming_strings {
            return self.quoted(b'\'');
        }
        let value = self.quoted(b'\'')?;
        if self.slice(start, self.at).contains('\\') {
            return Err(LexError::Backslash);
        }
        Ok(value)
    }

    /// `E'…'`; the value keeps its escapes, so it is not the string that the server sees.
    fn escaped_string(&mut self) -> Result<String, LexError> {
        self.at += 1;
        let start = self.at;
        loop {
            match (self.peek(0), self.peek(1)) {
                (None, _) => return Err(LexError::Unterminated),
                (Some(b'\\'), _) | (Some(b'\''), Some(b'\'')) => self.at += 2,
                (Some(b'\''), _) => {
                    self.at += 1;
                    return Ok(self.slice(start, self.at - 1).to_owned());
                }
                (Some(_), _) => self.at += 1,
            }
        }
    }

    fn quoted_name(&mut self) -> Result<Token, LexError> {
        let value = self.quoted(b'"')?;
        if value.is_empty() {
            return Err(LexError::EmptyName);
        }
        Ok(Token::make_word(cut(&value), Some('"')))
    }

    fn name(&mut self) -> Token {
        let start = self.at;
        while self.peek(0).is_some_and(is_name_part) {
            self.at += 1;
        }
        let folded = self.slice(start, self.at).to_ascii_lowercase();
        Token::make_word(cut(&folded), None)
    }

    /// `$1`, `$$…$$`, `$tag$…$tag$`.
    fn dollar(&mut self) -> Result<Token, LexError> {
        let start = self.at;
        self.at += 1;
        if self.peek(0).is_some_and(|byte| byte.is_ascii_digit()) {
            while self.peek(0).is_some_and(|byte| byte.is_ascii_digit()) {
                self.at += 1;
            }
            if self.peek(0).is_some_and(is_name_part) {
                return Err(LexError::NumberJunk);
            }
            return Ok(Token::Placeholder(self.slice(start, self.at).to_owned()));
        }
        while self
            .peek(0)
            .is_some_and(|byte| is_name_part(byte) && byte != b'$')
        {
            self.at += 1;
        }
        if self.peek(0) != Some(b'$') {
            return Err(LexError::Character);
        }
        self.at += 1;
        let delimiter = self.slice(start, self.at).to_owned();
        let rest = self.text.get(self.at..).unwrap_or_default();
        let length = rest.find(&delimiter).ok_or(LexError::Unterminated)?;
        let value = rest.get(..length).unwrap_or_default().to_owned();
        self.at += length + delimiter.len();
        Ok(Token::DollarQuotedString(DollarQuotedString { value, tag: None }))
    }

    fn number(&mut self) -> Result<Token, LexError> {
        let start = self.at;
        self.digits();
        if self.peek(0) == Some(b'.') {
            if self.peek(1) == Some(b'.') {
                return Err(LexError::NumberJunk);
            }
            self.at += 1;
            self.digits();
        }
        if matches!(self.peek(0), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(self.peek(1), Some(b'+' | b'-')));
            if self.peek(1 + sign).is_some_and(|byte| byte.is_ascii_digit()) {
                self.at += 1 + sign;
                self.digits();
            }
        }
        if self.peek(0).is_some_and(is_name_start) {
            return Err(LexError::NumberJunk);
        }
        Ok(Token::Number(self.slice(start, self.at).to_owned(), false))
    }

    fn digits(&mut self) {
        while self.peek(0).is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
    }

    fn punctuation(&mut self, byte: u8, next: Option<u8>) -> Result<Token, LexError> {
        let (token, length) = match (byte, next) {
            (b':', Some(b':')) => (Token::DoubleColon, 2),
            (b':', Some(b'=')) => (Token::Assignment, 2),
            (b':', _) => (Token::Colon, 1),
            (b',', _) => (Token::Comma, 1),
            (b'(', _) => (Token::LParen, 1),
            (b')', _) => (Token::RParen, 1),
            (b'[', _) => (Token::LBracket, 1),
            (b']', _) => (Token::RBracket, 1),
            (b';', _) => (Token::SemiColon, 1),
            // `..` is PL/pgSQL's.
            (b'.', Some(b'.')) => return Err(LexError::Character),
            (b'.', _) => (Token::Period, 1),
            _ if is_operator_byte(byte) => return Ok(self.operator()),
            _ => return Err(LexError::Character),
        };
        self.at += length;
        Ok(token)
    }

    /// The longest run of operator characters that no comment cuts, less trailing `+` and `-` as the manual has it.
    fn operator(&mut self) -> Token {
        let start = self.at;
        while let Some(byte) = self.peek(0).filter(|byte| is_operator_byte(*byte)) {
            if matches!((byte, self.peek(1)), (b'-', Some(b'-')) | (b'/', Some(b'*'))) {
                break;
            }
            self.at += 1;
        }
        let special = |byte: &u8| {
            matches!(
                byte,
                b'~' | b'!' | b'@' | b'#' | b'^' | b'&' | b'|' | b'`' | b'?' | b'%'
            )
        };
        while self.at - start > 1
            && self
                .bytes
                .get(self.at - 1)
                .is_some_and(|byte| matches!(byte, b'+' | b'-'))
            && !self
                .bytes
                .get(start..self.at - 1)
                .is_some_and(|run| run.iter().any(special))
        {
            self.at -= 1;
        }
        operator_token(self.slice(start, self.at))
    }
}

fn cut(name: &str) -> &str {
    name.get(..name.floor_char_boundary(NAME_MAX)).unwrap_or(name)
}

const fn is_name_start(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

const fn is_name_part(byte: u8) -> bool {
    is_name_start(byte) || byte.is_ascii_digit() || byte == b'$'
}

const fn is_operator_byte(byte: u8) -> bool {
    matches!(
        byte,
        b'~' | b'!'
            | b'@'
            | b'#'
            | b'^'
            | b'&'
            | b'|'
            | b'`'
            | b'?'
            | b'+'
            | b'-'
            | b'*'
            | b'/'
            | b'%'
            | b'<'
            | b'>'
            | b'='
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str) -> Vec<&str> {
        let lexemes = lex(
            text,
            LexState {
                standard_conforming_strings: true,
            },
        )
        .unwrap();
        lexemes
            .iter()
            .map(|lexeme| &text[lexeme.start..lexeme.end])
            .collect()
    }

    #[test]
    fn splits_as_the_server_does() {
        let cases: &[(&str, &[&str])] = &[
            ("a/* /* */ ; */b", &["a", "b"]),
            ("1 --x\r;2", &["1", ";", "2"]),
            ("1+--2\n3", &["1", "+", "3"]),
            ("1+/*2*/3", &["1", "+", "3"]),
            ("1=-2", &["1", "=", "-", "2"]),
            ("1@-2", &["1", "@-", "2"]),
            ("1%-2", &["1", "%-", "2"]),
            ("$$;$$;$a$ $$ $a$", &["$$;$$", ";", "$a$ $$ $a$"]),
            ("E'\\';'", &["E'\\';'"]),
            ("'\\';';'", &["'\\'", ";", "';'"]),
            ("'x''y'", &["'x''y'"]),
            ("a$1$b", &["a$1$b"]),
            ("t.5", &["t", ".5"]),
            ("\u{a0}x", &["\u{a0}x"]),
            ("a::int4,b:=1", &["a", "::", "int4", ",", "b", ":=", "1"]),
            ("\"a\"\"b\"", &["\"a\"\"b\""]),
        ];
        for (text, expected) in cases {
            assert_eq!(split(text), *expected, "{text}");
        }
    }

    #[test]
    fn refuses_what_versions_or_settings_lex_differently() {
        let on = LexState {
            standard_conforming_strings: true,
        };
        let off = LexState {
            standard_conforming_strings: false,
        };
        for (text, state, error) in [
            ("1_000", on, LexError::NumberJunk),
            ("0x1F", on, LexError::NumberJunk),
            ("1e", on, LexError::NumberJunk),
            ("$1a", on, LexError::NumberJunk),
            ("'a'\n'b'", on, LexError::AdjacentStrings),
            ("'a' -- x\n 'b'", on, LexError::AdjacentStrings),
            ("E'a'\n'b'", on, LexError::AdjacentStrings),
            ("U&\"x\"", on, LexError::UnicodeName),
            ("'a\\b'", off, LexError::Backslash),
            ("U&'x'", off, LexError::Backslash),
            ("/* /* */", on, LexError::Comment),
            ("'", on, LexError::Unterminated),
            ("$a$ $b$", on, LexError::Unterminated),
            ("$a", on, LexError::Character),
            ("\\", on, LexError::Character),
            ("{", on, LexError::Character),
            ("\"\"", on, LexError::EmptyName),
            ("a\u{0b}b", on, LexError::Character),
        ] {
            assert_eq!(lex(text, state).unwrap_err(), error, "{text}");
        }
    }

    #[test]
    fn names_are_folded_and_cut_like_the_server_does() {
        let long = "A".repeat(70);
        let lexemes = lex(
            &format!("{long} \"Öß{long}\" ÄB"),
            LexState {
                standard_conforming_strings: true,
            },
        )
        .unwrap();
        let names: Vec<_> = lexemes
            .iter()
            .map(|lexeme| match &lexeme.token {
                Token::Word(word) => word.value.clone(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(
            names,
            ["a".repeat(63), format!("Öß{}", "A".repeat(59)), "Äb".to_owned()]
        );
    }
}
