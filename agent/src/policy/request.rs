//! What a rule asks of a request of HTTP, compiled: is a reading of it certainly one that the rule names, could it be one.
//!
//! *Certainly* is for rules that allow: everything that the rule asks is there, exactly, and nothing that it asks about is in doubt.
//! Where a field is there several times, each has to be as asked. *Possibly* is for rules that refuse or hold: letters' case does
//! not count, what is in doubt or was not read could be anything, and of several fields one is enough.

use std::sync::Arc;

use serde_json::Value;
use serde_json_path::JsonPath;

use crate::config::{Condition, FieldRule, Glob, GraphqlRule, PathPattern, RequestRule};
use crate::model::{GraphqlOperation, HttpAsks, HttpBody, HttpFacts, HttpPair, HttpPart};

/// One way in which a server may read a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading<'a> {
    pub(super) facts: &'a HttpFacts,
    /// Method; `None`: any.
    pub(super) method: Option<&'a str>,
    /// Segments of the path; `None`: not known.
    pub(super) path: Option<&'a [Arc<str>]>,
}

/// A [`RequestRule`], compiled.
#[derive(Clone, Debug, Default)]
pub(super) struct RequestMatch {
    methods: Vec<String>,
    hosts: Vec<Glob>,
    paths: Vec<PathPattern>,
    query: Vec<Field>,
    headers: Vec<Field>,
    json: Vec<JsonField>,
    body_max: Option<u64>,
    grpc: Vec<(Pair, Pair)>,
    graphql: Option<Graphql>,
}

#[derive(Clone, Debug)]
struct Field {
    name: String,
    test: Test,
}

#[derive(Clone, Debug)]
struct JsonField {
    /// `None`: malformed, which `config` refuses.
    path: Option<JsonPath>,
    /// The same in lower case.
    folded: Option<JsonPath>,
    test: Test,
}

/// A glob as it is written, and in lower case.
#[derive(Clone, Debug)]
struct Pair {
    exact: Glob,
    folded: Glob,
}

#[derive(Clone, Debug)]
enum Test {
    OneOf(Vec<Value>),
    Like(Pair),
    Range(Option<f64>, Option<f64>),
    Present(bool),
}

#[derive(Clone, Debug)]
struct Graphql {
    rule: GraphqlRule,
    names: Vec<Pair>,
    fields: Vec<Pair>,
}

/// Which of both questions is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sense {
    Certainly,
    Possibly,
}

impl RequestMatch {
    pub(super) fn compile(rule: &RequestRule) -> Self {
        let fields = |rules: &[FieldRule]| rules.iter().map(Field::compile).collect();
        let call = |text: &String| {
            let (service, method) = text.split_once('/').unwrap_or((text, ""));
            (Pair::compile(service), Pair::compile(method))
        };
        Self {
            methods: rule.methods.clone(),
            hosts: rule.hosts.iter().map(|host| labels(host)).collect(),
            paths: rule.paths.clone(),
            query: fields(&rule.query),
            headers: fields(&rule.headers),
            json: rule.json.iter().map(JsonField::compile).collect(),
            body_max: rule.body_max,
            grpc: rule.grpc.iter().map(call).collect(),
            graphql: rule.graphql.as_ref().map(Graphql::compile),
        }
    }

    /// Whether it asks anything of requests.
    pub(super) fn asks_anything(&self) -> bool {
        !(self.methods.is_empty()
            && self.hosts.is_empty()
            && self.paths.is_empty()
            && self.query.is_empty()
            && self.headers.is_empty()
            && self.json.is_empty()
            && self.body_max.is_none()
            && self.grpc.is_empty()
            && self.graphql.is_none())
    }

    /// What has to be known of bodies to answer.
    pub(super) fn asks(&self) -> HttpAsks {
        HttpAsks {
            body: !self.json.is_empty(),
            length: self.body_max.is_some(),
            graphql: self.graphql.is_some(),
            held: false,
        }
    }

