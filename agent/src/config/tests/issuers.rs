//! Sources with an issuer: what each takes, and what is said, with its line, where it cannot be.

use std::time::Duration;

use super::strict::errors;
use super::{GOOD, parse};
use crate::config::{ClientAuth, CredentialKind, Oauth2Grant, SourceSpec, SubjectToken};

const IDENTITY: &str = "[identity.oidc]\nissuer = \"https://gitlab.acme.test\"\naudience = \"tollgate\"\ntoken = { env = \"TOKEN\" }\nclaims = { project_path = \"acme/report\" }\n\n";
const OAUTH2: &str = "source = \"oauth2\"\nendpoint = \"https://login.acme.test/token\"\nclient_id = \"tollgate\"\nuser = \"report\"\n";
const GITHUB: &str = "source = \"github-app\"\napp_id = 123456\napp_key = { systemd = \"key\" }\ninstallation = 4711\nrepositories = [\"report\"]\npermissions = { contents = \"read\" }\n";
const AWS: &str =
    "source = \"aws\"\nregion = \"eu-central-1\"\nrole_arn = \"arn:aws:iam::123456789012:role/report\"\n";

fn with(identity: &str, lines: &str) -> String {
    let start = GOOD.find("[service.credential]").unwrap();
    let end = GOOD.find("[[service.rule]]").unwrap();
    let service = GOOD.find("[[service]]").unwrap();
    format!(
        "{}{identity}{}[service.credential]\n{lines}\n{}",
        &GOOD[..service],
        &GOOD[service..start],
        &GOOD[end..]
    )
}

fn oauth2(identity: &str, lines: &str) -> crate::config::Oauth2Spec {
    let doc = parse(&with(identity, &format!("{OAUTH2}{lines}"))).unwrap();
    match doc.services[0].credential.clone().unwrap().kind {
        CredentialKind::Oauth2(spec) => *spec,
        other => panic!("{other:?}"),
    }
}

/// What is said of a policy of an http service.
fn of_http(identity: &str, lines: &str) -> Vec<String> {
    let text = with(identity, lines).replace("protocol = \"postgres\"", "protocol = \"http\"");
    match parse(&text) {
        Ok(_) => Vec::new(),
        Err(told) => told.to_string().lines().map(str::to_owned).collect(),
    }
}

#[test]
fn every_grant_has_what_belongs_to_it() {
    let spec = oauth2(
        "",
        "grant_type = \"client_credentials\"\nclient_secret = { systemd = \"s\" }\nscope = [\"a\", \"b\"]\nttl = \"5m\"",
    );
    assert_eq!(spec.grant, Oauth2Grant::ClientCredentials);
    assert_eq!(spec.auth, ClientAuth::Basic(SourceSpec::Systemd("s".into())));
    assert_eq!(
        (spec.scope.len(), spec.ttl, spec.issuer.timeout),
        (2, Some(Duration::from_mins(5)), Duration::from_secs(10))
    );
    let spec = oauth2(
        "",
        "grant_type = \"refresh_token\"\nrefresh_token = { file = \"/r\" }\nclient_auth = \"private_key_jwt\"\nclient_key = { file = \"/k\" }",
    );
    assert_eq!(
        spec.grant,
        Oauth2Grant::RefreshToken(SourceSpec::File("/r".into()))
    );
    let spec = oauth2(
        IDENTITY,
        "grant_type = \"token_exchange\"\nclient_auth = \"none\"\nsubject_token_type = \"id_token\"",
    );
    assert_eq!(spec.grant, Oauth2Grant::TokenExchange(SubjectToken::IdToken));
    assert_eq!(spec.auth, ClientAuth::None);
}

#[test]
fn what_cannot_be_is_told_with_its_place() {
    let client = "grant_type = \"client_credentials\"\nclient_secret = { systemd = \"s\" }\n";
    let refresh =
        "grant_type = \"refresh_token\"\nclient_auth = \"none\"\nrefresh_token = { file = \"/r\" }\n";
    for (lines, said) in [
        (
            format!("{OAUTH2}{client}client_key = {{ file = \"/k\" }}"),
            "\"client_key\" has a meaning with",
        ),
        (
            format!("{OAUTH2}{client}refresh_token = {{ file = \"/k\" }}"),
            "\"refresh_token\" has a meaning with",
        ),
        (
            format!("{OAUTH2}{client}subject_token_type = \"jwt\""),
            "\"subject_token_type\" has a meaning with",
        ),
        (
            format!("{OAUTH2}{client}scope = [\"a b\"]"),
            "\"a b\" is no scope",
        ),
        (
            format!("{OAUTH2}{client}region = \"eu-central-1\""),
            "\"region\" belongs to source = \"aws\"",
        ),
        (format!("{OAUTH2}{client}timeout = \"30s\""), "30s"),
        (
            format!("{OAUTH2}grant_type = \"client_credentials\"\nclient_auth = \"none\""),
            "the client's own proof is all",
        ),
        (
            format!("{OAUTH2}grant_type = \"client_credentials\""),
            "has no \"client_secret\"",
        ),
        (
            format!("{OAUTH2}{refresh}revocation_endpoint = \"https://login.acme.test/revoke\""),
            "may void the refresh token with it",
        ),
        (
            format!("{OAUTH2}grant_type = \"token_exchange\"\nclient_auth = \"none\""),
            "this policy asks for none",
        ),
        (
            format!("{}{client}", OAUTH2.replace("user = \"report\"\n", "")),
            "the user is missing",
        ),
        (
            format!("{}{client}", OAUTH2.replace("https://login", "http://login")),
            "is not https",
        ),
        (
            format!("{OAUTH2}grant_type = \"client_credentials\"\nclient_secret = \"hunter2\""),
            "is a secret and cannot be written here",
        ),
    ] {
        let told = errors(&with("", &lines)).join("\n");
        assert!(told.contains(said) && told.contains("p.toml:"), "{lines}: {told}");
        assert!(!told.contains("hunter2"), "{told}");
    }
}

