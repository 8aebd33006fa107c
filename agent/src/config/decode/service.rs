//! `[[service]]` and its TLS.

use std::collections::HashMap;

use crate::config::http_mask::media_pattern;
use crate::config::keys;
use crate::config::policy::{ClientTls, Endpoint, Limits, Protocol, ServiceDoc, TlsMode, TlsSpec};
use crate::config::reader::{Field, Table, Wrong};
use crate::config::scalar;
use crate::config::sweep::SweepDoc;
use crate::model::{ServiceName, SocketPath};

use super::{JobProof, credential, mask, or_default, rule, unix};

const LATER_PROTOCOLS: &[&str] = &["mysql", "mariadb", "ssh", "https", "grpc", "kubernetes"];
/// Keys that need a protocol which is understood.
const NEEDS_COMMANDS: &[(&str, &str)] = &[
    (
        "tls",
        "\"tls\" has no meaning for an opaque service: its bytes pass as they are",
    ),
    (
        "credential",
        "a credential cannot be injected into an opaque service",
    ),
    (
        "mask",
        "an opaque service cannot be masked: its bytes are not understood",
    ),
    (
        "rule",
        "an opaque service has no commands that a rule could judge",
    ),
];

/// All services; names and addresses are each given once. `proof`: what the policy asks jobs for.
pub(super) fn services(field: Field<'_>, proof: JobProof) -> Option<Vec<ServiceDoc>> {
    let mut services: Vec<ServiceDoc> = Vec::new();
    let mut owners: HashMap<String, ServiceName> = HashMap::new();
    let mut complete = true;
    let tables = field.tables(&keys::SERVICE);
    for table in tables {
        let Some(service) = service(table, proof) else {
            complete = false;
            continue;
        };
        if services.iter().any(|other| other.name == service.name) {
            table.error(
                format!("a second service has the name \"{}\"", service.name),
                "give each service a name of its own",
            );
        }
        let named = service.addresses.iter().map(|endpoint| format!("{endpoint:?}"));
        // The customary paths of two services on one port are the first one's.
        let sockets = service.unix.iter().filter(|_| table.optional("unix").is_some());
        for key in named.chain(sockets.map(SocketPath::to_string)) {
            if let Some(owner) = owners
                .insert(key, service.name.clone())
                .filter(|owner| *owner != service.name)
            {
                table.error(
                    format!(
                        "service \"{}\" has an address that \"{owner}\" has as well",
                        service.name
                    ),
                    "name each address in one service",
                );
            }
        }
        services.push(service);
    }
    complete.then_some(services)
}

/// Where a service is, and how it is spoken to.
struct Reach {
    name: Option<String>,
    unix: Option<Vec<SocketPath>>,
    addresses: Option<Vec<Endpoint>>,
    tls: Option<TlsSpec>,
}

/// `protocol`: where it is known, for the sockets that its servers customarily have.
fn reach(table: &Table<'_>, protocol: Option<Protocol>) -> Reach {
    let name = table
        .required("name")
        .and_then(|field| field.parsed(scalar::identifier));
    let unix = or_default(table.optional("unix"), None, |field| {
        field.parsed_list_or_none(unix::path).map(Some)
    });
    // A service may be a unix socket alone.
    let addresses = match &unix {
        Some(Some(paths)) if !paths.is_empty() => {
            or_default(table.optional("address"), Vec::new(), addresses)
        }
        _ => table.required("address").and_then(addresses),
    };
    let tls = or_default(table.optional("tls"), TlsSpec::default(), |field| {
        field.table(&keys::TLS).and_then(tls)
    });
    let unix = match unix {
        Some(None) => addresses
            .as_ref()
            .map(|addresses| unix::customary(protocol, addresses)),
        given => given.flatten(),
    };
    Reach {
        name,
        unix,
        addresses,
        tls,
    }
}

/// The service `wanted`, as far as a sweep of its server needs it: whatever its protocol, its masks and its rules are.
pub(super) fn sweepable(field: Field<'_>, wanted: &str) -> Option<SweepDoc> {
    let named = |table: &Table<'_>| table.optional("name").and_then(Field::string) == Some(wanted);
    let Some(table) = field.tables(&keys::SERVICE).into_iter().find(named) else {
        field.error(
            format!("no service of this file has the name \"{wanted}\""),
            "name one that it has",
        );
        return None;
    };
    let reach = reach(&table, None);
    let credential = table
        .required("credential")
        .and_then(|field| field.table(&keys::CREDENTIAL))
        // What the workload proves is of no account to a server that is swept.
        .and_then(|table| credential::credential(table, (None, false), JobProof::Token));
    Some(SweepDoc {
        name: ServiceName::from(reach.name?.as_str()),
        addresses: reach.addresses?,
        unix: reach.unix?,
        tls: reach.tls?,
        kind: credential?.kind,
    })
}

