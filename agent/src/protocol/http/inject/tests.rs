//! What goes out of a request, what comes in, and what is taken out of answers.

use std::time::UNIX_EPOCH;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request};

use super::{Echo, InjectError, Injection, Kept, Read, Way};
use crate::config::{Glob, HttpCredential, Inject, Placeholder};
use crate::finding::{SecretKind, SeenAt};
use crate::model::{Material, Secret};

const SECRET: &str = "injected+secret/5d1e&\"x";
const PLACEHOLDER: &str = "tollgate-placeholder";

fn header(name: &str, scheme: Option<&str>) -> Inject {
    Inject::Header {
        name: name.to_owned(),
        scheme: scheme.map(str::to_owned),
    }
}

fn spec(inject: Inject) -> HttpCredential {
    HttpCredential {
        inject,
        placeholder: Some(Placeholder {
            text: PLACEHOLDER.to_owned(),
            bodies: vec![Glob::path("/login").unwrap()],
        }),
    }
}

fn injection(inject: Inject) -> Injection {
    Injection::new(Some(spec(inject)), false)
}

fn token() -> Material {
    Material::Token(Secret::new(SECRET.as_bytes().to_vec()))
}

fn parts(uri: &str, headers: &[(&str, &str)]) -> Parts {
    let mut request = Request::builder().uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

const WAY: Way<'static> = Way {
    encrypted: true,
    authority: "api.acme.test",
    now: UNIX_EPOCH,
};

/// What was found, and the head as it goes on.
fn passed(
    injection: &Injection,
    material: &Material,
    parts: &mut Parts,
) -> Vec<(SecretKind, SeenAt, Vec<u8>)> {
    let stripped = injection.strip(parts);
    injection
        .inject(parts, &stripped, material, Read::Whole(b""), WAY)
        .unwrap();
    stripped
        .found
        .into_iter()
        .map(|found| (found.kind, found.at, found.secret.expose().to_vec()))
        .collect()
}

fn values<'p>(parts: &'p Parts, name: &str) -> Vec<&'p str> {
    parts
        .headers
        .get_all(name)
        .iter()
        .map(|value| value.to_str().unwrap())
        .collect()
}

#[test]
fn the_only_authorization_that_goes_on_is_the_agents() {
    let mut head = parts(
        "http://me:hunter1@api.acme.test/v1?page=2",
        &[
            ("authorization", "Bearer hunter2"),
            ("authorization", "Basic bWU6aHVudGVyMw=="),
            ("proxy-authorization", "Bearer hunter4"),
            ("proxy_authorization", "Bearer hunter5"),
            ("x-other", "stays"),
        ],
    );
    let found = passed(
        &injection(header("authorization", Some("Bearer"))),
        &token(),
        &mut head,
    );
    assert_eq!(values(&head, "authorization"), [format!("Bearer {SECRET}")]);
    assert!(head.headers["authorization"].is_sensitive());
    assert_eq!(head.headers.len(), 2, "{:?}", head.headers);
    assert_eq!(head.uri.to_string(), "http://api.acme.test/v1?page=2");
    let secrets: Vec<&[u8]> = found.iter().map(|(_, _, secret)| secret.as_slice()).collect();
    for number in 1..=5 {
        let secret = format!("hunter{number}");
        assert!(secrets.contains(&secret.as_bytes()), "{secret}");
    }
    assert!(found.contains(&(
        SecretKind::Password,
        SeenAt::Header {
            name: "authorization".to_owned()
        },
        b"hunter3".to_vec()
    )));
    assert!(found.contains(&(SecretKind::Password, SeenAt::Url, b"hunter1".to_vec())));
}

#[test]
fn a_header_of_the_apis_own_is_replaced_in_every_spelling() {
    let mut head = parts(
        "/",
        &[
            ("X-API-Key", "a-real-one"),
            ("x_api_key", "another"),
            ("x-api-keys", "stays"),
        ],
    );
    let found = passed(&injection(header("x-api-key", None)), &token(), &mut head);
    assert_eq!(values(&head, "x-api-key"), [SECRET]);
    assert!(!head.headers.contains_key("x_api_key") && head.headers.contains_key("x-api-keys"));
    assert_eq!(found.len(), 2);
    let framed = format!("id=7;key={PLACEHOLDER};v=1");
    let mut head = parts("/", &[("x-api-key", &framed)]);
    assert!(passed(&injection(header("x-api-key", None)), &token(), &mut head).is_empty());
    assert_eq!(values(&head, "x-api-key"), [format!("id=7;key={SECRET};v=1")]);
}