    /// Whether the reading is one that the rule names, whatever else the request may be.
    pub(super) fn certainly(&self, reading: Reading<'_>) -> bool {
        let facts = reading.facts;
        let sure = |asked: bool, part: HttpPart| !asked || !facts.doubts(part);
        let sense = Sense::Certainly;
        sure(!self.methods.is_empty(), HttpPart::Method)
            && (self.methods.is_empty()
                || reading
                    .method
                    .is_some_and(|sent| self.methods.iter().any(|one| one == sent)))
            && sure(!self.hosts.is_empty(), HttpPart::Host)
            && (self.hosts.is_empty() || self.names_host(&facts.host))
            && sure(!self.paths.is_empty(), HttpPart::Path)
            && (self.paths.is_empty()
                || reading
                    .path
                    .is_some_and(|path| self.paths.iter().any(|pattern| pattern.matches(path))))
            && sure(!self.query.is_empty(), HttpPart::Query)
            && self
                .query
                .iter()
                .all(|field| field.holds(&facts.content.query, sense))
            && sure(!self.headers.is_empty(), HttpPart::Headers)
            && self
                .headers
                .iter()
                .all(|field| field.holds(&facts.content.headers, sense))
            && sure(!self.json.is_empty(), HttpPart::Body)
            && self.json.iter().all(|field| field.certainly(&facts.content.body))
            && self
                .body_max
                .is_none_or(|most| facts.body_bytes.is_some_and(|bytes| bytes <= most))
            && (self.grpc.is_empty()
                || facts.grpc.as_ref().is_some_and(|call| {
                    self.grpc.iter().any(|(service, method)| {
                        service.exact.matches(&call.service) && method.exact.matches(&call.method)
                    })
                }))
            && self.graphql.as_ref().is_none_or(|graphql| {
                !facts.doubts(HttpPart::Graphql)
                    && !facts.graphql.is_empty()
                    && facts.graphql.iter().all(|operation| graphql.certainly(operation))
            })
    }

    /// Whether the reading could be one that the rule names.
    pub(super) fn possibly(&self, reading: Reading<'_>) -> bool {
        let facts = reading.facts;
        let sense = Sense::Possibly;
        let method = self.methods.is_empty()
            || facts.doubts(HttpPart::Method)
            || reading
                .method
                .is_none_or(|sent| self.methods.iter().any(|one| one.eq_ignore_ascii_case(sent)));
        let host = self.hosts.is_empty() || facts.doubts(HttpPart::Host) || self.names_host(&facts.host);
        let path = self.paths.is_empty()
            || facts.doubts(HttpPart::Path)
            || reading
                .path
                .is_none_or(|path| self.paths.iter().any(|pattern| pattern.could_match(path)));
        let query = facts.doubts(HttpPart::Query)
            || self
                .query
                .iter()
                .all(|field| field.holds(&facts.content.query, sense));
        let headers = facts.doubts(HttpPart::Headers)
            || self
                .headers
                .iter()
                .all(|field| field.holds(&facts.content.headers, sense));
        let json =
            facts.doubts(HttpPart::Body) || self.json.iter().all(|field| field.possibly(&facts.content.body));
        let length = self
            .body_max
            .is_none_or(|most| facts.body_bytes.is_none_or(|bytes| bytes <= most));
        let graphql = self.graphql.as_ref().is_none_or(|graphql| {
            facts.doubts(HttpPart::Graphql)
                || facts.content.body == HttpBody::Unread
                || facts.graphql.iter().any(|operation| graphql.possibly(operation))
        });
        method && host && path && query && headers && json && length && self.could_call(reading) && graphql
    }

    fn names_host(&self, host: &str) -> bool {
        let host = host.replace('.', "/");
        self.hosts.iter().any(|glob| glob.matches(&host))
    }

    /// The path says which call it is, whatever the content type says: gateways take JSON for the same calls.
    fn could_call(&self, reading: Reading<'_>) -> bool {
        if self.grpc.is_empty() || reading.facts.doubts(HttpPart::Path) {
            return true;
        }
        let Some(path) = reading.path else { return true };
        let path: Vec<String> = path.iter().map(|segment| segment.to_lowercase()).collect();
        let [service, method] = path.as_slice() else {
            return false;
        };
        self.grpc
            .iter()
            .any(|(services, methods)| services.folded.matches(service) && methods.folded.matches(method))
    }
}

/// A name of hosts by labels, so that a star stays within one.
fn labels(host: &str) -> Glob {
    Glob::path(&host.replace('.', "/")).unwrap_or_else(|_| Glob::any())
}

