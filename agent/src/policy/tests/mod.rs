//! What workloads are told, and what an attacker finds.

mod invariants;
mod lints;
mod refusals;
mod requests;
mod sets;
mod verdicts;

use std::path::Path;
use std::sync::Arc;

use super::{Ruling, ServicePolicy};
use crate::config::{PolicyDoc, parse_policy};
use crate::model::{Action, Command, Effect, Object, ObjectKind, Schema};

/// A policy of one service with these rules.
fn document(rules: &str) -> PolicyDoc {
    parse_policy(
        Path::new("/etc/tollgate/policies.d/job.toml"),
        &format!(
            r#"
[workload]
name = "job"
cgroup = ["/job.slice"]
egress = "deny"
[[service]]
name = "db"
protocol = "postgres"
address = ["db.acme.test:5432"]
[service.credential]
source = "env"
user = "u"
password = "P"
{rules}
"#
        ),
    )
    .unwrap_or_else(|errors| panic!("{errors}"))
}

fn compile(rules: &str) -> ServicePolicy {
    let doc = document(rules);
    ServicePolicy::compile(&doc.services[0]).of_file(&doc.path)
}

fn rule(name: &str, verdict: &str, body: &str) -> String {
    let approvers = if verdict == "approve" {
        "approvers = [\"dba\"]\n"
    } else {
        ""
    };
    format!("[[service.rule]]\nname = \"{name}\"\nverdict = \"{verdict}\"\n{approvers}{body}\n")
}

fn command(actions: Vec<Action>) -> Command {
    Command {
        text: "…".into(),
        actions,
        without_where: false,
        unknown: None,
        http: None,
    }
}

fn on(effect: Effect, kind: ObjectKind, schema: Schema, name: &str) -> Action {
    Action {
        effect,
        object: Some(Object {
            kind,
            schema,
            name: name.into(),
        }),
    }
}

/// `effect` on a table: `public.orders`, `orders` (not resolved), `a|b.orders` (in one of both).
fn table(effect: Effect, name: &str) -> Action {
    let (schema, name) = match name.split_once('.') {
        Some((schemas, name)) if schemas.contains('|') => {
            let schemas: Arc<[Arc<str>]> = schemas.split('|').map(Arc::from).collect();
            (Schema::AnyOf(schemas), name)
        }
        Some((schema, name)) => (Schema::Named(schema.into()), name),
        None => (Schema::Unresolved, name),
    };
    on(effect, ObjectKind::Table, schema, name)
}

fn plain(effect: Effect) -> Action {
    Action { effect, object: None }
}

/// The ruling in one word.
fn word(ruling: &Ruling) -> &'static str {
    match ruling {
        Ruling::Allow(_) => "allow",
        Ruling::Hold(_) => "hold",
        Ruling::Deny(_) => "deny",
    }
}
