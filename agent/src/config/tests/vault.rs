//! `source = "vault"`: what it takes, and what it is told where it does not.

use std::time::Duration;

use super::parse;
use super::sources::with_credential;
use super::strict::errors;
use crate::config::{
    CredentialKind, KvFields, KvVersion, Share, SourceSpec, VaultAuth, VaultEngine, VaultServer, VaultSpec,
};

const SERVER: &str = "address = \"https://vault.acme.test:8200\"";
const TOKEN: &str = "{ token = { systemd = \"vault-token\" } }";
const OIDC: &str = "[identity.oidc]\nissuer = \"https://gitlab.acme.test\"\naudience = \"vault\"\ntoken = { env = \"ID_TOKEN\" }\n\n[[service]]";

fn lines(server: &str, auth: &str, engine: &str, more: &str) -> String {
    with_credential(&format!(
        "source = \"vault\"\nengine = {engine}\n{more}\n[service.credential.vault]\n{server}\nauth = {auth}\n"
    ))
}

fn spec(auth: &str, engine: &str, more: &str) -> VaultSpec {
    let text = lines(SERVER, auth, engine, more).replacen("[[service]]", OIDC, 1);
    let doc = parse(&text).unwrap();
    let kind = doc.services[0].credential.clone().unwrap().kind;
    let CredentialKind::Vault(spec) = kind else {
        panic!("it is a vault")
    };
    *spec
}

#[test]
fn what_is_left_out_is_as_vault_has_it() {
    let found = spec(TOKEN, "{ kv = \"apps/orders\" }", "");
    let expected = VaultSpec {
        server: VaultServer {
            address: "https://vault.acme.test:8200".into(),
            namespace: None,
            ca: None,
        },
        auth: VaultAuth::Token(SourceSpec::Systemd("vault-token".into())),
        engine: VaultEngine::Kv {
            mount: "secret".into(),
            path: "apps/orders".into(),
            version: KvVersion::Two(None),
            fields: KvFields::Login {
                user: "username".into(),
                password: "password".into(),
            },
        },
        max_ttl: Duration::from_hours(24),
        share: Share::Session,
    };
    assert_eq!(found, expected);
}