#[test]
fn a_parameter_is_taken_out_however_it_is_spelled_and_put_in_encoded() {
    for (query, rest) in [
        ("", ""),
        ("?key=hunter2", ""),
        ("?a=1&key=hunter2&b=2", "a=1&b=2&"),
        ("?a=1&%6bey=hunter2", "a=1&"),
        ("?KEY=hunter2&a=1", "a=1&"),
        ("?key=x1&a=%31&key=x2", "a=%31&"),
        ("?key[]=hunter2&key[0]=hunter2&a=1", "a=1&"),
        ("?a=1;key=hunter2", "a=1&"),
        ("?+key=hunter2&monkey=1", "monkey=1&"),
        ("?key&a=1", "a=1&"),
    ] {
        let mut head = parts(&format!("/v1{query}"), &[]);
        let found = passed(
            &injection(Inject::Query {
                name: "key".to_owned(),
            }),
            &token(),
            &mut head,
        );
        assert_eq!(
            head.uri.to_string(),
            format!("/v1?{rest}key=injected%2Bsecret%2F5d1e%26%22x"),
            "{query}"
        );
        assert_eq!(found.is_empty(), ["", "?key&a=1"].contains(&query), "{query}");
    }
    let mut head = parts("*", &[]);
    let asked = injection(Inject::Query {
        name: "key".to_owned(),
    });
    let stripped = asked.strip(&mut head);
    let refused = asked.inject(&mut head, &stripped, &token(), Read::Whole(b""), WAY);
    assert_eq!(refused.unwrap_err(), InjectError::NoQuery);
}

#[test]
fn one_cookie_is_replaced_and_the_others_stay() {
    let cookie = Material::Token(Secret::new(b"injected-session".to_vec()));
    for (sent, rest) in [
        (&[][..], ""),
        (&["session=hunter2"], ""),
        (&["a=1; session=hunter2; b=2"], "a=1; b=2; "),
        (&["a=1;  Session = \"hunter2\"", "b=2"], "a=1; b=2; "),
        (&["session=x1; session=x2; sessions=3"], "sessions=3; "),
        (&["a=1,session=hunter2; b=2"], "b=2; "),
    ] {
        let headers: Vec<(&str, &str)> = sent.iter().map(|line| ("cookie", *line)).collect();
        let mut head = parts("/", &headers);
        let found = passed(
            &injection(Inject::Cookie {
                name: "session".to_owned(),
            }),
            &cookie,
            &mut head,
        );
        assert_eq!(
            values(&head, "cookie"),
            [format!("{rest}session=injected-session")],
            "{sent:?}"
        );
        assert_eq!(found.is_empty(), sent.is_empty());
    }
    let mut head = parts("/", &[("cookie", "sid=hunter2; theme=dark")]);
    let stripped = Injection::new(None, true).strip(&mut head);
    assert_eq!(
        stripped.found.len(),
        1,
        "by opt-in a login of any name is a finding"
    );
    assert_eq!(
        values(&head, "cookie"),
        ["sid=hunter2; theme=dark"],
        "and is passed on"
    );
    assert!(Injection::new(None, false).strip(&mut head).found.is_empty());
}

#[test]
fn basic_authentication_has_the_user_of_the_policy_or_of_the_source() {
    let mut head = parts("/", &[]);
    let user = Inject::Basic {
        user: Some("x-access-token".to_owned()),
    };
    passed(&injection(user), &token(), &mut head);
    let wanted = format!("Basic {}", STANDARD.encode(format!("x-access-token:{SECRET}")));
    assert_eq!(values(&head, "authorization"), [wanted]);
    let login = |user: &str, password: &str| Material::Login {
        user: Secret::new(user.as_bytes().to_vec()),
        password: Secret::new(password.as_bytes().to_vec()),
    };
    let mut head = parts("/", &[]);
    passed(
        &injection(Inject::Basic { user: None }),
        &login("report", "päss"),
        &mut head,
    );
    let wanted = format!("Basic {}", STANDARD.encode("report:päss"));
    assert_eq!(values(&head, "authorization"), [wanted]);
    for (user, password) in [("a:b", "word"), ("a", "wo\nrd")] {
        let asked = injection(Inject::Basic { user: None });
        let stripped = asked.strip(&mut head);
        let refused = asked.inject(
            &mut head,
            &stripped,
            &login(user, password),
            Read::Whole(b""),
            WAY,
        );
        assert_eq!(refused.unwrap_err(), InjectError::NoLogin);
    }
}

