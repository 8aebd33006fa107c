//! `[[service.mask]]`.

use crate::config::keys;
use crate::config::policy::{Detector, MaskOperator, MaskRule, MaskTarget};
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

pub(super) fn masks(field: Field<'_>) -> Option<Vec<MaskRule>> {
    let tables = field.tables(&keys::MASK);
    let masks: Vec<MaskRule> = tables.iter().filter_map(|table| mask(*table)).collect();
    (!tables.is_empty() && masks.len() == tables.len()).then_some(masks)
}

fn mask(table: Table<'_>) -> Option<MaskRule> {
    let columns = or_default(table.optional("columns"), None, |field| {
        field
            .parsed_list("name at least one column", scalar::column_pattern)
            .map(Some)
    });
    let detect = or_default(table.optional("detect"), None, |field| {
        field
            .parsed_list("name at least one detector", |text| {
                choose("detect", text, DETECTORS, LATER_DETECTORS)
            })
            .map(Some)
    });
    let target = match (columns?, detect?) {
        (Some(columns), None) => Some(MaskTarget::Columns(columns)),
        (None, Some(detectors)) => Some(MaskTarget::Detect(detectors)),
        (Some(_), Some(_)) => {
            table.error(
                "a mask has both \"columns\" and \"detect\"",
                "write two [[service.mask]]",
            );
            None
        }
        (None, None) => {
            table.error(
                "a mask says not what it masks",
                "add columns = [\"customers.email\"] or detect = [\"card\"]",
            );
            None
        }
    };
    let operator = table.required("with").and_then(operator);
    Some(MaskRule {
        target: target?,
        operator: operator?,
    })
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
