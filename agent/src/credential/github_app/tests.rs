use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

use super::super::issuer::double::{Double, Reply};
use super::super::tests::ask;
use super::*;
use crate::config::{Share, SourceSpec};

struct Scene {
    double: Double,
    key: KeyPair,
    spec: GithubAppSpec,
    _dir: tempfile::TempDir,
}

fn granted(change: impl FnOnce(&mut serde_json::Value)) -> Reply {
    let mut granted = serde_json::json!({
        "token": "ghs_hunter2", "expires_at": Utc::now() + chrono::TimeDelta::hours(1),
        "permissions": {"contents": "read", "metadata": "read"}, "repository_selection": "selected",
        "repositories": [{"id": 1, "name": "Report", "full_name": "acme/report"}],
    });
    change(&mut granted);
    Reply::Is("201 Created", granted.to_string())
}

fn scene() -> Scene {
    let double = Double::start(granted(|_| {}));
    let key = KeyPair::generate(KeySize::Rsa2048).unwrap();
    let pkcs8 = AsDer::<aws_lc_rs::encoding::Pkcs8V1Der<'_>>::as_der(&key).unwrap();
    let pem = format!(
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
        STANDARD.encode(pkcs8.as_ref())
    );
    let dir = tempfile::tempdir().unwrap();
    let spec = GithubAppSpec {
        issuer: double.spec("/api/v3/"),
        app: "123456".into(),
        key: secret(&dir, &pem),
        installation: 4711,
        repositories: vec!["report".into()],
        permissions: vec![("contents".into(), "read".into())],
        share: Share::Session,
    };
    Scene {
        double,
        key,
        spec,
        _dir: dir,
    }
}

fn secret(dir: &tempfile::TempDir, content: &str) -> SourceSpec {
    use std::os::unix::fs::PermissionsExt as _;
    let path = dir.path().join("key.pem");
    std::fs::write(&path, content).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    SourceSpec::File(path)
}

impl Scene {
    async fn make(&self) -> Result<Made, MakeError> {
        maker(&self.spec).make(&ask(Share::Session), None).await
    }
}

#[tokio::test]
async fn a_token_is_asked_for_as_the_documentation_says_and_voided_with_itself() {
    let scene = scene();
    let made = scene.make().await.unwrap();
    assert!(matches!(&made.material, Material::Token(token) if token.expose() == b"ghs_hunter2"));
    assert!(made.expires.unwrap() > SystemTime::now() + Duration::from_mins(55));
    let asked = scene.double.asked().pop().unwrap();
    assert_eq!(asked.line, "POST /api/v3/app/installations/4711/access_tokens");
    assert_eq!(asked.header("accept"), Some("application/vnd.github+json"));
    assert_eq!(asked.header("x-github-api-version"), Some("2022-11-28"));
    assert!(
        asked.header("user-agent").is_some(),
        "GitHub refuses questions without one"
    );
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&asked.body).unwrap(),
        serde_json::json!({"repositories": ["report"], "permissions": {"contents": "read"}})
    );

    let jwt = asked
        .header("authorization")
        .unwrap()
        .strip_prefix("Bearer ")
        .unwrap();
    let (input, signature) = jwt.rsplit_once('.').unwrap();
    UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, scene.key.public_key())
        .verify(input.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).unwrap())
        .unwrap();
    let part = |number: usize| -> serde_json::Value {
        let part = input.split('.').nth(number).unwrap();
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
    };
    assert_eq!(part(0), serde_json::json!({"alg": "RS256", "typ": "JWT"}));
    let claims = part(1);
    let number = |name: &str| claims[name].as_u64().unwrap();
    assert_eq!(claims["iss"], "123456");
    assert!(
        number("exp") - number("iat") <= 600,
        "GitHub takes ten minutes at most"
    );
    assert!(number("iat") <= u64::try_from(Utc::now().timestamp()).unwrap());

    scene.double.replies(Reply::Is("204 No Content", String::new()));
    let handle = made.handle.unwrap();
    assert!(!serde_json::to_string(&handle).unwrap().contains("hunter2"));
    assert_eq!(handle.revoke(None).await.unwrap(), Found::Voided);
    let asked = scene.double.asked().pop().unwrap();
    assert_eq!(asked.line, "DELETE /api/v3/installation/token");
    assert_eq!(asked.header("authorization"), Some("Bearer ghs_hunter2"));
    scene.double.replies(Reply::Is("401 Unauthorized", String::new()));
    assert_eq!(handle.revoke(None).await.unwrap(), Found::Nothing);
    scene
        .double
        .replies(Reply::Is("503 Service Unavailable", String::new()));
    assert!(handle.revoke(None).await.is_err());
}

