//! `[service.credential]`, as typed values.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::inject::HttpCredential;
use super::issuer::{AwsSpec, GithubAppSpec, Oauth2Spec};
use super::vault::VaultSpec;

/// `[service.credential]`: what the agent logs in with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialSource {
    /// `source`, with the keys that belong to it.
    pub kind: CredentialKind,
    /// `database`: replaces the one that the client asks for; `None`: the client's stands.
    pub database: Option<String>,
    /// `inject` and `placeholder`; `None` where the service is none of HTTP's.
    pub http: Option<HttpCredential>,
}

/// `source`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CredentialKind {
    /// `"file"`, `"env"`, `"systemd"`, `"age"`: a login that somebody else looks after, read when it is needed.
    Static {
        /// Source of the user name. A name written into the policy is [`SourceSpec::Literal`].
        user: SourceSpec,
        /// Source of the password.
        password: SourceSpec,
    },
    /// The same sources, with one text: a token.
    StaticToken(SourceSpec),
    /// The same sources, with a key and a certificate for TLS.
    StaticKey {
        /// `key`: PEM.
        key: SourceSpec,
        /// `certificate`: PEM, with those that lead to its authority.
        certificate: SourceSpec,
    },
    /// `"exec"`: a program that prints a secret.
    Exec(ExecSpec),
    /// `"postgres-role"`: a role made for the session or the workload, and dropped after it.
    PostgresRole(PostgresRoleSpec),
    /// `"mysql-user"`: a user made for the session or the workload, and dropped after it.
    MysqlUser(MysqlUserSpec),
    /// `"ssh-ca"`: a key of the session's own with a certificate that is valid for minutes.
    SshCa(SshCaSpec),
    /// `"vault"`: what a `HashiCorp` Vault keeps or makes.
    Vault(Box<VaultSpec>),
    /// `"oauth2"`: a token of an OAuth 2.0 authorization server.
    Oauth2(Box<Oauth2Spec>),
    /// `"github-app"`: a token of an installation of a GitHub app.
    GithubApp(Box<GithubAppSpec>),
    /// `"aws"`: keys of a role of AWS.
    Aws(Box<AwsSpec>),
}

impl CredentialKind {
    /// The word of `source`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Static { password: read, .. }
            | Self::StaticToken(read)
            | Self::StaticKey { key: read, .. } => match read {
                SourceSpec::File(_) => "file",
                SourceSpec::Env(_) => "env",
                SourceSpec::Systemd(_) => "systemd",
                SourceSpec::Age { .. } => "age",
                SourceSpec::Literal(_) => "none",
            },
            Self::Exec(_) => "exec",
            Self::PostgresRole(_) => "postgres-role",
            Self::MysqlUser(_) => "mysql-user",
            Self::SshCa(_) => "ssh-ca",
            Self::Vault(_) => "vault",
            Self::Oauth2(_) => "oauth2",
            Self::GithubApp(_) => "github-app",
            Self::Aws(_) => "aws",
        }
    }

    /// Every single value that is read from somewhere, and where it stands below `[service.credential]` (a JSON pointer
    /// without its first slash).
    pub fn sources(&self) -> Vec<(&'static str, &SourceSpec)> {
        match self {
            Self::Static { user, password } => vec![("user", user), ("password", password)],
            Self::StaticToken(token) => vec![("token", token)],
            Self::StaticKey { key, certificate } => vec![("key", key), ("certificate", certificate)],
            Self::Exec(_) => Vec::new(),
            Self::PostgresRole(PostgresRoleSpec { admin, .. })
            | Self::MysqlUser(MysqlUserSpec { admin, .. }) => {
                vec![("admin/user", &admin.user), ("admin/password", &admin.password)]
            }
            Self::SshCa(spec) => vec![("ca", &spec.ca)],
            Self::Vault(vault) => vault.auth.sources(),
            Self::Oauth2(spec) => spec.sources(),
            Self::GithubApp(spec) => vec![("app_key", &spec.key)],
            Self::Aws(spec) => spec.sources(),
        }
    }
}