#[test]
fn what_is_worthless_or_nothing_is_no_finding() {
    let basic = format!("Basic {}", STANDARD.encode(format!("me:{PLACEHOLDER}")));
    let bearer = format!("Bearer {PLACEHOLDER}");
    for value in [basic.as_str(), &bearer, "Bearer", "Bearer ", "", "Basic Og=="] {
        let mut head = parts("/", &[("authorization", value)]);
        let found = passed(
            &injection(header("authorization", Some("Bearer"))),
            &token(),
            &mut head,
        );
        assert!(found.is_empty(), "{value}: {found:?}");
    }
    for (value, secret) in [
        ("Digest username=\"me\", response=\"0\"", "digest"),
        ("Negotiate YII=", "negotiate"),
        ("token hunter2", "hunter2"),
        ("hunter2", "hunter2"),
        (
            "AWS4-HMAC-SHA256 Credential=AKIAX/1/2/3/aws4_request, SignedHeaders=host, Signature=0",
            "AKIAX",
        ),
    ] {
        let mut head = parts("/", &[("authorization", value)]);
        let found = Injection::new(None, false).strip(&mut head).found;
        assert!(
            matches!(found.as_slice(), [one] if one.secret.expose() == secret.as_bytes()),
            "{value}: {found:?}"
        );
        assert_eq!(
            values(&head, "authorization"),
            [value],
            "without a credential it is passed on"
        );
    }
    let mut head = parts(
        "/?access_token=hunter2&x-amz-signature=1&code=2",
        &[("private-token", "hunter3")],
    );
    assert_eq!(Injection::new(None, false).strip(&mut head).found.len(), 2);
}

#[test]
fn what_the_source_gives_and_a_request_cannot_have_is_an_error_without_the_secret() {
    for (inject, material) in [
        (
            header("x-key", None),
            Material::Token(Secret::new(b"line\nbreak".to_vec())),
        ),
        (
            header("x-key", None),
            Material::Token(Secret::new(b"abc".to_vec())),
        ),
        (Inject::Basic { user: None }, token()),
        (Inject::Tls, token()),
        (Inject::Cookie { name: "s".to_owned() }, token()),
    ] {
        let asked = injection(inject);
        let mut head = parts("/", &[]);
        let stripped = asked.strip(&mut head);
        let refused = asked
            .inject(&mut head, &stripped, &material, Read::Whole(b""), WAY)
            .unwrap_err();
        assert!(!refused.to_string().contains("injected"), "{refused}");
        assert!(head.headers.is_empty());
    }
}

#[test]
fn a_placeholder_in_a_body_is_replaced_in_the_bodys_own_writing() {
    for (media, written) in [
        (
            "application/x-www-form-urlencoded",
            "injected%2Bsecret%2F5d1e%26%22x",
        ),
        (
            "application/vnd.acme+json; charset=utf-8",
            "injected+secret/5d1e&\\\"x",
        ),
        ("text/xml", "injected+secret/5d1e&amp;&quot;x"),
        ("text/plain", SECRET),
    ] {
        let body = format!("a={PLACEHOLDER}&b=tollgate-place&c={PLACEHOLDER}");
        let wanted = format!("a={written}&b=tollgate-place&c={written}");
        for size in 1..body.len() {
            let asked = injection(Inject::Placeholder);
            let mut head = parts("/login", &[("content-type", media), ("content-length", "62")]);
            let stripped = asked.strip(&mut head);
            let mut work = asked
                .inject(&mut head, &stripped, &token(), Read::Not, WAY)
                .unwrap();
            assert!(!work.keeps_length() && !head.headers.contains_key("content-length"));
            let mut out = Vec::new();
            for piece in body.as_bytes().chunks(size) {
                out.extend(work.push(piece).unwrap());
            }
            out.extend(work.finish().unwrap());
            assert_eq!(
                String::from_utf8(out).unwrap(),
                wanted,
                "{media}, pieces of {size}"
            );
        }
    }
    for (uri, coding) in [("/notes", "identity"), ("/login", "gzip")] {
        let asked = injection(Inject::Placeholder);
        let mut head = parts(uri, &[("content-encoding", coding)]);
        let stripped = asked.strip(&mut head);
        let work = asked
            .inject(&mut head, &stripped, &token(), Read::Not, WAY)
            .unwrap();
        assert!(work.is_none(), "{uri} {coding}");
    }
}

