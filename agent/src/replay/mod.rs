//! Player of records.
