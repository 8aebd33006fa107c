//! What the catalog says of relations: the origin of result columns.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::ColumnName;

/// One relation of `pg_class`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relation {
    /// `pg_class.oid`.
    pub oid: u32,
    /// Schema.
    pub schema: Arc<str>,
    /// Name.
    pub name: Arc<str>,
    /// Columns by attribute number, dropped ones left out.
    pub columns: BTreeMap<i16, Arc<str>>,
    /// Stored columns that it is made of, followed through views of views to tables; empty for a table.
    pub made_of: Vec<ColumnName>,
}
