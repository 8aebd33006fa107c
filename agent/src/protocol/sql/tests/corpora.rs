//! What real clients sent to a PostgreSQL 15 server, taken from its log.

use super::*;
use crate::model::Effect;

const WRITING: &[Effect] = &[
    Effect::Write,
    Effect::Modify,
    Effect::Delete,
    Effect::BulkLoad,
    Effect::SchemaCreate,
    Effect::SchemaAlter,
    Effect::SchemaDestroy,
    Effect::Privilege,
    Effect::Procedural,
    Effect::UnsafeIo,
    Effect::Maintenance,
    Effect::Notify,
];

fn statements(corpus: &'static str) -> Vec<&'static str> {
    let statements: Vec<_> = corpus.trim_end().split("\n-- ~\n").collect();
    assert!(statements.len() > 10);
    statements
}

fn none_unknown(corpus: &'static str) {
    let unknown: Vec<String> = statements(corpus)
        .into_iter()
        .filter_map(|text| {
            let batch = classified(text);
            batch.command.unknown.map(|why| format!("{why}: {text}"))
        })
        .collect();
    assert!(
        unknown.is_empty(),
        "{} unknown:\n{}",
        unknown.len(),
        unknown.join("\n\n")
    );
}

fn none_writes(corpus: &'static str) {
    for text in statements(corpus) {
        let reads = ["SELECT", "WITH", "SHOW", "FETCH", "DECLARE", "EXPLAIN"];
        if reads.iter().any(|word| text.trim_start().starts_with(word)) {
            let effects = classified(text).command.effects();
            let writes: Vec<_> = WRITING
                .iter()
                .filter(|effect| effects.contains(**effect))
                .collect();
            assert!(writes.is_empty(), "{writes:?}: {text}");
        }
    }
}

#[test]
fn psql() {
    none_unknown(include_str!("../testdata/psql.sql"));
    none_writes(include_str!("../testdata/psql.sql"));
}

#[test]
fn pg_dump() {
    none_unknown(include_str!("../testdata/pg_dump.sql"));
    none_writes(include_str!("../testdata/pg_dump.sql"));
}

#[test]
fn a_restored_dump() {
    none_unknown(include_str!("../testdata/pg_restore.sql"));
}

#[test]
fn pgbench() {
    none_unknown(include_str!("../testdata/pgbench.sql"));
    none_writes(include_str!("../testdata/pgbench.sql"));
}

#[test]
fn vacuumdb_reindexdb_and_their_like() {
    none_unknown(include_str!("../testdata/tools.sql"));
}

#[test]
fn psycopg_sqlalchemy_and_tokio_postgres() {
    none_unknown(include_str!("../testdata/drivers.sql"));
    none_writes(include_str!("../testdata/drivers.sql"));
}
