use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ed25519_dalek::Signer;
use hmac::{Hmac, Mac};
use serde_json::{Value, json};

use super::test_issuer::{HOUR, TestIssuer, key, like, signing_input, token, with_signature};
use super::{Now, TokenClaims, TokenError, TokenVerifier};
use crate::config::{IdentitySpec, Proof, TokenSource};
use crate::model::Secret;

const MINUTE: Duration = Duration::from_mins(1);

type Check = fn(&TokenError) -> bool;

struct Stand {
    issuer: TestIssuer,
    verifier: TokenVerifier,
    spec: IdentitySpec,
    now: Now,
}

impl Stand {
    fn new() -> Self {
        let issuer = TestIssuer::start();
        let spec = IdentitySpec {
            proof: Proof::Oidc,
            issuer: issuer.url.clone(),
            audience: "tollgate".into(),
            token: TokenSource::Env("TOLLGATE_ID_TOKEN".into()),
            claims: vec![like("project_path", "acme/*")],
            ca: None,
            leeway: Duration::from_secs(30),
            offline: HOUR,
        };
        let now = Now {
            wall: SystemTime::now(),
            steady: Instant::now(),
        };
        Self {
            issuer,
            verifier: TokenVerifier::new(),
            spec,
            now,
        }
    }

    fn claims(&self) -> Value {
        self.issuer
            .claims(self.now.wall.duration_since(UNIX_EPOCH).unwrap().as_secs())
    }

    /// Claims with one of them replaced, or removed where `value` is null.
    fn claims_with(&self, claim: &str, value: Value) -> Value {
        let mut claims = self.claims();
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(claim);
        } else {
            claims[claim] = value;
        }
        claims
    }

    async fn verify(&self, token: &Secret) -> Result<TokenClaims, TokenError> {
        self.verifier.verify_at(token, &self.spec, self.now).await
    }

    async fn verify_after(&self, later: Duration, token: &Secret) -> Result<TokenClaims, TokenError> {
        let now = Now {
            wall: self.now.wall,
            steady: self.now.steady + later,
        };
        self.verifier.verify_at(token, &self.spec, now).await
    }
}

#[tokio::test]
async fn a_good_token_gives_its_claims_and_its_end() {
    let stand = Stand::new();
    let verified = stand
        .verify(&token("one", &key(1), &stand.claims()))
        .await
        .unwrap();
    assert_eq!(
        verified.subject,
        "project_path:acme/report:ref_type:branch:ref:main"
    );
    assert_eq!(verified.claims["project_path"], "acme/report");
    assert_eq!(verified.claims["job_id"], "4711");
    let end = SystemTime::from(verified.expires_at);
    assert_eq!(verified.valid_until, end + Duration::from_secs(30));
    assert!(end > stand.now.wall + Duration::from_secs(298));
}

#[tokio::test]
async fn each_wrong_claim_is_refused() {
    let stand = Stand::new();
    let now = stand.now.wall.duration_since(UNIX_EPOCH).unwrap().as_secs();
    let table: &[(&str, Value, Check)] = &[
        ("aud", json!("vault"), |error| {
            matches!(error, TokenError::Audience { .. })
        }),
        ("aud", json!(["tollgate", "vault"]), |error| {
            matches!(error, TokenError::Audience { .. })
        }),
        ("aud", json!([]), |error| {
            matches!(error, TokenError::Audience { .. })
        }),
        ("iss", json!("https://evil.test"), |error| {
            matches!(error, TokenError::Issuer { .. })
        }),
        ("exp", json!(now - 31), |error| *error == TokenError::Expired),
        ("nbf", json!(now + 60), |error| *error == TokenError::NotYet),
        ("nbf", json!("soon"), |error| *error == TokenError::NotYet),
        ("iat", json!(now + 60), |error| *error == TokenError::NotYet),
        ("project_path", json!("evil/report"), |error| {
            matches!(error, TokenError::Claim { .. })
        }),
        ("project_path", Value::Null, |error| {
            matches!(error, TokenError::Claim { found: None, .. })
        }),
        ("exp", Value::Null, |error| *error == TokenError::Malformed),
        ("sub", Value::Null, |error| *error == TokenError::Malformed),
        ("aud", Value::Null, |error| {
            matches!(error, TokenError::Audience { .. })
        }),
    ];
    for (claim, value, expected) in table {
        let error = stand
            .verify(&token("one", &key(1), &stand.claims_with(claim, value.clone())))
            .await
            .unwrap_err();
        assert!(expected(&error), "{claim} = {value}: {error:?}");
    }
}

