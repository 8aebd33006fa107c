//! Verdicts over requests of HTTP.

use std::path::Path;
use std::sync::Arc;

use serde_json::json;

use super::super::{Ruling, ServicePolicy, lint};
use super::{rule, word};
use crate::config::{PolicyDoc, load_policy, parse_policy};
use crate::model::{
    Action, Command, Effect, GraphqlKind, GraphqlOperation, GrpcCall, HttpBody, HttpContent, HttpDoubt,
    HttpFacts, HttpPart, method_effects,
};

fn document(rules: &str) -> PolicyDoc {
    parse_policy(
        Path::new("/etc/tollgate/policies.d/job.toml"),
        &format!(
            r#"
[workload]
name = "job"
cgroup = ["/job.slice"]
egress = "deny"
[[service]]
name = "api"
protocol = "http"
address = ["api.acme.test:443"]
{rules}
"#
        ),
    )
    .unwrap_or_else(|errors| panic!("{errors}"))
}

fn compile(rules: &str) -> ServicePolicy {
    let doc = document(rules);
    ServicePolicy::compile(&doc.services[0]).of_file(&doc.path)
}

/// A request in its parts; readings of the path are parted by a space.
#[derive(Clone)]
struct Asked {
    methods: Vec<&'static str>,
    paths: &'static str,
    facts: HttpFacts,
    extra: Vec<Effect>,
}

fn ask(method: &'static str, paths: &'static str) -> Asked {
    Asked {
        methods: vec![method],
        paths,
        facts: HttpFacts {
            methods: Vec::new(),
            scheme: "https".into(),
            host: "api.acme.test".into(),
            port: None,
            content_type: None,
            body_bytes: Some(0),
            grpc: None,
            graphql: Vec::new(),
            doubts: Vec::new(),
            content: HttpContent {
                body: HttpBody::Empty,
                ..HttpContent::default()
            },
        },
        extra: Vec::new(),
    }
}

impl Asked {
    fn taken_for(mut self, method: &'static str) -> Self {
        self.methods.push(method);
        self
    }

    fn host(mut self, host: &str) -> Self {
        self.facts.host = host.into();
        self
    }

    fn query(mut self, name: &str, value: &str) -> Self {
        self.facts.content.query.push((name.into(), value.into()));
        self
    }

    fn header(mut self, name: &str, value: &str) -> Self {
        self.facts.content.headers.push((name.into(), value.into()));
        self
    }

    fn json(mut self, value: serde_json::Value) -> Self {
        self.facts.body_bytes = Some(value.to_string().len() as u64);
        self.facts.content.body = HttpBody::Json(Arc::new(value));
        self
    }

    fn body(mut self, body: HttpBody, bytes: Option<u64>) -> Self {
        self.facts.content.body = body;
        self.facts.body_bytes = bytes;
        self
    }

    fn doubt(mut self, part: HttpPart) -> Self {
        self.facts.doubts.push(HttpDoubt {
            part,
            why: "it is odd".into(),
        });
        if matches!(part, HttpPart::Method | HttpPart::Host | HttpPart::Path) {
            self.extra.push(Effect::Unknown);
        }
        self
    }

    fn does(mut self, effect: Effect) -> Self {
        self.extra.push(effect);
        self
    }

    fn grpc(mut self, service: &str, method: &str) -> Self {
        self.facts.grpc = Some(GrpcCall {
            service: service.into(),
            method: method.into(),
        });
        self
    }

    fn graphql(mut self, kind: GraphqlKind, name: Option<&str>, fields: &[&str]) -> Self {
        self.facts.graphql.push(GraphqlOperation {
            kind,
            name: name.map(Arc::from),
            fields: fields.iter().map(|field| Arc::from(*field)).collect(),
        });
        self.facts.content.body = HttpBody::Other;
        self
    }

    fn command(&self) -> Command {
        let mut facts = self.facts.clone();
        facts.methods = self.methods.iter().map(|method| Arc::from(*method)).collect();
        facts.content.paths = self
            .paths
            .split(' ')
            .map(|path| path.split('/').skip(1).map(Arc::from).collect())
            .collect();
        let mut effects: Vec<Effect> = self.extra.clone();
        for method in &self.methods {
            effects.extend(method_effects(method).unwrap_or(&[Effect::Unknown]));
        }
        Command {
            text: format!("{} https://{}{}", self.methods[0], facts.host, self.paths).into(),
            actions: effects
                .into_iter()
                .map(|effect| Action { effect, object: None })
                .collect(),
            without_where: false,
            unknown: None,
            http: Some(Arc::new(facts)),
        }
    }
}

