//! How a credential goes into a request: what each source may be told, and what is said, with its line, where it cannot be.

use super::parse;
use super::sources::with_credential;
use super::strict::errors;
use crate::config::{CredentialSource, Inject};

const TOKEN: &str = "source = \"file\"\ntoken = \"/etc/tollgate/secrets/api\"\n";
const LOGIN: &str = "source = \"systemd\"\nuser = \"report\"\npassword = \"api\"\n";
const KEY: &str = "source = \"file\"\nkey = \"/k\"\ncertificate = \"/c\"\n";
const EXEC: &str = "source = \"exec\"\ncommand = [\"/bin/secret\"]\n";

fn http(lines: &str) -> String {
    with_credential(lines).replace("protocol = \"postgres\"", "protocol = \"http\"")
}

/// What is said of a credential, and not of the rest of a policy that is another protocol's.
fn told(lines: &str) -> Vec<String> {
    let mut told = errors(&http(lines));
    told.retain(|line| !line.contains("protocol \"http\" is not supported"));
    told
}

fn good(lines: &str) -> CredentialSource {
    parse(&http(lines)).unwrap().services[0]
        .credential
        .clone()
        .unwrap()
}

#[test]
fn a_credential_goes_where_the_policy_says_or_where_it_is_for() {
    let header = |name: &str, scheme: Option<&str>| Inject::Header {
        name: name.to_owned(),
        scheme: scheme.map(str::to_owned),
    };
    let sigv4 = |service: Option<&str>, region: Option<&str>| Inject::SigV4 {
        service: service.map(str::to_owned),
        region: region.map(str::to_owned),
    };
    for (source, inject, meant) in [
        (TOKEN, "", header("authorization", Some("Bearer"))),
        (TOKEN, "\"bearer\"", header("authorization", Some("Bearer"))),
        (TOKEN, "{ header = \"X-Api-Key\" }", header("x-api-key", None)),
        (
            TOKEN,
            "{ header = \"Authorization\", scheme = \"token\" }",
            header("authorization", Some("token")),
        ),
        (TOKEN, "{ query = \"key\" }", Inject::Query { name: "key".into() }),
        (
            TOKEN,
            "{ cookie = \"session\" }",
            Inject::Cookie {
                name: "session".into(),
            },
        ),
        (
            TOKEN,
            "{ basic = \"x-access-token\" }",
            Inject::Basic {
                user: Some("x-access-token".into()),
            },
        ),
        (LOGIN, "", Inject::Basic { user: None }),
        (LOGIN, "\"basic\"", Inject::Basic { user: None }),
        (
            LOGIN,
            "{ sigv4 = \"s3\", region = \"eu-central-1\" }",
            sigv4(Some("s3"), Some("eu-central-1")),
        ),
        (EXEC, "\"sigv4\"", sigv4(None, None)),
    ] {
        let line = if inject.is_empty() {
            String::new()
        } else {
            format!("inject = {inject}\n")
        };
        let credential = good(&format!("{source}{line}"));
        assert_eq!(credential.http.unwrap().inject, meant, "{source}{line}");
    }
}

#[test]
fn a_placeholder_is_replaced_in_the_bodies_that_the_policy_names_and_in_no_other() {
    let spec = good(&format!(
        "{TOKEN}inject = \"placeholder\"\nplaceholder = {{ text = \"tollgate-placeholder\", bodies = [\"/oauth/*\"] }}"
    ));
    let spec = spec.http.unwrap();
    assert!(spec.replaces_in_body("/oauth/token"));
    assert!(!spec.replaces_in_body("/oauth/a/b") && !spec.replaces_in_body("/v1/notes"));
    let spec = good(&format!("{TOKEN}placeholder = \"tollgate-placeholder\""))
        .http
        .unwrap();
    assert!(!spec.replaces_in_body("/"));
}

