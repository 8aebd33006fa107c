//! Against a double that says what no good server says; against a real server: [`server`].

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

use super::super::issuer::double::{Double, Reply};
use super::super::tests::ask;
use super::super::{Handle, Leases, MakeError, Material};
use super::{Made, maker};
use crate::config::{
    ClientAuth, CredentialKind, CredentialSource, IssuerSpec, Oauth2Grant, Oauth2Spec, Share, SourceSpec,
    SubjectToken,
};
use crate::credential::{Credentials, LeaseEnd};
use crate::identity::{JobToken, TokenKind};
use crate::model::Secret;

mod server;

const GRANTED: &str = r#"{"access_token":"acc-1","token_type":"Bearer","expires_in":600}"#;

pub(super) struct Place(tempfile::TempDir);

impl Place {
    pub(super) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(super) fn secret(&self, name: &str, content: &str) -> SourceSpec {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.0.path().join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        SourceSpec::File(path)
    }

    pub(super) fn tokens(&self) -> PathBuf {
        self.0.path().join("tokens")
    }
}

/// What the journal holds.
fn entries(journal: &Path) -> Vec<String> {
    let files = fs::read_dir(journal).unwrap();
    files
        .map(|file| fs::read_to_string(file.unwrap().path()).unwrap())
        .collect()
}

pub(super) fn spec(issuer: IssuerSpec, auth: ClientAuth, grant: Oauth2Grant) -> Oauth2Spec {
    Oauth2Spec {
        issuer,
        revocation: None,
        grant,
        client_id: "toll gate".into(),
        auth,
        scope: Vec::new(),
        audience: None,
        resource: None,
        user: None,
        ttl: None,
        share: Share::Session,
    }
}

pub(super) async fn make(spec: &Oauth2Spec, tokens: &Path) -> Result<Made, MakeError> {
    maker(spec, tokens).make(&ask(Share::Session), None).await
}

