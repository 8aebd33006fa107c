//! SQL, whatever the wire: statements to effects, objects and lineage.
//!
//! Pure: no catalog, no session, no clock. What it cannot parse is unknown.
//!
//! The text is split by a lexer of PostgreSQL's own rules (`lexer`); queries and INSERT, UPDATE, DELETE, MERGE go
//! through sqlparser and a walk over its tree (`walk`); all other statements have recognisers of their own. So far
//! this is PostgreSQL alone: another dialect brings a lexer, a table of functions and recognisers, and shares the rest.
//!
//! Known limits, for who uses this:
//! - `t.f` can be a call `f(t)` of a user's function, casts and operators can call functions, and a view or a trigger
//!   does what its definition says: those need the catalog.
//! - Names that are not qualified mean what `search_path` says; a change of it is always an action on the setting.
//! - `client_encoding` must be UTF-8 (a change of it is an action on the setting): in other encodings bytes of a
//!   character can be quotes.

#![expect(
    clippy::single_match_else,
    reason = "both cases of an Option, side by side, are read as what they are"
)]

mod cache;
mod catalog;
mod classify;
mod copy;
mod cursor;
mod ddl;
mod definition;
mod facts;
mod lexer;
mod maintenance;
mod names;
mod operators;
mod privilege;
mod rewrite;
mod secrets;
mod session;
mod statements;
mod transaction;
mod types;
mod walk;

#[cfg(test)]
mod tests;

pub use cache::Cache;
pub use classify::classify;
pub use types::{
    Batch, ColumnRef, CopyFormat, CopyOut, LexState, Lineage, Outputs, RelationName, SessionChange, Statement,
};