#[test]
fn what_is_no_login_is_refused_for_a_database_and_right_for_what_takes_it() {
    for (identity, lines) in [("", GITHUB), (IDENTITY, AWS)] {
        let told = errors(&with(identity, lines));
        assert!(
            matches!(told.as_slice(), [one] if one.contains("no postgres service takes these") && one.starts_with("p.toml:")),
            "{told:?}"
        );
        assert_eq!(of_http(identity, lines), [""; 0]);
        let told = of_http(identity, &format!("{lines}database = \"x\"")).join("\n");
        assert!(
            told.contains("\"database\" is of a login to a database"),
            "{told}"
        );
    }
    let bearer = OAUTH2.replace("user = \"report\"\n", "");
    let client = "grant_type = \"client_credentials\"\nclient_secret = { systemd = \"s\" }";
    assert_eq!(of_http("", &format!("{bearer}{client}")), [""; 0]);
}

#[test]
fn what_takes_no_assertion_is_refused_where_jobs_have_nothing_else() {
    const SAML: &str = "[identity.saml]\nmetadata = \"https://idp.acme.test/metadata\"\nentity_id = \"https://idp.acme.test\"\naudience = \"tollgate\"\ntoken = { login = true }\n\n";
    let exchange = format!("{OAUTH2}grant_type = \"token_exchange\"\nclient_auth = \"none\"\n");
    assert!(parse(&with(SAML, &exchange)).is_ok());
    let told = errors(&with(SAML, &format!("{exchange}subject_token_type = \"jwt\"\n")));
    assert!(
        matches!(told.as_slice(), [one] if one.contains("SAML assertion, and that is of one type") && one.starts_with("p.toml:")),
        "{told:?}"
    );
    let told = of_http(SAML, AWS).join("\n");
    assert!(
        told.contains("asks jobs for a SAML assertion") && told.contains("p.toml:"),
        "{told}"
    );
    let keys = "keys = { access_key_id = \"AKIA1\", secret_access_key = { systemd = \"s\" } }\n";
    assert_eq!(of_http(SAML, &format!("{AWS}{keys}")), [""; 0]);
    assert!(
        parse(&with(
            IDENTITY,
            &format!("{exchange}subject_token_type = \"jwt\"\n")
        ))
        .is_ok()
    );
}

#[test]
fn a_github_token_is_never_asked_for_without_bounds() {
    for (from, to, said) in [
        ("repositories = [\"report\"]\n", "", "has no \"repositories\""),
        ("[\"report\"]", "[]", "\"repositories\" is an empty list"),
        ("[\"report\"]", "[\"acme/report\"]", "is no name of a repository"),
        (
            "permissions = { contents = \"read\" }\n",
            "",
            "has no \"permissions\"",
        ),
        ("{ contents = \"read\" }", "{}", "could do all that the app may"),
        ("\"read\"", "\"everything\"", "is no value of"),
        ("{ systemd = \"key\" }", "{ env = \"KEY\" }", "is a private key"),
        ("4711", "0", "out of range"),
    ] {
        let told = of_http("", &GITHUB.replacen(from, to, 1)).join("\n");
        assert!(told.contains(said), "{from} to {to}: {told}");
    }
}

#[test]
fn a_role_of_aws_is_assumed_by_the_jobs_token_or_by_keys() {
    let keys = "keys = { access_key_id = \"AKIA1\", secret_access_key = { systemd = \"s\" } }\n";
    assert_eq!(of_http("", &format!("{AWS}{keys}external_id = \"x\"")), [""; 0]);
    assert_eq!(
        of_http(
            IDENTITY,
            &format!("{AWS}session_policy = '{{\"Statement\": []}}'\nttl = \"15m\"")
        ),
        [""; 0]
    );
    for (identity, lines, said) in [
        ("", AWS.to_owned(), "this policy asks for none"),
        (
            IDENTITY,
            format!("{AWS}external_id = \"x\""),
            "\"external_id\" has a meaning with",
        ),
        (IDENTITY, format!("{AWS}ttl = \"5m\""), "5m"),
        (
            IDENTITY,
            format!("{AWS}session_policy = \"[]\""),
            "no JSON object",
        ),
        (IDENTITY, AWS.replace("eu-central-1", "Frankfurt"), "no region"),
        (IDENTITY, AWS.replace(":role/", ":user/"), "no ARN of a role"),
        (
            "",
            format!("{AWS}keys = {{ access_key_id = \"AKIA1\", secret_access_key = \"hunter2\" }}"),
            "is a secret",
        ),
    ] {
        let told = of_http(identity, &lines).join("\n");
        assert!(told.contains(said), "{lines}: {told}");
        assert!(!told.contains("hunter2"), "{told}");
    }
}