impl Pair {
    fn compile(text: &str) -> Self {
        let glob = |text: &str| Glob::name(text).unwrap_or_else(|_| Glob::any());
        Self {
            exact: glob(text),
            folded: glob(&text.to_lowercase()),
        }
    }

    fn matches(&self, text: &str, sense: Sense) -> bool {
        self.exact.matches(text) || (sense == Sense::Possibly && self.folded.matches(&text.to_lowercase()))
    }
}

impl Field {
    fn compile(rule: &FieldRule) -> Self {
        Self {
            name: rule.name.clone(),
            test: Test::compile(&rule.condition),
        }
    }

    fn holds(&self, pairs: &[HttpPair], sense: Sense) -> bool {
        let values: Vec<Value> = pairs
            .iter()
            // A server may not mind how the name is spelt: such values count as well.
            .filter(|(name, _)| name.to_lowercase() == self.name.to_lowercase())
            .flat_map(|(_, value)| {
                // A list in one line is several values to some servers.
                let parts = value
                    .split(',')
                    .filter(|part| sense == Sense::Possibly && part.len() < value.len());
                std::iter::once(&**value).chain(parts.map(str::trim))
            })
            .map(Value::from)
            .collect();
        let exact = sense == Sense::Possibly || pairs.iter().any(|(name, _)| **name == *self.name);
        let values: Vec<&Value> = values.iter().collect();
        match &self.test {
            Test::Present(wanted) => *wanted != values.is_empty(),
            test => exact && test.holds(&values, sense),
        }
    }
}

impl JsonField {
    fn compile(rule: &FieldRule) -> Self {
        Self {
            path: JsonPath::parse(&rule.name).ok(),
            folded: JsonPath::parse(&rule.name.to_lowercase()).ok(),
            test: Test::compile(&rule.condition),
        }
    }

    fn certainly(&self, body: &HttpBody) -> bool {
        let (HttpBody::Json(value), Some(path)) = (body, &self.path) else {
            return false;
        };
        let found = path.query(value).all();
        match &self.test {
            // A member in another spelling is there for some readers.
            Test::Present(false) => found.is_empty() && self.folded_values(value).is_empty(),
            Test::Present(true) => !found.is_empty(),
            test => test.holds(&found, Sense::Certainly),
        }
    }

    fn possibly(&self, body: &HttpBody) -> bool {
        let value = match body {
            HttpBody::Json(value) => value,
            // Nothing is in it that could be as asked, unless it is asked that nothing be.
            HttpBody::Empty => return matches!(self.test, Test::Present(false)),
            // A server may read members out of something that is no JSON here: a form, other syntaxes.
            HttpBody::Unread | HttpBody::Form(_) | HttpBody::Other => return true,
        };
        let found = self
            .path
            .as_ref()
            .map(|path| path.query(value).all())
            .unwrap_or_default();
        let folded = self.folded_values(value);
        match &self.test {
            Test::Present(false) => found.is_empty(),
            Test::Present(true) => !found.is_empty() || !folded.is_empty(),
            test => {
                self.path.is_none()
                    || test.holds(&found, Sense::Possibly)
                    || test.holds(&folded.iter().collect::<Vec<_>>(), Sense::Possibly)
            }
        }
    }

    fn folded_values(&self, value: &Value) -> Vec<Value> {
        let Some(path) = &self.folded else {
            return Vec::new();
        };
        let lower = lower_case(value);
        path.query(&lower).all().into_iter().cloned().collect()
    }
}

/// A document with names and texts in lower case.
fn lower_case(value: &Value) -> Value {
    match value {
        Value::String(text) => text.to_lowercase().into(),
        Value::Array(items) => items.iter().map(lower_case).collect(),
        Value::Object(members) => members
            .iter()
            .map(|(name, value)| (name.to_lowercase(), lower_case(value)))
            .collect(),
        other => other.clone(),
    }
}

impl Test {
    fn compile(condition: &Condition) -> Self {
        let number =
            |number: &Option<serde_json::Number>| number.as_ref().and_then(serde_json::Number::as_f64);
        match condition {
            Condition::OneOf(values) => Self::OneOf(values.clone()),
            Condition::Like(text) => Self::Like(Pair::compile(text)),
            Condition::Range { min, max } => Self::Range(number(min), number(max)),
            Condition::Present(wanted) => Self::Present(*wanted),
        }
    }

