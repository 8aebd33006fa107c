//! `[service.credential]`, and sources of single values.

use std::time::Duration;

use crate::config::credential::{
    AdminSpec, CredentialKind, CredentialSource, ExecSpec, PostgresRoleSpec, Share, SourceSpec,
};
use crate::config::keys;
use crate::config::policy::Protocol;
use crate::config::reader::{Field, Table, Wrong};
use crate::config::scalar;

use super::{or_default, variable};

const LATER_SOURCES: &[&str] = &["vault", "mysql-user", "ssh-ca", "oauth2", "age", "client"];

const SECOND: Duration = Duration::from_secs(1);
const EXEC_TIMEOUT: Duration = Duration::from_secs(10);
const MOST_EXEC_TIMEOUT: Duration = Duration::from_mins(2);
const ROLE_TTL: Duration = Duration::from_hours(1);
const LEAST_TTL: Duration = Duration::from_secs(10);
const MOST_TTL: Duration = Duration::from_hours(7 * 24);
/// One for the session, one for the agent's look-ups in the catalog, and one for a look-up that replaces a broken one.
const CONNECTIONS_OF_A_SESSION: u32 = 3;
const CONNECTIONS_OF_A_WORKLOAD: u32 = 100;

#[derive(Clone, Copy)]
enum SourceKind {
    File,
    Env,
    Systemd,
}

#[derive(Clone, Copy)]
enum Chosen {
    Static(SourceKind),
    Exec,
    PostgresRole,
}

impl Chosen {
    /// The keys that it takes, besides `source` and `database`.
    fn keys(self) -> &'static [&'static str] {
        match self {
            Self::Static(_) => &["user", "password"],
            Self::Exec => &["command", "timeout", "share"],
            Self::PostgresRole => &[
                "admin",
                "grant",
                "set_role",
                "reassign_to",
                "ttl",
                "connections",
                "share",
            ],
        }
    }
}

const SOURCES: &[(&str, Chosen)] = &[
    ("file", Chosen::Static(SourceKind::File)),
    ("env", Chosen::Static(SourceKind::Env)),
    ("systemd", Chosen::Static(SourceKind::Systemd)),
    ("exec", Chosen::Exec),
    ("postgres-role", Chosen::PostgresRole),
];

/// `protocol` of the service; `None` where that is wrong itself.
pub(super) fn credential(table: Table<'_>, protocol: Option<Protocol>) -> Option<CredentialSource> {
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
        Chosen::Static(kind) => {
            let user = table.required("user").and_then(|field| source_spec(field, true));
            let password = table.required("password").and_then(|field| by_kind(kind, field));
            user.zip(password)
                .map(|(user, password)| CredentialKind::Static { user, password })
        }
        Chosen::Exec => exec(table).map(CredentialKind::Exec),
        Chosen::PostgresRole => {
            if protocol.is_some_and(|protocol| protocol != Protocol::Postgres) {
                table.error(
                    "\"postgres-role\" makes roles on the service's own server, which has to be a PostgreSQL one",
                    "write protocol = \"postgres\", or name another source",
                );
            }
            postgres_role(table).map(CredentialKind::PostgresRole)
        }
    };
    let database = or_default(table.optional("database"), None, |field| {
        field.parsed(|text| scalar::line(text, 63)).map(Some)
    });
    Some(CredentialSource {
        kind: kind?,
        database: database?,
    })
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

