//! `[service.credential]`, and sources of single values.

use std::time::Duration;

use crate::config::credential::{CredentialKind, CredentialSource, ExecSpec, Share};
use crate::config::policy::Protocol;
use crate::config::reader::{Field, Table};
use crate::config::scalar;

use super::source::{self, SourceKind, source_spec};
use super::{JobProof, aws, github_app, inject, oauth2, on_server, or_default, ssh_ca, vault};

const LATER_SOURCES: &[&str] = &["client"];

const SECOND: Duration = Duration::from_secs(1);
const EXEC_TIMEOUT: Duration = Duration::from_secs(10);
const MOST_EXEC_TIMEOUT: Duration = Duration::from_mins(2);

#[derive(Clone, Copy)]
enum Chosen {
    Static(SourceKind),
    Exec,
    PostgresRole,
    MysqlUser,
    SshCa,
    Vault,
    Oauth2,
    GithubApp,
    Aws,
}

impl Chosen {
    /// The keys that it takes, besides `source` and `database`.
    fn keys(self) -> &'static [&'static str] {
        match self {
            Self::Static(SourceKind::Age) => &["user", "password", "token", "key", "certificate", "identity"],
            Self::Static(_) => &["user", "password", "token", "key", "certificate"],
            Self::Exec => &["command", "timeout", "share"],
            Self::PostgresRole => on_server::POSTGRES_KEYS,
            Self::MysqlUser => on_server::MYSQL_KEYS,
            Self::SshCa => ssh_ca::KEYS,
            Self::Vault => vault::KEYS,
            Self::Oauth2 => oauth2::KEYS,
            Self::GithubApp => github_app::KEYS,
            Self::Aws => aws::KEYS,
        }
    }
}

const SOURCES: &[(&str, Chosen)] = &[
    ("file", Chosen::Static(SourceKind::File)),
    ("env", Chosen::Static(SourceKind::Env)),
    ("systemd", Chosen::Static(SourceKind::Systemd)),
    ("age", Chosen::Static(SourceKind::Age)),
    ("exec", Chosen::Exec),
    ("postgres-role", Chosen::PostgresRole),
    ("mysql-user", Chosen::MysqlUser),
    ("ssh-ca", Chosen::SshCa),
    ("vault", Chosen::Vault),
    ("oauth2", Chosen::Oauth2),
    ("github-app", Chosen::GithubApp),
    ("aws", Chosen::Aws),
];

/// `protocol` of the service, `None` where that is wrong itself, and whether it is HTTP. `proof`: what the policy asks jobs for.
pub(super) fn credential(
    table: Table<'_>,
    (protocol, http): (Option<Protocol>, bool),
    proof: JobProof,
) -> Option<CredentialSource> {
    let source = table
        .required("source")
        .and_then(|field| field.one_of(SOURCES, LATER_SOURCES));
    if source.is_none()
        && let Some(password) = table.optional("password")
    {
        password.hide();
    }
    // The keys of a source that this version has not are other ones: complaining of them would mislead.
    let source = source?;
    refuse_others(&table, source);
    let kind = match source {
        Chosen::Static(kind) => static_kind(&table, kind),
        Chosen::Exec => exec(&table).map(CredentialKind::Exec),
        Chosen::PostgresRole => {
            if protocol.is_some_and(|protocol| protocol != Protocol::Postgres) && !http {
                table.error(
                    "\"postgres-role\" makes roles on the service's own server, which has to be a PostgreSQL one",
                    "write protocol = \"postgres\", or name another source",
                );
            }
            on_server::postgres_role(&table).map(CredentialKind::PostgresRole)
        }
        Chosen::MysqlUser => {
            if protocol == Some(Protocol::Postgres) {
                table.error(
                    "\"mysql-user\" makes users on the service's own server, which has to be a MariaDB one",
                    "name \"postgres-role\"; protocol = \"mysql\" is for a later version",
                );
            }
            on_server::mysql_user(&table).map(CredentialKind::MysqlUser)
        }
        Chosen::SshCa => {
            table.refuse("database", "\"database\" has no meaning for SSH", "remove it");
            ssh_ca::ssh_ca(&table).map(CredentialKind::SshCa)
        }
        Chosen::Vault => vault::vault(&table, protocol).map(|vault| CredentialKind::Vault(Box::new(vault))),
        Chosen::Oauth2 => {
            oauth2::oauth2(&table, protocol, proof).map(|spec| CredentialKind::Oauth2(Box::new(spec)))
        }
        Chosen::GithubApp => {
            no_login(&table);
            github_app::github_app(&table).map(|spec| CredentialKind::GithubApp(Box::new(spec)))
        }
        Chosen::Aws => {
            no_login(&table);
            aws::aws(&table, proof).map(|spec| CredentialKind::Aws(Box::new(spec)))
        }
    };
    let database = or_default(table.optional("database"), None, |field| {
        field.parsed(|text| scalar::line(text, 63)).map(Some)
    });
    let fitting = inject::fitting(&table, (protocol, http), kind.as_ref());
    let fits = !http || fitting.is_some();
    Some(CredentialSource {
        kind: kind.filter(|_| fits)?,
        database: database?,
        http: fitting,
    })
}

