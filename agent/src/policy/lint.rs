//! Warnings: what a policy says that will surprise its author. Nothing here changes a verdict.

mod request;

use crate::config::{
    Egress, EndpointHost, Glob, MaskOperator, MaskTarget, Mode, PolicyDoc, Protocol, RuleDoc, RuleVerdict,
    Selector, SelectorKind, ServiceDoc, TablePattern, TlsMode,
};
use crate::model::{Effect, Effects};

use super::refusal::rule_in_words;
use super::rule::Pattern;

/// Something that a policy says and its author may not have meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Where, as [`crate::config::locate`] takes it.
    pub pointer: String,
    /// What will surprise.
    pub message: String,
    /// What to do.
    pub help: String,
}

/// Effects that never fall on a table.
const NEVER_ON_TABLES: &[Effect] = &[Effect::Transaction, Effect::Session, Effect::Notify];

/// Effects whose allowance gives up a promise, and what it gives up.
const TELLING: &[(Effect, &str)] = &[
    (Effect::Unknown, "commands that were not understood pass unjudged"),
    (
        Effect::UnsafeIo,
        "files, programs and the network of the server are open to the job",
    ),
    (
        Effect::Declassify,
        "masked values can be copied to where no mask finds them",
    ),
    (
        Effect::Privilege,
        "the job can give itself and others more rights at the server",
    ),
];

/// What of `policy` will surprise, in no particular order.
pub fn lint(policy: &PolicyDoc) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut warn = |pointer: String, message: String, help: &str| {
        findings.push(Finding {
            pointer,
            message,
            help: help.into(),
        });
    };
    workload(policy, &mut warn);
    for (i, doc) in policy.services.iter().enumerate() {
        let at = format!("/service/{i}");
        service(&at, doc, &mut warn);
        tls(&at, doc, &mut warn);
        masks(&at, doc, &mut warn);
        for (j, rule) in doc.rules.iter().enumerate() {
            one_rule(&format!("{at}/rule/{j}"), doc, rule, &mut warn);
            if doc.protocol == Protocol::Http {
                request::rule(&format!("{at}/rule/{j}"), rule, &mut warn);
            }
        }
        shadows(&at, doc, &mut warn);
    }
    findings
}

fn workload(policy: &PolicyDoc, warn: &mut dyn FnMut(String, String, &str)) {
    if policy.workload.egress == Egress::Allow {
        warn(
            "/workload/egress".into(),
            "the workload may connect to anything that no service names".into(),
            "write egress = \"deny\", or \"observe\" to learn what it needs",
        );
    }
    if policy.workload.mode == Mode::Observe {
        warn(
            "/workload/mode".into(),
            "nothing is refused: the policy observes".into(),
            "write mode = \"enforce\" when the record shows what was expected",
        );
    }
    for selector in &policy.workload.selectors {
        wide(selector, warn);
    }
    if !policy.workload.environment.is_empty() && policy.identity.is_none() {
        warn(
            "/workload/environment".into(),
            "a job's environment is its own claim: this holds back mistakes, and nobody who lies".into(),
            "ask for an ID token under [identity.oidc], whose claims are proven",
        );
    }
    if policy.findings.probe.is_some() {
        warn(
            "/findings/probe".into(),
            "a job that has no password fails the first time that it connects after a start of the agent, and one that takes no other way of proving itself fails always".into(),
            "take it out when the findings have shown what there is to find",
        );
    }
    if policy.services.is_empty() {
        warn(
            "/workload".into(),
            "the policy has no service: nothing is protected".into(),
            "add a [[service]] for each destination",
        );
    }
}

/// Selectors that take in more than jobs.
fn wide(selector: &Selector, warn: &mut dyn FnMut(String, String, &str)) {
    let (message, help) = match selector.kind {
        SelectorKind::Cgroup if matches!(selector.text.split('/').nth(1), Some("*" | "**")) => (
            format!(
                "\"{}\" manages every slice of the host, the system's own services included",
                selector.text
            ),
            "name the slice, service or container of the workload",
        ),
        SelectorKind::Unit if selector.matches_name(OWN_UNIT) => (
            format!("{selector} is the agent's own unit as well, so that the agent will not start"),
            "name the units of the workload",
        ),
        SelectorKind::Slice if selector.matches_name("system.slice") => (
            format!(
                "{selector} holds the system's own services, and as a rule the agent, which will not start then"
            ),
            "give the jobs a slice of their own (Slice= in their units)",
        ),
        SelectorKind::UserUnit => (
            format!(
                "{selector} is a unit of a user's own manager: the user decides what runs in it, and can run the same program \
                 beside it, under no policy"
            ),
            "select all of the user: unit = [\"user@1000.service\"]",
        ),
        _ => return,
    };
    warn(selector.pointer(), message, help);
}

/// The unit that the package runs the agent in.
const OWN_UNIT: &str = "tollgate.service";

