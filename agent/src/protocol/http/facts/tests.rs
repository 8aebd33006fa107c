mod upstreams;

use http::Request;
use http::request::Parts;

use super::{Body, Context, command};
use crate::model::{Command, Effect, HttpAsks, HttpPart};

const PLAIN: Context<'static> = Context {
    scheme: "https",
    protocol: None,
    asks: HttpAsks {
        body: false,
        length: false,
        graphql: false,
        held: false,
    },
};

fn parts(method: &str, uri: &str, headers: &[(&str, &str)]) -> Parts {
    let mut request = Request::builder().method(method).uri(uri);
    if !headers.iter().any(|(name, _)| *name == "host") {
        request = request.header("host", "api.acme.test");
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

fn asked(method: &str, uri: &str, headers: &[(&str, &str)], body: Body<'_>) -> Command {
    command(&parts(method, uri, headers), PLAIN, body)
}

fn effects(command: &Command) -> String {
    let names: Vec<&str> = command.effects().iter().map(Effect::name).collect();
    names.join(",")
}

#[test]
fn methods_have_their_effects() {
    for (method, wanted) in [
        ("GET", "read"),
        ("HEAD", "read"),
        ("OPTIONS", "read"),
        ("POST", "write"),
        ("PUT", "write,modify"),
        ("PATCH", "modify"),
        ("DELETE", "delete"),
        ("get", "unknown"),
        ("TRACE", "unknown"),
        ("PROPFIND", "unknown"),
        ("CONNECT", "unknown"),
    ] {
        assert_eq!(
            effects(&asked(method, "/v1/users", &[], Body::Empty)),
            wanted,
            "{method}"
        );
    }
}

#[test]
fn a_request_may_be_taken_for_another_method() {
    for (method, uri, headers, body, wanted) in [
        (
            "POST",
            "/x",
            &[("x-http-method-override", "DELETE")][..],
            "",
            "write,delete",
        ),
        (
            "POST",
            "/x",
            &[("x_http_method_override", "delete")],
            "",
            "write,delete",
        ),
        ("GET", "/x", &[("x-method-override", "PATCH")], "", "read,modify"),
        ("POST", "/x?_method=put", &[], "", "write,modify"),
        ("GET", "/x?a=1;_METHOD=delete", &[], "", "read,delete"),
        (
            "POST",
            "/x",
            &[("content-type", "application/x-www-form-urlencoded")],
            "a=1&%5fmethod=DELETE",
            "write,delete",
        ),
        (
            "POST",
            "/x",
            &[("content-type", "application/x-www-form-urlencoded")],
            "\"&_method=DELETE&\"",
            "write,delete",
        ),
        (
            "POST",
            "/x",
            &[("x-http-method-override", "D\u{20}X")],
            "",
            "write,unknown",
        ),
        ("POST", "/x", &[], "{\"_method\": \"delete\"}", "write,delete"),
        ("POST", "/x", &[], "{\"_Method\": 7}", "write,unknown"),
        (
            "POST",
            "/x",
            &[("content-type", "multipart/form-data; boundary=b")],
            "--b\r\nContent-Disposition: form-data; name=\"_method\"\r\n\r\nDELETE\r\n--b--",
            "write,unknown",
        ),
        (
            "POST",
            "/x",
            &[("content-type", "multipart/form-data; boundary=b")],
            "the _method is",
            "write",
        ),
    ] {
        let command = asked(method, uri, headers, Body::Whole(body.as_bytes()));
        assert_eq!(effects(&command), wanted, "{method} {uri} {headers:?} {body}");
    }
    let unread = asked(
        "POST",
        "/x",
        &[("content-type", "application/x-www-form-urlencoded")],
        Body::Unread {
            length: Some(1 << 30),
        },
    );
    assert_eq!(effects(&unread), "write,unknown");
}

#[test]
fn upgrades_are_told_apart() {
    let upgrade = |value: &str| effects(&asked("GET", "/chat", &[("upgrade", value)], Body::Empty));
    assert_eq!(upgrade("websocket"), "read,websocket");
    assert_eq!(upgrade("WebSocket"), "read,websocket");
    assert_eq!(upgrade("h2c"), "read,unknown");
    assert_eq!(upgrade("websocket, h2c"), "read,unknown");
    let extended = Context {
        protocol: Some("websocket"),
        ..PLAIN
    };
    let parts = parts("CONNECT", "https://api.acme.test/chat", &[]);
    assert_eq!(effects(&command(&parts, extended, Body::Empty)), "read,websocket");
}

#[test]
fn doubts_about_who_and_what_are_unknown() {
    for (uri, headers) in [
        ("/a/../b", &[][..]),
        ("/a%00", &[]),
        ("/x", &[("host", "a.test"), ("host", "b.test")]),
        ("/x", &[("x-original-url", "/a/../b")]),
    ] {
        let command = asked("GET", uri, headers, Body::Empty);
        assert_eq!(effects(&command), "read,unknown", "{uri} {headers:?}");
        assert!(command.unknown.is_some_and(|why| !why.is_empty()));
    }
}

#[test]
fn a_header_that_names_another_path_adds_its_readings() {
    let command = asked("GET", "/public", &[("X-Original-URL", "/admin?x=1")], Body::Empty);
    let facts = command.http.unwrap();
    let paths: Vec<String> = facts.content.paths.iter().map(|path| path.join("/")).collect();
    assert_eq!(paths, ["admin", "public"]);
}

#[test]
fn nothing_secret_is_shown_or_recorded() {
    let command = asked(
        "POST",
        "/v1/users?api_key=hunter2",
        &[
            ("authorization", "Bearer hunter2"),
            ("x-api-key", "hunter2"),
            ("cookie", "s=hunter2"),
        ],
        Body::Whole(b"{\"password\":\"hunter2\"}"),
    );
    assert_eq!(
        &*command.text,
        "POST https://api.acme.test/v1/users?api_key=[redacted]"
    );
    let json = serde_json::to_string(&command).unwrap();
    for shown in [format!("{command:?}"), json.clone()] {
        assert!(!shown.contains("hunter2"), "{shown}");
    }
    let again: Command = serde_json::from_str(&json).unwrap();
    assert_eq!(again.text, command.text);
    let facts = command.http.unwrap();
    assert!(
        !facts
            .content
            .headers
            .iter()
            .any(|(name, _)| ["authorization", "cookie"].contains(&&**name))
    );
}

#[test]
fn a_call_of_grpc_is_named_by_its_path() {
    let grpc = |uri: &str, content_type: &str| {
        let command = asked(
            "POST",
            uri,
            &[("content-type", content_type)],
            Body::Unread { length: None },
        );
        command.http.unwrap().grpc.as_ref().map(ToString::to_string)
    };
    assert_eq!(
        grpc("/acme.Users/Get", "application/grpc"),
        Some("acme.Users/Get".into())
    );
    assert_eq!(
        grpc("/acme.Users/Get", "application/grpc+proto"),
        Some("acme.Users/Get".into())
    );
    assert_eq!(grpc("/acme.Users/Get", "application/grpcx"), None);
    assert_eq!(grpc("/acme.Users/Get", "application/json"), None);
    assert_eq!(grpc("/x/acme.Users/Get", "application/grpc"), None);
    assert_eq!(grpc("/acme.Users%2FGet", "application/grpc"), None);
}

#[test]
fn the_body_is_in_doubt_alone() {
    let command = asked("POST", "/x", &[], Body::Whole(b"{\"a\":1,\"A\":2}"));
    assert_eq!(effects(&command), "write");
    assert!(command.http.unwrap().doubts(HttpPart::Body));
}