fn verdict(rules: &[&str], asked: &Asked) -> &'static str {
    word(&compile(&rules.concat()).judge(&asked.command()))
}

#[test]
fn a_request_is_judged_by_method_host_and_path() {
    let reads = rule(
        "reads",
        "allow",
        "methods = [\"GET\", \"HEAD\"]\npaths = [\"/v1/users/{id}\", \"/v1/orders/**\"]",
    );
    let all = rule("all", "allow", "hosts = [\"api.acme.test\", \"*.cdn.acme.test\"]");
    let admin = rule("admin", "deny", "paths = [\"/v1/admin/**\"]");
    let ask_delete = rule("ask", "approve", "methods = [\"DELETE\"]");
    for (rules, asked, wanted) in [
        (vec![&reads], ask("GET", "/v1/users/7"), "allow"),
        (vec![&reads], ask("HEAD", "/v1/orders"), "allow"),
        (vec![&reads], ask("POST", "/v1/users/7"), "deny"),
        (vec![&reads], ask("GET", "/v1/users"), "deny"),
        (vec![&reads], ask("GET", "/v1/users/7/keys"), "deny"),
        (vec![&reads], ask("get", "/v1/users/7"), "deny"),
        (
            vec![&reads],
            ask("GET", "/v1/users/7").does(Effect::Websocket),
            "deny",
        ),
        (vec![&all], ask("DELETE", "/x"), "allow"),
        (vec![&all], ask("PROPFIND", "/x"), "deny"),
        (vec![&all], ask("GET", "/x").host("x.cdn.acme.test"), "allow"),
        (vec![&all], ask("GET", "/x").host("x.y.cdn.acme.test"), "deny"),
        (vec![&all], ask("GET", "/x").host("evil.test"), "deny"),
        (vec![&all], ask("GET", "/x").doubt(HttpPart::Host), "deny"),
        (vec![&all, &admin], ask("GET", "/v1/admin"), "deny"),
        (vec![&all, &admin], ask("GET", "/V1/ADMIN/x"), "deny"),
        (vec![&all, &admin], ask("GET", "/v1/admin/"), "deny"),
        (vec![&all, &admin], ask("GET", "/v1/admin./x"), "deny"),
        (vec![&all, &admin], ask("GET", "/v1/users"), "allow"),
        (vec![&all, &ask_delete], ask("DELETE", "/x"), "hold"),
        (
            vec![&all, &ask_delete],
            ask("POST", "/x").taken_for("DELETE"),
            "hold",
        ),
        (
            vec![&all, &ask_delete, &admin],
            ask("DELETE", "/v1/admin/x"),
            "deny",
        ),
    ] {
        let rules: Vec<&str> = rules.into_iter().map(String::as_str).collect();
        assert_eq!(
            verdict(&rules, &asked),
            wanted,
            "{rules:?} {}",
            asked.command().text
        );
    }
}

#[test]
fn every_reading_has_to_be_allowed_and_one_is_enough_to_refuse() {
    let one = rule("one", "allow", "paths = [\"/p/{id}\"]");
    let below = rule("below", "allow", "paths = [\"/p/**\"]");
    let named = rule("named", "allow", "paths = [\"/p/acme%2Freport\"]");
    let secret = rule("secret", "deny", "paths = [\"/p/acme/secret\"]");
    let both = "/p/acme|report /p/acme/report";
    // Two readings, of which one has a slash within a segment.
    let slashed = |asked: Asked| {
        let mut command = asked.command();
        let mut facts = HttpFacts::clone(command.http.as_ref().unwrap());
        for path in &mut facts.content.paths {
            for segment in path.iter_mut() {
                *segment = segment.replace('|', "/").into();
            }
        }
        command.http = Some(Arc::new(facts));
        command
    };
    let judged = |rules: &[&str], paths: &'static str| {
        word(&compile(&rules.concat()).judge(&slashed(ask("GET", paths))))
    };
    assert_eq!(judged(&[&one], both), "deny");
    assert_eq!(judged(&[&below], both), "allow");
    assert_eq!(judged(&[&named], both), "allow");
    assert_eq!(
        judged(&[&below, &secret], "/p/acme|secret /p/acme/secret"),
        "deny"
    );
    // Each reading may have a rule of its own.
    assert_eq!(
        judged(
            &[&one, &rule("two", "allow", "paths = [\"/p/acme/{name}\"]")],
            both
        ),
        "allow"
    );
}