fn service(at: &str, doc: &ServiceDoc, warn: &mut dyn FnMut(String, String, &str)) {
    if doc.protocol != Protocol::Opaque && doc.rules.is_empty() {
        warn(
            at.into(),
            format!("service \"{}\" has no rule: every command is refused", doc.name),
            "add a [[service.rule]] that allows what the job does",
        );
    }
    let exports = |rule: &RuleDoc| rule.effects.contains(&Effect::BulkExport) && !is_deny(rule);
    if !doc.masks.is_empty()
        && let Some(j) = doc.rules.iter().position(exports)
    {
        warn(
            format!("{at}/rule/{j}"),
            format!(
                "service \"{}\" is masked and lets bulk_export pass: a dump made through it holds masks in place of data, and cannot be restored",
                doc.name
            ),
            "a backup wants a service without masks; a report wants no bulk_export",
        );
    }
}

fn tls(at: &str, doc: &ServiceDoc, warn: &mut dyn FnMut(String, String, &str)) {
    if doc.protocol == Protocol::Opaque {
        return;
    }
    let remote = doc.addresses.iter().any(|endpoint| match &endpoint.host {
        EndpointHost::Name(name) => name != "localhost",
        EndpointHost::Net(net) => !net.network().is_loopback(),
    });
    let network = doc
        .addresses
        .iter()
        .any(|endpoint| matches!(endpoint.host, EndpointHost::Net(_)));
    let pointer = format!("{at}/tls");
    match doc.tls.upstream {
        TlsMode::Disable if remote => warn(
            pointer,
            "the injected login and all data cross the network in clear".into(),
            "write upstream = \"verify-full\"",
        ),
        TlsMode::Require if remote => warn(
            pointer,
            "whoever answers at the address gets the injected login: the certificate is not checked".into(),
            "write upstream = \"verify-full\", and ca = … where the authority is your own",
        ),
        TlsMode::VerifyFull if network && doc.tls.server_name.is_none() => warn(
            at.into(),
            "an address is given as a network: the certificate has to name the IP address itself".into(),
            "add server_name = … to tls, or give the address as a name",
        ),
        _ => {}
    }
    if doc.tls.upstream != TlsMode::VerifyFull && (doc.tls.ca.is_some() || doc.tls.server_name.is_some()) {
        warn(
            format!("{at}/tls"),
            "\"ca\" and \"server_name\" have no effect: the certificate is not checked".into(),
            "write upstream = \"verify-full\", or remove them",
        );
    }
}

fn masks(at: &str, doc: &ServiceDoc, warn: &mut dyn FnMut(String, String, &str)) {
    let mut seen: Vec<([Glob; 3], String)> = Vec::new();
    for (j, mask) in doc.masks.iter().enumerate() {
        let MaskTarget::Columns(columns) = &mask.target else {
            continue;
        };
        if mask.operator == MaskOperator::Constant(String::new()) {
            warn(
                format!("{at}/mask/{j}/with"),
                "the constant is empty: readers cannot tell a masked value from an empty one".into(),
                "write a text such as \"(hidden)\"",
            );
        }
        for (k, column) in columns.iter().enumerate() {
            let pointer = format!("{at}/mask/{j}/columns/{k}");
            let shown = format!("{}.{}.{}", column.schema, column.table, column.column);
            upper_case(&pointer, &shown, warn);
            let (Ok(schema), Ok(table), Ok(name)) = (
                Glob::name(&column.schema),
                Glob::name(&column.table),
                Glob::name(&column.column),
            ) else {
                continue;
            };
            let globs = [schema, table, name];
            let covers = |earlier: &[Glob; 3]| {
                earlier
                    .iter()
                    .zip(&globs)
                    .all(|(wide, narrow)| wide.covers(narrow))
            };
            if let Some((_, earlier)) = seen.iter().find(|(earlier, _)| covers(earlier)) {
                warn(
                    pointer,
                    format!("\"{shown}\" never counts: \"{earlier}\" before it masks the same columns"),
                    "remove it, or put it first",
                );
            }
            seen.push((globs, shown));
        }
    }
}

