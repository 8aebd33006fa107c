//! Sources that make accounts on the service's own server: `"postgres-role"`, `"mysql-user"`.

use std::time::Duration;

use crate::config::credential::{AdminSpec, MysqlUserSpec, PostgresRoleSpec, Share};
use crate::config::keys;
use crate::config::reader::{Table, Wrong};
use crate::config::scalar;

use super::credential::share;
use super::or_default;
use super::source::source_spec;

const TTL: Duration = Duration::from_hours(1);
const LEAST_TTL: Duration = Duration::from_secs(10);
const MOST_TTL: Duration = Duration::from_hours(7 * 24);
/// One for the session, one for the agent's look-ups in the catalog, and one for a look-up that replaces a broken one.
const CONNECTIONS_OF_A_SESSION: u32 = 3;
const CONNECTIONS_OF_A_WORKLOAD: u32 = 100;
/// What MariaDB takes.
const LONGEST_MYSQL_ROLE: usize = 128;

pub(super) const POSTGRES_KEYS: &[&str] = &[
    "admin",
    "grant",
    "set_role",
    "reassign_to",
    "ttl",
    "connections",
    "share",
];
pub(super) const MYSQL_KEYS: &[&str] = &["admin", "grant", "ttl", "connections", "share"];

pub(super) fn postgres_role(table: &Table<'_>) -> Option<PostgresRoleSpec> {
    let admin = table
        .required("admin")
        .and_then(|field| field.table(&keys::ADMIN))
        .and_then(|table| admin(table, true));
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
    let life = life(table);
    Some(PostgresRoleSpec {
        admin: admin?,
        grant: grant?,
        set_role: set_role?,
        reassign_to: reassign_to?,
        ttl: life.ttl?,
        connections: life.connections?,
        share: life.share?,
    })
}

pub(super) fn mysql_user(table: &Table<'_>) -> Option<MysqlUserSpec> {
    let admin = table
        .required("admin")
        .and_then(|field| field.table(&keys::ADMIN))
        .and_then(|table| admin(table, false));
    let grant = table.required("grant").and_then(|field| {
        let roles = field.parsed_list(
            "name the role that the new user has: without one it may do nothing",
            |text| scalar::line(text, LONGEST_MYSQL_ROLE),
        )?;
        match <[String; 1]>::try_from(roles) {
            Ok([role]) => Some(role),
            Err(_) => {
                field.error(
                    "a user of a MariaDB server has one role active at a time",
                    "name one, and on the server grant it the others: GRANT other TO that_one",
                );
                None
            }
        }
    });
    let life = life(table);
    Some(MysqlUserSpec {
        admin: admin?,
        grant: grant?,
        ttl: life.ttl?,
        connections: life.connections?,
        share: life.share?,
    })
}

/// How long an account lives, and for whom.
struct Life {
    ttl: Option<Duration>,
    share: Option<Share>,
    connections: Option<u32>,
}

fn life(table: &Table<'_>) -> Life {
    let ttl = or_default(table.optional("ttl"), TTL, |field| {
        field.parsed(|text| scalar::duration(text, LEAST_TTL, MOST_TTL))
    });
    let share = share(table);
    let usual = match share {
        Some(Share::Workload) => CONNECTIONS_OF_A_WORKLOAD,
        Some(Share::Session) | None => CONNECTIONS_OF_A_SESSION,
    };
    let connections = or_default(table.optional("connections"), usual, |field| {
        u32::try_from(field.integer(2, 10_000)?).ok()
    });
    Life {
        ttl,
        share,
        connections,
    }
}

/// `databases`: whether it logs in to one.
fn admin(table: Table<'_>, databases: bool) -> Option<AdminSpec> {
    let user = table.required("user").and_then(|field| source_spec(field, true));
    let password = table
        .required("password")
        .and_then(|field| source_spec(field, false));
    if !databases {
        table.refuse(
            "database",
            "\"database\" has no effect here: users belong to the whole server",
            "remove it",
        );
    }
    let database = or_default(table.optional("database"), None, |field| {
        field.parsed(|text| scalar::line(text, 63)).map(Some)
    });
    Some(AdminSpec {
        user: user?,
        password: password?,
        database: database?,
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