#[tokio::test]
async fn a_token_that_may_more_than_was_asked_for_is_voided_and_not_used() {
    let scene = scene();
    for (change, said) in [
        (
            serde_json::json!({"permissions": {"contents": "write"}}),
            "may more",
        ),
        (
            serde_json::json!({"permissions": {"contents": "read", "issues": "read"}}),
            "may more",
        ),
        (
            serde_json::json!({"permissions": {"contents": "owner"}}),
            "may more",
        ),
        (
            serde_json::json!({"permissions": {"metadata": "write"}}),
            "may more",
        ),
        (
            serde_json::json!({"repository_selection": "all"}),
            "more repositories",
        ),
        (
            serde_json::json!({"repository_selection": null}),
            "more repositories",
        ),
        (
            serde_json::json!({"repositories": [{"name": "payroll"}]}),
            "more repositories",
        ),
    ] {
        scene.double.replies(granted(|granted| {
            for (key, value) in change.as_object().unwrap() {
                granted[key] = value.clone();
            }
        }));
        let MakeError { error, left } = scene.make().await.unwrap_err();
        let why = error.to_string();
        assert!(why.contains(said), "{change}: {why}");
        let Left::There(handle) = left else {
            panic!("{left:?}")
        };
        scene.double.replies(Reply::Is("204 No Content", String::new()));
        assert_eq!(handle.revoke(None).await.unwrap(), Found::Voided);
        let asked = scene.double.asked().pop().unwrap();
        assert_eq!(asked.line, "DELETE /api/v3/installation/token", "{change}");
    }
}

#[tokio::test]
async fn what_no_good_server_says_begins_no_session_and_no_secret_is_in_the_reason() {
    let mut scene = scene();
    let elsewhere = Double::start(granted(|_| {}));
    for (reply, said) in [
        (Reply::Closes, "cannot be reached"),
        (Reply::Hangs, "did not answer within 1 s"),
        (Reply::Floods, "more than 65536 bytes"),
        (
            Reply::Is("201 Created", "hunter2".into()),
            "no installation access token",
        ),
        (Reply::Is("200 OK", "{}".into()), "refused with 200"),
        (
            granted(|granted| granted["token"] = "hunter2 hunter2".into()),
            "a token that is none",
        ),
        (
            granted(|granted| granted["expires_at"] = Utc::now().to_rfc3339().into()),
            "ends at once",
        ),
        (
            granted(|granted| granted["expires_at"] = serde_json::Value::Null),
            "no installation access token",
        ),
        (
            Reply::Is("404 Not Found", r#"{"message":"hunter2"}"#.into()),
            "refused with 404",
        ),
        (
            Reply::With(
                "301 Moved Permanently",
                format!("location: {}", elsewhere.url("/x")),
                String::new(),
            ),
            "refused with 301",
        ),
    ] {
        scene.double.replies(reply.clone());
        let why = scene.make().await.unwrap_err().error.to_string();
        assert!(why.contains(said) && !why.contains("hunter2"), "{reply:?}: {why}");
    }
    assert!(elsewhere.asked().is_empty());
    scene.double.go_down();
    let why = scene.make().await.unwrap_err().error.to_string();
    assert!(why.contains("cannot be reached"), "{why}");
}

#[tokio::test]
async fn a_key_that_is_none_is_seen_at_the_start() {
    let mut scene = scene();
    assert!(maker(&scene.spec).check().await.is_ok());
    let dir = tempfile::tempdir().unwrap();
    for wrong in [
        "hunter2",
        "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIGh1bnRlcjJodW50ZXIyaHVudGVyMmh1bnRlcjJo\n-----END PRIVATE KEY-----\n",
    ] {
        scene.spec.key = secret(&dir, wrong);
        let why = maker(&scene.spec).check().await.unwrap_err().to_string();
        assert!(
            why.contains("no RSA private key") && why.contains("key.pem"),
            "{why}"
        );
    }
}