#[test]
fn each_login_and_each_engine_is_taken() {
    let approle =
        "{ role_id = \"7d1f\", secret_id = { file = \"/etc/tollgate/secret-id\" }, mount = \"ci/approle\" }";
    let found = spec(
        approle,
        "{ database = \"report\", mount = \"db\" }",
        "max_ttl = \"2h\"\nshare = \"workload\"",
    );
    assert!(matches!(&found.auth, VaultAuth::AppRole { mount, .. } if mount == "ci/approle"));
    assert!(
        matches!(&found.engine, VaultEngine::Database { mount, role } if mount == "db" && role == "report")
    );
    assert_eq!(
        (found.max_ttl, found.share),
        (Duration::from_hours(2), Share::Workload)
    );
    let jwt = "{ jwt = \"ci-report\", mount = \"gitlab\", cleanup = { systemd = \"vault-cleanup\" } }";
    let found = spec(jwt, "{ static_role = \"report\" }", "");
    assert!(matches!(&found.auth, VaultAuth::Jwt { mount, cleanup: Some(_), .. } if mount == "gitlab"));
    let found = spec(
        TOKEN,
        "{ kv = \"a\", version = 1, user = \"u\", password = \"p\" }",
        "",
    );
    assert!(matches!(
        &found.engine,
        VaultEngine::Kv {
            version: KvVersion::One,
            ..
        }
    ));
    let found = spec(TOKEN, "{ kv = \"a\", pin = 7 }", "");
    assert!(matches!(
        &found.engine,
        VaultEngine::Kv {
            version: KvVersion::Two(Some(7)),
            ..
        }
    ));
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn each_mistake_is_named_with_place_and_remedy() {
    let kv = "{ kv = \"apps/orders\" }";
    let cases: &[(&str, &str, &str, &str, &[&str])] = &[
        // Server, auth, engine, further lines; what is said.
        (
            "adress = \"https://vault.acme.test\"",
            TOKEN,
            kv,
            "",
            &[
                "p.toml:16:1: unknown key \"adress\" in vault",
                "did you mean \"address\"?",
            ],
        ),
        (
            "address = \"http://vault.acme.test:8200\"",
            TOKEN,
            kv,
            "",
            &["p.toml:16:12:", "plain http is for loopback alone"],
        ),
        (
            SERVER,
            "{ tokn = { env = \"A\" } }",
            kv,
            "",
            &["did you mean \"token\"?", "one way to log in"],
        ),
        (
            SERVER,
            "{ token = \"hvs.abc\" }",
            kv,
            "",
            &["is a secret and cannot be written here"],
        ),
        (
            SERVER,
            "{ role_id = \"x\" }",
            kv,
            "",
            &["p.toml:17:8: auth has no \"secret_id\"", "vault-secret-id"],
        ),
        (
            SERVER,
            "{ token = { env = \"A\" }, jwt = \"r\" }",
            kv,
            "",
            &["one way to log in"],
        ),
        (
            SERVER,
            "{ token = { env = \"A\" }, cleanup = { env = \"B\" } }",
            kv,
            "",
            &["\"cleanup\" belongs to \"jwt\""],
        ),
        (
            SERVER,
            "{ jwt = \"ci-report\" }",
            kv,
            "",
            &[
                "p.toml:17:8: Vault is to be logged in to with the job's own JWT",
                "add [identity.oidc]",
            ],
        ),
        (
            SERVER,
            TOKEN,
            "{ databse = \"r\" }",
            "",
            &["did you mean \"database\"?"],
        ),
        (
            SERVER,
            TOKEN,
            "{ kv = \"a\", database = \"r\" }",
            "",
            &["one thing that is asked for"],
        ),
        (
            SERVER,
            TOKEN,
            "{ kv = \"../sys/raw\" }",
            "",
            &["p.toml:13:18:", "is no path in a Vault"],
        ),
        (
            SERVER,
            TOKEN,
            "{ database = \"db/creds/r\" }",
            "",
            &["is no name of a role"],
        ),
        (
            SERVER,
            TOKEN,
            "{ database = \"r\", pin = 1 }",
            "",
            &["\"pin\" belongs to \"kv\""],
        ),
        (SERVER, TOKEN, "{ kv = \"a\", version = 3 }", "", &["from 1 to 2"]),
        (
            SERVER,
            TOKEN,
            "{ kv = \"a\", version = 1, pin = 2 }",
            "",
            &["one version of a secret alone"],
        ),
        (
            SERVER,
            TOKEN,
            "{ kv = \"a\", token = \"t\" }",
            "",
            &["takes no token", "name the fields"],
        ),
        (
            SERVER,
            TOKEN,
            "{ ssh = \"deploy\", principals = [\"deploy\"] }",
            "",
            &["signs a key for SSH here, and no postgres service takes one"],
        ),
        (
            SERVER,
            TOKEN,
            "{ ssh = \"deploy\" }",
            "",
            &["engine has no \"principals\""],
        ),
        (
            SERVER,
            TOKEN,
            kv,
            "share = \"workload\"",
            &["nothing that sessions could share"],
        ),
        (SERVER, TOKEN, kv, "max_ttl = \"2h\"", &["this engine gives none"]),
        (
            SERVER,
            TOKEN,
            kv,
            "ttl = \"2h\"",
            &["\"ttl\" belongs to source = "],
        ),
    ];
    for (server, auth, engine, more, expected) in cases {
        let told = errors(&lines(server, auth, engine, more)).join("\n");
        for part in *expected {
            assert!(told.contains(part), "{part:?} is not in:\n{told}");
        }
        assert!(!told.contains("hvs.abc"), "{told}");
    }
}