#[test]
fn what_no_request_can_have_is_refused_with_its_line_and_what_to_do() {
    for (lines, part) in [
        (format!("{TOKEN}inject = \"basic\""), "cannot put that into a request"),
        (format!("{TOKEN}inject = \"sigv4\""), "cannot put that into a request"),
        (format!("{TOKEN}inject = \"tls\""), "cannot put that into a request"),
        (KEY.to_owned(), "not shown to targets of HTTP yet"),
        (format!("{EXEC}inject = \"tls\""), "not shown to targets of HTTP yet"),
        (format!("{LOGIN}inject = \"bearer\""), "\"systemd\" gives a user and a password"),
        (format!("{LOGIN}inject = {{ basic = \"me\" }}"), "cannot put that into a request"),
        (format!("{KEY}inject = \"bearer\""), "\"file\" gives a key and a certificate"),
        (EXEC.to_owned(), "what a program prints may be anything"),
        (format!("{TOKEN}inject = \"digest\""), "digest"),
        (format!("{TOKEN}inject = {{ header = \"X\", query = \"y\" }}"), "has to say one place"),
        (format!("{TOKEN}inject = {{ scheme = \"Bearer\" }}"), "has to say one place"),
        (format!("{TOKEN}inject = {{ query = \"key\", scheme = \"Bearer\" }}"), "belongs to \"header\""),
        (format!("{TOKEN}inject = {{ cookie = \"key\", region = \"x\" }}"), "belongs to \"sigv4\""),
        (format!("{TOKEN}inject = {{ header = \"Content-Length\" }}"), "HTTP itself goes by"),
        (format!("{TOKEN}inject = {{ header = \"Cookie\" }}"), "HTTP itself goes by"),
        (format!("{TOKEN}inject = {{ header = \"X Key\" }}"), "is no name of a header"),
        (format!("{TOKEN}inject = {{ header = \"X-Key\", scheme = \"a b\" }}"), "no single word"),
        (format!("{TOKEN}inject = {{ cookie = \"a=b\" }}"), "is no name of a cookie"),
        (format!("{TOKEN}inject = {{ query = \"ä\" }}"), "visible ASCII"),
        (format!("{TOKEN}inject = {{ basic = \"a:b\" }}"), "no colon"),
        (format!("{LOGIN}inject = {{ sigv4 = \"S3\" }}"), "no service of AWS"),
        (format!("{TOKEN}placeholder = \"short\""), "8 to 512"),
        (format!("{TOKEN}inject = \"placeholder\""), "there is none"),
        (
            format!("{TOKEN}inject = \"placeholder\"\nplaceholder = \"tollgate-placeholder\""),
            "replaced in none",
        ),
        (
            format!("{TOKEN}placeholder = {{ text = \"tollgate-placeholder\", bodies = [\"login\"] }}"),
            "is no path of a request",
        ),
        (
            format!("{KEY}placeholder = {{ text = \"tollgate-placeholder\", bodies = [\"/login\"] }}"),
            "sends no secret",
        ),
        (format!("{TOKEN}user = \"x\""), "\"token\" is given"),
        (format!("{TOKEN}password = \"/p\""), "\"token\" is given"),
        ("source = \"file\"\nkey = \"/k\"".to_owned(), "has no \"certificate\""),
        ("source = \"file\"\ntoken = \"ghp_0123456789\"".to_owned(), "is not an absolute path"),
        (format!("{TOKEN}database = \"x\""), "a request of HTTP has none of"),
        (
            "source = \"postgres-role\"\ngrant = [\"r\"]\nadmin = { user = \"a\", password = { file = \"/x\" } }".to_owned(),
            "makes a login to a PostgreSQL server, and no http service takes these",
        ),
        (
            "source = \"ssh-ca\"\nca = { systemd = \"ssh-ca\" }\nprincipals = [\"backup\"]".to_owned(),
            "no http service takes these",
        ),
    ] {
        let told = told(&lines);
        assert!(
            matches!(told.as_slice(), [one] if one.contains(part) && one.starts_with("p.toml:")),
            "{lines}: {told:?}"
        );
        assert!(!told.concat().contains("ghp_0123"), "{told:?}");
    }
}

#[test]
fn a_service_of_another_protocol_has_nothing_to_do_with_requests() {
    for (lines, part) in [
        (
            format!("{LOGIN}inject = \"basic\""),
            "this service is none of HTTP's",
        ),
        (
            format!("{LOGIN}placeholder = \"tollgate-placeholder\""),
            "this service is none of HTTP's",
        ),
        (
            TOKEN.to_owned(),
            "\"file\" gives a token, and no postgres service takes these",
        ),
        (
            KEY.to_owned(),
            "gives a key and a certificate, and no postgres service takes these",
        ),
    ] {
        let told = errors(&with_credential(&lines));
        assert!(
            matches!(told.as_slice(), [one] if one.contains(part) && one.starts_with("p.toml:")),
            "{lines}: {told:?}"
        );
    }
}
