//! What leaves nothing to revoke: secrets that somebody else put there.

use serde_json::json;

use super::double::Double;
use super::{ask, error, injected, jwt, kind, kv, login, make, maker, settings};
use crate::config::{KvFields, KvVersion, Share, VaultEngine, VaultSpec};
use crate::credential::{Leases, Material};
use crate::identity::TokenKind;

fn with(spec: &VaultSpec, version: KvVersion, user: &str, password: &str) -> VaultSpec {
    let mount = match version {
        KvVersion::One => "kv",
        KvVersion::Two(_) => "secret",
    };
    VaultSpec {
        engine: VaultEngine::Kv {
            mount: mount.into(),
            path: "apps/orders".into(),
            version,
            fields: KvFields::Login {
                user: user.into(),
                password: password.into(),
            },
        },
        ..spec.clone()
    }
}

#[tokio::test]
async fn a_secret_of_either_version_is_read_and_a_version_can_be_pinned() {
    let double = Double::start(settings());
    let spec = double.spec(double.token(), kv());
    let made = make(&spec, &ask()).await.unwrap();
    assert_eq!(login(&made), injected());
    assert!(made.expires.is_none() && made.handle.is_none());
    for (version, user, password, expected) in [
        (KvVersion::One, "login", "pw", injected()),
        (KvVersion::Two(Some(2)), "username", "password", injected()),
        (
            KvVersion::Two(Some(1)),
            "username",
            "password",
            ("old_user_9c".into(), "old-password-51e0".into()),
        ),
    ] {
        let made = make(&with(&spec, version, user, password), &ask()).await.unwrap();
        assert_eq!(login(&made), expected);
    }
    let told = error(
        &with(&spec, KvVersion::Two(Some(9)), "username", "password"),
        &ask(),
    )
    .await;
    assert!(
        told.to_string().contains("there is nothing at that path"),
        "{told}"
    );
    // Neither a number nor a list is a password.
    for field in ["port", "tags", "none"] {
        let told = error(&with(&spec, KvVersion::Two(None), "username", field), &ask()).await;
        let told = told.to_string();
        assert!(told.contains(&format!("no text in a field {field:?}")), "{told}");
    }
    let mut token = spec.clone();
    token.engine = VaultEngine::Kv {
        mount: "secret".into(),
        path: "apps/orders".into(),
        version: KvVersion::Two(None),
        fields: KvFields::Token("password".into()),
    };
    let made = make(&token, &ask()).await.unwrap();
    assert!(matches!(made.material, Material::Token(secret) if secret.expose() == b"injected-password-b81c"));
}

#[tokio::test]
async fn a_static_role_gives_its_login() {
    let double = Double::start(settings());
    let engine = VaultEngine::StaticRole {
        mount: "database".into(),
        role: "fixed".into(),
    };
    let made = make(&double.spec(double.token(), engine), &ask()).await.unwrap();
    assert_eq!(login(&made), injected());
}

#[tokio::test]
async fn an_app_role_logs_in_once_for_many_sessions_and_gives_its_token_up_at_the_end() {
    let double = Double::start(settings());
    let spec = double.spec(double.app_role(), kv());
    let state = tempfile::tempdir().unwrap();
    let leases = Leases::open(&state.path().join("leases")).unwrap();
    let maker = maker(&spec);
    for _ in 0..3 {
        let lease = leases.take(&maker, &kind(&spec), ask()).await.unwrap();
        assert_eq!(lease.login().unwrap().user.expose(), b"injected_role_5d1e");
    }
    let logins = double.asked().await;
    assert_eq!(logins.iter().filter(|path| path.ends_with("/login")).count(), 1);
    assert_eq!(double.tokens().await.len(), 1);
    leases.close(std::time::Duration::from_secs(5)).await;
    assert!(double.tokens().await.is_empty());
}

