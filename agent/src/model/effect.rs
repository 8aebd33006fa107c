//! What a command does, in the words that policies use.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! effects {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// One effect of a command. A command has several, each on an object or on none.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Effect {
            $($(#[$doc])* $variant,)*
        }

        impl Effect {
            /// Every effect, in the order in which they are listed for people.
            pub const ALL: &'static [Effect] = &[$(Effect::$variant,)*];

            /// The name that policies and records use.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Effect::$variant => $name,)*
                }
            }
        }
    };
}

effects! {
    /// Returns stored data. HTTP: GET, HEAD, OPTIONS.
    Read = "read",
    /// Adds rows: INSERT. HTTP: POST, PUT.
    Write = "write",
    /// Changes rows: UPDATE, MERGE, INSERT … ON CONFLICT DO UPDATE. HTTP: PUT, PATCH.
    Modify = "modify",
    /// Removes rows: DELETE, TRUNCATE. HTTP: DELETE.
    Delete = "delete",
    /// COPY … FROM STDIN and its like.
    BulkLoad = "bulk_load",
    /// COPY … TO STDOUT and its like.
    BulkExport = "bulk_export",
    /// CREATE.
    SchemaCreate = "schema_create",
    /// ALTER, COMMENT.
    SchemaAlter = "schema_alter",
    /// DROP.
    SchemaDestroy = "schema_destroy",
    /// GRANT, REVOKE, roles, SET ROLE.
    Privilege = "privilege",
    /// BEGIN, COMMIT, SAVEPOINT …
    Transaction = "transaction",
    /// SET, SHOW, DISCARD, PREPARE, cursors: state of the session alone.
    Session = "session",
    /// VACUUM, ANALYZE, REINDEX, CLUSTER, CHECKPOINT.
    Maintenance = "maintenance",
    /// LOCK TABLE, advisory locks, SELECT … FOR UPDATE.
    Lock = "lock",
    /// LISTEN, NOTIFY.
    Notify = "notify",
    /// CALL, DO, functions whose body is not known.
    Procedural = "procedural",
    /// Files, programs and network of the server: COPY … PROGRAM, `lo_export`, dblink.
    UnsafeIo = "unsafe_io",
    /// Writes that which a mask protects to a place where no mask would find it.
    Declassify = "declassify",
    /// Opens a WebSocket.
    Websocket = "websocket",
    /// Not understood. Refused unless a rule names it.
    Unknown = "unknown",
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl std::str::FromStr for Effect {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        Effect::ALL
            .iter()
            .copied()
            .find(|effect| effect.name() == name)
            .ok_or(())
    }
}

/// A set of effects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Effects(u32);

impl Effects {
    /// No effect.
    pub const NONE: Effects = Effects(0);

    /// The set with `effect` added.
    #[must_use]
    pub const fn with(self, effect: Effect) -> Self {
        Effects(self.0 | 1 << effect as u32)
    }

    /// Adds `effect`.
    pub fn insert(&mut self, effect: Effect) {
        *self = self.with(effect);
    }

    /// Whether `effect` is in the set.
    pub const fn contains(self, effect: Effect) -> bool {
        self.0 & (1 << effect as u32) != 0
    }

    /// Whether no effect is in the set.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Effects of the set, in the order of [`Effect::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Effect> {
        Effect::ALL
            .iter()
            .copied()
            .filter(move |effect| self.contains(*effect))
    }
}

impl FromIterator<Effect> for Effects {
    fn from_iter<I: IntoIterator<Item = Effect>>(effects: I) -> Self {
        effects.into_iter().fold(Effects::NONE, Effects::with)
    }
}
