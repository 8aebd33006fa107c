//! A key of the session's own, signed: by ssh-keygen, in the double.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::double::Double;
use super::{ask, error, make, settings};
use crate::config::{VaultEngine, VaultSpec};
use crate::credential::Material;

fn spec(double: &Double) -> VaultSpec {
    let engine = VaultEngine::Ssh {
        mount: "ssh".into(),
        role: "deploy".into(),
        principals: vec!["deploy".into()],
        ttl: Duration::from_mins(5),
    };
    double.spec(double.token(), engine)
}

fn double(change: Value) -> Double {
    let mut settings = settings();
    for (key, value) in change.as_object().unwrap() {
        settings["ssh"]["ssh"]["deploy"][key] = value.clone();
    }
    Double::start(settings)
}

#[tokio::test]
async fn a_session_has_a_key_of_its_own_and_a_certificate_that_ends() {
    let double = double(json!({}));
    let spec = spec(&double);
    let made = make(&spec, &ask()).await.unwrap();
    let Material::Key {
        private,
        certificate: Some(certificate),
    } = &made.material
    else {
        panic!("a key and a certificate")
    };
    assert!(
        private
            .expose()
            .starts_with(b"-----BEGIN OPENSSH PRIVATE KEY-----")
    );
    let mut keygen = Command::new("ssh-keygen")
        .args(["-L", "-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    keygen
        .stdin
        .take()
        .unwrap()
        .write_all(certificate.expose())
        .unwrap();
    let shown = String::from_utf8(keygen.wait_with_output().unwrap().stdout).unwrap();
    assert!(
        shown.contains("user certificate") && shown.contains("deploy"),
        "{shown}"
    );
    let left = made.expires.unwrap().duration_since(SystemTime::now()).unwrap();
    assert!(
        left > Duration::from_mins(4) && left <= Duration::from_mins(5),
        "{left:?}"
    );
    assert!(made.handle.is_none(), "nothing revokes it");
    let again = make(&spec, &ask()).await.unwrap();
    let Material::Key { private: other, .. } = &again.material else {
        panic!("a key")
    };
    assert_ne!(other.expose(), private.expose());
}

#[tokio::test]
async fn what_vault_signs_has_to_be_what_it_was_asked_for() {
    let other = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAqJ0mPmXlbjKUB3RZ0bCqx2gZ3g4x3rJm0xw5KqkQbI";
    for (change, expected) in [
        (json!({ "key": other }), "over another key"),
        (json!({ "signs": ["deploy", "root"] }), "for other principals"),
        (json!({ "options": ["-h", "-V", "+5m"] }), "none of a user"),
        (json!({ "options": [] }), "no end"),
        (json!({ "options": ["-V", "-2h:-1h"] }), "has ended already"),
        (
            json!({ "allowed_users": ["backup"] }),
            "refused to sign a key for SSH (status 400)",
        ),
    ] {
        let double = double(change);
        let told = error(&spec(&double), &ask()).await.to_string();
        assert!(told.contains(expected), "{told}");
    }
    let double = double(json!({}));
    double.fault("ssh/", "without data.signed_key", 1).await;
    let told = error(&spec(&double), &ask()).await.to_string();
    assert!(told.contains("something that is no signed key"), "{told}");
}
