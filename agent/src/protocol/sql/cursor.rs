//! A cursor over tokens, for the statements that sqlparser does not parse.

use std::sync::Arc;

use sqlparser::tokenizer::Token;

use super::catalog;
use super::facts::relation;
use super::lexer::Lexeme;
use super::types::RelationName;

/// Walks over the tokens of one statement. Each method that finds what it asks for steps behind it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a> {
    lexemes: &'a [Lexeme],
}

impl<'a> Cursor<'a> {
    pub(super) const fn new(lexemes: &'a [Lexeme]) -> Self {
        Self { lexemes }
    }

    /// What is left.
    pub(super) const fn rest(&self) -> &'a [Lexeme] {
        self.lexemes
    }

    pub(super) const fn is_end(&self) -> bool {
        self.lexemes.is_empty()
    }

    /// Takes everything that is left.
    pub(super) fn take_rest(&mut self) -> &'a [Lexeme] {
        std::mem::take(&mut self.lexemes)
    }

    pub(super) fn peek(&self) -> Option<&'a Token> {
        self.lexemes.first().map(|lexeme| &lexeme.token)
    }

    pub(super) fn next(&mut self) -> Option<&'a Token> {
        let (first, rest) = self.lexemes.split_first()?;
        self.lexemes = rest;
        Some(&first.token)
    }

    /// The next token as an unquoted word.
    pub(super) fn peek_word(&self) -> Option<&'a str> {
        unquoted(self.peek()?)
    }

    /// Whether these unquoted words come next.
    pub(super) fn at(&self, words: &[&str]) -> bool {
        words.len() <= self.lexemes.len()
            && words
                .iter()
                .zip(self.lexemes)
                .all(|(word, lexeme)| unquoted(&lexeme.token) == Some(word))
    }

    pub(super) fn eat(&mut self, words: &[&str]) -> bool {
        let found = self.at(words);
        if found {
            self.lexemes = self.lexemes.get(words.len()..).unwrap_or_default();
        }
        found
    }

    /// Steps over any of these words, as often as they come.
    pub(super) fn skip(&mut self, words: &[&str]) {
        while self.peek_word().is_some_and(|word| words.contains(&word)) {
            self.next();
        }
    }

    pub(super) fn punct(&mut self, token: &Token) -> bool {
        let found = self.peek() == Some(token);
        if found {
            self.next();
        }
        found
    }

    /// Any word, quoted or not, as an identifier.
    pub(super) fn ident(&mut self) -> Option<Arc<str>> {
        match self.peek()? {
            Token::Word(word) => {
                self.next();
                Some(word.value.as_str().into())
            }
            _ => None,
        }
    }

    /// `a`, `a.b`, `a.b.c`, …: not starting with an unquoted reserved word.
    pub(super) fn parts(&mut self) -> Option<Vec<Arc<str>>> {
        if self.peek_word().is_some_and(catalog::is_reserved) {
            return None;
        }
        let mut parts = vec![self.ident()?];
        while self.punct(&Token::Period) {
            parts.push(self.ident()?);
        }
        Some(parts)
    }

    pub(super) fn relation(&mut self) -> Option<RelationName> {
        relation(&self.parts()?)
    }

    /// `[ONLY] name [*]` or `ONLY (name)`.
    pub(super) fn table(&mut self) -> Option<RelationName> {
        if self.eat(&["only"]) && self.punct(&Token::LParen) {
            let name = self.relation()?;
            return self.punct(&Token::RParen).then_some(name);
        }
        let name = self.relation()?;
        self.punct(&Token::Mul);
        Some(name)
    }

    /// `item, item, …`
    pub(super) fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let mut items = vec![item(self)?];
        while self.punct(&Token::Comma) {
            items.push(item(self)?);
        }
        Some(items)
    }

    /// `(name, name, …)`
    pub(super) fn column_list(&mut self) -> Option<Vec<Arc<str>>> {
        if !self.punct(&Token::LParen) {
            return None;
        }
        let columns = self.list(Self::ident)?;
        self.punct(&Token::RParen).then_some(columns)
    }

    /// A string literal whose value is certain: no escapes in it.
    pub(super) fn string(&mut self) -> Option<&'a str> {
        let value = string(self.peek()?)?;
        self.next();
        Some(value)
    }

    /// A balanced `( … )`; gives what is inside.
    pub(super) fn parens(&mut self) -> Option<&'a [Lexeme]> {
        let mut ahead = *self;
        if !ahead.punct(&Token::LParen) {
            return None;
        }
        let inside = ahead.lexemes;
        let mut depth = 1usize;
        loop {
            let before = ahead.lexemes.len();
            match ahead.next()? {
                Token::LParen => depth += 1,
                Token::RParen => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                self.lexemes = ahead.lexemes;
                return inside.get(..inside.len() - before);
            }
        }
    }
}

/// The word of a token, where it is one and unquoted: folded.
pub(super) fn unquoted(token: &Token) -> Option<&str> {
    match token {
        Token::Word(word) if word.quote_style.is_none() => Some(&word.value),
        _ => None,
    }
}

/// The value of a string literal, where no escapes are in it.
pub(super) fn string(token: &Token) -> Option<&str> {
    match token {
        Token::SingleQuotedString(value) | Token::NationalStringLiteral(value) => Some(value),
        Token::DollarQuotedString(dollar) => Some(&dollar.value),
        _ => None,
    }
}
