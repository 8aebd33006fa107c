//! A command as the verdict sees it: what it does, and to what.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Effect, Effects, HttpFacts};

/// One command of a workload, decoded by a protocol adapter.
///
/// A multi-statement batch is one command: it is judged as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// The command as the client wrote it, secrets in it replaced (`PASSWORD '…'`).
    pub text: Arc<str>,
    /// Each effect together with what it falls on. Never empty for a command that does anything: what is
    /// not understood is [`Effect::Unknown`].
    pub actions: Vec<Action>,
    /// An UPDATE or DELETE in it has no WHERE.
    pub without_where: bool,
    /// Why [`Effect::Unknown`] is among the effects, for people.
    pub unknown: Option<String>,
    /// The request, where the command is one of HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<Arc<HttpFacts>>,
}

/// One effect on one object (or on none: BEGIN).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Action {
    /// What is done.
    pub effect: Effect,
    /// To what; `None` where the effect has no object.
    pub object: Option<Object>,
}

/// Something that a command names.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Object {
    /// What kind of thing.
    pub kind: ObjectKind,
    /// Schema in which it is.
    pub schema: Schema,
    /// Its name, case-folded as the server would fold it.
    pub name: Arc<str>,
}

/// Where an object's name was found.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Schema {
    /// The command qualified it, or the object's kind has no schema and this is `""`.
    Named(Arc<str>),
    /// The command did not qualify it and the catalog was not asked: it could be in any schema.
    Unresolved,
    /// Every schema of the catalog that has an object of this name. A rule that allows has to cover all of
    /// them, a rule that denies any of them.
    AnyOf(Arc<[Arc<str>]>),
}

/// Kind of an [`Object`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ObjectKind {
    /// Table, view, materialized view, foreign table, sequence or index.
    Table,
    /// Function, procedure or aggregate.
    Function,
    /// Schema.
    Schema,
    /// Database.
    Database,
    /// Role or user.
    Role,
    /// Configuration parameter.
    Setting,
    /// File on the server.
    File,
    /// Program on the server.
    Program,
    /// Notification channel.
    Channel,
    /// Anything else that has a name: type, extension, publication …
    Other,
}

/// A bind parameter, as an approver sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parameter {
    /// Value as text, cut and masked for people; `None` is NULL.
    pub shown: Option<String>,
}

impl Command {
    /// A command that could not be understood, and why.
    pub fn unknown(text: impl Into<Arc<str>>, why: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            actions: vec![Action {
                effect: Effect::Unknown,
                object: None,
            }],
            without_where: false,
            unknown: Some(why.into()),
            http: None,
        }
    }

    /// All effects of the command.
    pub fn effects(&self) -> Effects {
        self.actions.iter().map(|action| action.effect).collect()
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.schema {
            Schema::Named(schema) if !schema.is_empty() => write!(f, "{schema}.{}", self.name),
            Schema::AnyOf(schemas) if schemas.len() == 1 => schemas
                .iter()
                .try_for_each(|schema| write!(f, "{schema}.{}", self.name)),
            Schema::Named(_) | Schema::Unresolved | Schema::AnyOf(_) => f.write_str(&self.name),
        }
    }
}
