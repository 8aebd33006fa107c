//! Refusals in words: what was refused, why, and what to do.

use crate::config::{RuleDoc, RuleVerdict};
use crate::model::{Action, Command, Effect, HttpFacts, ObjectKind, RuleName};

use super::Denied;
use super::rule::Rule;

/// Longest name of an object that a message repeats, in characters; PostgreSQL's own are at most 63 bytes.
const LONGEST_NAME: usize = 128;

/// Longest request that a message repeats, in characters.
const LONGEST_REQUEST: usize = 300;

/// Longest reason for [`Effect::Unknown`] that a message repeats, in characters.
const LONGEST_REASON: usize = 200;

/// Whom to ask, and what for.
#[derive(Clone, Debug)]
pub(super) struct Owner(String);

impl Owner {
    pub(super) fn of_service(name: &str) -> Self {
        Self(format!("the policy of service \"{name}\""))
    }

    pub(super) fn of_file(name: &str) -> Self {
        Self(format!("policy {name}"))
    }
}

/// A refusal by rules: `first` is the action that the first of them refuses, `others` how many more are refused.
pub(super) fn by_rules(
    owner: &Owner,
    command: &Command,
    rules: &[&Rule],
    first: &Action,
    others: usize,
) -> Denied {
    let names: Vec<RuleName> = rules.iter().map(|rule| rule.name.clone()).collect();
    let quoted: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
    let (is, rule) = (
        if others == 0 { "is" } else { "are" },
        plural(names.len(), "rule"),
    );
    let hint = rules.iter().find_map(|rule| match &rule.verdict {
        RuleVerdict::Deny { hint } => hint.clone(),
        _ => None,
    });
    Denied {
        rules: names,
        message: format!(
            "tollgate: {}{} {is} refused by {rule} {}{}",
            described(command, first),
            and_others(others),
            quoted.join(", "),
            why(command, first),
        ),
        hint: hint.unwrap_or_else(|| {
            format!(
                "ask the owner of {} to change {rule} {} if this job has to do it",
                owner.0,
                quoted.join(", ")
            )
        }),
    }
}

/// A refusal because no rule allows `first`, nor `others` more.
pub(super) fn by_nobody(owner: &Owner, command: &Command, first: &Action, others: usize) -> Denied {
    let target = named(first).map_or_else(String::new, |object| format!(" for {object}"));
    let hint = if first.effect == Effect::Unknown {
        format!(
            "write the command in a form that can be understood, or ask the owner of {} to add a rule with effects = [\"unknown\"]",
            owner.0
        )
    } else if let Some(facts) = &command.http {
        let method = facts.methods.first().map_or("GET", |method| &**method);
        format!(
            "ask the owner of {} to add a rule that allows it, such as one with methods = [\"{}\"] and paths",
            owner.0,
            printable(method, LONGEST_NAME)
        )
    } else {
        format!(
            "ask the owner of {} to add a rule with effects = [\"{}\"]{target}",
            owner.0, first.effect
        )
    };
    Denied {
        rules: Vec::new(),
        message: format!(
            "tollgate: no rule allows {}{}{}",
            described(command, first),
            and_others(others),
            why(command, first)
        ),
        hint,
    }
}

/// A rule's name and verdict in words, for warnings about another rule.
pub(super) fn rule_in_words(rule: &RuleDoc) -> String {
    let verdict = match rule.verdict {
        RuleVerdict::Allow => "allow",
        RuleVerdict::Deny { .. } => "deny",
        RuleVerdict::Approve { .. } => "approve",
    };
    format!("the {verdict} rule \"{}\"", rule.name)
}

fn described(command: &Command, action: &Action) -> String {
    if command.http.is_some() {
        let request = printable(&command.text, LONGEST_REQUEST);
        return match action.effect {
            Effect::Unknown => format!("{request}, which is not understood"),
            effect => format!("{request} ({effect})"),
        };
    }
    let what = match action.effect {
        Effect::Unknown => "a command that is not understood".to_owned(),
        effect => effect.name().to_owned(),
    };
    match named(action) {
        Some(object) => format!("{what} on {object}"),
        None => what,
    }
}

fn named(action: &Action) -> Option<String> {
    let object = action.object.as_ref()?;
    let kind = match object.kind {
        ObjectKind::Table | ObjectKind::Other => "",
        ObjectKind::Function => "function ",
        ObjectKind::Schema => "schema ",
        ObjectKind::Database => "database ",
        ObjectKind::Role => "role ",
        ObjectKind::Setting => "setting ",
        ObjectKind::File => "file ",
        ObjectKind::Program => "program ",
        ObjectKind::Channel => "channel ",
    };
    Some(format!("{kind}{}", printable(&object.to_string(), LONGEST_NAME)))
}

fn why(command: &Command, first: &Action) -> String {
    match &command.unknown {
        Some(reason) if first.effect == Effect::Unknown => {
            format!(" ({})", printable(reason, LONGEST_REASON))
        }
        _ => command
            .http
            .as_ref()
            .map_or_else(String::new, |facts| in_doubt(facts)),
    }
}

/// What may have kept a rule from being certain of a request.
fn in_doubt(facts: &HttpFacts) -> String {
    let whys: Vec<&str> = facts.doubts.iter().map(|doubt| doubt.why.as_str()).collect();
    if whys.is_empty() {
        return String::new();
    }
    format!(" ({})", printable(&whys.join("; "), LONGEST_REASON))
}

fn and_others(others: usize) -> String {
    match others {
        0 => String::new(),
        1 => " and 1 other action".into(),
        _ => format!(" and {others} other actions"),
    }
}

fn plural(count: usize, word: &str) -> String {
    if count == 1 {
        word.into()
    } else {
        format!("{word}s")
    }
}

/// Names come from the client and go to terminals and error messages: no control characters, no flood.
fn printable(text: &str, longest: usize) -> String {
    let mut shown: String = text
        .chars()
        .take(longest)
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect();
    if text.chars().nth(longest).is_some() {
        shown.push('…');
    }
    shown
}
