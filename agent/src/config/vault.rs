//! `source = "vault"`, as typed values.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::credential::{Share, SourceSpec};

/// `source = "vault"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VaultSpec {
    /// `vault`: which one.
    pub server: VaultServer,
    /// `auth` in it: how the agent logs in.
    pub auth: VaultAuth,
    /// `engine`: what is asked for.
    pub engine: VaultEngine,
    /// `max_ttl`, 24 h if left out: how long one lease is renewed at most.
    pub max_ttl: Duration,
    /// `share`, "session" if left out.
    pub share: Share,
}

/// `vault`, without `auth`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VaultServer {
    /// `address`: scheme, host and port, without a slash at the end. Plain HTTP for loopback alone.
    pub address: String,
    /// `namespace`.
    pub namespace: Option<String>,
    /// `ca`: authorities that may vouch for it besides the system's.
    pub ca: Option<PathBuf>,
}

/// `auth`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VaultAuth {
    /// `token`: one that somebody else made for the agent.
    Token(SourceSpec),
    /// `role_id` and `secret_id`: `AppRole`.
    AppRole {
        /// `mount`, "approle" if left out.
        mount: String,
        /// `role_id`.
        role_id: SourceSpec,
        /// `secret_id`.
        secret_id: SourceSpec,
    },
    /// `jwt`: the workload's own token.
    Jwt {
        /// `mount`, "jwt" if left out.
        mount: String,
        /// `jwt`: the role.
        role: String,
        /// `cleanup`: a token that may revoke by accessor, for what a crash of the agent leaves.
        cleanup: Option<SourceSpec>,
    },
}

/// `engine`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VaultEngine {
    /// `kv`: a secret that somebody else put there.
    Kv {
        /// `mount`, "secret" if left out.
        mount: String,
        /// `kv`: its path below the mount.
        path: String,
        /// `version` of the engine.
        version: KvVersion,
        /// What of it is the credential.
        fields: KvFields,
    },
    /// `database`: a login that is made for the lease.
    Database {
        /// `mount`, "database" if left out.
        mount: String,
        /// The role.
        role: String,
    },
    /// `static_role`: a login that is there for good, and whose password Vault changes.
    StaticRole {
        /// `mount`, "database" if left out.
        mount: String,
        /// The role.
        role: String,
    },
    /// `ssh`: a key of the session's own, signed by Vault.
    Ssh {
        /// `mount`, "ssh" if left out.
        mount: String,
        /// The role.
        role: String,
        /// `principals`: as whom it may log in; at least one.
        principals: Vec<String>,
        /// `ttl`, 5 min if left out: what is asked for.
        ttl: Duration,
    },
}

/// `version` of a KV engine, and with 2 the `pin`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KvVersion {
    /// 1.
    One,
    /// 2, and which version of the secret; `None`: the newest.
    Two(Option<u32>),
}

/// Which fields of a secret are the credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KvFields {
    /// `user` and `password`, "username" and "password" if left out.
    Login {
        /// Name of the field with the user.
        user: String,
        /// Name of the field with the password.
        password: String,
    },
    /// `token`: a bearer token.
    Token(String),
}

impl VaultAuth {
    /// Every single value that is read from somewhere, and where it stands below `[service.credential]`.
    pub(super) fn sources(&self) -> Vec<(&'static str, &SourceSpec)> {
        match self {
            Self::Token(token) => vec![("vault/auth/token", token)],
            Self::AppRole {
                role_id, secret_id, ..
            } => vec![
                ("vault/auth/role_id", role_id),
                ("vault/auth/secret_id", secret_id),
            ],
            Self::Jwt { cleanup, .. } => cleanup
                .iter()
                .map(|token| ("vault/auth/cleanup", token))
                .collect(),
        }
    }
}