#[test]
fn a_method_that_is_asked_for_has_to_be_allowed_as_well() {
    let post = rule("post", "allow", "methods = [\"POST\"]\npaths = [\"/x\"]");
    let delete = rule("delete", "allow", "methods = [\"DELETE\"]\npaths = [\"/x\"]");
    let overridden = ask("POST", "/x").taken_for("DELETE");
    assert_eq!(verdict(&[&post], &overridden), "deny");
    assert_eq!(verdict(&[&post, &delete], &overridden), "allow");
    assert_eq!(
        verdict(&[&rule("writes", "allow", "effects = [\"write\"]")], &overridden),
        "deny"
    );
}

#[test]
fn what_is_in_doubt_is_never_certain_and_always_possible() {
    let all = rule(
        "all",
        "allow",
        "effects = [\"read\", \"write\", \"modify\", \"delete\", \"unknown\"]",
    );
    let some = rule(
        "some",
        "allow",
        "effects = [\"read\", \"unknown\"]\npaths = [\"/**\"]",
    );
    let none = rule("none", "deny", "paths = [\"/other\"]");
    let odd = ask("GET", "/x").doubt(HttpPart::Path);
    assert_eq!(verdict(&[&all], &odd), "allow");
    assert_eq!(verdict(&[&some], &odd), "deny");
    assert_eq!(verdict(&[&all, &none], &odd), "deny");
    assert_eq!(verdict(&[&all, &none], &ask("GET", "/x")), "allow");
}

#[test]
fn fields_are_judged_by_value() {
    let all = rule("all", "allow", "");
    let dry = rule("dry", "allow", "query = { dry_run = \"true\" }");
    let few = rule("few", "allow", "query = { limit = { min = 1, max = 100 } }");
    let prod = rule("prod", "deny", "headers = { X-Env = [\"prod\", \"production\"] }");
    let bot = rule("bot", "allow", "headers = { user-agent = { like = \"acme-*\" } }");
    let nothing = rule("nothing", "allow", "query = { force = { present = false } }");
    for (rules, asked, wanted) in [
        (vec![&dry], ask("GET", "/x").query("dry_run", "true"), "allow"),
        (vec![&dry], ask("GET", "/x"), "deny"),
        (vec![&dry], ask("GET", "/x").query("dry_run", "TRUE"), "deny"),
        (
            vec![&dry],
            ask("GET", "/x")
                .query("dry_run", "true")
                .query("dry_run", "false"),
            "deny",
        ),
        (
            vec![&dry],
            ask("GET", "/x")
                .query("dry_run", "true")
                .query("DRY_RUN", "false"),
            "deny",
        ),
        (
            vec![&dry],
            ask("GET", "/x").query("dry_run", "true").doubt(HttpPart::Query),
            "deny",
        ),
        (vec![&few], ask("GET", "/x").query("limit", "100"), "allow"),
        (vec![&few], ask("GET", "/x").query("limit", "101"), "deny"),
        (vec![&few], ask("GET", "/x").query("limit", "1e1"), "deny"),
        (vec![&few], ask("GET", "/x").query("limit", ""), "deny"),
        (
            vec![&all, &prod],
            ask("GET", "/x").header("x-env", "test"),
            "allow",
        ),
        (
            vec![&all, &prod],
            ask("GET", "/x").header("x-env", "Prod"),
            "deny",
        ),
        (
            vec![&all, &prod],
            ask("GET", "/x").header("x-env", "test, prod"),
            "deny",
        ),
        (
            vec![&all, &prod],
            ask("GET", "/x").header("x-env", "test").header("x-env", "prod"),
            "deny",
        ),
        (
            vec![&all, &prod],
            ask("GET", "/x").doubt(HttpPart::Headers),
            "deny",
        ),
        (
            vec![&bot],
            ask("GET", "/x").header("user-agent", "acme-report/1"),
            "allow",
        ),
        (vec![&bot], ask("GET", "/x").header("user-agent", "curl"), "deny"),
        (vec![&nothing], ask("GET", "/x"), "allow"),
        (vec![&nothing], ask("GET", "/x").query("Force", "1"), "deny"),
    ] {
        let rules: Vec<&str> = rules.into_iter().map(String::as_str).collect();
        assert_eq!(verdict(&rules, &asked), wanted, "{rules:?}");
    }
}

