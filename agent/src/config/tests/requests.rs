//! Rules over requests of HTTP, as their authors write them and get them wrong.

use serde_json::json;

use super::parse;
use super::strict::errors;
use crate::config::{Condition, RuleDoc};
use crate::model::{Effect, GraphqlKind};

/// A policy of one service of this protocol with one rule.
fn policy(protocol: &str, rule: &str) -> String {
    let credential = if protocol == "postgres" {
        "[service.credential]\nsource = \"env\"\nuser = \"u\"\npassword = \"P\"\n"
    } else {
        ""
    };
    format!(
        "[workload]\nname = \"w\"\ncgroup = [\"/x\"]\negress = \"deny\"\n[[service]]\nname = \"s\"\nprotocol = \"{protocol}\"\n\
         address = [\"a.test:443\"]\n{credential}[[service.rule]]\nname = \"r\"\n{rule}\n"
    )
}

fn rule(text: &str) -> RuleDoc {
    let doc = parse(&policy("http", text)).unwrap_or_else(|errors| panic!("{text}\n{errors}"));
    doc.services[0].rules[0].clone()
}

#[test]
fn what_a_rule_leaves_out_is_filled_in_on_the_safe_side() {
    let usual = [Effect::Read, Effect::Write, Effect::Modify, Effect::Delete];
    assert_eq!(rule("verdict = \"allow\"").effects, usual);
    assert_eq!(rule("verdict = \"approve\"\napprovers = [\"a\"]").effects, usual);
    let denied = rule("verdict = \"deny\"").effects;
    assert!(
        denied.contains(&Effect::Unknown) && denied.contains(&Effect::Websocket),
        "{denied:?}"
    );
    assert_eq!(
        rule("verdict = \"allow\"\neffects = [\"websocket\"]").effects,
        [Effect::Websocket]
    );
}

#[test]
fn every_key_is_read() {
    let read = rule(
        r#"verdict = "allow"
methods = ["GET", "M-SEARCH"]
hosts = ["*.Acme.test", "10.0.0.1", "[2001:DB8::1]"]
paths = ["/v1/{id}"]
query = { dry_run = true, limit = { min = 1, max = 99.5 } }
headers = { X_Env = ["test", "staging"], Accept = { like = "*json" } }
json = { "$.items[?@.price > 3]" = { present = false } }
body_max = "1kB"
grpc = ["/acme.Orders/Get*"]
graphql = { type = "query", name = ["Get*"], fields = ["user"] }"#,
    )
    .request;
    assert_eq!(read.methods, ["GET", "M-SEARCH"]);
    assert_eq!(read.hosts, ["*.acme.test", "10.0.0.1", "2001:db8::1"]);
    assert_eq!(read.paths[0].as_str(), "/v1/{id}");
    let one = |name: &str| {
        let fields = read.query.iter().chain(&read.headers).chain(&read.json);
        fields
            .filter(|field| field.name == name)
            .map(|field| field.condition.clone())
            .next()
    };
    assert_eq!(one("dry_run"), Some(Condition::OneOf(vec![json!(true)])));
    assert!(matches!(
        one("limit"),
        Some(Condition::Range {
            min: Some(_),
            max: Some(_)
        })
    ));
    assert_eq!(
        one("x-env"),
        Some(Condition::OneOf(vec![json!("test"), json!("staging")]))
    );
    assert_eq!(one("accept"), Some(Condition::Like("*json".into())));
    assert_eq!(one("$.items[?@.price > 3]"), Some(Condition::Present(false)));
    assert_eq!(read.body_max, Some(1000));
    assert_eq!(read.grpc, ["acme.Orders/Get*"]);
    assert_eq!(read.graphql.unwrap().kinds, [GraphqlKind::Query]);
}

#[test]
fn each_mistake_is_named_with_its_remedy() {
    let allow = |line: &str| format!("verdict = \"allow\"\n{line}");
    for (line, wanted) in [
        (allow("method = [\"GET\"]"), "did you mean \"methods\"?"),
        (
            allow("methods = [\"get\"]"),
            "write \"GET\": methods are told apart by case",
        ),
        (allow("methods = []"), "leave the key out to mean any"),
        (
            allow("hosts = [\"a.test:443\"]"),
            "write the host without its port",
        ),
        (allow("hosts = [\"**\"]"), "matches every host"),
        (allow("paths = [\"v1/users\"]"), "write \"/v1/users\""),
        (allow("paths = [\"/v1?x=1\"]"), "write parameters under query"),
        (
            allow("paths = [\"/v1/../x\"]"),
            "write the path as a client sends it",
        ),
        (
            allow("paths = [\"/v1/x{id}\"]"),
            "\"{name}\" has to be a segment of its own",
        ),
        (
            allow("paths = [\"/v1/**x\"]"),
            "\"**\" has to be a segment of its own",
        ),
        (
            allow("headers = { Authorization = \"x\" }"),
            "is discarded before rules are asked",
        ),
        (allow("headers = { Cookie = \"x\" }"), "cookies are credentials"),
        (
            allow("headers = { Host = \"x\" }"),
            "the host has a key of its own",
        ),
        (allow("headers = { \"a b\" = \"x\" }"), "is no name of a header"),
        (allow("headers = { X-A = \"1\", x_a = \"2\" }"), "is given twice"),
        (allow("json = { \"amount\" = 1 }"), "is no JSON path"),
        (allow("json = {}"), "\"json\" asks nothing"),
        (allow("query = { a = { mim = 1 } }"), "did you mean \"min\"?"),
        (
            allow("query = { a = { min = 1, like = \"x\" } }"),
            "a condition is one of like",
        ),
        (
            allow("query = { a = { min = \"1\" } }"),
            "\"min\" has to be a number",
        ),
        (
            allow("query = { a = { min = 2, max = 1 } }"),
            "nothing is between",
        ),
        (allow("query = { a = [] }"), "name at least one value"),
        (
            allow("query = { a = [[1]] }"),
            "has to be a text, a number, true or false",
        ),
        (allow("grpc = [\"acme.Orders\"]"), "names no call"),
        (allow("graphql = {}"), "\"graphql\" asks nothing"),
        (
            allow("graphql = { type = \"queries\" }"),
            "is no value of \"type\"",
        ),
        (
            allow("tables = [\"orders\"]"),
            "\"tables\" is for services of databases",
        ),
        (
            allow("without_where = true"),
            "\"without_where\" is for services of databases",
        ),
        (
            allow("effects = [\"transaction\"]"),
            "no request of HTTP is \"transaction\"",
        ),
        (
            "verdict = \"deny\"\nbody_max = 10".to_owned(),
            "would refuse short bodies",
        ),
    ] {
        let found = errors(&policy("http", &line));
        assert!(
            found.iter().any(|one| one.contains(wanted)),
            "{line}\n wanted: {wanted}\n found: {found:#?}"
        );
        assert!(found.iter().all(|one| one.starts_with("p.toml:")), "{found:?}");
    }
    for (line, wanted) in [
        (
            "effects = [\"read\"]\nmethods = [\"GET\"]",
            "\"methods\" is for services with protocol = \"http\"",
        ),
        (
            "effects = [\"read\"]\njson = { \"$.a\" = 1 }",
            "\"json\" is for services with protocol = \"http\"",
        ),
        (
            "effects = [\"websocket\"]",
            "no command of a database is \"websocket\"",
        ),
        ("", "has no \"effects\""),
    ] {
        let found = errors(&policy("postgres", &allow(line)));
        assert!(
            found.iter().any(|one| one.contains(wanted)),
            "{line}\n wanted: {wanted}\n found: {found:#?}"
        );
    }
}
