//! `[service.credential]`, as typed values.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// `[service.credential]`: what the agent logs in with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialSource {
    /// `source`, with the keys that belong to it.
    pub kind: CredentialKind,
    /// `database`: replaces the one that the client asks for; `None`: the client's stands.
    pub database: Option<String>,
}

/// `source`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CredentialKind {
    /// `"file"`, `"env"`, `"systemd"`: a login that somebody else looks after, read when it is needed.
    Static {
        /// Source of the user name. A name written into the policy is [`SourceSpec::Literal`].
        user: SourceSpec,
        /// Source of the password.
        password: SourceSpec,
    },
    /// `"exec"`: a program that prints a secret.
    Exec(ExecSpec),
    /// `"postgres-role"`: a role made for the session or the workload, and dropped after it.
    PostgresRole(PostgresRoleSpec),
}

impl CredentialKind {
    /// The word of `source`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Static { password, .. } => match password {
                SourceSpec::File(_) => "file",
                SourceSpec::Env(_) => "env",
                SourceSpec::Systemd(_) => "systemd",
                SourceSpec::Literal(_) => "none",
            },
            Self::Exec(_) => "exec",
            Self::PostgresRole(_) => "postgres-role",
        }
    }

    /// Every single value that is read from somewhere, and where it stands below `[service.credential]` (a JSON pointer
    /// without its first slash).
    pub fn sources(&self) -> Vec<(&'static str, &SourceSpec)> {
        match self {
            Self::Static { user, password } => vec![("user", user), ("password", password)],
            Self::Exec(_) => Vec::new(),
            Self::PostgresRole(role) => vec![
                ("admin/user", &role.admin.user),
                ("admin/password", &role.admin.password),
            ],
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

/// `admin`: a login for administration alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdminSpec {
    /// `user`.
    pub user: SourceSpec,
    /// `password`.
    pub password: SourceSpec,
    /// `database`, "postgres" if left out: the one that it logs in to.
    pub database: String,
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
}

impl fmt::Debug for SourceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Literal(_) => f.write_str("Literal"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Env(name) => f.debug_tuple("Env").field(name).finish(),
            Self::Systemd(name) => f.debug_tuple("Systemd").field(name).finish(),
        }
    }
}
