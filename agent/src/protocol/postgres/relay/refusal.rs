//! How a message is refused: what is sent in its place, and what the client is told.
//!
//! A refusal has to leave the session as if the server had refused. So the server is sent a statement that it is
//! certain to fail, at the same place: it aborts the transaction and skips to Sync by itself, and its error is
//! turned into ours.

use crate::policy::Denied;

use super::super::wire::{ErrorFields, ErrorResponse, Parse, Query};

/// A refusal, in the server's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub code: &'static str,
    pub message: String,
    pub hint: String,
}

/// Fails when it is analysed, before anything runs: a literal that is no integer. Nothing that a session can
/// change changes that. In an aborted transaction the server says so instead, which is passed on.
const FAILING: &[u8] = b"SELECT 'refused by policy'::pg_catalog.int4";
const FAILS_WITH: &[u8] = b"22P02";

/// The statement that stands in place of a refused message other than `Parse`. It never comes to be.
const NAME: &[u8] = b"tollgate refused";

impl Refusal {
    pub(super) fn policy(denied: &Denied) -> Self {
        Self {
            code: "42501",
            message: denied.message.clone(),
            hint: denied.hint.clone(),
        }
    }

    /// What a server says to a cancel request, for a command that never reached it.
    pub(super) fn cancelled() -> Self {
        Self {
            code: "57014",
            message: "canceling statement due to user request".to_owned(),
            hint: "the command was held for approval and has not run".to_owned(),
        }
    }

    pub(super) fn unsupported(message: &str, hint: &str) -> Self {
        Self {
            code: "0A000",
            message: message.to_owned(),
            hint: hint.to_owned(),
        }
    }

    pub(super) fn too_long(what: &str) -> Self {
        Self {
            code: "54000",
            message: format!("{what} is longer than the 1 MiB that can be judged"),
            hint: "send large values as parameters or by COPY".to_owned(),
        }
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let severity = "ERROR";
        ErrorResponse {
            severity,
            code: self.code,
            message: &self.message,
            hint: &self.hint,
        }
        .encode(out);
    }
}

/// Whether an error is the one that the failing statement fails with.
pub(super) fn is_expected(error: &ErrorFields<'_>) -> bool {
    error.sqlstate() == FAILS_WITH
}

/// Appends what stands in place of a refused `Query` or `FunctionCall`.
pub(super) fn failing_query(out: &mut Vec<u8>) {
    Query { text: FAILING }.encode(out);
}

/// Appends what stands in place of a refused message of the extended protocol. A refused `Parse` keeps its name,
/// because a failing `Parse` of the unnamed statement drops the one before.
pub(super) fn failing_parse(name: Option<&[u8]>, out: &mut Vec<u8>) {
    Parse {
        name: name.unwrap_or(NAME),
        text: FAILING,
        types: &[],
    }
    .encode(out);
}
