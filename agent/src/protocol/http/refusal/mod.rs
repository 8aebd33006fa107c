//! What a client is told by the agent instead of an answer of its target, in words that its protocol and it know.
//!
//! | who asks | what it gets |
//! |---|---|
//! | gRPC | an answer of trailers alone: status 200, `grpc-status` and `grpc-message` |
//! | who prefers HTML or plain text | a page, a few lines |
//! | everybody else | `application/problem+json` (RFC 9457) with the members `rules` and `hint` besides its own |
//! | a WebSocket that is open | a close frame with 1008 (policy violation, RFC 6455 section 7.4.1), see [`close_frame`] |
//!
//! An answer is whole and says its length, so that the connection goes on as after any other.

mod accept;
mod page;
mod websocket;

#[cfg(test)]
mod tests;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, VARY, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde::Serialize;

use crate::model::RuleName;
use crate::policy::Denied;
use crate::protocol::SessionEnd;

use accept::Wanted;

pub use websocket::{Side, close_frame};

/// Bytes of `grpc-message` that are encoded, besides those that are not ASCII (gRPC over HTTP/2: percent-encoding).
const GRPC_MESSAGE: &AsciiSet = &CONTROLS.add(b'%');

/// Longest `grpc-message`, in characters: clients bound their headers to 8 kB.
const LONGEST_GRPC: usize = 1000;

/// Why a request has no answer of its target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Status of the answer.
    pub status: StatusCode,
    /// The kind, as the last part of the problem's `type`.
    pub kind: &'static str,
    /// One sentence: what happened.
    pub detail: String,
    /// One sentence: what can be done about it.
    pub hint: String,
    /// Rules that refused.
    pub rules: Vec<RuleName>,
}

/// What of a request decides how it is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asker {
    head: bool,
    wanted: Wanted,
}

/// `application/problem+json`.
#[derive(Serialize)]
struct Json<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    instance: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    rules: &'a [RuleName],
    hint: &'a str,
}

impl Problem {
    /// A request that the rules, an approver or time refused: 403.
    pub fn denied(denied: &Denied) -> Self {
        Self {
            status: StatusCode::FORBIDDEN,
            kind: "refused",
            detail: denied.message.clone(),
            hint: denied.hint.clone(),
            rules: denied.rules.clone(),
        }
    }

    /// Another problem; `detail` without the agent's name.
    pub fn new(status: StatusCode, kind: &'static str, detail: &str, hint: &str) -> Self {
        Self {
            status,
            kind,
            detail: format!("tollgate: {detail}"),
            hint: hint.to_owned(),
            rules: Vec::new(),
        }
    }

    /// A request that could be read in two ways, or in none: 400.
    pub fn malformed(why: &str) -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "malformed",
            &format!("the request was not understood: {why}"),
            "the client's library does not speak HTTP correctly",
        )
    }

    /// A body longer than may be: 413.
    pub fn too_large(why: &str) -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too-large",
            why,
            "send less in one request, or have the policy's owner judge it without its body",
        )
    }

    /// An answer of the target that masks cannot read: 502.
    pub fn unmaskable(why: &str) -> Self {
        Self::new(
            StatusCode::BAD_GATEWAY,
            "unmaskable",
            &format!("values of this service are masked, and this answer cannot be: {why}"),
            "ask for another form of it, or have its type named in `unmasked` of the service",
        )
    }

    /// A name that this connection is not for: 421.
    pub fn misdirected(why: &str) -> Self {
        Self::new(
            StatusCode::MISDIRECTED_REQUEST,
            "misdirected",
            why,
            "open another connection for the other name",
        )
    }

    /// A head longer than may be: 431.
    pub fn head_too_large() -> Self {
        Self::new(
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            "head-too-large",
            "the request's head is too large",
            "send fewer or shorter headers",
        )
    }

    /// The target did not answer in time: 504.
    pub fn timed_out() -> Self {
        Self::new(
            StatusCode::GATEWAY_TIMEOUT,
            "timeout",
            "the target did not answer in time",
            "try again when the server is well",
        )
    }

    /// A session that cannot go on. Details of the host stay in its log.
    pub fn ended(end: &SessionEnd) -> Self {
        const LOG: &str = "the host's administrator finds the reason in the log of tollgate.service";
        let unavailable = |detail: &str, hint: &str| {
            Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail, hint)
        };
        match end {
            SessionEnd::Client(why) => Self::malformed(why),
            SessionEnd::Target(why) => Self::new(
                StatusCode::BAD_GATEWAY,
                "target",
                &format!("the target failed: {why}"),
                "try again when the server is well; its administrator finds the reason in its log",
            ),
            SessionEnd::Record(_) => unavailable("this session cannot be recorded, so it ends here", LOG),
            SessionEnd::Agent(_) => Self::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "agent",
                "the agent failed in this session",
                LOG,
            ),
            // Why, names programs and paths of the host.
            SessionEnd::Credential(_) => unavailable("no credential for the server could be had", LOG),
            SessionEnd::CredentialEnded(why) => unavailable(
                &format!("the credential of this session is void: {why}"),
                "connect again: a new session gets a new credential",
            ),
            SessionEnd::Policy(denied) => Self::denied(denied),
            SessionEnd::Changed => unavailable(
                "the policy of this workload has changed",
                "connect again: new sessions are under the new policy",
            ),
            SessionEnd::Stop => unavailable(
                "the agent of this host stops",
                "connect again when the agent runs again",
            ),
        }
    }

    fn title(&self) -> &'static str {
        match self.kind {
            "refused" => "Refused by policy",
            _ => self.status.canonical_reason().unwrap_or("Error"),
        }
    }

    /// Status of gRPC for the problem (`grpc/doc/statuscodes.md`).
    fn grpc_status(&self) -> u8 {
        match self.status {
            StatusCode::FORBIDDEN => 7,
            StatusCode::BAD_REQUEST => 3,
            StatusCode::PAYLOAD_TOO_LARGE | StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => 8,
            StatusCode::GATEWAY_TIMEOUT => 4,
            StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::MISDIRECTED_REQUEST => 14,
            _ => 13,
        }
    }
}

