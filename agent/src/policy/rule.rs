//! One rule, compiled, and the two questions about it: does it cover an action for certain, could it concern it.

use std::sync::Arc;

use crate::config::{Glob, RuleDoc, RuleVerdict, TablePattern};
use crate::model::{
    Action, Effect, Effects, HttpAsks, HttpFacts, Object, ObjectKind, RuleName, Schema, method_effects,
};

use super::request::{Reading, RequestMatch};

/// One rule, compiled.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub(super) name: RuleName,
    pub(super) verdict: RuleVerdict,
    effects: Effects,
    tables: Vec<Pattern>,
    functions: Vec<Pattern>,
    without_where: Option<bool>,
    request: RequestMatch,
}

/// A [`TablePattern`], compiled.
#[derive(Clone, Debug)]
pub(super) struct Pattern {
    schema: Glob,
    name: Glob,
    /// False for a malformed pattern: it is certain of nothing.
    sound: bool,
}

/// One way in which a command may turn out at the server: its objects each in one schema, a request read in one way.
#[derive(Clone, Copy, Debug)]
pub(super) enum World<'a> {
    /// The object is in this schema.
    In(&'a str),
    /// The object is in some schema.
    Somewhere,
    /// A request of HTTP is read like this.
    Request(Reading<'a>),
}

impl Rule {
    /// Compiles a rule. A malformed pattern, which `config` refuses, covers nothing and concerns everything.
    pub(super) fn compile(doc: &RuleDoc) -> Self {
        let compile = |patterns: &[TablePattern]| patterns.iter().map(Pattern::compile).collect();
        Self {
            name: doc.name.clone(),
            verdict: doc.verdict.clone(),
            effects: doc.effects.iter().copied().collect(),
            tables: compile(&doc.tables),
            functions: compile(&doc.functions),
            without_where: doc.without_where,
            request: RequestMatch::compile(&doc.request),
        }
    }

    /// What has to be known of a request's body to judge it by this rule.
    pub(super) fn asks(&self) -> HttpAsks {
        HttpAsks {
            held: matches!(self.verdict, RuleVerdict::Approve { .. }),
            ..self.request.asks()
        }
    }

    /// Whether the rule speaks of commands like this at all.
    pub(super) fn speaks_of(&self, without_where: bool) -> bool {
        self.without_where.is_none_or(|wanted| wanted == without_where)
    }

    /// Whether the action is certainly one that the rule names.
    pub(super) fn covers(&self, action: &Action, world: World<'_>) -> bool {
        if !self.effects.contains(action.effect) {
            return false;
        }
        match world {
            World::Request(reading) if !self.request.certainly(reading) => return false,
            World::Request(_) => {}
            // No command but a request can be what the rule asks for.
            World::In(_) | World::Somewhere if self.request.asks_anything() => return false,
            World::In(_) | World::Somewhere => {}
        }
        if self.is_of_any_object() {
            return true;
        }
        let Some(object) = &action.object else {
            return self.allows_bare_reads(action);
        };
        self.patterns(object)
            .iter()
            .any(|pattern| pattern.certainly(object, world))
    }

    /// Whether the action could be one that the rule names: also where its schema is not known, and where it falls on
    /// something that contains tables or functions that the rule names (DROP SCHEMA, DROP DATABASE).
    pub(super) fn concerns(&self, action: &Action, world: World<'_>) -> bool {
        if !self.effects.contains(action.effect) {
            return false;
        }
        if let World::Request(reading) = world
            && !self.request.possibly(reading)
        {
            return false;
        }
        if self.is_of_any_object() {
            return true;
        }
        let Some(object) = &action.object else {
            return self.allows_bare_reads(action);
        };
        match object.kind {
            ObjectKind::Schema => self
                .tables
                .iter()
                .chain(&self.functions)
                .any(|pattern| pattern.schema.matches(&object.name)),
            ObjectKind::Database => true,
            _ => self
                .patterns(object)
                .iter()
                .any(|pattern| pattern.possibly(object, world)),
        }
    }

    /// What reads nothing that is stored (`SELECT 1`, `SELECT now()`) may be done by whoever may read any table.
    fn allows_bare_reads(&self, action: &Action) -> bool {
        matches!(self.verdict, RuleVerdict::Allow) && action.effect == Effect::Read && !self.tables.is_empty()
    }

    fn is_of_any_object(&self) -> bool {
        self.tables.is_empty() && self.functions.is_empty()
    }

    fn patterns(&self, object: &Object) -> &[Pattern] {
        match object.kind {
            ObjectKind::Table => &self.tables,
            ObjectKind::Function => &self.functions,
            _ => &[],
        }
    }
}

impl Pattern {
    pub(super) fn compile(pattern: &TablePattern) -> Self {
        match (Glob::name(&pattern.schema), Glob::name(&pattern.table)) {
            (Ok(schema), Ok(name)) => Self {
                schema,
                name,
                sound: true,
            },
            _ => Self {
                schema: Glob::any(),
                name: Glob::any(),
                sound: false,
            },
        }
    }

    /// Whether this matches all that `other` matches.
    pub(super) fn covers(&self, other: &Self) -> bool {
        self.sound && self.schema.covers(&other.schema) && self.name.covers(&other.name)
    }

    fn certainly(&self, object: &Object, world: World<'_>) -> bool {
        let schema = match world {
            World::In(schema) => self.schema.matches(schema),
            World::Somewhere | World::Request(_) => self.schema.is_any(),
        };
        self.sound && schema && self.name.matches(&object.name)
    }

    fn possibly(&self, object: &Object, world: World<'_>) -> bool {
        let schema = match world {
            World::In(schema) => self.schema.matches(schema),
            World::Somewhere | World::Request(_) => true,
        };
        schema && self.name.matches(&object.name)
    }
}

/// Calls `judge` for each way in which the action of a command may turn out; true as soon as it is true for one.
pub(super) fn any_world<'a>(
    http: Option<&'a HttpFacts>,
    action: &'a Action,
    mut judge: impl FnMut(World<'a>) -> bool,
) -> bool {
    if let Some(facts) = http {
        return readings(facts, action.effect)
            .into_iter()
            .any(|reading| judge(World::Request(reading)));
    }
    match action.object.as_ref().map(|object| &object.schema) {
        Some(Schema::Named(schema)) => judge(World::In(schema)),
        Some(Schema::AnyOf(schemas)) if !schemas.is_empty() => {
            schemas.iter().any(|schema| judge(World::In(schema)))
        }
        // A name that is in no schema yet may be in any by the time that the server looks.
        Some(Schema::Unresolved | Schema::AnyOf(_)) | None => judge(World::Somewhere),
    }
}

/// Every way to read a request under which it has this effect: each method that has it, with each path.
fn readings(facts: &HttpFacts, effect: Effect) -> Vec<Reading<'_>> {
    let has_it = |method: &str| match method_effects(method) {
        Some(effects) => effects.contains(&effect) || matches!(effect, Effect::Websocket | Effect::Unknown),
        None => true,
    };
    let mut methods: Vec<Option<&str>> = facts
        .methods
        .iter()
        .filter(|method| has_it(method))
        .map(|method| Some(&**method))
        .collect();
    if methods.is_empty() {
        methods.push(None);
    }
    let mut paths: Vec<Option<&[Arc<str>]>> = facts
        .content
        .paths
        .iter()
        .map(|path| Some(path.as_slice()))
        .collect();
    if paths.is_empty() {
        paths.push(None);
    }
    methods
        .iter()
        .flat_map(|method| {
            paths.iter().map(|path| Reading {
                facts,
                method: *method,
                path: *path,
            })
        })
        .collect()
}