    fn holds(&self, values: &[&Value], sense: Sense) -> bool {
        match sense {
            Sense::Certainly => !values.is_empty() && values.iter().all(|value| self.accepts(value, sense)),
            Sense::Possibly => values.iter().any(|value| self.accepts(value, sense)),
        }
    }

    fn accepts(&self, value: &Value, sense: Sense) -> bool {
        match self {
            Self::OneOf(wanted) => wanted.iter().any(|wanted| same(wanted, value, sense)),
            Self::Like(glob) => match value {
                Value::String(text) => glob.matches(text, sense),
                Value::Number(number) if sense == Sense::Possibly => glob.matches(&number.to_string(), sense),
                _ => false,
            },
            Self::Range(min, max) => match number(value) {
                Some(number) => min.is_none_or(|min| number >= min) && max.is_none_or(|max| number <= max),
                // What is no number here may be one to the server: "1e3", "0x10", [1000].
                None => sense == Sense::Possibly && !value.is_null() && !value.is_boolean(),
            },
            Self::Present(wanted) => *wanted,
        }
    }
}

/// A number, also one that is written as a text in plain digits.
fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => {
            let digits = text.strip_prefix('-').unwrap_or(text);
            let plain = !digits.is_empty()
                && digits.len() <= 15
                && digits.bytes().all(|b| b.is_ascii_digit() || b == b'.')
                && digits.starts_with(|c: char| c.is_ascii_digit());
            plain.then(|| text.parse().ok()).flatten()
        }
        _ => None,
    }
}

/// Whether a text is a number, or true or false, as JSON writes it.
fn spells(text: &str, value: &Value) -> bool {
    let written = value.to_string();
    written == text
}

fn same(wanted: &Value, value: &Value, sense: Sense) -> bool {
    match (wanted, value) {
        (Value::Number(wanted), Value::Number(value)) => wanted == value || wanted.as_f64() == value.as_f64(),
        (Value::String(wanted), Value::String(value)) => {
            wanted == value || (sense == Sense::Possibly && wanted.to_lowercase() == value.to_lowercase())
        }
        // Texts of a query and of headers have no types; of JSON, some servers do not mind.
        (Value::Number(_) | Value::Bool(_), Value::String(text)) => spells(text, wanted),
        (Value::String(text), Value::Number(_) | Value::Bool(_)) => {
            sense == Sense::Possibly && spells(text, value)
        }
        _ => wanted == value,
    }
}

impl Graphql {
    fn compile(rule: &GraphqlRule) -> Self {
        let globs = |texts: &[String]| texts.iter().map(|text| Pair::compile(text)).collect();
        Self {
            rule: rule.clone(),
            names: globs(&rule.names),
            fields: globs(&rule.fields),
        }
    }

    fn is_kind(&self, operation: &GraphqlOperation) -> bool {
        self.rule.kinds.is_empty() || self.rule.kinds.contains(&operation.kind)
    }

    /// Every root field is one that is named.
    fn certainly(&self, operation: &GraphqlOperation) -> bool {
        let named =
            |globs: &[Pair], text: &str| globs.iter().any(|glob| glob.matches(text, Sense::Certainly));
        self.is_kind(operation)
            && (self.names.is_empty()
                || operation
                    .name
                    .as_deref()
                    .is_some_and(|name| named(&self.names, name)))
            && (self.fields.is_empty() || operation.fields.iter().all(|field| named(&self.fields, field)))
    }

    /// One root field is one that is named. An operation's own name is its author's: one without a name could be any.
    fn possibly(&self, operation: &GraphqlOperation) -> bool {
        let named = |globs: &[Pair], text: &str| globs.iter().any(|glob| glob.matches(text, Sense::Possibly));
        self.is_kind(operation)
            && (self.names.is_empty()
                || operation
                    .name
                    .as_deref()
                    .is_none_or(|name| named(&self.names, name)))
            && (self.fields.is_empty() || operation.fields.iter().any(|field| named(&self.fields, field)))
    }
}
