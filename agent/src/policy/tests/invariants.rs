//! What holds for every set of rules and every command.

use proptest::prelude::*;

use super::super::ServicePolicy;
use super::{command, document, on, plain, rule, table, word};
use crate::config::{RuleDoc, ServiceDoc};
use crate::model::{Action, Command, Effect, ObjectKind, Schema};

fn effects() -> impl Strategy<Value = Effect> {
    prop::sample::select(vec![
        Effect::Read,
        Effect::Delete,
        Effect::SchemaDestroy,
        Effect::Unknown,
    ])
}

fn a_rule() -> impl Strategy<Value = RuleDoc> {
    let patterns = || {
        prop::collection::vec(
            prop::sample::select(vec!["a.t", "b.t", "*.t", "a.*", "u", "[ab].?"]),
            0..3,
        )
    };
    (
        prop::collection::hash_set(effects(), 1..3),
        patterns(),
        patterns(),
        prop::option::of(any::<bool>()),
        prop::sample::select(vec!["allow", "approve", "deny"]),
    )
        .prop_map(|(effects, tables, functions, without_where, verdict)| {
            let list = |key: &str, items: Vec<&str>| {
                let mut items = items;
                items.sort_unstable();
                items.dedup();
                if items.is_empty() {
                    String::new()
                } else {
                    format!("{key} = {items:?}\n")
                }
            };
            let body = list("effects", effects.iter().map(|effect| effect.name()).collect())
                + &list("tables", tables)
                + &list("functions", functions)
                + &without_where.map_or(String::new(), |flag| format!("without_where = {flag}\n"));
            document(&rule("r", verdict, &body))
                .services
                .remove(0)
                .rules
                .remove(0)
        })
}

fn an_action() -> impl Strategy<Value = Action> {
    let names = prop::sample::select(vec![
        "a.t", "b.t", "c.t", "t", "a|b.t", "b|c.t", "a.u", "u", "public.u",
    ]);
    prop_oneof![
        effects().prop_map(plain),
        (effects(), names.clone()).prop_map(|(effect, name)| table(effect, name)),
        (effects(), names).prop_map(|(effect, name)| {
            let mut action = table(effect, name);
            if let Some(object) = action.object.as_mut() {
                object.kind = ObjectKind::Function;
            }
            action
        }),
        (effects(), prop::sample::select(vec!["a", "b"])).prop_map(|(effect, name)| on(
            effect,
            ObjectKind::Schema,
            Schema::Named("".into()),
            name
        )),
    ]
}

fn a_command() -> impl Strategy<Value = Command> {
    (prop::collection::vec(an_action(), 0..4), any::<bool>()).prop_map(|(actions, without_where)| Command {
        without_where,
        ..command(actions)
    })
}

fn with_rules(rules: &[RuleDoc]) -> ServicePolicy {
    let mut service: ServiceDoc = document("").services.remove(0);
    service.rules = rules.to_vec();
    ServicePolicy::compile(&service)
}

/// 0 refused, 1 held, 2 allowed.
fn freedom(policy: &ServicePolicy, command: &Command) -> u8 {
    match word(&policy.judge(command)) {
        "deny" => 0,
        "hold" => 1,
        _ => 2,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1500) })]

    #[test]
    fn a_deny_rule_more_never_frees(
        rules in prop::collection::vec(a_rule(), 0..5),
        extra in a_rule(),
        command in a_command(),
    ) {
        let before = freedom(&with_rules(&rules), &command);
        let mut more = rules.clone();
        more.push(RuleDoc { verdict: crate::config::RuleVerdict::Deny { hint: None }, ..extra });
        prop_assert!(freedom(&with_rules(&more), &command) <= before);
    }

    #[test]
    fn the_order_of_rules_never_matters(
        (rules, shuffled) in prop::collection::vec(a_rule(), 0..6)
            .prop_flat_map(|rules| (Just(rules.clone()), Just(rules).prop_shuffle())),
        command in a_command(),
    ) {
        prop_assert_eq!(freedom(&with_rules(&rules), &command), freedom(&with_rules(&shuffled), &command));
    }

    #[test]
    fn an_action_more_never_frees(
        rules in prop::collection::vec(a_rule(), 0..6),
        command in a_command(),
        extra in an_action(),
        at in any::<prop::sample::Index>(),
    ) {
        let policy = with_rules(&rules);
        let mut longer = command.clone();
        longer.actions.insert(at.index(command.actions.len() + 1), extra);
        prop_assert!(freedom(&policy, &longer) <= freedom(&policy, &command));
    }

    /// Knowing less of where an object is never frees: what an unresolved name may do, every resolution may.
    #[test]
    fn an_unresolved_name_is_never_freer_than_any_resolution(
        rules in prop::collection::vec(a_rule(), 0..6),
        effect in effects(),
        schema in prop::sample::select(vec!["a", "b", "c", "public"]),
    ) {
        let policy = with_rules(&rules);
        let somewhere = freedom(&policy, &command(vec![table(effect, "t")]));
        let one_of = freedom(&policy, &command(vec![table(effect, "a|b|c|public.t")]));
        let there = freedom(&policy, &command(vec![table(effect, &format!("{schema}.t"))]));
        prop_assert!(somewhere <= one_of);
        prop_assert!(one_of <= there);
    }

    #[test]
    fn without_any_rule_nothing_passes(command in a_command()) {
        let expected = if command.actions.is_empty() { 2 } else { 0 };
        prop_assert_eq!(freedom(&with_rules(&[]), &command), expected);
    }
}
