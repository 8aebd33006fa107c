//! `[[service.rule]]` and `[service.limits]`.

use std::time::Duration;

use crate::config::keys;
use crate::config::policy::{Limits, Protocol, RuleDoc, RuleVerdict};
use crate::config::reader::{Field, Table, Wrong, choose};
use crate::config::scalar;
use crate::model::{Effect, RuleName};

use super::{or_default, request};

const DEFAULT_TIMEOUT: Duration = Duration::from_mins(10);
const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_hours(24);
const YEAR: Duration = Duration::from_hours(365 * 24);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Word {
    Allow,
    Deny,
    Approve,
}

/// Keys that only services of databases have.
const SQL_KEYS: [&str; 3] = ["tables", "functions", "without_where"];

/// What requests of HTTP do.
const REQUEST_EFFECTS: [Effect; 6] = [
    Effect::Read,
    Effect::Write,
    Effect::Modify,
    Effect::Delete,
    Effect::Websocket,
    Effect::Unknown,
];

/// What a rule of HTTP that names no effect lets pass: what is done by methods that are known.
const USUAL_EFFECTS: [Effect; 4] = [Effect::Read, Effect::Write, Effect::Modify, Effect::Delete];

pub(super) fn rules(field: Field<'_>, protocol: Option<Protocol>) -> Option<Vec<RuleDoc>> {
    let mut rules: Vec<RuleDoc> = Vec::new();
    let tables = field.tables(&keys::RULE);
    for table in &tables {
        let Some(rule) = rule(*table, protocol) else {
            continue;
        };
        if rules.iter().any(|other| other.name == rule.name) {
            table.error(
                format!("a second rule of this service has the name \"{}\"", rule.name),
                "give each rule a name of its own: refusals and records say it",
            );
        }
        rules.push(rule);
    }
    (!tables.is_empty() && rules.len() == tables.len()).then_some(rules)
}

fn rule(table: Table<'_>, protocol: Option<Protocol>) -> Option<RuleDoc> {
    refuse_foreign(&table, protocol);
    let name = table
        .required("name")
        .and_then(|field| field.parsed(|text| scalar::line(text, 100)));
    let request = request::request(table);
    let verdict = verdict(table);
    let effects = effects(&table, protocol, verdict.as_ref());
    if matches!(verdict, Some(RuleVerdict::Deny { .. })) {
        table.refuse(
            "body_max",
            "a deny rule with \"body_max\" would refuse short bodies and let long ones pass",
            "write an allow rule with body_max: what no rule allows is refused",
        );
    }
    let tables = or_default(table.optional("tables"), Vec::new(), |field| {
        field.parsed_list(
            "name tables, or leave the key out to mean any object",
            scalar::table_pattern,
        )
    });
    let functions = or_default(table.optional("functions"), Vec::new(), |field| {
        field.parsed_list(
            "name functions, or leave the key out to mean any object",
            scalar::table_pattern,
        )
    });
    let without_where = or_default(table.optional("without_where"), None, |field| {
        field.boolean().map(Some)
    });
    Some(RuleDoc {
        name: RuleName::from(name?.as_str()),
        effects: effects?,
        tables: tables?,
        functions: functions?,
        without_where: without_where?,
        request: request?,
        verdict: verdict?,
    })
}

