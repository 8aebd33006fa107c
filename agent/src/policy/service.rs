//! The rules of one service, compiled.
//!
//! How a command is judged: each of its actions is judged in each way in which it may turn out (an unqualified name may
//! be in one of several schemas), and the strictest of all those verdicts is the command's.
//!
//! - A deny rule refuses what it could concern, an approve rule holds what it could concern.
//! - Something has to cover the action for certain, an allow rule or an approve rule; otherwise it is refused.
//!
//! A request of HTTP is judged in every way in which a server may read it: each method that it may be taken for, with each path.
//!
//! Known limit: where several approve rules hold a command, one approver of any of them decides, within the shortest of
//! their time-outs; there is no quorum.

use std::path::Path;
use std::time::Duration;

use crate::config::{RuleVerdict, ServiceDoc};
use crate::model::{Action, Command, Effect, HttpAsks, HttpFacts};

use super::refusal::{self, Owner};
use super::rule::{Rule, World, any_world};
use super::{Authorized, HoldTerms, Ruling};

/// The rules of one service, compiled for matching.
#[derive(Clone, Debug)]
pub struct ServicePolicy {
    rules: Vec<Rule>,
    owner: Owner,
}

/// What the rules say of one action in one world.
enum Standing {
    Refused,
    Uncovered,
    Held,
    Allowed,
}

impl ServicePolicy {
    /// Compiles the rules of `service`. Cannot fail: `config` has checked every pattern.
    pub fn compile(service: &ServiceDoc) -> Self {
        Self {
            rules: service.rules.iter().map(Rule::compile).collect(),
            owner: Owner::of_service(service.name.as_str()),
        }
    }

    /// The same, with the policy's file named in the hints of refusals. Only its name: its place is the host's affair.
    #[must_use]
    pub fn of_file(mut self, path: &Path) -> Self {
        if let Some(name) = path.file_name() {
            self.owner = Owner::of_file(&name.display().to_string());
        }
        self
    }

    /// What has to be known of the bodies of requests, so that the rules can judge them.
    pub fn asks(&self) -> HttpAsks {
        self.rules
            .iter()
            .map(Rule::asks)
            .fold(HttpAsks::default(), HttpAsks::and)
    }

    /// Judges one command. Pure, and cheap enough to be called for each command.
    ///
    /// A command without actions does nothing (an empty query) and is allowed by no rule.
    pub fn judge(&self, command: &Command) -> Ruling {
        let not_understood = [Action {
            effect: Effect::Unknown,
            object: None,
        }];
        let actions = if command.actions.is_empty() && command.unknown.is_some() {
            not_understood.as_slice()
        } else {
            command.actions.as_slice()
        };
        let http = command.http.as_deref();
        let rules: Vec<&Rule> = self
            .rules
            .iter()
            .filter(|rule| rule.speaks_of(command.without_where))
            .collect();
        let (mut refused, mut uncovered, mut held) = (Tally::default(), Tally::default(), false);
        for action in actions {
            match standing(&rules, http, action) {
                Standing::Refused => refused.add(action),
                Standing::Uncovered => uncovered.add(action),
                Standing::Held => held = true,
                Standing::Allowed => {}
            }
        }
        if let Some(first) = refused.first {
            let by = concerned(&rules, http, actions, |verdict| {
                matches!(verdict, RuleVerdict::Deny { .. })
            });
            return Ruling::Deny(refusal::by_rules(
                &self.owner,
                command,
                &by,
                first,
                refused.count - 1,
            ));
        }
        if let Some(first) = uncovered.first {
            return Ruling::Deny(refusal::by_nobody(
                &self.owner,
                command,
                first,
                uncovered.count - 1,
            ));
        }
        if held {
            return Ruling::Hold(terms(&concerned(&rules, http, actions, |verdict| {
                matches!(verdict, RuleVerdict::Approve { .. })
            })));
        }
        let by = concerned(&rules, http, actions, |verdict| {
            matches!(verdict, RuleVerdict::Allow)
        });
        Ruling::Allow(Authorized::by(by.iter().map(|rule| rule.name.clone()).collect()))
    }
}

/// Actions that stand alike: how many, and the first.
#[derive(Default)]
struct Tally<'a> {
    first: Option<&'a Action>,
    count: usize,
}

impl<'a> Tally<'a> {
    fn add(&mut self, action: &'a Action) {
        self.first.get_or_insert(action);
        self.count += 1;
    }
}

/// The strictest standing over all worlds.
fn standing(rules: &[&Rule], http: Option<&HttpFacts>, action: &Action) -> Standing {
    let concerned_by = |world: World<'_>, wanted: fn(&RuleVerdict) -> bool| {
        rules
            .iter()
            .any(|rule| wanted(&rule.verdict) && rule.concerns(action, world))
    };
    if any_world(http, action, |world| {
        concerned_by(world, |verdict| matches!(verdict, RuleVerdict::Deny { .. }))
    }) {
        return Standing::Refused;
    }
    if any_world(http, action, |world| {
        !rules.iter().any(|rule| rule.covers(action, world))
    }) {
        return Standing::Uncovered;
    }
    if any_world(http, action, |world| {
        concerned_by(world, |verdict| matches!(verdict, RuleVerdict::Approve { .. }))
    }) {
        return Standing::Held;
    }
    Standing::Allowed
}

/// Rules of a verdict that concern any of the actions, in the order of the policy.
fn concerned<'r>(
    rules: &[&'r Rule],
    http: Option<&HttpFacts>,
    actions: &[Action],
    wanted: fn(&RuleVerdict) -> bool,
) -> Vec<&'r Rule> {
    rules
        .iter()
        .copied()
        .filter(|rule| {
            wanted(&rule.verdict)
                && actions
                    .iter()
                    .any(|action| any_world(http, action, |world| rule.concerns(action, world)))
        })
        .collect()
}

fn terms(rules: &[&Rule]) -> HoldTerms {
    let mut who: Vec<String> = Vec::new();
    let mut shortest: Option<Duration> = None;
    for rule in rules {
        if let RuleVerdict::Approve { approvers, timeout } = &rule.verdict {
            for approver in approvers {
                if !who.contains(approver) {
                    who.push(approver.clone());
                }
            }
            shortest = Some(shortest.map_or(*timeout, |other| other.min(*timeout)));
        }
    }
    HoldTerms {
        rules: rules.iter().map(|rule| rule.name.clone()).collect(),
        approvers: who,
        timeout: shortest.unwrap_or_default(),
    }
}