#[test]
fn bodies_are_judged_by_their_members() {
    let all = rule("all", "allow", "");
    let small = rule(
        "small",
        "allow",
        "json = { \"$.amount\" = { max = 1000 }, \"$.currency\" = [\"EUR\", \"USD\"] }",
    );
    let items = rule(
        "items",
        "allow",
        "json = { \"$.items[*].sku\" = { like = \"A-*\" } }",
    );
    let admin = rule("admin", "deny", "json = { \"$..role\" = \"admin\" }");
    let large = rule("large", "deny", "json = { \"$.amount\" = { min = 1000 } }");
    let plain = rule("plain", "allow", "json = { \"$.admin\" = { present = false } }");
    let good = json!({"amount": 5, "currency": "EUR"});
    let post = || ask("POST", "/x");
    for (rules, asked, wanted) in [
        (vec![&small], post().json(good.clone()), "allow"),
        (
            vec![&small],
            post().json(json!({"amount": 1001, "currency": "EUR"})),
            "deny",
        ),
        (
            vec![&small],
            post().json(json!({"amount": "5", "currency": "EUR"})),
            "allow",
        ),
        (
            vec![&small],
            post().json(json!({"amount": [5], "currency": "EUR"})),
            "deny",
        ),
        (
            vec![&small],
            post().json(json!({"amount": 5, "currency": "eur"})),
            "deny",
        ),
        (vec![&small], post().json(json!({"currency": "EUR"})), "deny"),
        (vec![&small], post(), "deny"),
        (
            vec![&small],
            post().json(good.clone()).doubt(HttpPart::Body),
            "deny",
        ),
        (vec![&small], post().body(HttpBody::Unread, Some(1 << 30)), "deny"),
        (
            vec![&items],
            post().json(json!({"items": [{"sku": "A-1"}, {"sku": "A-2"}]})),
            "allow",
        ),
        (
            vec![&items],
            post().json(json!({"items": [{"sku": "A-1"}, {"sku": "B-2"}]})),
            "deny",
        ),
        (vec![&items], post().json(json!({"items": []})), "deny"),
        (
            vec![&all, &admin],
            post().json(json!({"user": {"role": "dev"}})),
            "allow",
        ),
        (
            vec![&all, &admin],
            post().json(json!({"user": {"Role": "ADMIN"}})),
            "deny",
        ),
        (
            vec![&all, &admin],
            post().json(json!([{"a": {"role": "admin"}}])),
            "deny",
        ),
        (
            vec![&all, &admin],
            post().body(HttpBody::Form(vec![]), Some(9)),
            "deny",
        ),
        (vec![&all, &admin], post().body(HttpBody::Other, Some(9)), "deny"),
        (vec![&all, &admin], post().body(HttpBody::Unread, None), "deny"),
        (vec![&all, &admin], ask("GET", "/x"), "allow"),
        (vec![&all, &large], post().json(json!({"amount": 999})), "allow"),
        (vec![&all, &large], post().json(json!({"AMOUNT": 1000})), "deny"),
        (vec![&all, &large], post().json(json!({"amount": "1e9"})), "deny"),
        (vec![&plain], post().json(json!({"a": 1})), "allow"),
        (vec![&plain], post().json(json!({"Admin": true})), "deny"),
    ] {
        let rules: Vec<&str> = rules.into_iter().map(String::as_str).collect();
        assert_eq!(
            verdict(&rules, &asked),
            wanted,
            "{rules:?} {:?}",
            asked.facts.content.body
        );
    }
}

#[test]
fn a_body_has_to_be_short_enough_and_known_to_be() {
    let short = rule("short", "allow", "body_max = \"1kB\"");
    let post = |bytes| ask("POST", "/x").body(HttpBody::Unread, bytes);
    assert_eq!(verdict(&[&short], &post(Some(1000))), "allow");
    assert_eq!(verdict(&[&short], &post(Some(1001))), "deny");
    assert_eq!(verdict(&[&short], &post(None)), "deny");
}

