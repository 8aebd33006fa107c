use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, Method, StatusCode};

use super::{Asker, Problem, answer};
use crate::policy::Denied;
use crate::protocol::SessionEnd;

const INSTANCE: &str = "urn:tollgate:session:018f#3";

fn denied() -> Problem {
    Problem::denied(&Denied {
        rules: vec!["no <deletes>".into()],
        message: "tollgate: DELETE https://a/x?q=<b> is refused by rule \"no <deletes>\"".into(),
        hint: "archive it – 100%".into(),
    })
}

fn asker(method: &Method, headers: &[(&str, &str)]) -> Asker {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.insert(
            HeaderName::from_bytes(name.as_bytes()).unwrap(),
            value.parse().unwrap(),
        );
    }
    Asker::of(method, &map)
}

#[test]
fn a_refusal_is_a_problem_that_names_the_rule() {
    let answer = answer(&denied(), &asker(&Method::GET, &[("accept", "*/*")]), INSTANCE);
    assert_eq!(answer.status(), StatusCode::FORBIDDEN);
    assert_eq!(answer.headers()[CONTENT_TYPE], "application/problem+json");
    assert_eq!(
        answer.headers()[CONTENT_LENGTH],
        answer.body().len().to_string().as_str()
    );
    let json: serde_json::Value = serde_json::from_slice(answer.body()).unwrap();
    assert_eq!(
        json,
        serde_json::json!({
            "type": "urn:tollgate:problem:refused",
            "title": "Refused by policy",
            "status": 403,
            "detail": "tollgate: DELETE https://a/x?q=<b> is refused by rule \"no <deletes>\"",
            "instance": INSTANCE,
            "rules": ["no <deletes>"],
            "hint": "archive it – 100%",
        })
    );
}

#[test]
fn a_browser_gets_a_page_without_markup_of_others() {
    let answer = answer(
        &denied(),
        &asker(&Method::GET, &[("accept", "text/html,*/*;q=0.8")]),
        INSTANCE,
    );
    assert_eq!(answer.headers()[CONTENT_TYPE], "text/html; charset=utf-8");
    let page = std::str::from_utf8(answer.body()).unwrap();
    assert!(
        page.contains("no &lt;deletes&gt;") && !page.contains("<b>") && page.contains(INSTANCE),
        "{page}"
    );
}

#[test]
fn head_gets_the_length_and_no_body() {
    let get = answer(&denied(), &asker(&Method::GET, &[]), INSTANCE);
    let head = answer(&denied(), &asker(&Method::HEAD, &[]), INSTANCE);
    assert!(head.body().is_empty());
    assert_eq!(head.headers()[CONTENT_LENGTH], get.headers()[CONTENT_LENGTH]);
}

#[test]
fn grpc_gets_a_status_of_its_own() {
    let grpc = asker(&Method::POST, &[("content-type", "application/grpc+proto")]);
    let answer = answer(&denied(), &grpc, INSTANCE);
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.headers()[CONTENT_TYPE], "application/grpc+proto");
    assert_eq!(answer.headers()["grpc-status"], "7");
    assert!(answer.body().is_empty() && !answer.headers().contains_key(CONTENT_LENGTH));
    let message = answer.headers()["grpc-message"].to_str().unwrap();
    assert!(
        message.contains("archive it %E2%80%93 100%25") && message.contains("\"no <deletes>\""),
        "{message}"
    );
}

#[test]
fn other_problems_have_their_own_status_and_tell_nothing_of_the_host() {
    for (problem, status) in [
        (Problem::malformed("two lengths"), 400),
        (Problem::too_large("the body is longer than 1 MiB"), 413),
        (Problem::misdirected("the name is another"), 421),
        (Problem::head_too_large(), 431),
        (Problem::ended(&SessionEnd::Target("it closed".into())), 502),
        (
            Problem::ended(&SessionEnd::Credential("/usr/bin/secret failed".into())),
            503,
        ),
        (
            Problem::ended(&SessionEnd::Record("/var/lib is full".into())),
            503,
        ),
        (Problem::ended(&SessionEnd::Agent("index".into())), 500),
        (Problem::timed_out(), 504),
    ] {
        let answer = answer(&problem, &Asker::unknown(), INSTANCE);
        assert_eq!(answer.status().as_u16(), status, "{problem:?}");
        let body = String::from_utf8_lossy(answer.body()).into_owned();
        assert!(!body.contains("/usr/bin") && !body.contains("/var/lib"), "{body}");
    }
}
