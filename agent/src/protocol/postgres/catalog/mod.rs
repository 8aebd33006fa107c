//! What the catalog says of relations: the origin of result columns.
//!
//! Asked over a session of the agent's own at the target, with the same injected login, opened when it is first
//! needed. So it sees what is committed: a relation that the workload's open transaction made is not found, and
//! what is not found has to be treated as unknown.
//!
//! Known limits: what an answer says may be up to [`MAX_AGE`] old where another client of the server changes the
//! schema; the agent's own sessions call [`CatalogCache::forget`]. What a foreign table is on its own server is not
//! followed. PostgreSQL 12 or later.

mod cache;
mod graph;
mod query;
mod rows;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::ColumnName;
use crate::protocol::sql::RelationName;
use crate::protocol::{SessionEnd, Stages};

use super::login::{Ask, LoggedIn, LoginError, Settings, login};
use super::query::QueryError;
use crate::protocol::Target;

pub use cache::{CatalogCache, CatalogCaches, CatalogKey, MAX_AGE};

/// One relation of `pg_class`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Relation {
    /// `pg_class.oid`.
    pub oid: u32,
    /// Schema.
    pub schema: Arc<str>,
    /// Name.
    pub name: Arc<str>,
    /// Columns by attribute number, dropped ones left out.
    pub columns: BTreeMap<i16, Arc<str>>,
    /// Stored columns that it is made of, followed through views of views to tables. For a table that inherits, is a
    /// partition or has any, or has generated columns: the columns of the other tables that its rows are seen
    /// through, and the columns that are computed from; for any other table empty.
    pub made_of: Vec<ColumnName>,
    /// Which of [`Self::made_of`] belong to which single column, by attribute number. Says something for tables
    /// alone; see [`Self::origins`].
    pub by_column: BTreeMap<i16, Vec<ColumnName>>,
    /// It has rules (each view has one), or is the TOAST table of another: any of its columns may be made of any of
    /// [`Self::made_of`].
    pub rewritten: bool,
    /// It shows what cannot be followed: functions whose body is not known, or samples of the values of tables
    /// (`pg_stats`). Any of its columns may be made of any column at all.
    pub opaque: bool,
}

impl Relation {
    /// Every name under which a mask of the column of that number has to be looked for: its own, and those of the
    /// stored columns that its values may come from. Empty where it has no such column. Of no use where the relation
    /// is [`Self::opaque`].
    pub fn origins(&self, attribute: i16) -> impl Iterator<Item = ColumnName> {
        let own = self.columns.get(&attribute).map(|column| ColumnName {
            schema: Arc::clone(&self.schema),
            table: Arc::clone(&self.name),
            column: Arc::clone(column),
        });
        let others = match (&own, self.rewritten) {
            (None, _) => &[],
            (Some(_), true) => self.made_of.as_slice(),
            (Some(_), false) => self.by_column.get(&attribute).map_or(&[][..], Vec::as_slice),
        };
        own.into_iter().chain(others.iter().cloned())
    }
}

/// Why the catalog could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// No connection or no login.
    #[error(transparent)]
    Session(#[from] SessionEnd),
    /// The agent's own session could not be started, or broke.
    #[error(transparent)]
    Login(#[from] LoginError),
    /// The server refused the query.
    #[error(
        "the target refused a look-up in its catalog (SQLSTATE {0}): the injected login has to be able to read pg_catalog"
    )]
    Refused(String),
    /// The answer is not what was asked for.
    #[error("the target's catalog answered in a form that is not known: {0}")]
    Answer(&'static str),
    /// It took too long.
    #[error("the target's catalog did not answer in time")]
    TooSlow,
}

impl From<QueryError> for CatalogError {
    fn from(error: QueryError) -> Self {
        match error {
            QueryError::Session(error) => Self::Login(error),
            QueryError::Refused(sqlstate) => Self::Refused(sqlstate),
            QueryError::Answer(what) => Self::Answer(what),
            QueryError::TooSlow(_) => Self::TooSlow,
        }
    }
}

impl From<CatalogError> for SessionEnd {
    fn from(error: CatalogError) -> Self {
        match error {
            CatalogError::Session(end) => end,
            CatalogError::Login(error) => error.into(),
            other => Self::Target(other.to_string()),
        }
    }
}

/// The catalog of one database, as one session asks it.
#[derive(Debug)]
pub struct Catalog {
    target: Target,
    database: String,
    cache: Arc<CatalogCache>,
    connection: Option<LoggedIn>,
}

impl Catalog {
    /// A catalog that connects when it is first needed. `database`: the one that the session is in.
    pub fn new(target: Target, database: String, cache: Arc<CatalogCache>) -> Self {
        Self {
            target,
            database,
            cache,
            connection: None,
        }
    }

    /// What is known of these relations without asking; `None` unless all are.
    pub fn cached_by_oid(&self, oids: &[u32]) -> Option<Vec<Arc<Relation>>> {
        self.cache.by_oid(oids)
    }

    /// Relations of these `pg_class.oid`. One that does not exist, or is not committed, is left out.
    pub async fn relations_by_oid(
        &mut self,
        stages: &mut impl Stages,
        oids: &[u32],
    ) -> Result<Vec<Arc<Relation>>, CatalogError> {
        if let Some(known) = self.cache.by_oid(oids) {
            return Ok(known);
        }
        let since = self.cache.generation();
        let found = self.ask(stages, &query::by_oid(oids)).await?;
        self.cache.keep_oids(since, &found);
        Ok(found)
    }

    /// Every relation of one of these names, in any schema where the name has none; temporary schemas of all sessions
    /// included. A name that no committed relation has is left out.
    pub async fn relations_named(
        &mut self,
        stages: &mut impl Stages,
        names: &[RelationName],
    ) -> Result<Vec<Arc<Relation>>, CatalogError> {
        if let Some(known) = self.cache.by_name(names) {
            return Ok(known);
        }
        self.relations_anew(stages, names).await
    }

    /// [`Self::relations_named`] as they are now, whatever is remembered of them.
    pub async fn relations_anew(
        &mut self,
        stages: &mut impl Stages,
        names: &[RelationName],
    ) -> Result<Vec<Arc<Relation>>, CatalogError> {
        let since = self.cache.generation();
        let found = self.ask(stages, &query::by_name(names)).await?;
        self.cache.keep_names(since, names, &found);
        Ok(found)
    }

    /// Forgets all that is known of this database: call it when a command that may change the schema has been
    /// committed (`ReadyForQuery` with status `I` after it).
    pub fn forget(&self) {
        self.cache.forget();
    }

    async fn ask(&mut self, stages: &mut impl Stages, sql: &str) -> Result<Vec<Arc<Relation>>, CatalogError> {
        // Taken out while it is in use: if this future is dropped half-way, what comes next on it would be the
        // answer to the wrong question.
        if let Some(mut connection) = self.connection.take() {
            match rows::ask(&mut connection, sql).await {
                Ok(facts) => {
                    self.connection = Some(connection);
                    return Ok(graph::resolve(&facts));
                }
                // It may have been closed while nobody looked: once more, on a new one.
                Err(CatalogError::Login(LoginError::Io(_) | LoginError::Closed)) => {}
                Err(error) => return Err(error),
            }
        }
        let credential = stages.login().await?;
        let stream = stages.dial().await?;
        let ask = Ask {
            database: &self.database,
            settings: &Settings::own(query::SETTINGS),
        };
        let mut connection = login(stream, &self.target, &credential, ask).await?;
        let facts = rows::ask(&mut connection, sql).await?;
        self.connection = Some(connection);
        Ok(graph::resolve(&facts))
    }
}