fn token(made: &Made) -> &[u8] {
    match &made.material {
        Material::Token(token) => token.expose(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_no_good_server_says_begins_no_session_and_no_secret_is_in_the_reason() {
    let place = Place::new();
    let double = Double::start(Reply::Closes);
    let basic = ClientAuth::Basic(place.secret("secret", "hunter2"));
    let spec = spec(
        double.spec("/token?tenant=hunter2"),
        basic,
        Oauth2Grant::ClientCredentials,
    );
    let long = format!(
        r#"{{"access_token":"{}","token_type":"Bearer"}}"#,
        "hunter2".repeat(20_000)
    );
    let elsewhere = Double::start(Reply::Is("200 OK", GRANTED.into()));
    for (reply, said) in [
        (Reply::Closes, "cannot be reached"),
        (Reply::Hangs, "did not answer within 1 s"),
        (Reply::Floods, "more than 65536 bytes"),
        (Reply::Is("200 OK", long), "more than 65536 bytes"),
        (
            Reply::Is("200 OK", "<html>hunter2</html>".into()),
            "no token response",
        ),
        (
            Reply::Is(
                "200 OK",
                r#"{"access_token":"hunter2","token_type":"DPoP","expires_in":9}"#.into(),
            ),
            "no bearer token",
        ),
        (
            Reply::Is(
                "200 OK",
                r#"{"access_token":"hunter2","token_type":"Bearer"}"#.into(),
            ),
            "write a ttl",
        ),
        (
            Reply::Is(
                "200 OK",
                r#"{"access_token":"hunter2","token_type":"Bearer","expires_in":0}"#.into(),
            ),
            "ends at once",
        ),
        (Reply::Is("201 Created", GRANTED.into()), "refused with 201"),
        (
            Reply::Is(
                "401 Unauthorized",
                r#"{"error":"invalid_client","error_description":"hunter2"}"#.into(),
            ),
            "refused with 401 Unauthorized (invalid_client)",
        ),
        (
            Reply::Is("500 Internal Server Error", "hunter2".into()),
            "refused with 500 Internal Server Error",
        ),
        (
            Reply::With(
                "307 Temporary Redirect",
                format!("location: {}", elsewhere.url("/token")),
                String::new(),
            ),
            "refused with 307",
        ),
    ] {
        double.replies(reply.clone());
        let why = make(&spec, &place.tokens()).await.unwrap_err().error.to_string();
        assert!(why.contains(said), "{reply:?}: {why}");
        assert!(!why.contains("hunter2"), "{reply:?}: {why}");
    }
    assert!(elsewhere.asked().is_empty(), "a redirect was followed");
    let mut double = double;
    double.go_down();
    let why = make(&spec, &place.tokens()).await.unwrap_err().error.to_string();
    assert!(why.contains("cannot be reached"), "{why}");
}

#[tokio::test]
async fn a_client_proves_itself_as_the_policy_says() {
    let place = Place::new();
    let double = Double::start(Reply::Is("200 OK", GRANTED.into()));
    let issuer = double.spec("/token");
    let mut basic = spec(
        issuer.clone(),
        ClientAuth::Basic(place.secret("secret", "hunter 2:&")),
        Oauth2Grant::ClientCredentials,
    );
    basic.scope = vec!["orders.read".into(), "orders.list".into()];
    basic.resource = Some("https://orders.acme.test".into());
    let made = make(&basic, &place.tokens()).await.unwrap();
    assert_eq!(token(&made), b"acc-1");
    let left = made.expires.unwrap().duration_since(SystemTime::now()).unwrap();
    assert!(
        left <= Duration::from_secs(570) && left > Duration::from_secs(500),
        "{left:?}"
    );
    let asked = double.asked().pop().unwrap();
    assert_eq!(asked.line, "POST /token");
    assert_eq!(asked.field("grant_type").as_deref(), Some("client_credentials"));
    assert_eq!(asked.field("scope").as_deref(), Some("orders.read orders.list"));
    assert_eq!(
        asked.field("resource").as_deref(),
        Some("https://orders.acme.test")
    );
    assert_eq!(asked.field("client_secret"), None);
    // toll+gate:hunter+2%3A%26 in base64.
    assert_eq!(
        asked.header("authorization"),
        Some("Basic dG9sbCtnYXRlOmh1bnRlcisyJTNBJTI2")
    );

    let post = spec(
        issuer,
        ClientAuth::Post(place.secret("secret", "hunter 2:&")),
        Oauth2Grant::ClientCredentials,
    );
    make(&post, &place.tokens()).await.unwrap();
    let asked = double.asked().pop().unwrap();
    assert_eq!(asked.field("client_id").as_deref(), Some("toll gate"));
    assert_eq!(asked.field("client_secret").as_deref(), Some("hunter 2:&"));
    assert_eq!(asked.header("authorization"), None);
}

#[tokio::test]
async fn an_exchange_shows_the_workloads_own_token_and_fails_without_one() {
    let place = Place::new();
    let granted = r#"{"access_token":"acc-2","token_type":"Bearer","expires_in":600,"issued_token_type":"urn:ietf:params:oauth:token-type:access_token"}"#;
    let double = Double::start(Reply::Is("200 OK", granted.into()));
    let spec = spec(
        double.spec("/token"),
        ClientAuth::None,
        Oauth2Grant::TokenExchange(SubjectToken::IdToken),
    );
    let maker = maker(&spec, &place.tokens());
    let why = maker.make(&ask(Share::Session), None).await.unwrap_err().error;
    assert!(why.to_string().contains("no token that could be shown"), "{why}");
    assert!(double.asked().is_empty());
    let assertion = "<Assertion xmlns=\"urn:oasis:names:tc:SAML:2.0:assertion\">\u{fc}?>~</Assertion>";
    let response = format!("<Response xmlns=\"urn:oasis:names:tc:SAML:2.0:protocol\">{assertion}</Response>");
    let url = URL_SAFE_NO_PAD.encode(assertion);
    let with = |kind, token: &str| {
        let mut ask = ask(Share::Session);
        ask.token = Some(JobToken {
            kind,
            secret: Secret::new(token.as_bytes().to_vec()),
        });
        ask
    };
    for (kind, name, shown, sent) in [
        (TokenKind::Oidc, "id_token", "ey.job.token", "ey.job.token"),
        // RFC 8693 has one form, and jobs have two.
        (TokenKind::Saml, "saml2", assertion, url.as_str()),
        (
            TokenKind::Saml,
            "saml2",
            &STANDARD.encode(assertion),
            url.as_str(),
        ),
    ] {
        let made = maker.make(&with(kind, shown), None).await.unwrap();
        assert_eq!(token(&made), b"acc-2");
        let asked = double.asked().pop().unwrap();
        assert_eq!(asked.field("subject_token").as_deref(), Some(sent));
        assert_eq!(
            asked.field("subject_token_type"),
            Some(format!("urn:ietf:params:oauth:token-type:{name}"))
        );
        assert_eq!(asked.field("client_id").as_deref(), Some("toll gate"));
    }
    let before = double.asked().len();
    let why = maker.make(&with(TokenKind::Saml, &response), None).await;
    let why = why.unwrap_err().error.to_string();
    assert!(why.contains("takes an assertion by itself"), "{why}");
    assert_eq!(double.asked().len(), before);
}

/// Logins of a client whose tokens can be voided.
fn voidable(place: &Place, double: &Double, client: ClientAuth) -> Credentials {
    let mut spec = spec(double.spec("/token"), client, Oauth2Grant::ClientCredentials);
    spec.revocation = Some(double.url("/revoke"));
    spec.user = Some(SourceSpec::Literal("report".into()));
    let source = CredentialSource {
        kind: CredentialKind::Oauth2(Box::new(spec)),
        database: None,
        http: None,
    };
    Credentials::open(&source, &super::super::tests::PLAIN, &place.tokens()).unwrap()
}

/// Each answer has a token in it that nobody gets.
#[tokio::test]
async fn a_token_that_is_refused_after_it_was_issued_is_voided() {
    let place = Place::new();
    let double = Double::start(Reply::Closes);
    let credentials = voidable(&place, &double, ClientAuth::None);
    let journal = tempfile::tempdir().unwrap();
    let leases = Leases::open(&journal.path().join("leases")).unwrap();
    for (reply, said) in [
        (
            r#"{"access_token":"acc-9","token_type":"DPoP","expires_in":60}"#,
            "no bearer token",
        ),
        (r#"{"access_token":"acc-9","token_type":"Bearer"}"#, "write a ttl"),
        (
            r#"{"access_token":"acc-9","token_type":"Bearer","expires_in":0}"#,
            "ends at once",
        ),
        (
            r#"{"access_token":"acc-9","token_type":"Bearer","expires_in":"60"}"#,
            "no token response",
        ),
        (
            r#"{"access_token":"acc-9","token_type":"Bearer","expires_in":60}, {}"#,
            "no token response",
        ),
    ] {
        double.replies(Reply::Is("200 OK", reply.into()));
        let asked = double.asked().len();
        let why = credentials
            .lease(&leases, ask(Share::Session))
            .await
            .unwrap_err()
            .to_string();
        assert!(why.contains(said) && !why.contains("acc-9"), "{why}");
        eventually(|| leases.list().is_empty()).await;
        let asked = double.asked().split_off(asked);
        let [_, voided] = asked.as_slice() else {
            panic!("{asked:?}")
        };
        assert_eq!(voided.line, "POST /revoke", "{reply}");
        assert_eq!(voided.field("token").as_deref(), Some("acc-9"));
    }
    // A session that is gone by the time that the token is there: nobody gets it either.
    double.replies(Reply::Slow(Duration::from_millis(300), GRANTED.into()));
    let asked = double.asked().len();
    let waits = credentials.lease(&leases, ask(Share::Session));
    assert!(
        tokio::time::timeout(Duration::from_millis(50), waits)
            .await
            .is_err()
    );
    eventually(|| double.asked().len() == asked + 2 && leases.list().is_empty()).await;
    let voided = double.asked().pop().unwrap();
    assert_eq!(
        (voided.line.as_str(), voided.field("token").as_deref()),
        ("POST /revoke", Some("acc-1"))
    );
    // What cannot be voided now is told of, and tried again.
    double.replies(Reply::Is(
        "503 Service Unavailable",
        r#"{"access_token":"acc-9"}"#.into(),
    ));
    credentials.lease(&leases, ask(Share::Session)).await.unwrap_err();
    eventually(|| leases.list().iter().any(|lease| lease.error.is_some())).await;
    assert_eq!(entries(&journal.path().join("leases")).len(), 1);
    double.replies(Reply::Is("200 OK", String::new()));
    let id = leases.list()[0].id.clone();
    assert!(leases.revoke_one(&id, "an operator wants it"));
    eventually(|| leases.list().is_empty()).await;
    assert!(entries(&journal.path().join("leases")).is_empty());
}

async fn eventually(done: impl Fn() -> bool) {
    for _ in 0..2000 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("it did not come to that");
}

#[tokio::test]
async fn a_refresh_tokens_successor_is_kept_for_root_alone_and_a_new_one_in_the_source_begins_anew() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = Place::new();
    let rotating = |next: &str| {
        Reply::Is(
            "200 OK",
            format!(
                r#"{{"access_token":"acc","token_type":"Bearer","expires_in":600,"refresh_token":"{next}"}}"#
            ),
        )
    };
    let double = Double::start(rotating("ref-2"));
    let source = place.secret("refresh", "ref-1");
    let spec = spec(
        double.spec("/token"),
        ClientAuth::Post(place.secret("secret", "s")),
        Oauth2Grant::RefreshToken(source),
    );
    let shown = || double.asked().pop().unwrap().field("refresh_token").unwrap();
    make(&spec, &place.tokens()).await.unwrap();
    assert_eq!(shown(), "ref-1");
    let file = fs::read_dir(place.tokens())
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(
        fs::metadata(place.tokens()).unwrap().permissions().mode() & 0o777,
        0o700
    );
    // Another maker: as after a restart.
    double.replies(rotating("ref-3"));
    make(&spec, &place.tokens()).await.unwrap();
    assert_eq!(shown(), "ref-2");
    // A refusal costs nothing that is kept.
    double.replies(Reply::Is(
        "400 Bad Request",
        r#"{"error":"invalid_scope"}"#.into(),
    ));
    make(&spec, &place.tokens()).await.unwrap_err();
    assert_eq!(shown(), "ref-3");
    // One that does not rotate is shown again.
    double.replies(Reply::Is("200 OK", GRANTED.into()));
    make(&spec, &place.tokens()).await.unwrap();
    make(&spec, &place.tokens()).await.unwrap();
    assert_eq!(shown(), "ref-3");
    place.secret("refresh", "new-1");
    double.replies(rotating("new-2"));
    make(&spec, &place.tokens()).await.unwrap();
    assert_eq!(shown(), "new-1");
    make(&spec, &place.tokens()).await.unwrap();
    assert_eq!(shown(), "new-2");
    assert!(!fs::read_to_string(&file).unwrap().contains("ref-"));
}

#[tokio::test]
async fn a_place_where_no_successor_can_be_kept_is_seen_before_the_server_is_asked() {
    let place = Place::new();
    let double = Double::start(Reply::Is("200 OK", GRANTED.into()));
    let spec = spec(
        double.spec("/token"),
        ClientAuth::None,
        Oauth2Grant::RefreshToken(place.secret("refresh", "ref-1")),
    );
    fs::write(place.tokens(), "in the way").unwrap();
    let why = make(&spec, &place.tokens()).await.unwrap_err().error.to_string();
    assert!(why.contains("cannot be kept"), "{why}");
    fs::remove_file(place.tokens()).unwrap();
    make(&spec, &place.tokens()).await.unwrap();
    let file = fs::read_dir(place.tokens())
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    fs::write(file.with_extension("json"), "{").unwrap();
    let why = make(&spec, &place.tokens()).await.unwrap_err().error.to_string();
    assert!(why.contains("is no kept refresh token"), "{why}");
    assert_eq!(double.asked().len(), 1);
}

#[tokio::test]
async fn sessions_that_start_at_once_show_a_rotating_token_one_after_another() {
    let place = Place::new();
    let double = Double::start(Reply::Is(
        "200 OK",
        r#"{"access_token":"acc","token_type":"Bearer","expires_in":600,"refresh_token":"ref-2"}"#.into(),
    ));
    let spec = spec(
        double.spec("/token"),
        ClientAuth::None,
        Oauth2Grant::RefreshToken(place.secret("refresh", "ref-1")),
    );
    let tokens = place.tokens();
    let made = futures_util::future::join_all((0..8).map(|_| make(&spec, &tokens))).await;
    assert!(made.iter().all(Result::is_ok));
    let asked = double.asked();
    let first = asked
        .iter()
        .filter(|asked| asked.field("refresh_token").as_deref() == Some("ref-1"));
    assert_eq!(first.count(), 1, "a token that had been replaced was shown again");
}

#[tokio::test]
async fn a_token_is_voided_when_its_session_ends_and_is_in_no_journal() {
    let place = Place::new();
    let double = Double::start(Reply::Is("200 OK", GRANTED.into()));
    let credentials = voidable(&place, &double, ClientAuth::Post(place.secret("secret", "s")));
    let journal = tempfile::tempdir().unwrap();
    let journal_dir = journal.path().join("leases");
    let leases = Leases::open(&journal_dir).unwrap();
    let lease = credentials.lease(&leases, ask(Share::Session)).await.unwrap();
    let login = lease.login().unwrap();
    assert_eq!(
        (login.user.expose(), login.password.expose()),
        (&b"report"[..], &b"acc-1"[..])
    );
    let written = entries(&journal_dir);
    assert_eq!(written.len(), 1);
    assert!(
        !written[0].contains("acc-1") && written[0].contains("oauth2"),
        "{}",
        written[0]
    );
    assert_eq!(lease.end(Duration::from_secs(10)).await, LeaseEnd::Revoked);
    let asked = double.asked().pop().unwrap();
    assert_eq!(asked.line, "POST /revoke");
    assert_eq!(asked.field("token").as_deref(), Some("acc-1"));
    assert_eq!(asked.field("client_secret").as_deref(), Some("s"));
    assert!(entries(&journal_dir).is_empty());
}

#[tokio::test]
async fn after_a_crash_a_token_is_told_to_be_valid_until_its_time_is_over() {
    let place = Place::new();
    let double = Double::start(Reply::Is("200 OK", GRANTED.into()));
    let mut spec = spec(
        double.spec("/token"),
        ClientAuth::None,
        Oauth2Grant::ClientCredentials,
    );
    spec.revocation = Some(double.url("/revoke"));
    let Some(Handle::Oauth2(handle)) = make(&spec, &place.tokens()).await.unwrap().handle else {
        panic!("no handle");
    };
    let text = serde_json::to_string(&Handle::Oauth2(handle)).unwrap();
    let read: Handle = serde_json::from_str(&text).unwrap();
    let why = read.revoke(None).await.unwrap_err().to_string();
    assert!(why.contains("valid until"), "{why}");
    let ended = super::TokenHandle::new(
        &Arc::new(spec),
        Secret::new(b"acc".to_vec()),
        SystemTime::now().into(),
    );
    double.replies(Reply::Closes);
    assert_eq!(ended.revoke().await.unwrap(), super::super::Found::Nothing);
}
