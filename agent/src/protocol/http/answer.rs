//! Answers of the agent's own.

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, Response, StatusCode, response};

use crate::policy::Denied;
use crate::protocol::SessionEnd;

/// An answer that the agent gives in the target's place.
#[derive(Debug)]
pub(super) struct Own {
    pub(super) parts: response::Parts,
    pub(super) body: Bytes,
}

/// What a client is told whose request is refused.
pub(super) fn denied(denied: &Denied) -> Own {
    told(StatusCode::FORBIDDEN, &denied.message, &denied.hint)
}

/// What a client is told whose session cannot go on. Details of the host stay in the log.
pub(super) fn ended(end: &SessionEnd) -> Own {
    match end {
        SessionEnd::Client(why) => told(
            StatusCode::BAD_REQUEST,
            &format!("tollgate: the client broke the protocol: {why}"),
            "the client's library does not speak HTTP correctly",
        ),
        SessionEnd::Target(why) => told(
            StatusCode::BAD_GATEWAY,
            &format!("tollgate: the target failed: {why}"),
            "try again when the server is well; its administrator finds the reason in its log",
        ),
        SessionEnd::Record(_) => told(
            StatusCode::SERVICE_UNAVAILABLE,
            "tollgate: this session cannot be recorded, so it ends here",
            "the host's administrator finds the reason in the log of tollgate.service (disk full?)",
        ),
        SessionEnd::Agent(_) => told(
            StatusCode::INTERNAL_SERVER_ERROR,
            "tollgate: the agent failed in this session",
            "the host's administrator finds the reason in the log of tollgate.service",
        ),
        // Why, names programs and paths of the host.
        SessionEnd::Credential(_) => told(
            StatusCode::SERVICE_UNAVAILABLE,
            "tollgate: no credential for the server could be had",
            "the host's administrator finds the reason in the log of tollgate.service",
        ),
        SessionEnd::CredentialEnded(why) => told(
            StatusCode::SERVICE_UNAVAILABLE,
            &format!("tollgate: the credential of this session is void: {why}"),
            "connect again: a new session gets a new credential",
        ),
        SessionEnd::Policy(refused) => denied(refused),
        SessionEnd::Changed => told(
            StatusCode::SERVICE_UNAVAILABLE,
            "tollgate: the policy of this workload has changed",
            "connect again: new sessions are under the new policy",
        ),
        SessionEnd::Stop => told(
            StatusCode::SERVICE_UNAVAILABLE,
            "tollgate: the agent of this host stops",
            "connect again when the agent runs again",
        ),
    }
}

/// An answer of `status`: what happened, and what can be done about it.
pub(super) fn told(status: StatusCode, message: &str, hint: &str) -> Own {
    let problem = serde_json::json!({
        "type": "about:blank",
        "title": status.canonical_reason().unwrap_or_default(),
        "status": status.as_u16(),
        "detail": message,
        "hint": hint,
    });
    let body = Bytes::from(problem.to_string());
    let (mut parts, ()) = Response::new(()).into_parts();
    parts.status = status;
    parts
        .headers
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    parts.headers.insert(CONTENT_LENGTH, body.len().into());
    Own { parts, body }
}
