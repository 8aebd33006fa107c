//! Operations of GraphQL that a request may run.
//!
//! Read are the places where servers look: the query's `query`, a JSON body with `query` or a list of such, a body of
//! `application/graphql`, a form. All that are there count, because servers differ in which goes first. Of a document with
//! several operations, `operationName` chooses the one that runs; where it chooses none, all count.
//!
//! In doubt are persisted queries (the server alone has their text), documents that cannot be parsed, fragments that are not
//! there, and uploads in several parts. Known limit: what a server makes of directives is not known, so that a field under
//! `@skip` counts.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use graphql_parser::query::{
    Definition, Document, FragmentDefinition, OperationDefinition, Selection, SelectionSet,
};
use serde_json::Value;

use crate::model::{GraphqlKind, GraphqlOperation, HttpBody, HttpPair};

use super::body::Body;

/// Longest document that is parsed, in bytes.
const LONGEST: usize = 256 * 1024;

/// Members that name a document which the server has.
const PERSISTED: [&str; 6] = ["extensions", "documentid", "doc_id", "docid", "queryid", "id"];

/// Operations, and why there may be others.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Operations {
    pub(super) all: Vec<GraphqlOperation>,
    pub(super) doubt: Option<&'static str>,
}

/// Operations of a request.
pub(super) fn read(
    content_type: Option<&str>,
    query: &[HttpPair],
    read: &HttpBody,
    body: Body<'_>,
) -> Operations {
    let mut operations = Operations::default();
    operations.of_parameters(query);
    match (read, body) {
        (HttpBody::Empty, _) => {}
        (HttpBody::Unread, _) => operations.doubt("the body was not read"),
        (HttpBody::Json(value), _) => operations.of_json(value),
        (HttpBody::Form(fields), _) => operations.of_parameters(fields),
        (HttpBody::Other, Body::Whole(bytes)) if content_type == Some("application/graphql") => {
            match std::str::from_utf8(bytes) {
                Ok(text) => operations.add(text, names(query).as_slice()),
                Err(_) => operations.doubt("the document is not UTF-8"),
            }
        }
        (HttpBody::Other, _) => operations.doubt("the body is no GraphQL that is known"),
    }
    operations
}

fn names(pairs: &[HttpPair]) -> Vec<Option<&str>> {
    let named = pairs
        .iter()
        .filter(|(name, _)| name.eq_ignore_ascii_case("operationName"));
    named.map(|(_, value)| Some(&**value)).collect()
}

impl Operations {
    fn doubt(&mut self, why: &'static str) {
        self.doubt.get_or_insert(why);
    }

    fn of_parameters(&mut self, pairs: &[HttpPair]) {
        let names = names(pairs);
        for (name, value) in pairs {
            if name.eq_ignore_ascii_case("query") {
                self.add(value, &names);
            } else if PERSISTED.contains(&name.to_ascii_lowercase().as_str())
                && !name.eq_ignore_ascii_case("id")
            {
                self.doubt("the query is one that the server has");
            } else if name.eq_ignore_ascii_case("operations") || name.eq_ignore_ascii_case("batch") {
                self.doubt("the operations are in a field of a form");
            }
        }
    }

