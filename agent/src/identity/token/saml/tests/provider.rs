//! Against an identity provider that was not written here: pysaml2, over HTTP on loopback.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::super::super::shape_tests::example;
use super::super::super::test_issuer::{HOUR, like};
use super::super::super::{TokenError, TokenVerifier};
use super::super::error::SamlError;
use crate::config::{IdentitySpec, Proof, SamlSpec, TokenSource};
use crate::model::Secret;

struct Provider {
    child: Child,
    url: String,
}

impl Provider {
    /// Needs `pip install pysaml2`, for the interpreter that `TOLLGATE_TEST_PYTHON` names, and xmlsec1.
    fn start() -> Option<Self> {
        let python = std::env::var("TOLLGATE_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/saml/provider.py");
        let mut child = Command::new(python)
            .arg(program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let provider = |port: u16| format!("http://127.0.0.1:{port}");
        let url = line.trim().parse().ok().map(provider);
        assert!(
            url.is_some() || std::env::var_os("CI").is_none(),
            "this test needs pysaml2"
        );
        if url.is_none() {
            eprintln!("NOT TESTED: needs pysaml2");
            child.wait().unwrap();
        }
        Some(Self { child, url: url? })
    }

    async fn assertion(&self, form: &str) -> Secret {
        let answer = reqwest::Client::new()
            .post(format!("{}/assertion", self.url))
            .body(format!(
                "recipient=https://tollgate.test/jobs&attribute=department:billing&{form}"
            ))
            .send()
            .await
            .unwrap();
        Secret::new(answer.bytes().await.unwrap().to_vec())
    }

    fn spec(&self) -> IdentitySpec {
        IdentitySpec {
            proof: Proof::Saml(SamlSpec {
                metadata: format!("{}/metadata", self.url),
                recipient: Some("https://tollgate.test/jobs".into()),
                detached: false,
            }),
            issuer: format!("{}/idp", self.url),
            audience: "tollgate".into(),
            token: TokenSource::Env("SAML_ASSERTION".into()),
            claims: vec![like("department", "billing")],
            ca: None,
            leeway: Duration::from_secs(5),
            offline: HOUR,
        }
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        // Its standard input ends, and so does it.
        drop(self.child.stdin.take());
        let _reaped = self.child.wait();
    }
}

#[tokio::test]
async fn assertions_of_a_real_provider_are_verified() {
    let Some(provider) = Provider::start() else {
        return;
    };
    let (verifier, spec) = (TokenVerifier::new(), provider.spec());
    for sign in ["assertion", "response", "both"] {
        let token = provider.assertion(&format!("sign={sign}&session=600")).await;
        let claims = verifier
            .verify(&token, &spec)
            .await
            .unwrap_or_else(|error| panic!("{sign}: {error}"));
        assert_eq!(claims.subject, "job-4711");
        assert_eq!(claims.claims["department"], "billing");
        assert!(claims.expires_at - claims.issued_at > chrono::TimeDelta::seconds(590));
    }
    for (form, expected) in [
        ("sign=none", "not signed"),
        ("audience=vault", "for the audience"),
        ("life=-60", "expired"),
    ] {
        let verified = verifier.verify(&provider.assertion(form).await, &spec).await;
        let error = verified.expect_err(form).to_string();
        assert!(error.contains(expected), "{form}: {error}");
    }
    let two = provider.assertion("attribute=department:payroll").await;
    let claims = verifier.verify(&two, &spec).await.unwrap();
    assert_eq!(claims.claims["department"], "billing, payroll");
    // The example of the documentation, with this provider in place of its own.
    let documented = IdentitySpec {
        proof: spec.proof.clone(),
        ..example("SAML", &spec.issuer)
    };
    verifier
        .verify(&provider.assertion("").await, &documented)
        .await
        .unwrap();
    let error = verifier
        .verify(&provider.assertion("subject=person-1").await, &documented)
        .await
        .unwrap_err();
    assert!(matches!(error, TokenError::Claim { .. }), "{error}");

    let other = Provider::start().unwrap();
    let foreign = IdentitySpec {
        issuer: spec.issuer.clone(),
        ..other.spec()
    };
    let error = verifier
        .verify(&provider.assertion("").await, &foreign)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("no identity provider"), "{error}");
    let error = verifier
        .verify(&other.assertion("").await, &spec)
        .await
        .unwrap_err();
    assert!(
        matches!(error, TokenError::Assertion(SamlError::UnknownKey { .. })),
        "{error}"
    );
}
