//! `source = "aws"`.

use std::time::Duration;

use crate::config::issuer::{AwsKeysSpec, AwsSpec};
use crate::config::keys;
use crate::config::reader::{Field, Table, Wrong};
use crate::config::scalar;

use super::credential::share;
use super::issuer::{self, text};
use super::{JobProof, or_default, source_spec};

const TTL: Duration = Duration::from_hours(1);
/// STS takes no less, and no more.
const LEAST_TTL: Duration = Duration::from_mins(15);
const MOST_TTL: Duration = Duration::from_hours(12);
/// The limit of STS, in letters.
const LONGEST_POLICY: usize = 2048;
const LONGEST_ID: usize = 1224;

/// The keys that it takes, besides `source`.
pub(super) const KEYS: &[&str] = &[
    "endpoint",
    "endpoint_ca",
    "timeout",
    "region",
    "role_arn",
    "keys",
    "session_policy",
    "external_id",
    "ttl",
    "share",
];

/// `proof`: what the policy asks jobs for.
pub(super) fn aws(table: &Table<'_>, proof: JobProof) -> Option<AwsSpec> {
    let region = table.required("region").and_then(|field| field.parsed(region));
    let usual = region
        .as_ref()
        .map(|region| format!("https://sts.{region}.{}", domain(region)));
    // Where the region is wrong there is nothing to say about an end point that follows from it.
    let issuer = issuer::issuer(table, usual.or_else(|| Some(String::new())));
    let role = table.required("role_arn").and_then(|field| field.parsed(role));
    let keys = or_default(table.optional("keys"), None, |field| {
        access_key(&field.table(&keys::AWS_KEYS)?).map(Some)
    });
    if table.optional("keys").is_none() {
        match proof {
            JobProof::Token => {}
            JobProof::None => table.error(
                "without \"keys\" the workload's own token assumes the role, and this policy asks for none",
                "add [identity] with the issuer of the job's tokens, or add keys = { … }",
            ),
            JobProof::Assertion => table.error(
                "without \"keys\" a JSON Web Token assumes the role (AssumeRoleWithWebIdentity), and this policy asks jobs for a SAML assertion",
                "ask for a token under [identity.oidc], or add keys = { … }",
            ),
        }
        table.refuse(
            "external_id",
            "\"external_id\" has a meaning with \"keys\" alone",
            "remove it",
        );
    }
    let session_policy = or_default(table.optional("session_policy"), None, |field| {
        session_policy(field).map(Some)
    });
    let external_id = or_default(table.optional("external_id"), None, |field| {
        text(field, LONGEST_ID).map(Some)
    });
    let ttl = or_default(table.optional("ttl"), TTL, |field| {
        field.parsed(|text| scalar::duration(text, LEAST_TTL, MOST_TTL))
    });
    let share = share(table);
    Some(AwsSpec {
        issuer: issuer?,
        region: region?,
        role: role?,
        keys: keys?,
        session_policy: session_policy?,
        external_id: external_id?,
        ttl: ttl?,
        share: share?,
    })
}

fn domain(region: &str) -> &'static str {
    if region.starts_with("cn-") {
        "amazonaws.com.cn"
    } else {
        "amazonaws.com"
    }
}

fn access_key(table: &Table<'_>) -> Option<AwsKeysSpec> {
    let id = table
        .required("access_key_id")
        .and_then(|field| source_spec(field, true));
    let secret = table
        .required("secret_access_key")
        .and_then(|field| source_spec(field, false));
    Some(AwsKeysSpec {
        id: id?,
        secret: secret?,
    })
}

fn region(text: &str) -> Result<String, Wrong> {
    let fits = (4..=32).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if fits {
        return Ok(text.into());
    }
    Err(Wrong::new(
        format!("\"{}\" is no region of AWS", text.escape_debug()),
        "write its code, such as \"eu-central-1\"",
    ))
}

fn role(text: &str) -> Result<String, Wrong> {
    let fits = text.len() <= LONGEST_POLICY
        && text.starts_with("arn:")
        && text.contains(":role/")
        && text.bytes().all(|b| b.is_ascii_graphic());
    if fits {
        return Ok(text.into());
    }
    Err(Wrong::new(
        format!("\"{}\" is no ARN of a role", text.escape_debug()),
        "write it whole, such as \"arn:aws:iam::123456789012:role/report\"",
    ))
}

fn session_policy(field: Field<'_>) -> Option<String> {
    field.parsed(|text| {
        let wrong = |what: &str| {
            Wrong::new(
                what,
                "write one JSON object, in ''' … ''' so that its quotes need no \\",
            )
        };
        if text.chars().count() > LONGEST_POLICY {
            return Err(wrong(
                "the session policy is longer than the 2048 letters that STS takes",
            ));
        }
        match serde_json::from_str::<serde_json::Value>(text) {
            // Without what an author has between the words: STS counts it.
            Ok(policy) if policy.is_object() => Ok(policy.to_string()),
            _ => Err(wrong("the session policy is no JSON object")),
        }
    })
}
