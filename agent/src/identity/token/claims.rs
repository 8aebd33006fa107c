//! Claims: which a policy requires, and which are worth a record.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::TokenError;
use crate::config::{ClaimName, ClaimRule};

/// Checks every required claim, and returns what the identity keeps.
///
/// Numbers and booleans are compared as JSON writes them; of a list, one element has to match.
pub(super) fn check(
    claims: &Map<String, Value>,
    required: &[ClaimRule],
) -> Result<BTreeMap<String, String>, TokenError> {
    let mut kept = BTreeMap::new();
    for rule in required {
        let value = find(claims, &rule.claim);
        if !matches(claims, rule) {
            return Err(TokenError::Claim {
                claim: rule.claim.as_str().to_owned(),
                expected: rule.to_string(),
                found: value.and_then(shown),
            });
        }
        kept.extend(
            value
                .and_then(shown)
                .map(|text| (rule.claim.as_str().to_owned(), text)),
        );
    }
    let well_known = WELL_KNOWN
        .iter()
        .filter_map(|claim| Some(((*claim).to_owned(), shown(claims.get(*claim)?)?)));
    kept.extend(well_known);
    let further_in = WELL_KNOWN_INSIDE.iter().filter_map(|pointer| {
        let found = find(claims, &ClaimName::Pointer((*pointer).to_owned()))?;
        Some(((*pointer).to_owned(), shown(found)?))
    });
    kept.extend(further_in);
    Ok(kept)
}

/// Whether the claim is there, with one of its values.
pub(super) fn matches(claims: &Map<String, Value>, rule: &ClaimRule) -> bool {
    let fits = |value: &Value| scalar(value).is_some_and(|text| rule.matches(&text));
    match find(claims, &rule.claim) {
        Some(Value::Array(items)) => items.iter().any(fits),
        Some(value) => fits(value),
        None => false,
    }
}

fn find<'c>(claims: &'c Map<String, Value>, name: &ClaimName) -> Option<&'c Value> {
    match name {
        ClaimName::Top(name) => claims.get(name),
        // `Value::pointer` asks for a value, and the payload is a map: the first level is looked up here.
        ClaimName::Pointer(pointer) => {
            let levels = pointer.strip_prefix('/')?;
            let (first, rest) = match levels.find('/') {
                Some(at) => levels.split_at(at),
                None => (levels, ""),
            };
            claims
                .get(&first.replace("~1", "/").replace("~0", "~"))?
                .pointer(rest)
        }
    }
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

/// The same of Kubernetes' service accounts, which lie further in.
const WELL_KNOWN_INSIDE: &[&str] = &[
    "/kubernetes.io/namespace",
    "/kubernetes.io/pod/name",
    "/kubernetes.io/serviceaccount/name",
];

const LONGEST_SHOWN: usize = 256;

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value, json};

    use super::super::TokenError;
    use super::super::test_issuer::like;
    use super::check;
    use crate::config::{ClaimName, ClaimRule, ClaimValue};

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
            "kubernetes.io": {"namespace": "prod", "serviceaccount": {"name": "backup", "groups": ["a/b", "c"]}},
            "a/b": {"~c": "d"},
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
            ("kubernetes.io", "*", false),
            ("/kubernetes.io/namespace", "prod", true),
            ("/kubernetes.io/serviceaccount/name", "back*", true),
            ("/kubernetes.io/serviceaccount/name", "other", false),
            ("/kubernetes.io/serviceaccount/groups", "a/b", true),
            ("/kubernetes.io/serviceaccount/groups/1", "c", true),
            ("/kubernetes.io/serviceaccount", "*", false),
            ("/kubernetes.io/serviceaccount/name/more", "*", false),
            ("/a~1b/~0c", "d", true),
            ("/project_path", "acme/report", true),
        ] {
            let required = [like(claim, pattern)];
            assert_eq!(check(&claims(), &required).is_ok(), matches, "{claim} {pattern}");
        }
    }

    #[test]
    fn every_required_claim_has_to_match() {
        let required = [like("project_path", "acme/*"), like("ref_protected", "false")];
        let error = check(&claims(), &required).unwrap_err();
        assert!(matches!(error, TokenError::Claim { claim, .. } if claim == "ref_protected"));
    }

    #[test]
    fn what_was_asked_for_and_what_is_well_known_is_kept() {
        let required = [like("groups", "dba")];
        let kept = check(&claims(), &required).unwrap();
        assert_eq!(kept["groups"], "staff, dba");
        assert_eq!(kept["job_id"], "4711");
        assert_eq!(kept["/kubernetes.io/namespace"], "prod");
        assert!(!kept.contains_key("nested_path") && !kept.contains_key("object"));
    }

    #[test]
    fn one_of_several_values_is_enough_and_what_equals_has_no_patterns() {
        let rule = |any_of| {
            [ClaimRule {
                claim: ClaimName::Top("project_path".to_owned()),
                any_of,
            }]
        };
        let equals = |text: &str| ClaimValue::Equals(text.to_owned());
        let either = rule(vec![equals("acme/billing"), equals("acme/report")]);
        assert!(check(&claims(), &either).is_ok());
        let starred = check(&claims(), &rule(vec![equals("acme/*"), equals("x")])).unwrap_err();
        assert_eq!(
            starred.to_string(),
            r#"its claim "project_path" is "acme/report", and the policy asks for "acme/*" or "x""#
        );
    }
}
