//! Claims: which a policy requires, and which are worth a record.

use std::collections::BTreeMap;

use globset::GlobBuilder;
use serde_json::{Map, Value};

use super::TokenError;

/// Checks every required claim, and returns what the identity keeps.
///
/// A pattern is a glob in which `*` stays within one level of a path (`acme/*` is not `acme/secret/report`) and `**`
/// does not. Numbers and booleans are compared as JSON writes them; of a list, one element has to match.
pub(super) fn check(
    claims: &Map<String, Value>,
    required: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, TokenError> {
    for (claim, expected) in required {
        let pattern = GlobBuilder::new(expected)
            .literal_separator(true)
            .backslash_escape(true)
            .build()
            .map_err(|_| TokenError::Pattern {
                claim: claim.clone(),
                pattern: expected.clone(),
            })?
            .compile_matcher();
        let value = claims.get(claim);
        let values = match value {
            Some(Value::Array(items)) => items.iter().filter_map(scalar).collect(),
            Some(value) => Vec::from_iter(scalar(value)),
            None => Vec::new(),
        };
        if !values.iter().any(|value| pattern.is_match(value)) {
            return Err(TokenError::Claim {
                claim: claim.clone(),
                expected: expected.clone(),
                found: value.and_then(shown),
            });
        }
    }
    let asked = required.keys().map(String::as_str);
    Ok(asked
        .chain(WELL_KNOWN.iter().copied())
        .filter_map(|claim| Some((claim.to_owned(), shown(claims.get(claim)?)?)))
        .collect())
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

fn shown(value: &Value) -> Option<String> {
    match value {
        Value::Null | Value::Object(_) => None,
        Value::Array(items) => {
            let items: Vec<_> = items.iter().filter_map(scalar).collect();
            Some(cut(&items.join(", ")))
        }
        Value::String(_) | Value::Bool(_) | Value::Number(_) => scalar(value).map(|text| cut(&text)),
    }
}

/// The text, at most [`LONGEST_SHOWN`] bytes of it.
pub(super) fn cut(text: &str) -> String {
    if text.len() <= LONGEST_SHOWN {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(LONGEST_SHOWN);
    format!("{}…", text.get(..end).unwrap_or_default())
}

/// Claims of GitLab and GitHub Actions tokens that say which run of which job it was.
pub(super) const WELL_KNOWN: &[&str] = &[
    "jti",
    "azp",
    "client_id",
    "environment",
    "ref",
    "ref_type",
    "sha",
    // GitLab
    "project_path",
    "project_id",
    "namespace_path",
    "ref_protected",
    "pipeline_id",
    "pipeline_source",
    "job_id",
    "user_login",
    "runner_id",
    "ci_config_ref_uri",
    // GitHub Actions
    "repository",
    "repository_owner",
    "workflow",
    "workflow_ref",
    "job_workflow_ref",
    "run_id",
    "run_attempt",
    "actor",
    "event_name",
    "runner_environment",
];

const LONGEST_SHOWN: usize = 256;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::{Map, Value, json};

    use super::super::TokenError;
    use super::check;

    fn claims() -> Map<String, Value> {
        let Value::Object(claims) = json!({
            "project_path": "acme/report",
            "nested_path": "acme/secret/report",
            "ref_protected": true,
            "count": 3,
            "groups": ["staff", "dba"],
            "nothing": null,
            "object": {"a": "b"},
            "job_id": "4711",
        }) else {
            unreachable!()
        };
        claims
    }

    #[test]
    fn claims_match_as_a_policy_reads() {
        for (claim, pattern, matches) in [
            ("project_path", "acme/report", true),
            ("project_path", "acme/*", true),
            ("project_path", "acme", false),
            ("project_path", "ACME/report", false),
            ("project_path", "*", false),
            ("nested_path", "acme/*", false),
            ("nested_path", "acme/**", true),
            ("ref_protected", "true", true),
            ("ref_protected", "false", false),
            ("count", "3", true),
            ("groups", "dba", true),
            ("groups", "root", false),
            ("groups", "staff, dba", false),
            ("nothing", "*", false),
            ("object", "*", false),
            ("missing", "*", false),
        ] {
            let required = BTreeMap::from([(claim.to_owned(), pattern.to_owned())]);
            assert_eq!(check(&claims(), &required).is_ok(), matches, "{claim} {pattern}");
        }
    }

    #[test]
    fn every_required_claim_has_to_match() {
        let required = BTreeMap::from(
            [("project_path", "acme/*"), ("ref_protected", "false")]
                .map(|(a, b)| (a.to_owned(), b.to_owned())),
        );
        let error = check(&claims(), &required).unwrap_err();
        assert!(matches!(error, TokenError::Claim { claim, .. } if claim == "ref_protected"));
    }

    #[test]
    fn what_was_asked_for_and_what_is_well_known_is_kept() {
        let required = BTreeMap::from([("groups".to_owned(), "dba".to_owned())]);
        let kept = check(&claims(), &required).unwrap();
        assert_eq!(kept["groups"], "staff, dba");
        assert_eq!(kept["job_id"], "4711");
        assert!(!kept.contains_key("nested_path") && !kept.contains_key("object"));
    }

    #[test]
    fn a_pattern_that_is_none_is_an_error_and_no_match() {
        let required = BTreeMap::from([("project_path".to_owned(), "acme/[".to_owned())]);
        assert!(matches!(
            check(&claims(), &required),
            Err(TokenError::Pattern { .. })
        ));
    }
}
