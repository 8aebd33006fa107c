//! `source = "ssh-ca"` in `[service.credential]`.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use crate::config::credential::{SourceSpec, SshCaSpec};
use crate::config::reader::{Field, Table, Wrong};
use crate::config::scalar;

use super::or_default;
use super::source::source_spec;

const TTL: Duration = Duration::from_mins(5);
const LEAST_TTL: Duration = Duration::from_mins(1);
const MOST_TTL: Duration = Duration::from_hours(1);
const LONGEST_PRINCIPAL: usize = 64;
const LONGEST_COMMAND: usize = 4096;
/// What OpenSSH knows. A certificate that has none of them runs commands and nothing else.
const EXTENSIONS: &[(&str, &str)] = &[
    ("permit-pty", "permit-pty"),
    ("permit-port-forwarding", "permit-port-forwarding"),
    ("permit-agent-forwarding", "permit-agent-forwarding"),
    ("permit-X11-forwarding", "permit-X11-forwarding"),
    ("permit-user-rc", "permit-user-rc"),
];

pub(super) const KEYS: &[&str] = &[
    "ca",
    "principals",
    "ttl",
    "force_command",
    "source_address",
    "extensions",
];

pub(super) fn ssh_ca(table: &Table<'_>) -> Option<SshCaSpec> {
    let ca = table.required("ca").and_then(authority);
    let principals = table.required("principals").and_then(|field| {
        field.parsed_list(
            "name at least one: a certificate without any would be good for every user",
            principal,
        )
    });
    let ttl = or_default(table.optional("ttl"), TTL, |field| {
        field.parsed(|text| scalar::duration(text, LEAST_TTL, MOST_TTL))
    });
    let force_command = or_default(table.optional("force_command"), None, |field| {
        field.parsed(|text| scalar::line(text, LONGEST_COMMAND)).map(Some)
    });
    let source_address = or_default(table.optional("source_address"), Vec::new(), |field| {
        field.parsed_list("name at least one network, or leave it out", network)
    });
    let extensions = or_default(table.optional("extensions"), Vec::new(), |field| {
        field
            .list("name at least one, or leave it out: there are none then")?
            .into_iter()
            .map(|item| item.one_of(EXTENSIONS, &[]))
            .collect()
    });
    Some(SshCaSpec {
        ca: ca?,
        principals: principals?,
        ttl: ttl?,
        force_command: force_command?,
        source_address: source_address?,
        extensions: extensions?,
    })
}

fn authority(field: Field<'_>) -> Option<SourceSpec> {
    let spec = source_spec(field, false)?;
    if matches!(spec, SourceSpec::Env(_)) {
        field.error(
            "the key of an authority is no variable: everybody sees it who may see the agent's environment",
            "write { file = \"/path\" }, { systemd = \"name\" } or { age = \"/path\", identity = … }",
        );
        return None;
    }
    Some(spec)
}

/// A name, or a pattern with `{workload}` and `{service}`, which are names of the policy's own.
fn principal(text: &str) -> Result<String, Wrong> {
    let plain = text.replace("{workload}", "w").replace("{service}", "s");
    if plain.contains(['{', '}']) {
        return Err(Wrong::new(
            format!(
                "\"{}\" has something else in braces than {{workload}} or {{service}}",
                text.escape_debug()
            ),
            "name what the policy decides: what stands in a token is no name to log in as, since a job may have a say in it",
        ));
    }
    let fits = (1..=LONGEST_PRINCIPAL).contains(&plain.len())
        && !plain.starts_with('-')
        && plain
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._@-".contains(&b));
    if fits {
        return Ok(text.to_owned());
    }
    Err(Wrong::new(
        format!("\"{}\" is no principal", text.escape_debug()),
        "use up to 64 letters, digits, \".\", \"_\", \"@\" and \"-\": servers take patterns and lists apart that have others",
    ))
}

/// An address or a network, as OpenSSH takes it: with nothing set behind the prefix.
fn network(text: &str) -> Result<IpNet, Wrong> {
    let net = text
        .parse::<IpAddr>()
        .map(IpNet::from)
        .or_else(|_| text.parse::<IpNet>());
    net.ok()
        .filter(|net| net.trunc() == *net)
        .ok_or_else(|| {
            Wrong::new(
                format!("\"{}\" is no address and no network", text.escape_debug()),
                "write \"10.0.4.7\" or \"10.0.4.0/24\", with nothing set behind the prefix: servers refuse the certificate otherwise",
            )
        })
}
