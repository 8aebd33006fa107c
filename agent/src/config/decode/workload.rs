//! `[workload]`: who a policy is for.

use crate::model::{ContainerEngine, WorkloadName};

use super::super::keys;
use super::super::policy::{Demand, Egress, Mode, Workload};
use super::super::reader::{Field, Table, Wrong};
use super::super::report::sounds_secret;
use super::super::scalar;
use super::super::selector::{ContainerSpec, LabelRule, Selector, SelectorKind};
use super::{identity, or_default};

pub(super) fn workload(table: Table<'_>) -> Option<Workload> {
    let name = table
        .required("name")
        .and_then(|field| field.parsed(scalar::identifier));
    let container = match table.optional("container") {
        Some(field) => field.table(&keys::CONTAINER).and_then(container).map(Some),
        None => Some(None),
    };
    let selectors = selectors(&table);
    let mode = or_default(table.optional("mode"), Mode::Enforce, |field| {
        field.one_of(&[("enforce", Mode::Enforce), ("observe", Mode::Observe)], &[])
    });
    let egress = or_default(table.optional("egress"), Egress::Allow, |field| {
        field.one_of(
            &[
                ("deny", Egress::Deny),
                ("allow", Egress::Allow),
                ("observe", Egress::Observe),
            ],
            &[],
        )
    });
    let environment = or_default(table.optional("environment"), Vec::new(), |field| {
        rules(field, variable)
    });
    let require = or_default(table.optional("require"), Vec::new(), |field| {
        field.parsed_list_or_none(demand)
    });
    Some(Workload {
        name: WorkloadName::from(name?.as_str()),
        selectors: selectors?,
        container: container?,
        environment: environment?,
        mode: mode?,
        egress: egress?,
        require: require?,
    })
}

/// Every entry of the keys that say which cgroups are the workload.
fn selectors(table: &Table<'_>) -> Option<Vec<Selector>> {
    let of_container = table.optional("container").is_some();
    let mut selectors = Vec::new();
    let mut complete = true;
    let mut given = of_container;
    for kind in [
        SelectorKind::Cgroup,
        SelectorKind::Unit,
        SelectorKind::Slice,
        SelectorKind::UserUnit,
    ] {
        let Some(field) = table.optional(kind.key()) else {
            continue;
        };
        given = true;
        if of_container && kind != SelectorKind::Cgroup {
            table.refuse(
                kind.key(),
                "where containers are is said by \"cgroup\" alone",
                "write their own cgroups, such as cgroup = [\"/ci.slice/docker-*.scope\"], or remove [workload.container]",
            );
            complete = false;
            continue;
        }
        let parsed = field.parsed_list("name at least one, or remove the key", |text| match kind {
            SelectorKind::Cgroup => scalar::cgroup(text),
            SelectorKind::Unit | SelectorKind::UserUnit => scalar::unit(text),
            SelectorKind::Slice => scalar::slice(text),
        });
        match parsed {
            Some(parsed) => selectors.extend(
                (0..)
                    .zip(parsed)
                    .map(|(index, (text, glob))| Selector::new(kind, index, text, glob)),
            ),
            None => complete = false,
        }
    }
    if !given {
        table.error(
            "[workload] says of no cgroup that it is the workload's",
            "add a line such as cgroup = [\"/actions.slice/report-*.service\"], unit = [\"backup@*.service\"], \
             slice = [\"ci.slice\"], or a table [workload.container]",
        );
        return None;
    }
    complete.then_some(selectors)
}

fn container(table: Table<'_>) -> Option<ContainerSpec> {
    let engine = match table.optional("engine") {
        Some(field) => field
            .one_of(
                &[
                    ("docker", ContainerEngine::Docker),
                    ("podman", ContainerEngine::Podman),
                    ("oci", ContainerEngine::Oci),
                ],
                &[],
            )
            .map(Some),
        None => Some(None),
    };
    let image = or_default(table.optional("image"), Vec::new(), |field| {
        field.parsed_list("name at least one image, or remove the key", scalar::claim)
    });
    let labels = or_default(table.optional("labels"), Vec::new(), |field| rules(field, label));
    let spec = ContainerSpec {
        engine: engine?,
        image: image?,
        labels: labels?,
    };
    if spec.image.is_empty() && spec.labels.is_empty() {
        table.error(
            "[workload.container] asks for neither an image nor a label, so that every container is one",
            "add a line such as labels = { \"com.docker.compose.project\" = \"billing\" }; for every container name their \
             cgroups: cgroup = [\"/system.slice/docker-*.scope\"] in [workload]",
        );
        return None;
    }
    Some(spec)
}

fn rules(field: Field<'_>, name: impl Fn(&str) -> Result<(), Wrong>) -> Option<Vec<LabelRule>> {
    let entries = Table::free(field)?;
    let count = entries.len();
    let decoded: Vec<LabelRule> = entries
        .into_iter()
        .filter_map(|field| {
            if let Err(Wrong { what, help }) = name(field.key()) {
                field.error(what, help);
                return None;
            }
            Some(LabelRule {
                name: field.key().to_owned(),
                any_of: identity::values(field)?,
            })
        })
        .collect();
    (decoded.len() == count).then_some(decoded)
}

fn label(name: &str) -> Result<(), Wrong> {
    if name.is_empty() {
        return Err(Wrong::new("a label has no name", "write the label's name"));
    }
    Ok(())
}

fn variable(name: &str) -> Result<(), Wrong> {
    if !scalar::variable(name) {
        return Err(Wrong::new(
            format!("\"{name}\" is no name of an environment variable"),
            "write the variable's name, without \"$\"",
        ));
    }
    if sounds_secret(name) {
        return Err(Wrong::new(
            format!(
                "\"{name}\" sounds like a secret, and what the job has there would stand in every record"
            ),
            "ask for a variable that says whose job it is, such as CI_PROJECT_PATH",
        ));
    }
    Ok(())
}

fn demand(text: &str) -> Result<Demand, Wrong> {
    match text {
        "lsm" => Ok(Demand::Lsm),
        _ => Err(Wrong::new(
            format!("\"{text}\" is nothing that a policy can require"),
            "write [\"lsm\"], for every program on security hooks",
        )),
    }
}