#[tokio::test]
async fn a_token_that_somebody_revoked_is_got_again_and_one_that_was_given_is_never_revoked() {
    let double = Double::start(settings());
    let spec = double.spec(double.app_role(), kv());
    let maker = maker(&spec);
    maker.make(&ask(), None).await.unwrap();
    let token = double.tokens().await.remove(0);
    double.test("end", json!({ "accessor": token["accessor"] })).await;
    maker.make(&ask(), None).await.unwrap();
    let logins = double.asked().await;
    assert_eq!(logins.iter().filter(|path| path.ends_with("/login")).count(), 2);

    let given = super::maker(&double.spec(double.token(), kv()));
    given.make(&ask(), None).await.unwrap();
    given.close().await;
    given.make(&ask(), None).await.unwrap();
}

#[tokio::test]
async fn a_used_up_secret_id_is_no_login() {
    let mut settings = settings();
    settings["secret_ids"]["secret-id-2f9d"] = json!(1);
    let double = Double::start(settings);
    let spec = double.spec(double.app_role(), kv());
    make(&spec, &ask()).await.unwrap();
    let told = error(&spec, &ask()).await.to_string();
    assert!(told.contains("it does not know the login"), "{told}");
    assert!(
        !told.contains("secret-id-2f9d") && !told.contains("role-id-77"),
        "{told}"
    );
}

#[tokio::test]
async fn a_job_reads_with_its_own_token_which_is_shown_to_vault_alone() {
    let double = Double::start(settings());
    let spec = double.spec(jwt(), kv());
    let told = error(&spec, &ask()).await.to_string();
    assert!(told.contains("the job has none"), "{told}");

    let mut job = ask();
    job.token = Some(double.job(json!({})).await);
    let raw = String::from_utf8(job.token.as_ref().unwrap().secret.expose().to_vec()).unwrap();
    assert_eq!(login(&make(&spec, &job).await.unwrap()), injected());
    assert!(
        double.tokens().await.is_empty(),
        "what it was changed for is revoked"
    );
    assert!(!format!("{job:?}").contains(&raw));

    for claims in [json!({ "aud": "somebody" }), json!({ "exp": 1 })] {
        job.token = Some(double.job(claims).await);
        let told = error(&spec, &job).await.to_string();
        assert!(told.contains("it does not know the login"), "{told}");
        assert!(!told.contains(&raw[..20]), "{told}");
    }
    let mut assertion = double.job(json!({})).await;
    assertion.kind = TokenKind::Saml;
    job.token = Some(assertion);
    assert!(error(&spec, &job).await.to_string().contains("the job has none"));
}

#[tokio::test]
async fn a_namespace_is_named_in_every_question() {
    let mut settings = settings();
    settings["namespace"] = json!("ci/prod");
    let double = Double::start(settings);
    let mut spec = double.spec(double.app_role(), kv());
    let told = error(&spec, &ask()).await.to_string();
    assert!(told.contains("nothing is mounted there"), "{told}");
    spec.server.namespace = Some("ci/prod".into());
    make(&spec, &ask()).await.unwrap();
}

#[tokio::test]
async fn debug_shows_nothing_of_it() {
    let double = Double::start(settings());
    let spec = double.spec(double.token(), kv());
    let maker = maker(&spec);
    let made = maker.make(&ask(), None).await.unwrap();
    let shown = format!("{maker:?} {made:?}");
    for secret in ["agent-token-0b1c", "injected-password-b81c", "injected_role_5d1e"] {
        assert!(!shown.contains(secret), "{shown}");
    }
    assert_eq!(spec.share, Share::Session);
}

#[tokio::test]
async fn a_token_that_was_given_is_renewed_before_there_is_any_session() {
    let mut settings = settings();
    settings["tokens"]["agent-token-0b1c"]["ttl"] = json!(3);
    let double = Double::start(settings);
    let maker = maker(&double.spec(double.token(), kv()));
    maker.check().await.unwrap();
    for _ in 0..400 {
        let asked = double.asked().await;
        if asked
            .iter()
            .filter(|path| *path == "auth/token/renew-self")
            .count()
            == 2
        {
            // Longer by now than it was made for.
            maker.make(&ask(), None).await.unwrap();
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    panic!("it was not renewed: {:?}", double.asked().await);
}
