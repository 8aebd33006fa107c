//! A policy file's TOML to typed values, strictly.

mod credential;
mod identity;
mod mask;
mod rule;
mod service;
mod source;
mod ssh_ca;
mod unix;

use std::path::{Path, PathBuf};

use crate::model::WorkloadName;

use super::keys;
use super::policy::{Demand, DnsSpec, Egress, Mode, PolicyDoc, PolicyText, Workload};
use super::reader::{Field, Table, Wrong};
use super::scalar;

pub(super) use source::source_spec;

/// Decodes a whole policy; `None` after at least one report.
pub(super) fn policy(root: Table<'_>, path: &Path, text: &str) -> Option<PolicyDoc> {
    let workload = root
        .required("workload")
        .and_then(|field| field.table(&keys::WORKLOAD))
        .map(workload);
    let identity = root
        .optional("identity")
        .and_then(|field| field.table(&keys::IDENTITY))
        .map(identity::identity);
    let strict = workload.as_ref().is_some_and(|workload| {
        workload
            .as_ref()
            .is_some_and(|workload| workload.egress == Egress::Deny)
    });
    let dns = or_default(root.optional("dns"), DnsSpec::default(), |field| {
        dns(field.table(&keys::DNS)?, strict)
    });
    let services = match root.optional("service") {
        Some(field) => service::services(field),
        None => Some(Vec::new()),
    };
    let (identity, denied) = match identity {
        Some(decoded) => decoded.map(|(spec, denied)| (Some(spec), denied))?,
        None => (None, Vec::new()),
    };
    Some(PolicyDoc {
        path: path.to_owned(),
        hash: blake3::hash(text.as_bytes()).to_hex().to_string(),
        text: PolicyText::new(text),
        workload: workload??,
        dns: dns?,
        identity,
        denied,
        services: services?,
    })
}

fn workload(table: Table<'_>) -> Option<Workload> {
    let name = table
        .required("name")
        .and_then(|field| field.parsed(scalar::identifier));
    let cgroups = table.required("cgroup").and_then(|field| {
        field.parsed_list(
            "name at least one cgroup, or remove the file: a workload without a cgroup is nobody",
            scalar::cgroup,
        )
    });
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
    let require = or_default(table.optional("require"), Vec::new(), |field| {
        field.parsed_list_or_none(demand)
    });
    Some(Workload {
        name: WorkloadName::from(name?.as_str()),
        cgroups: cgroups?,
        mode: mode?,
        egress: egress?,
        require: require?,
    })
}

fn dns(table: Table<'_>, strict: bool) -> Option<DnsSpec> {
    if !strict {
        table.refuse(
            "allow",
            "\"allow\" has a meaning with egress = \"deny\" alone: elsewhere every name may be asked for",
            "remove it, or write egress = \"deny\" in [workload]",
        );
    }
    let allow = or_default(table.optional("allow"), Vec::new(), |field| {
        field.parsed_list("name at least one name, or remove the key", scalar::dns_pattern)
    });
    let resolvers = or_default(table.optional("resolvers"), Vec::new(), |field| {
        field.parsed_list(
            "name at least one nameserver, or remove the key",
            scalar::nameserver,
        )
    });
    Some(DnsSpec {
        allow: allow?,
        resolvers: resolvers?,
    })
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

fn variable(field: Field<'_>) -> Option<String> {
    field.parsed(|text| {
        if scalar::variable(text) {
            Ok(text.to_owned())
        } else {
            Err(Wrong::new(
                format!("\"{}\" is no name of an environment variable", field.key()),
                "write the variable's name, without \"$\"",
            ))
        }
    })
}

/// The decoded value of a key that may be left out; `None` if it is there and wrong.
pub(super) fn or_default<'v, T>(
    field: Option<Field<'v>>,
    default: T,
    decode: impl FnOnce(Field<'v>) -> Option<T>,
) -> Option<T> {
    match field {
        Some(field) => decode(field),
        None => Some(default),
    }
}

/// A path that may be left out.
pub(super) fn path_or(field: Option<Field<'_>>, default: &str) -> Option<PathBuf> {
    or_default(field, PathBuf::from(default), Field::path)
}
