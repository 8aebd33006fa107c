//! `[identity]`: who may ask.

use std::path::PathBuf;
use std::time::Duration;

use super::super::claim::{ClaimName, ClaimRule, ClaimValue, TokenPattern};
use super::super::keys;
use super::super::policy::{IdentitySpec, Proof, SamlSpec, TokenSource};
use super::super::reader::{Field, Table, Wrong};
use super::super::scalar;
use super::{or_default, variable};

const DEFAULT_LEEWAY: Duration = Duration::from_secs(30);
const MOST_LEEWAY: Duration = Duration::from_mins(10);
const DEFAULT_OFFLINE: Duration = Duration::from_hours(1);
const MOST_OFFLINE: Duration = Duration::from_hours(24);
/// Characters (SAML 2.0 core §8.3.6).
const LONGEST_ENTITY_ID: usize = 1024;

/// `[identity]`, which has `[identity.oidc]` or `[identity.saml]`.
pub(super) fn identity(table: Table<'_>) -> Option<(IdentitySpec, Vec<TokenPattern>)> {
    let spec = proof(&table);
    let denied = or_default(table.optional("deny"), Vec::new(), denied);
    Some((spec?, denied?))
}

/// With both kinds it would be open whether a job needs either or both, and the weaker one would count.
fn proof(table: &Table<'_>) -> Option<IdentitySpec> {
    match (table.optional("oidc"), table.optional("saml")) {
        (Some(field), None) => oidc(field.table(&keys::OIDC)?),
        (None, Some(field)) => saml(field.table(&keys::SAML)?),
        (Some(_), Some(_)) => {
            table.error(
                "the workload has two kinds of identity",
                "keep [identity.oidc] or [identity.saml]: the policy says which of them a job has to show",
            );
            None
        }
        (None, None) => {
            table.error(
                "[identity] does not say how a job proves who it is",
                "write a table [identity.oidc] or [identity.saml], or remove [identity]",
            );
            None
        }
    }
}

fn denied(field: Field<'_>) -> Option<Vec<TokenPattern>> {
    let entries = field.list("remove it, or name the tokens that do not count")?;
    let count = entries.len();
    let decoded: Vec<TokenPattern> = entries
        .into_iter()
        .filter_map(|entry| denied_one(entry.table(&keys::DENY)?))
        .collect();
    (decoded.len() == count).then_some(decoded)
}

fn denied_one(table: Table<'_>) -> Option<TokenPattern> {
    let (subject, claim, value, key) = (
        table.optional("subject"),
        table.optional("claim"),
        table.optional("value"),
        table.optional("key"),
    );
    match (subject, claim, value, key) {
        (Some(subject), None, None, None) => subject.parsed(scalar::claim).map(TokenPattern::Subject),
        (None, None, None, Some(key)) => key.string().map(|kid| TokenPattern::Key(kid.to_owned())),
        (None, Some(claim), Some(value), None) => {
            let (name, value) = (claim.parsed(claim_name), value.parsed(scalar::claim));
            Some(TokenPattern::Claim(ClaimRule {
                claim: name?,
                any_of: vec![value?],
            }))
        }
        _ => {
            table.error(
                "an entry of \"deny\" names one kind of token",
                "write { subject = \"…\" }, { claim = \"…\", value = \"…\" } or { key = \"…\" }",
            );
            None
        }
    }
}

fn oidc(table: Table<'_>) -> Option<IdentitySpec> {
    let issuer = table.required("issuer").and_then(|field| field.parsed(issuer));
    let audience = table
        .required("audience")
        .and_then(|field| field.parsed(|text| scalar::line(text, 512)));
    let claims = or_default(table.optional("claims"), Vec::new(), |field| {
        claims(field, claim_name)
    });
    let common = common(&table);
    Some(IdentitySpec {
        proof: Proof::Oidc,
        issuer: issuer?,
        audience: audience?,
        claims: claims?,
        ..common?
    })
}

fn saml(table: Table<'_>) -> Option<IdentitySpec> {
    let metadata = table
        .required("metadata")
        .and_then(|field| field.parsed(metadata));
    let name = |field: Field<'_>| field.parsed(|text| scalar::line(text, LONGEST_ENTITY_ID));
    let entity_id = table.required("entity_id").and_then(name);
    let audience = table.required("audience").and_then(name);
    let recipient = or_default(table.optional("recipient"), None, |field| name(field).map(Some));
    let detached = or_default(table.optional("detached"), false, Field::boolean);
    let attributes = or_default(table.optional("attributes"), Vec::new(), |field| {
        claims(field, attribute_name)
    });
    let common = common(&table);
    Some(IdentitySpec {
        proof: Proof::Saml(SamlSpec {
            metadata: metadata?,
            recipient: recipient?,
            detached: detached?,
        }),
        issuer: entity_id?,
        audience: audience?,
        claims: attributes?,
        ..common?
    })
}

/// What both kinds have; the rest is empty.
fn common(table: &Table<'_>) -> Option<IdentitySpec> {
    let token = table
        .required("token")
        .and_then(|field| field.table(&keys::TOKEN))
        .and_then(token);
    let ca: Option<Option<PathBuf>> = or_default(table.optional("ca"), None, |field| field.path().map(Some));
    let leeway = or_default(table.optional("leeway"), DEFAULT_LEEWAY, |field| {
        field.parsed(|text| scalar::duration(text, Duration::ZERO, MOST_LEEWAY))
    });
    let offline = or_default(table.optional("offline"), DEFAULT_OFFLINE, |field| {
        field.parsed(|text| scalar::duration(text, Duration::ZERO, MOST_OFFLINE))
    });
    Some(IdentitySpec {
        proof: Proof::Oidc,
        issuer: String::new(),
        audience: String::new(),
        token: token?,
        claims: Vec::new(),
        ca: ca?,
        leeway: leeway?,
        offline: offline?,
    })
}

