//! What a rule asks of a request of HTTP.

use serde_json::{Number, Value};

use super::path_pattern::PathPattern;
use crate::model::GraphqlKind;

/// Keys of `[[service.rule]]` that are for services of HTTP. What is empty asks nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestRule {
    /// `methods`, upper case.
    pub methods: Vec<String>,
    /// `hosts`: globs over names, lower case; `*` stays within one label.
    pub hosts: Vec<String>,
    /// `paths`.
    pub paths: Vec<PathPattern>,
    /// `query`: parameters by name.
    pub query: Vec<FieldRule>,
    /// `headers`: by name, lower case.
    pub headers: Vec<FieldRule>,
    /// `json`: by RFC 9535 path.
    pub json: Vec<FieldRule>,
    /// `body_max`: bytes of the body at most.
    pub body_max: Option<u64>,
    /// `grpc`: `package.Service/Method`, both globs.
    pub grpc: Vec<String>,
    /// `graphql`.
    pub graphql: Option<GraphqlRule>,
}

/// What one field has to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldRule {
    /// Name or path.
    pub name: String,
    /// What it has to be.
    pub condition: Condition,
}

/// What a field has to be. Text of a query or a header that is a number counts as one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// `"EUR"`, `7`, `true`, or one of a list of them.
    OneOf(Vec<Value>),
    /// `{ like = "svc-*" }`: a glob.
    Like(String),
    /// `{ min = 1, max = 100 }`, both included.
    Range {
        /// Least.
        min: Option<Number>,
        /// Most.
        max: Option<Number>,
    },
    /// `{ present = true }`, `{ present = false }`.
    Present(bool),
}

/// `graphql`: what an operation has to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GraphqlRule {
    /// `type`.
    pub kinds: Vec<GraphqlKind>,
    /// `name`: globs; an operation without a name has none of them.
    pub names: Vec<String>,
    /// `fields`: globs over root fields.
    pub fields: Vec<String>,
}

impl RequestRule {
    /// Whether it asks anything.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