fn service(table: Table<'_>, proof: JobProof) -> Option<ServiceDoc> {
    let protocol = table.required("protocol").and_then(|field| {
        field.one_of(
            &[
                ("postgres", Protocol::Postgres),
                ("http", Protocol::Http),
                ("opaque", Protocol::Opaque),
            ],
            LATER_PROTOCOLS,
        )
    });
    let http = table.optional("protocol").and_then(Field::string) == Some("http");
    let Reach {
        name,
        unix,
        addresses,
        tls,
    } = reach(&table, protocol);
    let client_tls = or_default(table.optional("tls"), ClientTls::default(), |field| {
        client_tls(field.table(&keys::TLS)?, protocol)
    });
    let credential = or_default(table.optional("credential"), None, |field| {
        let table = field.table(&keys::CREDENTIAL)?;
        credential::credential(table, (protocol, http), proof).map(Some)
    });
    let masks = or_default(table.optional("mask"), Vec::new(), |field| {
        mask::masks(field, protocol)
    });
    let unmasked = or_default(table.optional("unmasked"), Vec::new(), |field| {
        field.parsed_list("name at least one media type", media_pattern)
    });
    let rules = or_default(table.optional("rule"), Vec::new(), |field| {
        rule::rules(field, protocol)
    });
    let limits = or_default(table.optional("limits"), Limits::default(), |field| {
        field.table(&keys::LIMITS).and_then(rule::limits)
    });
    if let Some(Protocol::Postgres | Protocol::Opaque) = protocol {
        table.refuse(
            "unmasked",
            "\"unmasked\" names kinds of bodies, which only services of HTTP have",
            "remove it",
        );
    }
    match protocol {
        Some(Protocol::Opaque) => {
            for (key, why) in NEEDS_COMMANDS {
                table.refuse(key, why, "remove it, or name the protocol");
            }
            if let Some(rows) = limits.as_ref().and_then(|limits| limits.rows) {
                table.error(
                    format!("an opaque service has no rows, so {rows} of them cannot be its limit"),
                    "limit bytes or session",
                );
            }
        }
        Some(Protocol::Postgres) if table.optional("credential").is_none() => {
            table.error(
                "a postgres service needs a credential: the agent logs in, not the workload",
                "add [service.credential] with source, user and password",
            );
        }
        Some(Protocol::Http) => {
            if let Some(rows) = limits.as_ref().and_then(|limits| limits.rows) {
                table.error(
                    format!("an http service has no rows, so {rows} of them cannot be its limit"),
                    "limit bytes or session",
                );
            }
        }
        Some(Protocol::Postgres) | None => {}
    }
    Some(ServiceDoc {
        name: ServiceName::from(name?.as_str()),
        protocol: protocol?,
        unix: unix?,
        addresses: addresses?,
        tls: tls?,
        client_tls: client_tls?,
        credential: credential?,
        unmasked: unmasked?,
        masks: masks?,
        rules: rules?,
        limits: limits?,
    })
}

fn addresses(field: Field<'_>) -> Option<Vec<Endpoint>> {
    field.parsed_list(
        "name at least one address: a service without one protects nothing",
        scalar::endpoint,
    )
}

fn tls(table: Table<'_>) -> Option<TlsSpec> {
    let defaults = TlsSpec::default();
    let upstream = or_default(table.optional("upstream"), defaults.upstream, |field| {
        field.one_of(
            &[
                ("verify-full", TlsMode::VerifyFull),
                ("require", TlsMode::Require),
                ("disable", TlsMode::Disable),
            ],
            &["verify-ca", "prefer", "allow"],
        )
    });
    let ca = or_default(table.optional("ca"), None, |field| field.path().map(Some));
    let server_name = or_default(table.optional("server_name"), None, |field| {
        field.parsed(server_name).map(Some)
    });
    Some(TlsSpec {
        upstream: upstream?,
        ca: ca?,
        server_name: server_name?,
    })
}

/// How the workload speaks to the agent.
fn client_tls(table: Table<'_>, protocol: Option<Protocol>) -> Option<ClientTls> {
    if matches!(protocol, Some(Protocol::Postgres)) {
        table.refuse(
            "client",
            "\"client\" is for http services: a client of PostgreSQL says itself whether it wants TLS",
            "remove it",
        );
    }
    or_default(table.optional("client"), ClientTls::default(), |field| {
        field.one_of(
            &[("terminate", ClientTls::Terminate), ("plain", ClientTls::Plain)],
            &["pass"],
        )
    })
}

impl Default for TlsSpec {
    fn default() -> Self {
        Self {
            upstream: TlsMode::VerifyFull,
            ca: None,
            server_name: None,
        }
    }
}

fn server_name(text: &str) -> Result<String, Wrong> {
    // The port is made up: a name is checked here as it is in an address.
    scalar::endpoint(&format!("{text}:1"))
        .map(|_| text.to_owned())
        .map_err(|_| {
            Wrong::new(
                format!("\"{text}\" is no host name"),
                "write the name that stands in the target's certificate",
            )
        })
}