impl Asker {
    /// Who asks like this.
    pub fn of(method: &Method, headers: &HeaderMap) -> Self {
        Self {
            head: method == Method::HEAD,
            wanted: Wanted::of(headers),
        }
    }

    /// A client whose request could not be read.
    pub fn unknown() -> Self {
        Self {
            head: false,
            wanted: Wanted::Json,
        }
    }
}

/// The answer to a request. `instance` names the exchange in the records: `urn:tollgate:session:ID#NUMBER`.
pub fn answer(problem: &Problem, asker: &Asker, instance: &str) -> Response<Bytes> {
    if let Wanted::Grpc(content_type) = &asker.wanted {
        return grpc(problem, content_type);
    }
    let (content_type, body) = match asker.wanted {
        Wanted::Html => ("text/html; charset=utf-8", page::html(problem, instance)),
        Wanted::Text => ("text/plain; charset=utf-8", page::text(problem, instance)),
        Wanted::Json | Wanted::Grpc(_) => ("application/problem+json", json(problem, instance)),
    };
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = problem.status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CONTENT_LENGTH, body.len().into());
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(VARY, HeaderValue::from_static("accept"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if asker.wanted == Wanted::Html {
        headers.insert(
            http::header::CONTENT_SECURITY_POLICY,
            HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'"),
        );
    }
    // HEAD is told how long the body would be, and gets none.
    if !asker.head {
        *response.body_mut() = body.into();
    }
    response
}

fn json(problem: &Problem, instance: &str) -> String {
    let json = Json {
        r#type: format!("urn:tollgate:problem:{}", problem.kind),
        title: problem.title(),
        status: problem.status.as_u16(),
        detail: &problem.detail,
        instance,
        rules: &problem.rules,
        hint: &problem.hint,
    };
    serde_json::to_string(&json).unwrap_or_else(|_| "{}".to_owned())
}

/// An answer of trailers alone: what would be trailers stands in the head, and there is no body.
fn grpc(problem: &Problem, content_type: &HeaderValue) -> Response<Bytes> {
    let message: String = format!("{} ({})", problem.detail, problem.hint)
        .chars()
        .take(LONGEST_GRPC)
        .collect();
    let message = utf8_percent_encode(&message, GRPC_MESSAGE).to_string();
    let mut response = Response::new(Bytes::new());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, content_type.clone());
    headers.insert(
        HeaderName::from_static("grpc-status"),
        HeaderValue::from(u16::from(problem.grpc_status())),
    );
    if let Ok(message) = HeaderValue::from_str(&message) {
        headers.insert(HeaderName::from_static("grpc-message"), message);
    }
    response
}