/// OpenID Connect Core 1.0, 2: https without query or fragment. Plain http is taken on loopback alone.
fn issuer(text: &str) -> Result<String, Wrong> {
    let help = "write it exactly as the token's \"iss\" has it, such as \"https://gitlab.acme.test\"";
    if text.contains('?') {
        return Err(Wrong::new(
            format!("\"{text}\" has a part that an issuer cannot have"),
            help,
        ));
    }
    trusted_url(text, "an issuer", help)
}

/// Providers tell their entities apart by the query.
fn metadata(text: &str) -> Result<String, Wrong> {
    trusted_url(
        text,
        "an address of metadata",
        "write the provider's own address for it, such as \"https://idp.acme.test/metadata\"",
    )
}

/// The address of an issuer, of its keys or of what it issues.
pub(super) fn trusted_url(text: &str, kind: &str, help: &'static str) -> Result<String, Wrong> {
    let wrong = |what: &str| Wrong::new(format!("\"{text}\" {what}"), help);
    let (rest, plain) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
        (Some(rest), _) => (rest, false),
        (None, Some(rest)) => (rest, true),
        (None, None) => return Err(wrong("is no https URL")),
    };
    if text.contains(['#', '@']) || text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(wrong(&format!("has a part that {kind} cannot have")));
    }
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
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
            format!(
                "\"{text}\" is not https: anybody on the way could read and replace what the issuer answers"
            ),
            "write https://; http is taken for loopback addresses alone",
        ));
    }
    Ok(text.into())
}

fn token(table: Table<'_>) -> Option<TokenSource> {
    let choices = "write { env = \"TOLLGATE_ID_TOKEN\" }, { file = \"/path\" } or { login = true }";
    match (
        table.optional("env"),
        table.optional("file"),
        table.optional("login"),
    ) {
        (Some(field), None, None) => variable(field).map(TokenSource::Env),
        (None, Some(field), None) => field.path().map(TokenSource::File),
        (None, None, Some(field)) => {
            if field.boolean()? {
                return Some(TokenSource::Login);
            }
            field.error("the token has no source", choices);
            None
        }
        (None, None, None) => {
            table.error("the token has no source", choices);
            None
        }
        _ => {
            table.error("the token has two sources", "keep one of env, file and login");
            None
        }
    }
}

fn claims(field: Field<'_>, name: impl Fn(&str) -> Result<ClaimName, Wrong>) -> Option<Vec<ClaimRule>> {
    let entries = Table::free(field)?;
    let count = entries.len();
    let decoded: Vec<ClaimRule> = entries
        .into_iter()
        .filter_map(|field| claim(field, &name))
        .collect();
    (decoded.len() == count).then_some(decoded)
}

fn claim(field: Field<'_>, name: impl Fn(&str) -> Result<ClaimName, Wrong>) -> Option<ClaimRule> {
    let name = match name(field.key()) {
        Ok(name) => name,
        Err(Wrong { what, help }) => {
            field.error(what, help);
            return None;
        }
    };
    let any_of = values(field)?;
    Some(ClaimRule { claim: name, any_of })
}

/// The values of a claim or a label, of which one has to be there.
pub(super) fn values(field: Field<'_>) -> Option<Vec<ClaimValue>> {
    if field.is_table() {
        let table = field.table(&keys::CLAIM)?;
        Some(vec![ClaimValue::Equals(
            table.required("equals")?.string()?.to_owned(),
        )])
    } else if field.is_list() {
        field.parsed_list(
            "name at least one value, or remove the entry: without a value nothing has it",
            scalar::claim,
        )
    } else {
        Some(vec![field.parsed(scalar::claim)?])
    }
}

/// An attribute's `Name` is a name and nothing else, often a URI.
fn attribute_name(name: &str) -> Result<ClaimName, Wrong> {
    if name.is_empty() {
        return Err(Wrong::new(
            "an attribute has no name",
            "write its Name, such as \"urn:oid:2.5.4.11\"",
        ));
    }
    Ok(ClaimName::Top(name.to_owned()))
}

/// A name, or a JSON pointer (RFC 6901 §3): each level after a slash, in which `~0` is a tilde and `~1` a slash.
fn claim_name(name: &str) -> Result<ClaimName, Wrong> {
    if name.is_empty() {
        return Err(Wrong::new("a claim has no name", "write the claim's name"));
    }
    let Some(levels) = name.strip_prefix('/') else {
        return Ok(ClaimName::Top(name.to_owned()));
    };
    let sound =
        |level: &str| !level.is_empty() && level.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
    if levels.split('/').all(sound) {
        Ok(ClaimName::Pointer(name.to_owned()))
    } else {
        Err(Wrong::new(
            format!("\"{name}\" is no JSON pointer"),
            "write every level after a slash, such as \"/kubernetes.io/serviceaccount/name\"; \"~1\" is a slash in a name, \"~0\" a \"~\"",
        ))
    }
}