#[tokio::test]
async fn the_leeway_covers_clocks_that_differ_and_no_more() {
    let stand = Stand::new();
    let now = stand.now.wall.duration_since(UNIX_EPOCH).unwrap().as_secs();
    for (claim, value) in [("exp", now - 25), ("nbf", now + 25), ("iat", now + 25)] {
        let token = token("one", &key(1), &stand.claims_with(claim, json!(value)));
        assert!(stand.verify(&token).await.is_ok(), "{claim}");
    }
}

#[tokio::test]
async fn forged_tokens_are_refused() {
    let stand = Stand::new();
    let claims = stand.claims();
    let by_another = token("one", &key(2), &claims);
    assert_eq!(stand.verify(&by_another).await, Err(TokenError::Signature));

    let none = signing_input(&json!({"alg": "none", "typ": "JWT"}), &claims);
    assert_eq!(
        stand.verify(&with_signature(&none, b"")).await,
        Err(TokenError::Algorithm)
    );

    // The public key as an HMAC secret: what a verifier that trusts the header would accept.
    for (secret, kid) in [
        (key(1).verifying_key().to_bytes().to_vec(), Some("one")),
        (Vec::new(), None),
    ] {
        let input = signing_input(&json!({"alg": "HS256", "typ": "JWT", "kid": kid}), &claims);
        let mut mac = Hmac::<sha2::Sha256>::new_from_slice(&secret).unwrap();
        mac.update(input.as_bytes());
        let forged = with_signature(&input, &mac.finalize().into_bytes());
        assert_eq!(stand.verify(&forged).await, Err(TokenError::Algorithm));
    }

    let honest = signing_input(&json!({"alg": "EdDSA", "typ": "JWT", "kid": "one"}), &claims);
    let signature = key(1).sign(honest.as_bytes()).to_bytes();
    let changed = signing_input(
        &json!({"alg": "EdDSA", "typ": "JWT", "kid": "one"}),
        &stand.claims_with("project_path", json!("acme/payroll")),
    );
    assert_eq!(
        stand.verify(&with_signature(&changed, &signature)).await,
        Err(TokenError::Signature)
    );
}

#[tokio::test]
async fn tokens_of_another_kind_are_refused() {
    let stand = Stand::new();
    for header in [
        json!({"alg": "EdDSA", "kid": "one", "typ": "logout+jwt"}),
        json!({"alg": "EdDSA", "kid": "one", "typ": "JWT", "crit": ["exp"]}),
        json!({"alg": "EdDSA", "kid": "one", "typ": "JWT", "cty": "JWT"}),
    ] {
        let input = signing_input(&header, &stand.claims());
        let token = with_signature(&input, &key(1).sign(input.as_bytes()).to_bytes());
        assert!(
            matches!(stand.verify(&token).await, Err(TokenError::Kind { .. })),
            "{header}"
        );
    }
}

#[tokio::test]
async fn what_is_no_token_is_refused_and_not_repeated() {
    let stand = Stand::new();
    for text in [
        "",
        "hunter2",
        "hunter2.hunter2.hunter2",
        "..",
        "a.b",
        "\u{0}",
        "eyJhbGciOiJFZERTQSJ9.e30.",
    ] {
        let error = stand.verify(&Secret::new(text.into())).await.unwrap_err();
        assert_eq!(error, TokenError::Malformed, "{text}");
        assert!(!error.to_string().contains("hunter2"));
    }
    assert_eq!(stand.issuer.questions(), 0, "nobody is asked about rubbish");
}

#[tokio::test]
async fn a_rotated_key_is_found_and_unknown_ones_do_not_flood_the_issuer() {
    let stand = Stand::new();
    let claims = stand.claims();
    stand.verify(&token("one", &key(1), &claims)).await.unwrap();
    assert_eq!(stand.issuer.questions(), 1);

    stand.issuer.publish("two", &key(2));
    let rotated = token("two", &key(2), &claims);
    assert!(
        matches!(stand.verify(&rotated).await, Err(TokenError::UnknownKey { .. })),
        "asked a moment ago"
    );
    stand
        .verify_after(Duration::from_secs(11), &rotated)
        .await
        .unwrap();
    assert_eq!(stand.issuer.questions(), 2);

    for number in 0..50 {
        let unknown = token(&format!("unknown-{number}"), &key(3), &claims);
        let error = stand
            .verify_after(Duration::from_secs(30), &unknown)
            .await
            .unwrap_err();
        assert!(matches!(error, TokenError::UnknownKey { .. }));
    }
    assert_eq!(stand.issuer.questions(), 3);
}

