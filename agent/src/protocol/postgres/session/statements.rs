//! Classified statements of one session, kept so that a text is parsed once.

use std::sync::Arc;

use crate::protocol::sql::{Batch, Cache, LexState};

use super::super::relay::Classify;

/// The classifier as a session uses it.
#[derive(Debug)]
pub(super) struct Statements(pub(super) Arc<Cache>);

impl Classify for Statements {
    fn classify(&mut self, text: &str, lex: LexState) -> Arc<Batch> {
        self.0.classify(text, lex)
    }
}
