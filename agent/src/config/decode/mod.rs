//! A policy file's TOML to typed values, strictly.

mod aws;
mod credential;
mod findings;
mod github_app;
mod identity;
mod inject;
mod issuer;
mod mask;
mod oauth2;
mod on_server;
mod request;
mod rule;
mod service;
mod source;
mod ssh_ca;
mod unix;
mod vault;
mod workload;

use std::path::{Path, PathBuf};

use super::keys;
use super::policy::{DnsSpec, Egress, FindingsSpec, PolicyDoc, PolicyText, Proof};
use super::reader::{Field, Table, Wrong};
use super::scalar;
use super::sweep::SweepDoc;

pub(super) use source::source_spec;

/// What the policy asks jobs for, for sources that trade it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum JobProof {
    None,
    /// A JSON Web Token; or nobody knows, where that part of the policy is wrong.
    Token,
    /// A SAML assertion.
    Assertion,
}

/// Decodes a whole policy; `None` after at least one report.
pub(super) fn policy(root: Table<'_>, path: &Path, text: &str) -> Option<PolicyDoc> {
    let workload = root
        .required("workload")
        .and_then(|field| field.table(&keys::WORKLOAD))
        .map(workload::workload);
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
    let findings = or_default(root.optional("findings"), FindingsSpec::default(), |field| {
        findings::findings(&field.table(&keys::FINDINGS)?)
    });
    let services = match root.optional("service") {
        Some(field) => {
            let assertion = matches!(
                &identity,
                Some(Some((spec, _))) if matches!(spec.proof, Proof::Saml(_))
            );
            let proof = match root.optional("identity") {
                None => JobProof::None,
                Some(_) if assertion => JobProof::Assertion,
                Some(_) => JobProof::Token,
            };
            service::services(field, proof)
        }
        None => Some(Vec::new()),
    };
    let (identity, denied) = match identity {
        Some(decoded) => decoded.map(|(spec, denied)| (Some(spec), denied))?,
        None => (None, Vec::new()),
    };
    let services = services?;
    vault::check_identity(&root, text, &services, identity.as_ref());
    Some(PolicyDoc {
        path: path.to_owned(),
        hash: blake3::hash(text.as_bytes()).to_hex().to_string(),
        text: PolicyText::new(text),
        workload: workload??,
        dns: dns?,
        findings: findings?,
        identity,
        denied,
        services,
    })
}

/// The service `wanted` of a policy, as far as a sweep needs it; `None` after at least one report.
pub(super) fn sweepable(root: &Table<'_>, wanted: &str) -> Option<SweepDoc> {
    root.required("service")
        .and_then(|field| service::sweepable(field, wanted))
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