#[test]
fn fields_behind_a_body_bring_no_credential() {
    let mut trailers = HeaderMap::new();
    trailers.insert("authorization", HeaderValue::from_static("Bearer hunter2"));
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let found = injection(header("authorization", Some("Bearer"))).strip_trailers(&mut trailers);
    assert_eq!((found.len(), trailers.len()), (1, 1));
}

fn forms(secret: &str) -> Vec<String> {
    let mut encoded = String::new();
    super::query::encode(&mut encoded, secret.as_bytes());
    let mut forms = vec![
        secret.to_owned(),
        encoded.to_ascii_lowercase(),
        encoded,
        hex::encode(secret),
        hex::encode_upper(secret),
        serde_json::to_string(secret).unwrap(),
        serde_json::to_string(secret).unwrap().replace('/', "\\/"),
        secret.replace('&', "&amp;").replace('"', "&quot;"),
    ];
    for before in ["", "x", "xy"] {
        for after in ["", "z"] {
            let text = format!("{before}{secret}{after}");
            forms.push(STANDARD.encode(&text));
            forms.push(URL_SAFE_NO_PAD.encode(&text));
        }
    }
    forms
}

/// Whether a text still has enough of `form` to make the secret of it.
fn leaks(text: &[u8], form: &str) -> bool {
    // What of base64 stands at its ends may have bits of what is around it.
    let core = &form.as_bytes()[3..form.len() - 6];
    memchr::memmem::find(text, core).is_some()
}

#[test]
fn an_echo_is_masked_in_every_form_wherever_it_is_cut() {
    let echo = Echo::new(&spec(header("authorization", Some("Bearer"))), &token());
    for form in forms(SECRET) {
        let body = format!("<p>injected {form} and {form}{form} injected+se</p>");
        for size in [1, 2, 3, 5, 16, body.len()] {
            let mut kept = Kept::default();
            let mut out = Vec::new();
            for piece in body.as_bytes().chunks(size) {
                out.extend(echo.push(&mut kept, piece));
            }
            out.extend(echo.finish(&mut kept));
            assert_eq!(out.len(), body.len(), "lengths stay");
            assert!(!leaks(&out, &form), "{form}: {}", String::from_utf8_lossy(&out));
            assert!(
                out.starts_with(b"<p>injected ") && out.ends_with(b" injected+se</p>"),
                "{}",
                String::from_utf8_lossy(&out)
            );
        }
    }
}

#[test]
fn an_event_without_a_beginning_of_the_credential_is_not_held_back() {
    let echo = Echo::new(&spec(header("authorization", Some("Bearer"))), &token());
    let mut kept = Kept::default();
    assert_eq!(echo.push(&mut kept, b"data: hello\n\n"), b"data: hello\n\n");
    assert_eq!(echo.push(&mut kept, b"data: inject"), b"data: ");
    assert_eq!(echo.push(&mut kept, b"ion\n\n"), b"injection\n\n");
}

#[test]
fn a_whole_login_and_the_fields_of_an_answer_are_masked() {
    let login = Material::Login {
        user: Secret::new(b"report".to_vec()),
        password: Secret::new(b"injected-password".to_vec()),
    };
    let echo = Echo::new(&spec(Inject::Basic { user: None }), &login);
    let basic = STANDARD.encode("report:injected-password");
    let mut fields = HeaderMap::new();
    fields.insert("x-got", HeaderValue::from_str(&format!("Basic {basic}")).unwrap());
    fields.insert(
        "location",
        HeaderValue::from_static("/?p=injected-password&user=report"),
    );
    fields.insert("server", HeaderValue::from_static("acme"));
    assert_eq!(echo.fields(&mut fields), 2);
    assert!(!leaks(fields["x-got"].as_bytes(), &basic), "{fields:?}");
    assert_eq!(fields["location"], "/?p=*****************&user=report");
}

#[test]
fn a_session_that_is_the_agents_stays_the_agents_when_the_target_changes_it() {
    let spec = spec(Inject::Cookie {
        name: "session".to_owned(),
    });
    let echo = Echo::new(&spec, &Material::Token(Secret::new(b"injected-session".to_vec())));
    let mut fields = HeaderMap::new();
    fields.append("set-cookie", HeaderValue::from_static("session=another; Path=/"));
    fields.append("set-cookie", HeaderValue::from_static("theme=dark"));
    assert_eq!(echo.fields(&mut fields), 1);
    assert_eq!(
        fields.get_all("set-cookie").iter().collect::<Vec<_>>(),
        ["theme=dark"]
    );
}
