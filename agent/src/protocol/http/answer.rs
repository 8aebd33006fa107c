//! Answers of the agent's own.

use bytes::Bytes;
use http::{Response, response};

use super::refusal::{self, Asker, Problem};

/// An answer that the agent gives in the target's place.
#[derive(Debug)]
pub(super) struct Own {
    pub(super) parts: response::Parts,
    pub(super) body: Bytes,
}

impl Own {
    /// What a client is told of a problem; `instance` names the exchange.
    pub(super) fn of(problem: &Problem, asker: &Asker, instance: &str) -> Self {
        let (parts, body) = Response::into_parts(refusal::answer(problem, asker, instance));
        Self { parts, body }
    }
}
