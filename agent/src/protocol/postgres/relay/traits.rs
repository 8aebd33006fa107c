//! What a command does to its session, as far as later messages depend on it.

use crate::model::{Action, Command, Effect, ObjectKind};
use crate::protocol::sql::{SessionChange, Statement};

/// What a unit does to its session.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Traits {
    /// Changes stored data.
    pub writes: bool,
    /// May change how texts are lexed.
    pub lexing: bool,
    /// May change what cursors stand for.
    pub cursors: bool,
    /// May change what any name of a prepared statement stands for.
    pub names: bool,
    /// Makes tables.
    pub creates: bool,
    /// Ends or begins transactions.
    pub transaction: bool,
}

impl Traits {
    pub(super) const UNKNOWN: Self = Self {
        writes: true,
        lexing: true,
        cursors: true,
        names: true,
        creates: true,
        transaction: true,
    };

    pub(super) fn of(command: &Command, statements: &[Statement]) -> Self {
        let effects = command.effects();
        if effects.contains(Effect::Unknown) {
            return Self::UNKNOWN;
        }
        let opaque =
            effects.contains(Effect::Procedural) || statements.iter().any(|statement| statement.opaque);
        let named = statements
            .iter()
            .any(|statement| !matches!(statement.session, SessionChange::None));
        let writing = [
            Effect::Write,
            Effect::Modify,
            Effect::Delete,
            Effect::BulkLoad,
            Effect::SchemaCreate,
            Effect::SchemaAlter,
            Effect::SchemaDestroy,
            Effect::Privilege,
        ];
        Self {
            writes: opaque || writing.into_iter().any(|effect| effects.contains(effect)),
            lexing: opaque
                || command
                    .actions
                    .iter()
                    .any(|action| may_change_lexing(action, named)),
            cursors: opaque,
            names: false,
            creates: effects.contains(Effect::SchemaCreate),
            transaction: effects.contains(Effect::Transaction),
        }
    }

    pub(super) fn and(self, other: Self) -> Self {
        Self {
            writes: self.writes || other.writes,
            lexing: self.lexing || other.lexing,
            cursors: self.cursors || other.cursors,
            names: self.names || other.names,
            creates: self.creates || other.creates,
            transaction: self.transaction || other.transaction,
        }
    }
}

/// Whether an action may change `standard_conforming_strings` or `client_encoding`. `named`: the text works on names
/// of statements and cursors, which is an effect on the session without an object, too.
fn may_change_lexing(action: &Action, named: bool) -> bool {
    match &action.object {
        Some(object) if object.kind == ObjectKind::Setting => [
            "standard_conforming_strings",
            "client_encoding",
            "names",
            "all",
            "",
            "*",
        ]
        .iter()
        .any(|name| object.name.eq_ignore_ascii_case(name)),
        Some(object) if object.kind == ObjectKind::Function => &*object.name == "set_config",
        Some(object) => action.effect == Effect::Session && object.kind == ObjectKind::Other && !named,
        None => action.effect == Effect::Session && !named,
    }
}
