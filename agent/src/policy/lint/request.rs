//! Warnings about rules over requests of HTTP.

use crate::config::{RequestRule, RuleDoc, RuleVerdict};
use crate::model::{Effect, method_effects};

/// What of one rule will surprise.
pub(super) fn rule(at: &str, rule: &RuleDoc, warn: &mut dyn FnMut(String, String, &str)) {
    let request = &rule.request;
    let may_pass = !matches!(rule.verdict, RuleVerdict::Deny { .. });
    let usual = [Effect::Read, Effect::Write, Effect::Modify, Effect::Delete];
    let every_effect = usual.iter().all(|effect| rule.effects.contains(effect));
    if may_pass
        && every_effect
        && request.methods.is_empty()
        && request.grpc.is_empty()
        && request.graphql.is_none()
    {
        let word = if rule.verdict == RuleVerdict::Allow {
            "allows"
        } else {
            "lets an approver allow"
        };
        warn(
            at.to_owned(),
            format!(
                "rule \"{}\" names no method: it {word} every one, DELETE included",
                rule.name
            ),
            "add methods = [\"GET\", \"HEAD\"], or effects = [\"read\"]",
        );
    }
    for (k, method) in request.methods.iter().enumerate() {
        let does = method_effects(method).unwrap_or(&[Effect::Unknown]);
        if let Some(missing) = does.iter().find(|effect| !rule.effects.contains(effect)) {
            warn(
                format!("{at}/methods/{k}"),
                format!(
                    "rule \"{}\" does not cover \"{method}\": its effects lack \"{missing}\"",
                    rule.name
                ),
                "add the effect, or leave effects out",
            );
        }
    }
    if !request.methods.is_empty() {
        for (k, effect) in rule.effects.iter().enumerate() {
            let done = request.methods.iter().any(|method| match method_effects(method) {
                Some(effects) => effects.contains(effect),
                None => *effect == Effect::Unknown,
            });
            let named = usual.contains(effect) && !every_effect;
            if named && !done {
                warn(
                    format!("{at}/effects/{k}"),
                    format!("no method of rule \"{}\" does \"{effect}\"", rule.name),
                    "remove the effect, or name the method",
                );
            }
        }
    }
    for (k, pattern) in request.paths.iter().enumerate() {
        let wider = request.paths.iter().enumerate().find(|(other, wide)| {
            *other != k && wide.covers(pattern) && (*other < k || !pattern.covers(wide))
        });
        if let Some((_, wide)) = wider {
            warn(
                format!("{at}/paths/{k}"),
                format!(
                    "\"{}\" adds nothing to \"{}\" of the same rule",
                    pattern.as_str(),
                    wide.as_str()
                ),
                "remove it",
            );
        }
    }
}

/// Whether `wide` asks nothing that `narrow` does not ask.
pub(super) fn encloses(wide: &RequestRule, narrow: &RequestRule) -> bool {
    fn within<T: PartialEq>(wide: &[T], narrow: &[T]) -> bool {
        wide.is_empty() || (!narrow.is_empty() && narrow.iter().all(|one| wide.contains(one)))
    }
    let all_of = |wide: &[_], narrow: &[_]| wide.iter().all(|one| narrow.contains(one));
    let paths = wide.paths.is_empty()
        || (!narrow.paths.is_empty()
            && narrow
                .paths
                .iter()
                .all(|one| wide.paths.iter().any(|other| other.covers(one))))
        || wide.paths.iter().any(|one| one.as_str() == "/**");
    let shorter = match (wide.body_max, narrow.body_max) {
        (None, _) => true,
        (Some(most), Some(own)) => own <= most,
        (Some(_), None) => false,
    };
    within(&wide.methods, &narrow.methods)
        && within(&wide.hosts, &narrow.hosts)
        && paths
        && all_of(&wide.query, &narrow.query)
        && all_of(&wide.headers, &narrow.headers)
        && all_of(&wide.json, &narrow.json)
        && shorter
        && within(&wide.grpc, &narrow.grpc)
        && (wide.graphql.is_none() || wide.graphql == narrow.graphql)
}
