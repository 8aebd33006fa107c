//! Result columns, without any wire format.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Origin of a result column: the stored column that its values come from.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ColumnName {
    /// Schema, as the catalog spells it.
    pub schema: Arc<str>,
    /// Table, as the catalog spells it.
    pub table: Arc<str>,
    /// Column, as the catalog spells it.
    pub column: Arc<str>,
}

impl fmt::Display for ColumnName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.schema, self.table, self.column)
    }
}

/// What kind of value a column holds, as far as a mask has to know it to make a valid value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ValueType {
    /// Characters: text, varchar, bpchar, name, citext-like types.
    Text,
    /// json or jsonb.
    Json,
    /// Integer of so many bytes: 2, 4 or 8.
    Integer(u8),
    /// Boolean, date, uuid, numeric, array, … : a type of which masks know no valid value but NULL.
    Other,
}

/// How a value is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ValueFormat {
    /// The type's text form, in UTF-8 or an ASCII superset.
    Text,
    /// The type's binary form: for [`ValueType::Text`] the characters, for integers big-endian.
    Binary,
}