fn exec(table: Table<'_>) -> Option<ExecSpec> {
    let command = table.required("command").and_then(command);
    let timeout = or_default(table.optional("timeout"), EXEC_TIMEOUT, |field| {
        field.parsed(|text| scalar::duration(text, SECOND, MOST_EXEC_TIMEOUT))
    });
    let share = share(&table);
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

fn postgres_role(table: Table<'_>) -> Option<PostgresRoleSpec> {
    let admin = table
        .required("admin")
        .and_then(|field| field.table(&keys::ADMIN))
        .and_then(admin);
    let grant = table.required("grant").and_then(|field| {
        field.parsed_list(
            "name at least one role: a role that is a member of none may do nothing",
            role,
        )
    });
    let set_role = or_default(table.optional("set_role"), None, |field| {
        let name = field.parsed(role)?;
        if let Some(grant) = &grant
            && !grant.contains(&name)
        {
            field.error(
                format!("\"{name}\" is not in \"grant\", so the new role may not act as it"),
                format!("add \"{name}\" to grant"),
            );
            return None;
        }
        Some(Some(name))
    });
    let reassign_to = or_default(table.optional("reassign_to"), None, |field| {
        field.parsed(role).map(Some)
    });
    let ttl = or_default(table.optional("ttl"), ROLE_TTL, |field| {
        field.parsed(|text| scalar::duration(text, LEAST_TTL, MOST_TTL))
    });
    let share = share(&table);
    let usual = match share {
        Some(Share::Workload) => CONNECTIONS_OF_A_WORKLOAD,
        Some(Share::Session) | None => CONNECTIONS_OF_A_SESSION,
    };
    let connections = or_default(table.optional("connections"), usual, |field| {
        u32::try_from(field.integer(2, 10_000)?).ok()
    });
    Some(PostgresRoleSpec {
        admin: admin?,
        grant: grant?,
        set_role: set_role?,
        reassign_to: reassign_to?,
        ttl: ttl?,
        connections: connections?,
        share: share?,
    })
}

fn admin(table: Table<'_>) -> Option<AdminSpec> {
    let user = table.required("user").and_then(|field| source_spec(field, true));
    let password = table
        .required("password")
        .and_then(|field| source_spec(field, false));
    let database = or_default(table.optional("database"), "postgres".to_owned(), |field| {
        field.parsed(|text| scalar::line(text, 63))
    });
    Some(AdminSpec {
        user: user?,
        password: password?,
        database: database?,
    })
}

fn share(table: &Table<'_>) -> Option<Share> {
    or_default(table.optional("share"), Share::Session, |field| {
        field.one_of(&[("session", Share::Session), ("workload", Share::Workload)], &[])
    })
}

/// Name of a role, as the catalog spells it: PostgreSQL would cut a longer one off in silence.
fn role(text: &str) -> Result<String, Wrong> {
    let name = scalar::line(text, 63)?;
    if name.len() > 63 {
        return Err(Wrong::new(
            format!("\"{name}\" is longer than 63 bytes, which no role's name is"),
            "write the name as \\du of psql shows it",
        ));
    }
    Ok(name)
}

/// A source written as `{ file = … }`, `{ env = … }` or `{ systemd = … }`; a text, where `literal` is taken.
pub(crate) fn source_spec(field: Field<'_>, literal: bool) -> Option<SourceSpec> {
    if !field.is_table() {
        if literal {
            return field
                .parsed(|text| scalar::line(text, 255))
                .map(SourceSpec::Literal);
        }
        field.hide();
        field.error(
            format!("\"{}\" is a secret and cannot be written here", field.key()),
            "write where it is: { file = \"/path\" }, { env = \"NAME\" } or { systemd = \"name\" }",
        );
        return None;
    }
    let table = field.table(&keys::SOURCE_SPEC)?;
    let given: Vec<(SourceKind, Field<'_>)> = [
        (SourceKind::File, table.optional("file")),
        (SourceKind::Env, table.optional("env")),
        (SourceKind::Systemd, table.optional("systemd")),
    ]
    .into_iter()
    .filter_map(|(kind, field)| Some((kind, field?)))
    .collect();
    let [(kind, field)] = given.as_slice() else {
        table.error(
            format!("\"{}\" has to have one source", field.key()),
            "write { file = \"/path\" }, { env = \"NAME\" } or { systemd = \"name\" }",
        );
        return None;
    };
    by_kind(*kind, *field)
}

/// What `field` says, read as the path, variable or credential name that `kind` asks for. A value that is none of
/// these may well be the secret itself, so it is not repeated.
fn by_kind(kind: SourceKind, field: Field<'_>) -> Option<SourceSpec> {
    let spec = match kind {
        SourceKind::File => {
            if field.is_table() {
                field.hide();
                field.error(
                    "\"source\" says where the password is, so this is a path and no table",
                    "write password = \"/etc/tollgate/secrets/orders-db\"",
                );
                return None;
            }
            field.string().and_then(|text| {
                if text.starts_with('/') && !text.contains('\0') {
                    return Some(SourceSpec::File(text.into()));
                }
                field.error(
                    format!("\"{}\" is not an absolute path", field.key()),
                    "write the path of a file that holds the secret, from /, never the secret itself",
                );
                None
            })
        }
        SourceKind::Env => variable(field).map(SourceSpec::Env),
        SourceKind::Systemd => field.string().and_then(|text| {
            let fits = !text.is_empty()
                && text.len() <= 255
                && text != "."
                && text != ".."
                && !text.contains(|c: char| c == '/' || c.is_control() || c.is_whitespace());
            if fits {
                return Some(SourceSpec::Systemd(text.into()));
            }
            field.error(
                format!("\"{}\" is no name of a credential", field.key()),
                "write the name that LoadCredential= in the agent's unit gives it, without \"/\"",
            );
            None
        }),
    };
    if spec.is_none() {
        field.hide();
    }
    spec
}
