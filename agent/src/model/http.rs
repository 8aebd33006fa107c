//! A request of HTTP, as rules match on it.
//!
//! A server may read a request in more than one way: `%2F` as a slash or as a character, `X-HTTP-Method-Override` or not. What
//! is here holds every way that is known, and says of which parts no complete account can be given. Rules that allow have to
//! cover every way; rules that refuse or hold concern a request if they concern one.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Effect;

/// What a request asks for.
///
/// What may hold a secret is in [`HttpContent`], which neither `Debug` nor `Serialize` shows: records and logs have the
/// command's text, in which secrets are replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpFacts {
    /// Methods that a server may take the request for: the one of its first line, then those that it asks to be taken for.
    /// Spelled as they were sent. Never empty.
    pub methods: Vec<Arc<str>>,
    /// `https` or `http`, as the workload speaks it.
    pub scheme: Arc<str>,
    /// Lower case, without port, brackets and final dot; empty where the request names none.
    pub host: Arc<str>,
    /// Port that the request names beside the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Media type of the body, lower case and without parameters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<Arc<str>>,
    /// Bytes of the body; `None`: not known when the request was judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_bytes: Option<u64>,
    /// The call, where the body is said to be gRPC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grpc: Option<GrpcCall>,
    /// The operations, where the body or the query was read as GraphQL; empty: it is none, or nobody asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub graphql: Vec<GraphqlOperation>,
    /// Parts of which not every reading is known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub doubts: Vec<HttpDoubt>,
    /// What may hold secrets.
    #[serde(skip)]
    pub content: HttpContent,
}

/// A part of a request that servers may read in a way that is not among those that are known, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpDoubt {
    /// The part.
    pub part: HttpPart,
    /// Why, for people: a clause.
    pub why: String,
}

/// A part of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HttpPart {
    /// The method.
    Method,
    /// The host.
    Host,
    /// The path.
    Path,
    /// The query.
    Query,
    /// Headers.
    Headers,
    /// The body.
    Body,
    /// The body's or the query's GraphQL.
    Graphql,
}

/// `/package.Service/Method`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrpcCall {
    /// Service with its package.
    pub service: Arc<str>,
    /// Method.
    pub method: Arc<str>,
}

/// One operation of a GraphQL document that may be run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GraphqlOperation {
    /// What kind.
    pub kind: GraphqlKind,
    /// Its name.
    pub name: Option<Arc<str>>,
    /// Its root fields by their names, not by their aliases; fragments resolved.
    pub fields: Vec<Arc<str>>,
}

/// Kind of a GraphQL operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GraphqlKind {
    /// `query`.
    Query,
    /// `mutation`.
    Mutation,
    /// `subscription`.
    Subscription,
}

/// Name and value, decoded.
pub type HttpPair = (Arc<str>, Arc<str>);

/// Parts of a request that may hold secrets: matched on, never shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct HttpContent {
    /// Every known reading of the path, as its segments, decoded. `/` is one empty segment.
    pub paths: Vec<Vec<Arc<str>>>,
    /// Parameters of the query, in order.
    pub query: Vec<HttpPair>,
    /// Headers with lower-case names, in order; without those that hold credentials.
    pub headers: Vec<HttpPair>,
    /// The body.
    pub body: HttpBody,
}

/// The body of a request, or a message of a stream.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum HttpBody {
    /// It was not read: nothing is known of it.
    #[default]
    Unread,
    /// There is none.
    Empty,
    /// JSON, whatever its content type says; no object in it has two members whose names differ in case alone.
    Json(Arc<serde_json::Value>),
    /// `application/x-www-form-urlencoded`.
    Form(Vec<HttpPair>),
    /// Something else.
    Other,
}

/// What the rules of a service ask about requests beyond their heads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HttpAsks {
    /// The body has to be read before a request is judged, as far as its limit.
    pub body: bool,
    /// Its length has to be known.
    pub length: bool,
    /// Its GraphQL is asked for.
    pub graphql: bool,
    /// Requests may be held, which takes a body that was read.
    pub held: bool,
}

/// Effects of a method, by its name as sent; `None`: it is not known. Methods are told apart by case.
///
/// They follow the semantics of RFC 9110 and RFC 5789. What a server does under a method is its own affair (a POST can delete):
/// rules that need to know name paths.
pub fn method_effects(method: &str) -> Option<&'static [Effect]> {
    Some(match method {
        "GET" | "HEAD" | "OPTIONS" => &[Effect::Read],
        "POST" => &[Effect::Write],
        "PUT" => &[Effect::Write, Effect::Modify],
        "PATCH" => &[Effect::Modify],
        "DELETE" => &[Effect::Delete],
        _ => return None,
    })
}

impl HttpAsks {
    /// All that can be asked.
    pub const EVERYTHING: Self = Self {
        body: true,
        length: true,
        graphql: true,
        held: true,
    };

    /// What either asks.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            body: self.body || other.body,
            length: self.length || other.length,
            graphql: self.graphql || other.graphql,
            held: self.held || other.held,
        }
    }
}

impl HttpFacts {
    /// Whether a part may be read in a way that is not known.
    pub fn doubts(&self, part: HttpPart) -> bool {
        self.doubts.iter().any(|doubt| doubt.part == part)
    }
}

impl fmt::Debug for HttpContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HttpContent")
    }
}

impl fmt::Debug for HttpBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unread => "Unread",
            Self::Empty => "Empty",
            Self::Json(_) => "Json",
            Self::Form(_) => "Form",
            Self::Other => "Other",
        })
    }
}

impl fmt::Display for GraphqlKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Query => "query",
            Self::Mutation => "mutation",
            Self::Subscription => "subscription",
        })
    }
}

impl fmt::Display for GrpcCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.service, self.method)
    }
}