/// What such a source makes is no login for a database.
fn no_login(table: &Table<'_>) {
    table.refuse(
        "database",
        "\"database\" is of a login to a database, which this source makes none of",
        "remove it",
    );
}

/// A login, a token or a key, each read from where `kind` says.
fn static_kind(table: &Table<'_>, kind: SourceKind) -> Option<CredentialKind> {
    let read = |key: &'static str| {
        table
            .required(key)
            .and_then(|field| source::by_kind(kind, field, table))
    };
    let others = |mine: &str, keys: &[&'static str]| {
        for key in keys {
            table.refuse(
                key,
                &format!("a credential is a login, a token or a key, and \"{mine}\" is given"),
                "remove one of them",
            );
        }
    };
    if table.optional("token").is_some() {
        others("token", &["user", "password", "key", "certificate"]);
        return read("token").map(CredentialKind::StaticToken);
    }
    if table.optional("key").is_some() || table.optional("certificate").is_some() {
        others("key", &["user", "password"]);
        let (key, certificate) = (read("key"), read("certificate"));
        return key
            .zip(certificate)
            .map(|(key, certificate)| CredentialKind::StaticKey { key, certificate });
    }
    let user = table.required("user").and_then(|field| source_spec(field, true));
    let password = read("password");
    user.zip(password)
        .map(|(user, password)| CredentialKind::Static { user, password })
}

/// A key of another source would be without effect.
fn refuse_others(table: &Table<'_>, source: Chosen) {
    let mine = source.keys();
    let mut seen = Vec::new();
    for (other, chosen) in SOURCES {
        for key in chosen.keys() {
            if !mine.contains(key) && !seen.contains(key) {
                seen.push(*key);
                table.refuse(
                    key,
                    &format!("\"{key}\" belongs to source = \"{other}\", and has no effect here"),
                    &format!("remove it; the keys of this source are {}", mine.join(", ")),
                );
            }
        }
    }
}

fn exec(table: &Table<'_>) -> Option<ExecSpec> {
    let command = table.required("command").and_then(command);
    let timeout = or_default(table.optional("timeout"), EXEC_TIMEOUT, |field| {
        field.parsed(|text| scalar::duration(text, SECOND, MOST_EXEC_TIMEOUT))
    });
    let share = share(table);
    Some(ExecSpec {
        command: command?,
        timeout: timeout?,
        share: share?,
    })
}

fn command(field: Field<'_>) -> Option<Vec<String>> {
    let words = field.list("name the program, by its whole path, and its arguments")?;
    let words: Vec<&str> = words.into_iter().map(Field::string).collect::<Option<_>>()?;
    let wrong = if words.first().is_some_and(|program| !program.starts_with('/')) {
        Some((
            "the program in \"command\" has no absolute path: no shell runs it, and nothing is searched for",
            "write the whole path, such as [\"/usr/local/bin/orders-secret\", \"--role\", \"report\"]",
        ))
    } else if words.iter().any(|word| word.contains('\0')) {
        Some(("a word of \"command\" has a zero byte in it", "remove it"))
    } else {
        None
    };
    if let Some((what, help)) = wrong {
        field.error(what, help);
        return None;
    }
    Some(words.into_iter().map(str::to_owned).collect())
}

pub(super) fn share(table: &Table<'_>) -> Option<Share> {
    or_default(table.optional("share"), Share::Session, |field| {
        field.one_of(&[("session", Share::Session), ("workload", Share::Workload)], &[])
    })
}