#[test]
fn calls_of_grpc_are_judged_by_service_and_method() {
    let gets = rule("gets", "allow", "grpc = [\"acme.Orders/Get*\"]");
    let all = rule("all", "allow", "");
    let drop = rule("drop", "deny", "grpc = [\"*/Drop*\"]");
    let call = |paths, service: &str, method: &str| ask("POST", paths).grpc(service, method);
    assert_eq!(
        verdict(&[&gets], &call("/acme.Orders/GetOne", "acme.Orders", "GetOne")),
        "allow"
    );
    assert_eq!(
        verdict(&[&gets], &call("/acme.Orders/Drop", "acme.Orders", "Drop")),
        "deny"
    );
    assert_eq!(verdict(&[&gets], &ask("POST", "/acme.Orders/GetOne")), "deny");
    assert_eq!(
        verdict(
            &[&all, &drop],
            &call("/acme.Orders/DropAll", "acme.Orders", "DropAll")
        ),
        "deny"
    );
    // A gateway takes JSON for the same call.
    assert_eq!(
        verdict(&[&all, &drop], &ask("POST", "/acme.Orders/dropAll")),
        "deny"
    );
    assert_eq!(
        verdict(&[&all, &drop], &ask("POST", "/acme.Orders/GetOne")),
        "allow"
    );
}

#[test]
fn operations_of_graphql_are_judged_each() {
    let queries = rule(
        "queries",
        "allow",
        "graphql = { type = \"query\", fields = [\"user\", \"order*\"] }",
    );
    let all = rule("all", "allow", "");
    let mutations = rule(
        "mutations",
        "deny",
        "graphql = { type = [\"mutation\"], fields = [\"delete*\"] }",
    );
    let post = || ask("POST", "/graphql");
    let query = |fields: &[&str]| post().graphql(GraphqlKind::Query, None, fields);
    assert_eq!(verdict(&[&queries], &query(&["user", "orders"])), "allow");
    assert_eq!(verdict(&[&queries], &query(&["user", "secrets"])), "deny");
    assert_eq!(
        verdict(
            &[&queries],
            &query(&["user"]).graphql(GraphqlKind::Mutation, None, &["user"])
        ),
        "deny"
    );
    assert_eq!(verdict(&[&queries], &post()), "deny");
    assert_eq!(
        verdict(&[&queries], &query(&["user"]).doubt(HttpPart::Graphql)),
        "deny"
    );
    let change = |field: &str| post().graphql(GraphqlKind::Mutation, Some("M"), &["create", field]);
    assert_eq!(verdict(&[&all, &mutations], &change("deleteUser")), "deny");
    assert_eq!(verdict(&[&all, &mutations], &change("rename")), "allow");
    assert_eq!(verdict(&[&all, &mutations], &query(&["deleteLog"])), "allow");
    assert_eq!(
        verdict(&[&all, &mutations], &post().doubt(HttpPart::Graphql)),
        "deny"
    );
    let named = rule("named", "allow", "graphql = { name = \"Get*\" }");
    assert_eq!(
        verdict(
            &[&named],
            &post().graphql(GraphqlKind::Query, Some("GetUser"), &["x"])
        ),
        "allow"
    );
    assert_eq!(verdict(&[&named], &query(&["x"])), "deny");
}

#[test]
fn what_bodies_are_asked_for() {
    let asks = |body: &str| compile(&rule("r", "allow", body)).asks();
    assert!(!asks("paths = [\"/x\"]").body);
    assert!(asks("json = { \"$.a\" = 1 }").body);
    assert!(asks("graphql = { type = \"query\" }").graphql);
    assert!(asks("body_max = 10").length && !asks("body_max = 10").body);
}

