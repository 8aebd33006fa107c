//! Against the double of Vault in `tests/vault`, which is as strict as the documentation.

mod certificates;
mod double;
mod given;
mod leases;
mod trouble;

use std::time::Duration;

use serde_json::{Value, json};

use super::maker;
use crate::config::{
    CredentialKind, KvFields, KvVersion, Share, SourceSpec, VaultAuth, VaultEngine, VaultServer, VaultSpec,
};
use crate::credential::maker::{Ask, Made, MakeError};
use crate::credential::{CredentialError, Material};
use crate::identity::{JobToken, TokenKind};
use crate::model::Secret;

use double::Double;

/// What a double has that nothing special is asked of.
fn settings() -> Value {
    json!({
        "tokens": { "agent-token-0b1c": { "policies": ["agent"], "ttl": 600 } },
        "policies": { "agent": {
            "secret/*": ["read"], "kv/*": ["read"], "database/*": ["read"], "ssh/*": ["read", "update"],
            "auth/token/create": ["update"], "auth/token/revoke-accessor": ["update"],
            "sys/leases/revoke": ["update"],
        } },
        "approle": { "approle": { "role_id": "role-id-77", "policies": ["agent"], "ttl": 600, "max_ttl": 3600 } },
        "secret_ids": { "secret-id-2f9d": -1 },
        "jwt": { "jwt": { "role": "ci-report", "audience": "vault", "policies": ["agent"], "ttl": 600 } },
        "kv": {
            "secret": { "apps/orders": [
                { "username": "old_user_9c", "password": "old-password-51e0" },
                { "username": "injected_role_5d1e", "password": "injected-password-b81c", "port": 5432, "tags": ["a", { "b": null }] },
            ] },
            "kv": { "apps/orders": { "login": "injected_role_5d1e", "pw": "injected-password-b81c" } },
        },
        "kv_versions": { "kv": 1 },
        "static": { "database": { "fixed": { "username": "injected_role_5d1e", "password": "injected-password-b81c" } } },
        "ssh": { "ssh": { "deploy": { "allowed_users": ["deploy", "backup"] } } },
    })
}

impl Double {
    /// The token that somebody made for the agent.
    fn token(&self) -> VaultAuth {
        VaultAuth::Token(self.secret("token", "agent-token-0b1c"))
    }

    fn app_role(&self) -> VaultAuth {
        VaultAuth::AppRole {
            mount: "approle".into(),
            role_id: SourceSpec::Literal("role-id-77".into()),
            secret_id: self.secret("secret-id", "secret-id-2f9d"),
        }
    }

    fn spec(&self, auth: VaultAuth, engine: VaultEngine) -> VaultSpec {
        VaultSpec {
            server: VaultServer {
                address: self.address().to_owned(),
                namespace: None,
                ca: None,
            },
            auth,
            engine,
            max_ttl: Duration::from_hours(1),
            share: Share::Session,
        }
    }

    /// A JWT of the issuer that it knows.
    async fn job(&self, claims: Value) -> JobToken {
        let answer = self.test("jwt", claims).await;
        JobToken {
            kind: TokenKind::Oidc,
            secret: Secret::new(answer["jwt"].as_str().unwrap().as_bytes().to_vec()),
        }
    }
}

fn jwt() -> VaultAuth {
    VaultAuth::Jwt {
        mount: "jwt".into(),
        role: "ci-report".into(),
        cleanup: None,
    }
}

fn kv() -> VaultEngine {
    VaultEngine::Kv {
        mount: "secret".into(),
        path: "apps/orders".into(),
        version: KvVersion::Two(None),
        fields: KvFields::Login {
            user: "username".into(),
            password: "password".into(),
        },
    }
}

fn ask() -> Ask {
    crate::credential::tests::ask(Share::Session)
}

async fn make(spec: &VaultSpec, ask: &Ask) -> Result<Made, MakeError> {
    let maker = maker(spec);
    let prepared = maker.prepare(ask).await?;
    maker.make(ask, prepared.as_ref()).await
}

async fn error(spec: &VaultSpec, ask: &Ask) -> CredentialError {
    make(spec, ask).await.expect_err("nothing can be had").error
}

/// User and password of what was made.
fn login(made: &Made) -> (String, String) {
    let Material::Login { user, password } = &made.material else {
        panic!("a login was asked for")
    };
    let text = |secret: &Secret| String::from_utf8(secret.expose().to_vec()).unwrap();
    (text(user), text(password))
}

fn injected() -> (String, String) {
    ("injected_role_5d1e".into(), "injected-password-b81c".into())
}

fn kind(spec: &VaultSpec) -> CredentialKind {
    CredentialKind::Vault(Box::new(spec.clone()))
}
