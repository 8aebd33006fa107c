//! psycopg, a PostgreSQL driver of Python, in a virtual environment of the tests.

use std::path::PathBuf;

use crate::agent::workspace;

/// The interpreter that has psycopg; made by `cargo xtask setup`.
pub fn python() -> PathBuf {
    workspace().join("target/python/bin/python3")
}
