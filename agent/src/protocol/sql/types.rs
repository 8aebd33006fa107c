//! What the classifier says of a text: statements, their outputs, and what they change in the session.

use std::ops::Range;
use std::sync::Arc;

use crate::model::Command;

/// How the server lexes the text; a session may change it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LexState {
    /// PostgreSQL's `standard_conforming_strings`.
    pub standard_conforming_strings: bool,
}

/// The statements of one command text, classified.
#[derive(Clone, Debug)]
pub struct Batch {
    /// What the whole text does; judged as one.
    pub command: Command,
    /// The statements, in order. One that could not be told apart is a batch of one unknown statement.
    pub statements: Vec<Statement>,
    /// Byte ranges of the text that hold secrets (`PASSWORD '…'`), to be masked in records.
    pub secrets: Vec<Range<usize>>,
}

/// One statement, classified.
#[derive(Clone, Debug)]
pub struct Statement {
    /// Every relation that it reads or writes, CTE names taken out.
    pub relations: Vec<RelationName>,
    /// Where its result columns come from.
    pub outputs: Outputs,
    /// It stores what it reads: INSERT … SELECT, CREATE TABLE AS, UPDATE … FROM, COPY (…) TO a file.
    pub sink: bool,
    /// It calls a function whose body is not known, so what it reads is not known either.
    pub opaque: bool,
    /// Every column that it names anywhere, for the question whether a masked one is used at all; `None`: not known
    /// (a wildcard, a whole-row reference).
    pub columns_used: Option<Vec<ColumnRef>>,
    /// What it writes as `table.name`: a column, or, where the table has none of that name, a call of a function with the
    /// row. Only the catalog can tell. `None`: too many to list.
    pub fields: Option<Vec<ColumnRef>>,
    /// What it changes in the session.
    pub session: SessionChange,
    /// Its COPY TO STDOUT shape.
    pub copy_out: Option<CopyOut>,
}

/// A relation as the text names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RelationName {
    /// Schema, folded; `None`: not qualified.
    pub schema: Option<Arc<str>>,
    /// Name, folded.
    pub name: Arc<str>,
}

/// A column as the text names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ColumnRef {
    /// Table, where an alias could be followed or a single table is in scope.
    pub relation: Option<RelationName>,
    /// Column, folded.
    pub column: Arc<str>,
}

/// Where result columns come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outputs {
    /// No rows.
    None,
    /// One entry a column, in order.
    Columns(Vec<Lineage>),
    /// Not known: `*`, a set operation that could not be followed, …
    Unknown,
}

/// What one result column is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lineage {
    /// From these columns and nothing else; empty: a constant.
    From(Vec<ColumnRef>),
    /// Cannot be told.
    Unknown,
}

/// What a statement changes in its session.
#[derive(Clone, Debug, Default)]
pub enum SessionChange {
    /// Nothing that matters here.
    #[default]
    None,
    /// `PREPARE name AS …`.
    Prepare {
        /// Name, folded.
        name: Arc<str>,
        /// What is prepared.
        statement: Arc<Batch>,
    },
    /// `EXECUTE name`: does what was prepared under that name.
    Execute {
        /// Name, folded.
        name: Arc<str>,
    },
    /// `DECLARE name CURSOR FOR …`.
    Declare {
        /// Name, folded.
        name: Arc<str>,
        /// What the cursor reads.
        statement: Arc<Batch>,
    },
    /// `FETCH` or `MOVE`: returns rows of that cursor.
    Fetch {
        /// Name, folded.
        name: Arc<str>,
    },
}

/// `COPY … TO STDOUT`.
#[derive(Clone, Debug)]
pub struct CopyOut {
    /// The table and, where given, its columns; `None`: `COPY (query)`, whose columns are the statement's outputs.
    pub table: Option<(RelationName, Option<Vec<Arc<str>>>)>,
    /// Format.
    pub format: CopyFormat,
}

/// Format of COPY data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyFormat {
    /// Text: a delimiter byte, a NULL marker of at most 16 bytes follows in the statement's options.
    Text {
        /// Delimiter.
        delimiter: u8,
    },
    /// CSV.
    Csv {
        /// Delimiter.
        delimiter: u8,
        /// Quote.
        quote: u8,
        /// Escape.
        escape: u8,
        /// First line names the columns.
        header: bool,
    },
    /// Binary.
    Binary,
    /// Options that are not understood: refuse where a mask is concerned.
    Other,
}
