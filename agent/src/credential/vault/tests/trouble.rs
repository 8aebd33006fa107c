//! A Vault that is not well, or not what it should be: nothing is had, it is said why, and nothing of it leaks.

use std::time::{Duration, Instant};

use serde_json::json;

use super::double::Double;
use super::{ask, error, injected, kv, login, make, settings};
use crate::config::{VaultAuth, VaultServer, VaultSpec};

/// What the double puts into answers that go wrong, and what the agent sends.
const SECRETS: &[&str] = &[
    "echoed-secret",
    "injected-password",
    "injected_role",
    "agent-token-0b1c",
];

#[tokio::test]
async fn each_wrong_answer_is_told_apart_and_repeats_nothing() {
    let double = Double::start(settings());
    let spec = double.spec(double.token(), kv());
    for (path, fault, expected) in [
        (
            "secret/",
            "nonsense",
            "something that is no secret of this version",
        ),
        ("secret/", "oversized", "more than 262144 bytes"),
        ("secret/", "redirect http://127.0.0.1:9/", "sends elsewhere"),
        ("secret/", "sealed", "it is sealed"),
        ("secret/", "503", "sealed or under maintenance"),
        ("secret/", "403", "the token's policies do not allow it"),
        ("secret/", "404", "there is nothing at that path"),
        ("secret/", "429", "asked too often"),
        ("secret/", "500", "refused to read a secret (status 500)"),
        ("secret/", "204", "something that is no secret"),
        ("secret/", "echo", "refused to read a secret (status 400)"),
        ("secret/", "broken", "could not be asked to read a secret: "),
        ("secret/", "without data.data", "something that is no secret"),
        (
            "secret/",
            "without data.data.password",
            "no text in a field \"password\"",
        ),
        (
            "auth/token/lookup-self",
            "without data.ttl",
            "something that is no token",
        ),
        (
            "auth/token/lookup-self",
            "403",
            "refused to look at the agent's token (status 403)",
        ),
    ] {
        double.fault(path, fault, 2).await;
        let told = error(&spec, &ask()).await;
        let shown = format!("{told} {told:?}");
        assert!(shown.contains(expected), "{fault}: {shown}");
        for secret in SECRETS {
            assert!(!shown.contains(secret), "{fault}: {shown}");
        }
        double.test("well", json!({})).await;
    }
    assert_eq!(login(&make(&spec, &ask()).await.unwrap()), injected());
}

#[tokio::test]
async fn a_token_is_not_sent_on_to_where_a_redirect_points() {
    let elsewhere = Double::start(settings());
    let double = Double::start(settings());
    let spec = double.spec(double.token(), kv());
    let to = format!("redirect {}/v1/secret/data/apps/orders", elsewhere.address());
    double.fault("secret/", &to, 2).await;
    assert!(error(&spec, &ask()).await.to_string().contains("sends elsewhere"));
    assert!(elsewhere.asked().await.is_empty());
}

#[tokio::test]
async fn a_vault_that_does_not_answer_is_given_five_seconds() {
    let double = Double::start(settings());
    let spec = double.spec(double.token(), kv());
    double.fault("secret/", "slow", 1).await;
    let begun = Instant::now();
    let told = error(&spec, &ask()).await.to_string();
    assert!(told.contains("did not answer within 5 s"), "{told}");
    assert!(begun.elapsed() < Duration::from_secs(15));
}

#[tokio::test]
async fn a_vault_that_is_down_cannot_be_reached() {
    let double = Double::start(settings());
    let spec = VaultSpec {
        server: VaultServer {
            // Nobody listens below 1024 on this address in a test.
            address: "http://127.0.0.1:9".into(),
            namespace: None,
            ca: None,
        },
        ..double.spec(double.token(), kv())
    };
    let told = error(&spec, &ask()).await.to_string();
    assert!(
        told.contains("Vault could not be asked to look at the agent's token"),
        "{told}"
    );
}

#[tokio::test]
async fn a_login_that_cannot_be_read_is_named_before_anything_is_asked() {
    let double = Double::start(settings());
    let source = double.secret("token", "agent-token-0b1c");
    let crate::config::SourceSpec::File(path) = &source else {
        panic!("a file")
    };
    std::fs::remove_file(path).unwrap();
    let spec = double.spec(VaultAuth::Token(source.clone()), kv());
    let told = super::maker(&spec).check().await.unwrap_err().to_string();
    assert!(told.contains("cannot be read"), "{told}");
    assert!(double.asked().await.is_empty());
}

#[tokio::test]
async fn only_who_the_policy_s_authority_vouches_for_gets_a_token() {
    let dir = tempfile::tempdir().unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority_key = rcgen::KeyPair::generate().unwrap();
    let authority_pem = authority.self_signed(&authority_key).unwrap().pem();
    let issuer = rcgen::Issuer::new(authority, authority_key);
    let certificate = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()])
        .unwrap()
        .signed_by(&key, &issuer)
        .unwrap();
    let mut settings = settings();
    for (name, text) in [("certificate", certificate.pem()), ("key", key.serialize_pem())] {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        settings[name] = json!(path);
    }
    let ca = dir.path().join("authority");
    std::fs::write(&ca, authority_pem).unwrap();
    let double = Double::at("https", dir, settings);
    let mut spec = double.spec(double.token(), kv());
    let told = error(&spec, &ask()).await.to_string();
    assert!(
        told.contains("cannot be reached") && told.contains("certificate"),
        "{told}"
    );
    spec.server.ca = Some(ca.clone());
    assert_eq!(login(&make(&spec, &ask()).await.unwrap()), injected());
    std::fs::write(&ca, "nothing").unwrap();
    let told = error(&spec, &ask()).await.to_string();
    assert!(told.contains("put PEM certificates there"), "{told}");
}