#[test]
fn a_refusal_names_the_request_and_what_rule_would_allow_it() {
    let reads = rule("reads", "allow", "methods = [\"GET\"]");
    let Ruling::Deny(denied) = compile(&reads).judge(&ask("DELETE", "/v1/users/7").command()) else {
        panic!("it has to be refused");
    };
    assert_eq!(
        denied.message,
        "tollgate: no rule allows DELETE https://api.acme.test/v1/users/7 (delete)"
    );
    assert_eq!(
        denied.hint,
        "ask the owner of policy job.toml to add a rule that allows it, such as one with methods = [\"DELETE\"] and paths"
    );
    let named = reads
        + &rule(
            "no deletes",
            "deny",
            "methods = [\"DELETE\"]\nhint = \"archive it\"",
        );
    let Ruling::Deny(denied) = compile(&named).judge(&ask("DELETE", "/v1/users/7").command()) else {
        panic!("it has to be refused");
    };
    assert_eq!(
        denied.message,
        "tollgate: DELETE https://api.acme.test/v1/users/7 (delete) is refused by rule \"no deletes\""
    );
    assert_eq!(denied.hint, "archive it");
    let json = rule("json", "allow", "json = { \"$.a\" = 1 }");
    let twice = ask("POST", "/x").json(json!({"a": 1})).doubt(HttpPart::Body);
    let Ruling::Deny(denied) = compile(&json).judge(&twice.command()) else {
        panic!("it has to be refused");
    };
    assert!(denied.message.ends_with("(it is odd)"), "{}", denied.message);
}

#[test]
fn surprises_of_requests_are_warned_of() {
    let found = |rules: &str| -> Vec<String> {
        lint(&document(rules))
            .into_iter()
            .map(|finding| format!("{}: {}", finding.pointer, finding.message))
            .collect()
    };
    for (rules, wanted) in [
        (String::new(), "service \"api\" has no rule"),
        (
            rule("r", "allow", "paths = [\"/x\"]"),
            "rule \"r\" names no method: it allows every one",
        ),
        (
            rule("r", "allow", "methods = [\"DELETE\"]\neffects = [\"read\"]"),
            "no method of rule \"r\" does \"read\"",
        ),
        (
            rule("a", "allow", "methods = [\"GET\"]\npaths = [\"/x/**\"]")
                + &rule("b", "allow", "methods = [\"GET\"]\npaths = [\"/x/{id}\"]"),
            "rule \"b\" adds nothing to the allow rule \"a\"",
        ),
        (
            rule("a", "allow", "methods = [\"GET\"]\npaths = [\"/x\"]")
                + &rule("b", "deny", "paths = [\"/**\"]"),
            "rule \"a\" never decides",
        ),
        (
            rule("a", "allow", "methods = [\"GET\"]\npaths = [\"/x/**\", \"/x/y\"]"),
            "\"/x/y\" adds nothing to \"/x/**\"",
        ),
    ] {
        let found = found(&rules);
        assert!(
            found.iter().any(|line| line.contains(wanted)),
            "{rules}\n wanted: {wanted}\n found: {found:#?}"
        );
    }
    for rules in [
        rule("a", "allow", "methods = [\"GET\"]\npaths = [\"/x\"]"),
        rule("a", "allow", "methods = [\"GET\"]\npaths = [\"/x/**\"]")
            + &rule("b", "deny", "paths = [\"/x/y\"]"),
        rule("a", "allow", "methods = [\"GET\"]\nquery = { a = \"1\" }")
            + &rule("b", "allow", "methods = [\"GET\"]\nquery = { a = \"2\" }"),
    ] {
        assert_eq!(found(&rules), [""; 0], "{rules}");
    }
}

#[test]
fn the_shipped_policy_of_an_api_does_what_it_says() {
    let path = format!("{}/../policies/api-client.toml", env!("CARGO_MANIFEST_DIR"));
    let doc = load_policy(path.as_ref()).unwrap_or_else(|errors| panic!("{errors}"));
    let policy = ServicePolicy::compile(&doc.services[0]);
    let pay = |amount| ask("POST", "/v1/payments").json(json!({"amount": amount, "currency": "EUR"}));
    for (asked, wanted) in [
        (ask("GET", "/v1/users/7"), "allow"),
        (ask("GET", "/v1/orders/7/lines"), "allow"),
        (ask("GET", "/v1/orders/7/address"), "deny"),
        (ask("GET", "/v1/orders/7/Address/"), "deny"),
        (ask("GET", "/v1/users"), "deny"),
        (ask("DELETE", "/v1/orders/7"), "deny"),
        (pay(1000), "allow"),
        (pay(1001), "deny"),
        (pay(0), "deny"),
        (pay(5).doubt(HttpPart::Body), "deny"),
        (ask("POST", "/v1/orders/7/refund"), "hold"),
    ] {
        assert_eq!(
            word(&policy.judge(&asked.command())),
            wanted,
            "{}",
            asked.command().text
        );
    }
}