/// `source = "exec"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecSpec {
    /// `command`: the program, by its whole path, and its arguments.
    pub command: Vec<String>,
    /// `timeout`, 10 s if left out: how long it may take.
    pub timeout: Duration,
    /// `share`, "session" if left out.
    pub share: Share,
}

/// `source = "postgres-role"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostgresRoleSpec {
    /// `admin`: who makes and drops the roles.
    pub admin: AdminSpec,
    /// `grant`: roles that the new one is a member of; at least one.
    pub grant: Vec<String>,
    /// `set_role`: the role that its sessions act as, so that what they make belongs to that one; one of `grant`.
    pub set_role: Option<String>,
    /// `reassign_to`: who gets what the role owns in the end. `None`: a role that owns something is locked and kept.
    pub reassign_to: Option<String>,
    /// `ttl`, 1 h if left out: how long a role lives at most.
    pub ttl: Duration,
    /// `connections`: how many connections may be open under one role.
    pub connections: u32,
    /// `share`, "session" if left out.
    pub share: Share,
}

/// `source = "mysql-user"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MysqlUserSpec {
    /// `admin`: who makes and drops the users.
    pub admin: AdminSpec,
    /// `grant`: the one role that the new user has.
    pub grant: String,
    /// `ttl`, 1 h if left out: how long a user lives at most.
    pub ttl: Duration,
    /// `connections`: how many connections may be open under one user.
    pub connections: u32,
    /// `share`, "session" if left out.
    pub share: Share,
}

/// `source = "ssh-ca"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SshCaSpec {
    /// `ca`: the key that signs; a file, a systemd credential or an age file.
    pub ca: SourceSpec,
    /// `principals`: as whom the certificate may log in; names, or patterns with `{workload}` and `{service}`; at least one.
    pub principals: Vec<String>,
    /// `ttl`, 5 min if left out: how long it may be logged in with.
    pub ttl: Duration,
    /// `force_command`: what the server runs, whatever is asked for.
    pub force_command: Option<String>,
    /// `source_address`: where the server sees the connection come from; empty: from anywhere.
    pub source_address: Vec<IpNet>,
    /// `extensions`, such as "permit-pty"; none if left out.
    pub extensions: Vec<&'static str>,
}

/// `admin`: a login for administration alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdminSpec {
    /// `user`.
    pub user: SourceSpec,
    /// `password`.
    pub password: SourceSpec,
    /// `database`: the one that it logs in to, "postgres" if left out; MariaDB's admin has none.
    pub database: Option<String>,
}

/// `share`: who uses what was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Share {
    /// "session": one session.
    Session,
    /// "workload": all sessions of one job (its cgroup) under one identity, one after another and at once.
    Workload,
}

/// Where one secret comes from. `Debug` keeps a literal to itself: injected user names are in no log.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceSpec {
    /// Written in the policy; for user names alone.
    Literal(String),
    /// `{ file = "/path" }`: the file's bytes less one trailing newline. Must be readable by the agent's user alone.
    File(PathBuf),
    /// `{ env = "NAME" }` of the agent.
    Env(String),
    /// `{ systemd = "name" }`: file of that name in `$CREDENTIALS_DIRECTORY`.
    Systemd(String),
    /// `{ age = "/path", identity = … }`: what is in a file that is encrypted with age.
    Age {
        /// `age`: the encrypted file. Nobody but its owner may write it.
        file: PathBuf,
        /// `identity`: what opens it, a `File` or a `Systemd`.
        identity: Box<SourceSpec>,
    },
}

impl SourceSpec {
    /// The file that holds a secret in clear, if there is one: the source itself, or what opens it.
    pub fn secret_file(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            Self::Age { identity, .. } => identity.secret_file(),
            Self::Literal(_) | Self::Env(_) | Self::Systemd(_) => None,
        }
    }
}

impl fmt::Debug for SourceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Literal(_) => f.write_str("Literal"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Env(name) => f.debug_tuple("Env").field(name).finish(),
            Self::Systemd(name) => f.debug_tuple("Systemd").field(name).finish(),
            Self::Age { file, identity } => f.debug_tuple("Age").field(file).field(identity).finish(),
        }
    }
}