#[tokio::test]
async fn a_withdrawn_key_ends_when_the_keys_are_asked_for_again() {
    let stand = Stand::new();
    let good = token("one", &key(1), &stand.claims());
    stand.verify(&good).await.unwrap();
    stand.issuer.withdraw_all();
    stand.issuer.publish("two", &key(2));
    let error = stand.verify_after(5 * MINUTE, &good).await.unwrap_err();
    assert!(matches!(error, TokenError::UnknownKey { .. }), "{error:?}");
}

#[tokio::test]
async fn an_issuer_that_is_down_is_bridged_for_as_long_as_the_policy_says() {
    let mut stand = Stand::new();
    stand.spec.offline = 20 * MINUTE;
    let good = token("one", &key(1), &stand.claims());
    stand.verify(&good).await.unwrap();
    stand.issuer.go_down();
    stand.verify_after(19 * MINUTE, &good).await.unwrap();
    let error = stand.verify_after(21 * MINUTE, &good).await.unwrap_err();
    assert!(
        matches!(&error, TokenError::Unavailable { reason } if reason.contains("cannot be reached")),
        "{error:?}"
    );
}

#[tokio::test]
async fn an_issuer_that_was_never_there_is_named() {
    let mut stand = Stand::new();
    stand.issuer.go_down();
    let error = stand
        .verify(&token("one", &key(1), &stand.claims()))
        .await
        .unwrap_err();
    assert!(error.to_string().contains(&stand.spec.issuer), "{error}");
}

#[tokio::test]
async fn answers_that_cannot_be_trusted_are_refused() {
    for (status, body, expected) in [
        ("302 Found", String::new(), "answered 302"),
        ("200 OK", " ".repeat(1024 * 1024 + 1), "more than 1048576 bytes"),
        ("200 OK", "<html>".to_owned(), "no discovery document"),
        (
            "200 OK",
            json!({"issuer": "https://evil.test", "jwks_uri": "https://evil.test/jwks"}).to_string(),
            "speaks for",
        ),
    ] {
        let stand = Stand::new();
        stand.issuer.answer_instead(status, body);
        let error = stand
            .verify(&token("one", &key(1), &stand.claims()))
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[tokio::test]
async fn keys_over_plain_http_are_refused_beyond_loopback() {
    let mut stand = Stand::new();
    stand.spec.issuer = "http://issuer.acme.test".into();
    let claims = stand.claims_with("iss", json!(stand.spec.issuer));
    let error = stand
        .verify(&token("one", &key(1), &claims))
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("not an https:// address"), "{error}");
}

#[tokio::test]
async fn many_at_once_ask_once() {
    let stand = Stand::new();
    let good = token("one", &key(1), &stand.claims());
    let all = futures_util::future::join_all((0..32).map(|_| stand.verify(&good))).await;
    assert!(all.iter().all(Result::is_ok));
    assert_eq!(stand.issuer.questions(), 1);
}

#[tokio::test]
async fn an_https_issuer_is_believed_through_its_authority_alone() {
    let (issuer, certificate) = TestIssuer::start_tls();
    let mut stand = Stand::new();
    stand.spec.issuer.clone_from(&issuer.url);
    stand.issuer = issuer;
    let good = token("one", &key(1), &stand.claims());
    let error = stand.verify(&good).await.unwrap_err();
    assert!(
        matches!(&error, TokenError::Unavailable { reason } if reason.contains("cannot be reached")),
        "{error}"
    );

    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), certificate).unwrap();
    stand.spec.ca = Some(file.path().to_owned());
    stand.verify(&good).await.unwrap();

    std::fs::write(file.path(), "no certificate").unwrap();
    let error = stand.verify_after(2 * 60 * MINUTE, &good).await.unwrap_err();
    assert!(
        error.to_string().contains("put PEM certificates there"),
        "{error}"
    );
}
