//! Requests are judged before the server sees them, and a refusal is an answer that clients understand.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tollgate_tests::agent::Agent;
use tollgate_tests::cgroup::Cgroup;
use tollgate_tests::job::{self, Ended, NOBODY};
use tollgate_tests::nginx::Nginx;
use tollgate_tests::policy::Policy;
use tollgate_tests::process::eventually;

const LIMIT: Duration = Duration::from_secs(20);

const RULES: &str = r#"
[[service.rule]]
name    = "reads"
methods = ["GET", "HEAD"]
paths   = ["/v1/**"]
verdict = "allow"

[[service.rule]]
name    = "small payments"
methods = ["POST"]
paths   = ["/v1/payments"]
json    = { "$.amount" = { max = 1000 } }
verdict = "allow"

[[service.rule]]
name    = "queries"
methods = ["POST"]
paths   = ["/graphql"]
graphql = { type = "query", fields = ["user"] }
verdict = "allow"

[[service.rule]]
name      = "orders need a clerk"
methods   = ["POST"]
paths     = ["/v1/orders"]
verdict   = "approve"
approvers = ["clerk"]

[[service.rule]]
name    = "nobody's secrets"
paths   = ["/v1/secret/**"]
verdict = "deny"
hint    = "ask the console"
"#;

const SITE: &str = r#"
server {
    listen 127.0.0.1:{port};
    location /v1/secret { return 200 "the secret\n"; }
    location / { return 200 "$request_method $request_uri\n"; }
}
"#;

/// nginx, an agent in front of it, and a job. Fields are dropped in this order.
struct Web {
    agent: Agent,
    job: Cgroup,
    server: Nginx,
}

impl Web {
    fn start(name: &str) -> Self {
        let server = Nginx::start(SITE, |_| Ok(())).unwrap();
        let port = server.port();
        let slice = format!("/tollgate-test-{name}-{}", std::process::id());
        let policy = format!(
            r#"
[workload]
name   = "web-job"
cgroup = ["{slice}/job"]
egress = "allow"

[[service]]
name     = "web"
protocol = "http"
address  = ["127.0.0.1:{port}"]
tls      = {{ upstream = "disable", client = "plain" }}
{RULES}
"#
        );
        let agent = Agent::start(&[("web-job", Policy::from_text(&policy))]).unwrap();
        let job = Cgroup::create(&format!("{slice}/job")).unwrap();
        Self { agent, job, server }
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.server.port())
    }

    /// curl in the job, told to leave paths as they are.
    fn curl(&self, args: &[&str]) -> Command {
        let mut command = job::command(&self.job, NOBODY, "curl");
        command
            .args(["--silent", "--show-error", "--path-as-is", "--max-time", "20"])
            .args(args);
        command
    }

    fn curls(&self, args: &[&str]) -> Ended {
        job::run_within(&mut self.curl(args), LIMIT).unwrap()
    }

    /// What nginx has answered: method and path, as it read it.
    fn seen(&self) -> Vec<String> {
        let seen = self.server.seen().into_iter();
        seen.map(|line| line.rsplit_once(' ').unwrap().0.to_owned())
            .collect()
    }

    fn start_curl(&self, args: &[&str]) -> Child {
        self.curl(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }
}

#[test]
fn a_refusal_is_a_problem_that_names_the_rule_and_the_connection_goes_on() {
    let web = Web::start("refusal");
    let (refused, allowed) = (web.url("/v1/secret/key"), web.url("/v1/users/7"));
    let told = "%{http_code} %{content_type} %{num_connects}\n";
    let ended = web.curls(&["-w", told, &refused, "--next", "-sS", "-w", told, &allowed]);
    let lines: Vec<&str> = ended.stdout.lines().collect();
    let [problem, allowed_line, last] = lines.as_slice() else {
        panic!("{ended:?}\n{}", web.agent.log());
    };
    let (json, head) = problem.split_at(problem.rfind('}').unwrap() + 1);
    assert_eq!(head, "403 application/problem+json 1");
    let json: serde_json::Value = serde_json::from_str(json).unwrap();
    assert_eq!(json["status"], 403);
    assert_eq!(json["rules"], serde_json::json!(["nobody's secrets"]));
    assert_eq!(json["hint"], "ask the console");
    let session = json["instance"].as_str().unwrap().to_owned();
    assert!(
        session.starts_with("urn:tollgate:session:") && session.ends_with("#1"),
        "{session}"
    );
    assert_eq!(*allowed_line, "GET /v1/users/7");
    assert!(
        last.starts_with("200 ") && last.ends_with(" 0"),
        "the connection was not used again: {last}"
    );
    assert_eq!(web.seen(), ["GET /v1/users/7"]);

    let page = web.curls(&["-H", "Accept: text/html,*/*;q=0.8", &refused]).stdout;
    assert!(
        page.starts_with("<!DOCTYPE html>") && page.contains("nobody&#39;s secrets"),
        "{page}"
    );
    let head = web.curls(&["-I", &refused]).stdout;
    assert!(
        head.starts_with("HTTP/1.1 403 ") && head.to_lowercase().contains("content-length: "),
        "{head}"
    );
}