fn one_rule(at: &str, doc: &ServiceDoc, rule: &RuleDoc, warn: &mut dyn FnMut(String, String, &str)) {
    if !is_deny(rule) {
        for (effect, gives_up) in TELLING {
            if let Some(k) = rule.effects.iter().position(|named| named == effect) {
                let word = if rule.verdict == RuleVerdict::Allow {
                    "allows"
                } else {
                    "lets an approver allow"
                };
                if *effect == Effect::Declassify && doc.masks.is_empty() {
                    continue;
                }
                warn(
                    format!("{at}/effects/{k}"),
                    format!("rule \"{}\" {word} \"{effect}\": {gives_up}", rule.name),
                    "name it only where nothing else does, and narrow the rule",
                );
            }
        }
    }
    if !rule.tables.is_empty() || !rule.functions.is_empty() {
        for (k, effect) in rule.effects.iter().enumerate() {
            if NEVER_ON_TABLES.contains(effect) {
                warn(
                    format!("{at}/effects/{k}"),
                    format!(
                        "rule \"{}\" never matches \"{effect}\": it names tables or functions, and \"{effect}\" falls on none",
                        rule.name
                    ),
                    "put the effect into a rule without tables",
                );
            }
        }
    }
    if rule.without_where.is_some()
        && !rule
            .effects
            .iter()
            .any(|effect| matches!(effect, Effect::Modify | Effect::Delete))
    {
        warn(
            format!("{at}/without_where"),
            format!(
                "rule \"{}\" asks for UPDATE or DELETE without WHERE, and names neither effect",
                rule.name
            ),
            "add \"modify\" or \"delete\" to its effects, or remove without_where",
        );
    }
    for (key, patterns) in [("tables", &rule.tables), ("functions", &rule.functions)] {
        let compiled: Vec<Pattern> = patterns.iter().map(Pattern::compile).collect();
        for (k, pattern) in patterns.iter().enumerate() {
            let pointer = format!("{at}/{key}/{k}");
            upper_case(&pointer, &shown(pattern), warn);
            let wider = compiled.iter().enumerate().find(|(other, wide)| {
                *other != k
                    && compiled
                        .get(k)
                        .is_some_and(|narrow| wide.covers(narrow) && (*other < k || !narrow.covers(wide)))
            });
            if let Some(wide) = wider.and_then(|(other, _)| patterns.get(other)) {
                warn(
                    pointer,
                    format!(
                        "\"{}\" adds nothing to \"{}\" of the same rule",
                        shown(pattern),
                        shown(wide)
                    ),
                    "remove it",
                );
            }
        }
    }
}

/// Rules that another rule leaves without effect.
fn shadows(at: &str, doc: &ServiceDoc, warn: &mut dyn FnMut(String, String, &str)) {
    for (j, rule) in doc.rules.iter().enumerate() {
        let stronger = doc.rules.iter().enumerate().find(|(other, by)| {
            *other != j
                && encloses(by, rule)
                && match (strength(by), strength(rule)) {
                    (by, own) if by != own => by > own,
                    // Other approvers or another time-out are terms of their own.
                    (1, _) if by.verdict != rule.verdict => false,
                    // Of two that say the same, the later one is superfluous.
                    _ => !encloses(rule, by) || *other < j,
                }
        });
        let Some((_, by)) = stronger else { continue };
        let message = if strength(by) == strength(rule) {
            format!("rule \"{}\" adds nothing to {}", rule.name, rule_in_words(by))
        } else {
            format!(
                "rule \"{}\" never decides: {} concerns everything that it names, and goes before it",
                rule.name,
                rule_in_words(by)
            )
        };
        warn(
            format!("{at}/rule/{j}"),
            message,
            "remove it, or narrow the other one",
        );
    }
}

/// Whether `wide` concerns everything that `narrow` concerns.
fn encloses(wide: &RuleDoc, narrow: &RuleDoc) -> bool {
    let effects: Effects = wide.effects.iter().copied().collect();
    narrow.effects.iter().all(|effect| effects.contains(*effect))
        && (wide.without_where.is_none() || wide.without_where == narrow.without_where)
        && request::encloses(&wide.request, &narrow.request)
        && (is_of_any_object(wide)
            || (!is_of_any_object(narrow)
                && patterns_cover(&wide.tables, &narrow.tables)
                && patterns_cover(&wide.functions, &narrow.functions)))
}

fn patterns_cover(wide: &[TablePattern], narrow: &[TablePattern]) -> bool {
    let wide: Vec<Pattern> = wide.iter().map(Pattern::compile).collect();
    narrow
        .iter()
        .map(Pattern::compile)
        .all(|narrow| wide.iter().any(|wide| wide.covers(&narrow)))
}

fn is_of_any_object(rule: &RuleDoc) -> bool {
    rule.tables.is_empty() && rule.functions.is_empty()
}

fn strength(rule: &RuleDoc) -> u8 {
    match rule.verdict {
        RuleVerdict::Allow => 0,
        RuleVerdict::Approve { .. } => 1,
        RuleVerdict::Deny { .. } => 2,
    }
}

fn is_deny(rule: &RuleDoc) -> bool {
    matches!(rule.verdict, RuleVerdict::Deny { .. })
}

fn shown(pattern: &TablePattern) -> String {
    format!("{}.{}", pattern.schema, pattern.table)
}

fn upper_case(pointer: &str, name: &str, warn: &mut dyn FnMut(String, String, &str)) {
    if name.chars().any(char::is_uppercase) {
        warn(
            pointer.into(),
            format!("\"{name}\" has capital letters: it matches names that were created in quotes alone"),
            "write it in lower case unless the catalog has it so",
        );
    }
}
