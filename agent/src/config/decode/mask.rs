//! `[[service.mask]]`.

use crate::config::http_mask::{header_pattern, key_pattern};
use crate::config::json_path::json_path;
use crate::config::keys;
use crate::config::policy::{Detector, MaskOperator, MaskRule, MaskTarget, Protocol};
use crate::config::reader::{Field, Table, choose};
use crate::config::scalar;

use super::or_default;

const DETECTORS: &[(&str, Detector)] = &[
    ("card", Detector::Card),
    ("email", Detector::Email),
    ("jwt", Detector::Jwt),
    ("private-key", Detector::PrivateKey),
    ("aws-access-key", Detector::AwsAccessKey),
];
const LATER_DETECTORS: &[&str] = &[
    "iban",
    "ssn",
    "phone",
    "ip",
    "github-token",
    "gitlab-token",
    "gcp-key",
    "azure-key",
    "secret",
];
/// What a mask may be about.
const TARGETS: [&str; 5] = ["columns", "detect", "json", "keys", "headers"];
/// What only answers of HTTP have.
const OF_HTTP: [&str; 3] = ["json", "keys", "headers"];

/// The masks of a service of `protocol`, where that is known.
pub(super) fn masks(field: Field<'_>, protocol: Option<Protocol>) -> Option<Vec<MaskRule>> {
    let tables = field.tables(&keys::MASK);
    let masks: Vec<MaskRule> = tables.iter().filter_map(|table| mask(*table, protocol)).collect();
    (!tables.is_empty() && masks.len() == tables.len()).then_some(masks)
}

fn mask(table: Table<'_>, protocol: Option<Protocol>) -> Option<MaskRule> {
    refuse_foreign(&table, protocol);
    let given: Vec<&str> = TARGETS
        .into_iter()
        .filter(|key| table.optional(key).is_some())
        .collect();
    match given.as_slice() {
        [] => table.error("a mask says not what it masks", example(protocol)),
        [_] => {}
        [first, second, ..] => table.error(
            format!("a mask has both \"{first}\" and \"{second}\""),
            "write two [[service.mask]]",
        ),
    }
    // Each that is given is read, so that all mistakes are told at once.
    let targets = [
        or_default(table.optional("columns"), None, |field| {
            let columns = field.parsed_list("name at least one column", scalar::column_pattern)?;
            Some(Some(MaskTarget::Columns(columns)))
        }),
        or_default(table.optional("detect"), None, |field| {
            let detectors = field.parsed_list("name at least one detector", |text| {
                choose("detect", text, DETECTORS, LATER_DETECTORS)
            })?;
            Some(Some(MaskTarget::Detect(detectors)))
        }),
        or_default(table.optional("json"), None, |field| {
            let paths = field.parsed_list("name at least one path", json_path)?;
            Some(Some(MaskTarget::Json(paths)))
        }),
        or_default(table.optional("keys"), None, |field| {
            let keys = field.parsed_list("name at least one key", key_pattern)?;
            Some(Some(MaskTarget::Keys(keys)))
        }),
        or_default(table.optional("headers"), None, |field| {
            let headers = field.parsed_list("name at least one header field", header_pattern)?;
            Some(Some(MaskTarget::Headers(headers)))
        }),
    ];
    let operator = table.required("with").and_then(operator);
    let target = targets.into_iter().collect::<Option<Vec<_>>>()?;
    Some(MaskRule {
        target: target.into_iter().flatten().next()?,
        operator: operator?,
    })
}

/// What no answer of this protocol has.
fn refuse_foreign(table: &Table<'_>, protocol: Option<Protocol>) {
    match protocol {
        Some(Protocol::Postgres) => {
            for key in OF_HTTP {
                table.refuse(
                    key,
                    &format!("\"{key}\" is for services of HTTP: results of PostgreSQL have columns"),
                    "write columns = [\"customers.email\"] or detect = [\"card\"]",
                );
            }
        }
        Some(Protocol::Http) => table.refuse(
            "columns",
            "\"columns\" is for services of databases: answers of HTTP have no columns",
            "write json = [\"$.users[*].email\"], keys = [\"email\"], headers = [\"Set-Cookie\"] or detect = [\"card\"]",
        ),
        // An opaque service has no masks at all, and is told so.
        Some(Protocol::Opaque) | None => {}
    }
}

fn example(protocol: Option<Protocol>) -> &'static str {
    match protocol {
        Some(Protocol::Http) => {
            "add json = [\"$.users[*].email\"], keys = [\"email\"] or detect = [\"card\"]"
        }
        Some(Protocol::Postgres | Protocol::Opaque) | None => {
            "add columns = [\"customers.email\"] or detect = [\"card\"]"
        }
    }
}

fn operator(field: Field<'_>) -> Option<MaskOperator> {
    if field.is_table() {
        return field
            .table(&keys::CONSTANT)?
            .required("constant")?
            .string()
            .map(|text| MaskOperator::Constant(text.into()));
    }
    let word = field.one_of(
        &[
            ("redact", Word::Redact),
            ("null", Word::Null),
            ("partial", Word::Partial),
            ("hash", Word::Hash),
        ],
        &["tokenize"],
    )?;
    Some(match word {
        Word::Redact => MaskOperator::Redact,
        Word::Null => MaskOperator::Null,
        Word::Partial => MaskOperator::Partial,
        Word::Hash => MaskOperator::Hash,
    })
}

#[derive(Clone, Copy)]
enum Word {
    Redact,
    Null,
    Partial,
    Hash,
}
