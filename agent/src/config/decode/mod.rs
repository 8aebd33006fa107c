//! A policy file's TOML to typed values, strictly.

mod mask;
mod rule;
mod service;
mod unix;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::model::WorkloadName;

use super::keys;
use super::policy::{
    Demand, DnsSpec, Egress, IdentitySpec, Mode, PolicyDoc, PolicyText, TokenSource, Workload,
};
use super::reader::{Field, Table, Wrong};
use super::scalar;

pub(super) use service::source_spec;

const DEFAULT_LEEWAY: Duration = Duration::from_secs(30);
const MOST_LEEWAY: Duration = Duration::from_mins(10);

/// Decodes a whole policy; `None` after at least one report.
pub(super) fn policy(root: Table<'_>, path: &Path, text: &str) -> Option<PolicyDoc> {
    let workload = root
        .required("workload")
        .and_then(|field| field.table(&keys::WORKLOAD))
        .map(workload);
    let identity = root
        .optional("identity")
        .and_then(|field| field.table(&keys::IDENTITY))
        .and_then(|table| table.required("oidc"))
        .and_then(|field| field.table(&keys::OIDC))
        .map(oidc);
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
    Some(PolicyDoc {
        path: path.to_owned(),
        hash: blake3::hash(text.as_bytes()).to_hex().to_string(),
        text: PolicyText::new(text),
        workload: workload??,
        dns: dns?,
        identity: match identity {
            Some(decoded) => Some(decoded?),
            None => None,
        },
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

fn oidc(table: Table<'_>) -> Option<IdentitySpec> {
    let issuer = table.required("issuer").and_then(|field| field.parsed(issuer));
    let audience = table
        .required("audience")
        .and_then(|field| field.parsed(|text| scalar::line(text, 512)));
    let token = table
        .required("token")
        .and_then(|field| field.table(&keys::TOKEN))
        .and_then(token);
    let claims = or_default(table.optional("claims"), BTreeMap::new(), claims);
    let ca = or_default(table.optional("ca"), None, |field| field.path().map(Some));
    let leeway = or_default(table.optional("leeway"), DEFAULT_LEEWAY, |field| {
        field.parsed(|text| scalar::duration(text, Duration::ZERO, MOST_LEEWAY))
    });
    Some(IdentitySpec {
        issuer: issuer?,
        audience: audience?,
        token: token?,
        claims: claims?,
        ca: ca?,
        leeway: leeway?,
    })
}

/// OpenID Connect Core 1.0, 2: https without query or fragment. Plain http is taken on loopback alone.
fn issuer(text: &str) -> Result<String, Wrong> {
    let help = "write it exactly as the token's \"iss\" has it, such as \"https://gitlab.acme.test\"";
    let wrong = |what: &str| Wrong::new(format!("\"{text}\" {what}"), help);
    let (rest, plain) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
        (Some(rest), _) => (rest, false),
        (None, Some(rest)) => (rest, true),
        (None, None) => return Err(wrong("is no https URL")),
    };
    if text.contains(['?', '#', '@']) || text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(wrong("has a part that an issuer cannot have"));
    }
    let authority = rest.split('/').next().unwrap_or_default();
    let host = authority.strip_prefix('[').map_or_else(
        || authority.split(':').next().unwrap_or_default(),
        |v6| v6.split(']').next().unwrap_or_default(),
    );
    if host.is_empty() {
        return Err(wrong("has no host"));
    }
    let loopback = host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback());
    if plain && !loopback {
        return Err(Wrong::new(
            format!("\"{text}\" is not https: anybody on the way could replace the issuer's keys"),
            "write https://; http is taken for loopback addresses alone",
        ));
    }
    Ok(text.into())
}

fn token(table: Table<'_>) -> Option<TokenSource> {
    match (table.optional("env"), table.optional("file")) {
        (Some(field), None) => variable(field).map(TokenSource::Env),
        (None, Some(field)) => field.path().map(TokenSource::File),
        (Some(_), Some(_)) => {
            table.error("the token has two sources", "keep env or file");
            None
        }
        (None, None) => {
            table.error(
                "the token has no source",
                "write { env = \"TOLLGATE_ID_TOKEN\" } or { file = \"/path\" }",
            );
            None
        }
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

fn claims(field: Field<'_>) -> Option<BTreeMap<String, String>> {
    let entries = Table::free(field)?;
    let count = entries.len();
    let decoded: BTreeMap<String, String> = entries
        .into_iter()
        .filter_map(|entry| Some((entry.key().to_owned(), entry.parsed(scalar::claim)?)))
        .collect();
    (decoded.len() == count).then_some(decoded)
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