    fn of_json(&mut self, value: &Value) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| self.of_json(item)),
            Value::Object(members) => {
                let member = |wanted: &str| {
                    let mut found = members
                        .iter()
                        .filter(|(name, _)| name.eq_ignore_ascii_case(wanted));
                    found.next().map(|(_, value)| value)
                };
                let persisted = members.iter().any(|(name, value)| {
                    let name = name.to_ascii_lowercase();
                    let extension =
                        name != "extensions" || value.to_string().to_ascii_lowercase().contains("persisted");
                    PERSISTED.contains(&name.as_str()) && extension && !value.is_null()
                });
                if persisted {
                    self.doubt("the query is one that the server has");
                }
                let name = match member("operationName") {
                    None | Some(Value::Null) => None,
                    Some(Value::String(name)) => Some(name.as_str()),
                    // Nobody knows what it chooses: all count.
                    Some(_) => None,
                };
                match member("query") {
                    Some(Value::String(text)) => self.add(text, &[name]),
                    Some(_) => self.doubt("the query is no text"),
                    None => self.doubt("the body has no query"),
                }
            }
            _ => self.doubt("the body is no GraphQL that is known"),
        }
    }

    /// Adds what a document may run; of several names each may be the one that the server takes.
    fn add(&mut self, text: &str, names: &[Option<&str>]) {
        if text.len() > LONGEST {
            return self.doubt("the document is too long");
        }
        let document: Document<'_, &str> = match graphql_parser::parse_query(text) {
            Ok(document) => document,
            Err(_) => return self.doubt("the document cannot be parsed"),
        };
        let mut fragments: HashMap<&str, &FragmentDefinition<'_, &str>> = HashMap::new();
        let mut defined: Vec<&OperationDefinition<'_, &str>> = Vec::new();
        for definition in &document.definitions {
            match definition {
                Definition::Operation(operation) => defined.push(operation),
                Definition::Fragment(fragment) => {
                    if fragments.insert(fragment.name, fragment).is_some() {
                        self.doubt("the document has two fragments of one name");
                    }
                }
            }
        }
        if defined.is_empty() {
            return self.doubt("the document has no operation");
        }
        let read: Vec<GraphqlOperation> = defined
            .into_iter()
            .map(|operation| self.operation(operation, &fragments))
            .collect();
        let chosen: Vec<GraphqlOperation> = match names {
            [Some(wanted)] if !wanted.is_empty() => read
                .iter()
                .filter(|one| one.name.as_deref() == Some(*wanted))
                .cloned()
                .collect(),
            _ => Vec::new(),
        };
        self.all.extend(if chosen.is_empty() { read } else { chosen });
    }

    fn operation<'d>(
        &mut self,
        operation: &OperationDefinition<'d, &'d str>,
        fragments: &HashMap<&'d str, &FragmentDefinition<'d, &'d str>>,
    ) -> GraphqlOperation {
        let (kind, name, set) = match operation {
            OperationDefinition::SelectionSet(set) => (GraphqlKind::Query, None, set),
            OperationDefinition::Query(query) => (GraphqlKind::Query, query.name, &query.selection_set),
            OperationDefinition::Mutation(mutation) => {
                (GraphqlKind::Mutation, mutation.name, &mutation.selection_set)
            }
            OperationDefinition::Subscription(subscription) => (
                GraphqlKind::Subscription,
                subscription.name,
                &subscription.selection_set,
            ),
        };
        let mut fields: Vec<Arc<str>> = Vec::new();
        let mut seen: HashSet<&str> = HashSet::new();
        let mut todo: Vec<&SelectionSet<'d, &'d str>> = vec![set];
        while let Some(set) = todo.pop() {
            for selection in &set.items {
                match selection {
                    Selection::Field(field) => {
                        if !fields.iter().any(|known| **known == *field.name) {
                            fields.push(field.name.into());
                        }
                    }
                    Selection::InlineFragment(fragment) => todo.push(&fragment.selection_set),
                    Selection::FragmentSpread(spread) => match fragments.get(spread.fragment_name) {
                        Some(fragment) if seen.insert(fragment.name) => todo.push(&fragment.selection_set),
                        Some(_) => {}
                        None => self.doubt("the document spreads a fragment that it has not"),
                    },
                }
            }
        }
        fields.sort();
        GraphqlOperation {
            kind,
            name: name.map(Arc::from),
            fields,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(body: Value) -> Operations {
        read(
            Some("application/json"),
            &[],
            &HttpBody::Json(Arc::new(body)),
            Body::Empty,
        )
    }

    /// `query GetUser: a b`, `mutation: c`.
    fn shown(operations: &Operations) -> Vec<String> {
        let one = |operation: &GraphqlOperation| {
            let name = operation
                .name
                .as_deref()
                .map_or_else(String::new, |name| format!(" {name}"));
            format!("{}{name}: {}", operation.kind, operation.fields.join(" "))
        };
        operations.all.iter().map(one).collect()
    }

    #[test]
    fn root_fields_are_named_by_their_own_names() {
        for (query, wanted) in [
            ("{ user { id } }", "query: user"),
            (
                "query GetUser($id: ID!) { a: user(id: $id) { name } b: user { x } orders { id } }",
                "query GetUser: orders user",
            ),
            (
                "mutation { ok: deleteUser(id: 1) { id } }",
                "mutation: deleteUser",
            ),
            ("subscription S { log }", "subscription S: log"),
            (
                "query { ...F ... on Query { c } ... @include(if: false) { d } } fragment F on Query { a ...G } fragment G on Query { b ...F }",
                "query: a b c d",
            ),
            (
                "{ user(note: \"} mutation { x }\") { id } } # mutation { y }",
                "query: user",
            ),
            (
                "query { user(note: \"\"\"\n} mutation { x\n\"\"\") { id } }",
                "query: user",
            ),
        ] {
            let operations = of(json!({"query": query}));
            assert_eq!(shown(&operations), [wanted], "{query}");
            assert_eq!(operations.doubt, None, "{query}");
        }
    }

    #[test]
    fn the_operation_that_runs_is_judged_or_all() {
        let two = "query A { a } mutation B { b }";
        assert_eq!(
            shown(&of(json!({"query": two, "operationName": "A"}))),
            ["query A: a"]
        );
        assert_eq!(shown(&of(json!({"query": two}))), ["query A: a", "mutation B: b"]);
        for name in [json!(""), json!("C"), json!(7), json!(null), json!(["A"])] {
            assert_eq!(
                shown(&of(json!({"query": two, "operationName": name}))).len(),
                2,
                "{name}"
            );
        }
        assert_eq!(
            shown(&of(json!([{"query": "{a}"}, {"query": "mutation {b}"}]))),
            ["query: a", "mutation: b"]
        );
    }

    #[test]
    fn every_place_of_a_query_counts() {
        let pairs: Vec<HttpPair> = vec![("query".into(), "{a}".into())];
        let body = HttpBody::Json(Arc::new(json!({"query": "mutation {b}"})));
        assert_eq!(
            shown(&read(None, &pairs, &body, Body::Empty)),
            ["query: a", "mutation: b"]
        );
        let two: Vec<HttpPair> = vec![
            ("query".into(), "query A {a} mutation B {b}".into()),
            ("operationName".into(), "A".into()),
            ("OperationName".into(), "B".into()),
        ];
        assert_eq!(shown(&read(None, &two, &HttpBody::Empty, Body::Empty)).len(), 2);
        let plain = read(
            Some("application/graphql"),
            &[],
            &HttpBody::Other,
            Body::Whole(b"mutation {b}"),
        );
        assert_eq!(shown(&plain), ["mutation: b"]);
    }

    #[test]
    fn what_cannot_be_told_is_in_doubt() {
        let deep = format!("{}{}", "{a".repeat(5000), "}".repeat(5000));
        for body in [
            json!({"query": "{ a"}),
            json!({"query": "{ ...F }"}),
            json!({"query": "fragment F on Q { a }"}),
            json!({"query": deep}),
            json!({"query": 7}),
            json!({"id": "abc"}),
            json!({"doc_id": "1", "query": "{a}"}),
            json!({"extensions": {"persistedQuery": {"sha256Hash": "x"}}}),
            json!({"extensions": {"persistedQuery": {"sha256Hash": "x"}}, "query": "{a}"}),
            json!({}),
            json!("{a}"),
            json!([{"query": "{a}"}, {}]),
        ] {
            assert!(of(body.clone()).doubt.is_some(), "{body}");
        }
        assert!(
            read(
                Some("multipart/form-data"),
                &[],
                &HttpBody::Other,
                Body::Whole(b"x")
            )
            .doubt
            .is_some()
        );
        assert!(
            read(None, &[], &HttpBody::Unread, Body::Unread { length: None })
                .doubt
                .is_some()
        );
        assert_eq!(
            of(json!({"query": "{a}", "extensions": {"tracing": true}})).doubt,
            None
        );
    }
}