fn effects(
    table: &Table<'_>,
    protocol: Option<Protocol>,
    verdict: Option<&RuleVerdict>,
) -> Option<Vec<Effect>> {
    let http = protocol == Some(Protocol::Http);
    if http && table.optional("effects").is_none() {
        return Some(match verdict {
            Some(RuleVerdict::Deny { .. }) => REQUEST_EFFECTS.to_vec(),
            _ => USUAL_EFFECTS.to_vec(),
        });
    }
    let field = table.required("effects")?;
    let all: Vec<(&'static str, Effect)> = Effect::ALL
        .iter()
        .map(|effect| (effect.name(), *effect))
        .collect();
    field.parsed_list(
        "name at least one effect: a rule without any would match nothing",
        |text| {
            let effect = choose("effects", text, &all, &[])?;
            let of_requests = REQUEST_EFFECTS.contains(&effect);
            if http && !of_requests {
                return Err(Wrong::new(
                    format!("no request of HTTP is \"{effect}\""),
                    "it has to be one of read, write, modify, delete, websocket, unknown",
                ));
            }
            if protocol == Some(Protocol::Postgres) && effect == Effect::Websocket {
                return Err(Wrong::new(
                    "no command of a database is \"websocket\"",
                    "remove it",
                ));
            }
            Ok(effect)
        },
    )
}

/// Reports keys that the service's protocol has nothing for.
fn refuse_foreign(table: &Table<'_>, protocol: Option<Protocol>) {
    match protocol {
        Some(Protocol::Http) => {
            for key in SQL_KEYS {
                table.refuse(
                    key,
                    &format!("\"{key}\" is for services of databases: requests of HTTP have none"),
                    "write methods = [\"GET\"] and paths = [\"/v1/users/{id}\"]",
                );
            }
        }
        Some(Protocol::Postgres) => {
            for key in request::KEYS {
                table.refuse(
                    key,
                    &format!("\"{key}\" is for services with protocol = \"http\""),
                    "write effects = [\"read\"] and tables = [\"public.orders\"]",
                );
            }
        }
        // An opaque service has no rules at all, and is told so.
        Some(Protocol::Opaque) | None => {}
    }
}

fn verdict(table: Table<'_>) -> Option<RuleVerdict> {
    let word = table.required("verdict").and_then(|field| {
        field.one_of(
            &[
                ("allow", Word::Allow),
                ("deny", Word::Deny),
                ("approve", Word::Approve),
            ],
            &["observe", "log"],
        )
    })?;
    if word != Word::Approve {
        for key in ["approvers", "timeout"] {
            table.refuse(
                key,
                &format!("\"{key}\" has a meaning with verdict = \"approve\" alone"),
                "remove it, or change the verdict",
            );
        }
    }
    if word != Word::Deny {
        table.refuse(
            "hint",
            "\"hint\" has a meaning with verdict = \"deny\" alone",
            "remove it, or change the verdict",
        );
    }
    match word {
        Word::Allow => Some(RuleVerdict::Allow),
        Word::Deny => {
            let hint = or_default(table.optional("hint"), None, |field| {
                field.parsed(|text| scalar::line(text, 300)).map(Some)
            })?;
            Some(RuleVerdict::Deny { hint })
        }
        Word::Approve => approve(table),
    }
}

fn approve(table: Table<'_>) -> Option<RuleVerdict> {
    let approvers = if let Some(field) = table.optional("approvers") {
        field.parsed_list("name at least one group or user: nobody could approve", |text| {
            scalar::line(text, 64)
        })
    } else {
        table.error(
            "an approve rule has no approvers: nobody could approve",
            "add a line such as approvers = [\"dba\"], groups or users of this host",
        );
        None
    };
    let timeout = or_default(table.optional("timeout"), DEFAULT_TIMEOUT, |field| {
        field.parsed(|text| scalar::duration(text, SECOND, DAY))
    });
    Some(RuleVerdict::Approve {
        approvers: approvers?,
        timeout: timeout?,
    })
}

pub(super) fn limits(table: Table<'_>) -> Option<Limits> {
    let most = i64::MAX.unsigned_abs();
    let rows = or_default(table.optional("rows"), None, |field| {
        field.integer(1, most).map(Some)
    });
    let bytes = or_default(table.optional("bytes"), None, |field| {
        if field.is_integer() {
            field.integer(1, most).map(Some)
        } else {
            field.parsed(scalar::size).map(Some)
        }
    });
    let duration = or_default(table.optional("session"), None, |field| {
        field
            .parsed(|text| scalar::duration(text, SECOND, YEAR))
            .map(Some)
    });
    Some(Limits {
        rows: rows?,
        bytes: bytes?,
        duration: duration?,
    })
}