#[test]
fn no_spelling_of_a_path_reaches_what_is_refused() {
    let web = Web::start("paths");
    let spellings = [
        "/v1/secret",
        "/v1/secret/",
        "/v1//secret/x",
        "//v1/secret",
        "/v1/./secret",
        "/v1/x/../secret",
        "/v1/%73ecret",
        "/v1/x/%2e%2e/secret",
        "/v1/x/..%2fsecret",
        "/v1%2Fsecret%2Fkey",
        "/v1/x%2f..%2fsecret",
        "/v1/x/..%2f..%2fv1/secret",
        "/x/../v1/secret",
        "/v1/secret%20",
        "/v1/secret;x=1",
        "/v1/%2573ecret",
        "/v1/SECRET/x",
        "/v1/secret%00",
        "/v1/secret%3fx",
        "/v1/x\\..\\secret",
        "/v1/secret/%c0%ae",
    ];
    for path in spellings {
        let ended = web.curls(&["-o", "/dev/null", "-w", "%{http_code}", &web.url(path)]);
        assert_eq!(ended.stdout, "403", "{path}: {ended:?}\n{}", web.agent.log());
    }
    assert_eq!(web.seen(), [""; 0]);
    // Without the agent some of them do reach it: the test could fail.
    let direct = Command::new("curl")
        .args(["-sS", "--path-as-is", &web.url("/v1/x/..%2fsecret")])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&direct.stdout), "the secret\n");
}

#[test]
fn bodies_are_judged_by_what_is_in_them() {
    let web = Web::start("bodies");
    let post = |path: &str, extra: &[&str], body: &str| {
        let url = web.url(path);
        let mut args = vec![
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            "-H",
            "Content-Type: application/json",
        ];
        args.extend(extra);
        args.extend(["--data-binary", body, &url]);
        web.curls(&args).stdout
    };
    let chunked = ["-H", "Transfer-Encoding: chunked"];
    assert_eq!(
        post("/v1/payments", &[], r#"{"amount": 1000}"#),
        "200",
        "{}",
        web.agent.log()
    );
    assert_eq!(post("/v1/payments", &chunked, r#"{"amount": 7}"#), "200");
    for body in [
        r#"{"amount": 1001}"#,
        r#"{"amount": 5, "amount": 5000}"#,
        r#"{"amount": 5, "Amount": 5000}"#,
        r#"{"amount": [5]}"#,
        "amount=5",
        "{}",
        "",
    ] {
        assert_eq!(post("/v1/payments", &[], body), "403", "{body}");
        assert_eq!(post("/v1/payments", &chunked, body), "403", "{body}");
    }
    let overridden = ["-H", "X-HTTP-Method-Override: DELETE"];
    assert_eq!(post("/v1/payments", &overridden, r#"{"amount": 5}"#), "403");
    assert_eq!(
        post("/graphql", &[], r#"{"query": "{ me: user(id: 1) { name } }"}"#),
        "200"
    );
    assert_eq!(
        post("/graphql", &[], r#"{"query": "{ user: secrets { name } }"}"#),
        "403"
    );
    assert_eq!(
        post("/graphql", &[], r#"{"query": "mutation { user { name } }"}"#),
        "403"
    );
    assert_eq!(
        post(
            "/graphql",
            &[],
            r#"[{"query": "{ user { id } }"}, {"query": "mutation { user }"}]"#
        ),
        "403"
    );
    assert_eq!(
        web.seen(),
        ["POST /v1/payments", "POST /v1/payments", "POST /graphql"]
    );
}

#[test]
fn grpc_clients_are_told_by_a_status() {
    let web = Web::start("grpc");
    let url = web.url("/acme.Orders/Drop");
    let told = web
        .curls(&[
            "-i",
            "-X",
            "POST",
            "-H",
            "Content-Type: application/grpc",
            "-d",
            "x",
            &url,
        ])
        .stdout;
    let lower = told.to_lowercase();
    assert!(
        lower.starts_with("http/1.1 200 ") && lower.contains("\r\ngrpc-status: 7\r\n"),
        "{told}"
    );
    assert!(
        lower.contains("grpc-message: tollgate: no rule allows post "),
        "{told}"
    );
    assert_eq!(web.seen(), [""; 0]);
}

#[test]
fn a_held_request_waits_with_its_body_and_goes_on_as_it_was_shown() {
    let web = Web::start("held");
    let url = web.url("/v1/orders?access_token=hunter2-in-query");
    let body = r#"{"item": "engine", "count": 3, "password": "hunter2-in-body"}"#;
    let child = web.start_curl(&["-H", "Content-Type: application/json", "-d", body, &url]);
    let hold = eventually("a hold", LIMIT, || {
        let holds = web.agent.cli("approvals", &["--json"]).ok()?;
        let holds: Vec<serde_json::Value> = serde_json::from_str(&holds).ok()?;
        holds.into_iter().next()
    })
    .unwrap();
    let shown = hold.to_string();
    assert!(
        shown.contains("engine") && shown.contains("/v1/orders"),
        "{shown}"
    );
    assert!(!shown.contains("hunter2"), "{shown}");
    assert_eq!(web.seen(), [""; 0]);
    web.agent.cli("approve", &[hold["id"].as_str().unwrap()]).unwrap();
    let output = child.wait_with_output().unwrap();
    let answer = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(answer, "POST /v1/orders?access_token=hunter2-in-query\n");
    assert_eq!(web.seen(), ["POST /v1/orders"]);

    let child = web.start_curl(&[
        "-o",
        "/dev/null",
        "-w",
        "%{http_code}",
        "-d",
        "a=1",
        &web.url("/v1/orders"),
    ]);
    let id = eventually("a hold", LIMIT, || {
        let holds = web.agent.cli("approvals", &["--json"]).ok()?;
        let holds: Vec<serde_json::Value> = serde_json::from_str(&holds).ok()?;
        holds.first()?["id"].as_str().map(str::to_owned)
    })
    .unwrap();
    web.agent
        .cli("deny", &[&id, "--reason", "not on a Friday"])
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "403");
    assert_eq!(web.seen(), ["POST /v1/orders"]);
}
