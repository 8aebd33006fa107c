//! One rule, compiled, and the two questions about it: does it cover an action for certain, could it concern it.

use crate::config::{Glob, RuleDoc, RuleVerdict, TablePattern};
use crate::model::{Action, Effect, Effects, Object, ObjectKind, RuleName, Schema};

/// One rule, compiled.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub(super) name: RuleName,
    pub(super) verdict: RuleVerdict,
    effects: Effects,
    tables: Vec<Pattern>,
    functions: Vec<Pattern>,
    without_where: Option<bool>,
}

/// A [`TablePattern`], compiled.
#[derive(Clone, Debug)]
pub(super) struct Pattern {
    schema: Glob,
    name: Glob,
    /// False for a malformed pattern: it is certain of nothing.
    sound: bool,
}

/// One way in which a command may turn out at the server: its objects each in one schema.
#[derive(Clone, Copy, Debug)]
pub(super) enum World<'a> {
    /// The object is in this schema.
    In(&'a str),
    /// The object is in some schema.
    Somewhere,
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
            World::Somewhere => self.schema.is_any(),
        };
        self.sound && schema && self.name.matches(&object.name)
    }

    fn possibly(&self, object: &Object, world: World<'_>) -> bool {
        let schema = match world {
            World::In(schema) => self.schema.matches(schema),
            World::Somewhere => true,
        };
        schema && self.name.matches(&object.name)
    }
}

/// Calls `judge` for each way in which the action may turn out; true as soon as it is true for one.
pub(super) fn any_world<'a>(action: &'a Action, mut judge: impl FnMut(World<'a>) -> bool) -> bool {
    match action.object.as_ref().map(|object| &object.schema) {
        Some(Schema::Named(schema)) => judge(World::In(schema)),
        Some(Schema::AnyOf(schemas)) if !schemas.is_empty() => {
            schemas.iter().any(|schema| judge(World::In(schema)))
        }
        // A name that is in no schema yet may be in any by the time that the server looks.
        Some(Schema::Unresolved | Schema::AnyOf(_)) | None => judge(World::Somewhere),
    }
}
