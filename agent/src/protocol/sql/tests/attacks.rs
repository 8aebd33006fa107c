//! Ways to hide what a text does from who judges it.

use super::*;
use crate::model::Effect;

/// Each of these must be unknown, or have an effect that a reader's policy does not allow.
#[test]
fn nothing_hides_behind_syntax() {
    let attacks = [
        // A second statement behind a comment or a string that the server ends elsewhere.
        "SELECT 1 /* /* */ ; DELETE FROM t; /* */ */ ; DELETE FROM t",
        "SELECT 1 -- \r; DELETE FROM t",
        "SELECT '\\'; DELETE FROM t; --'",
        "SELECT E'\\\\'; DELETE FROM t; --'",
        "SELECT $a$ $b$; $a$; DELETE FROM t; --$b$",
        "SELECT $é$ ' $é$; DELETE FROM t; -- '",
        "SELECT a$$ ; DELETE FROM t; -- $$ FROM x",
        "SELECT 1+--\n1; DELETE FROM t",
        "SELECT U&'\\0027; DELETE FROM t",
        "SELECT \"a'\"; DELETE FROM t; -- '",
        // Versions lex these differently.
        "SELECT 1_000; DELETE FROM t",
        "SELECT 'a'\n'b'",
        "SELECT U&\"d\\0061ta\" FROM t",
        // The top of the statement says something else.
        "WITH d AS (DELETE FROM t RETURNING *) SELECT 1",
        "EXPLAIN (ANALYZE) DELETE FROM t",
        "EXPLAIN (COSTS, \"analyze\") DELETE FROM t",
        "COPY (DELETE FROM t RETURNING *) TO STDOUT",
        "SELECT * INTO x FROM t",
        "PREPARE p AS DELETE FROM t",
        "DECLARE c CURSOR FOR WITH d AS (DELETE FROM t RETURNING *) SELECT * FROM d",
        "CREATE TABLE x AS WITH d AS (DELETE FROM t RETURNING *) SELECT * FROM d",
        "TABLE a; TRUNCATE b",
        // Calls, in all the ways to write one.
        "SELECT lo_export(1, '/x')",
        "SELECT \"lo_export\"(1, '/x')",
        "SELECT pg_catalog . lo_export(1, '/x')",
        "SELECT LO_EXPORT/**/(1, '/x')",
        "SELECT ('/etc/passwd'::text).pg_read_file",
        "SELECT ('/etc/passwd'::text).evil",
        "SELECT f.pg_read_file FROM concat('/etc/', 'passwd') AS f",
        "SELECT f.pg_read_file FROM (SELECT '/etc/passwd' AS x) f",
        "SELECT f.evil FROM generate_series(1, 2) AS f",
        "SELECT * FROM pg_read_file('/etc/passwd')",
        "SELECT * FROM LATERAL pg_ls_dir('/') x",
        "SELECT * FROM ROWS FROM (pg_ls_dir('/')) x",
        "SELECT 1 FROM t ORDER BY lo_unlink(1)",
        "SELECT 1 FROM t GROUP BY evil()",
        "SELECT 1 FROM t LIMIT evil()",
        "SELECT 1 FROM t OFFSET (SELECT evil())",
        "SELECT 1 FROM t FETCH FIRST (evil()) ROWS ONLY",
        "SELECT count(*) FILTER (WHERE evil()) FROM t",
        "SELECT count(*) OVER (ORDER BY evil()) FROM t",
        "SELECT count(*) OVER w FROM t WINDOW w AS (PARTITION BY evil())",
        "SELECT string_agg(a, ',' ORDER BY evil()) FROM t",
        "SELECT mode() WITHIN GROUP (ORDER BY evil()) FROM t",
        "SELECT a[evil()] FROM t",
        "SELECT a[1:evil()] FROM t",
        "SELECT DISTINCT ON (evil()) 1",
        "SELECT 1 FROM a JOIN b ON evil()",
        "SELECT 1 FROM t TABLESAMPLE bernoulli (evil())",
        "SELECT CASE WHEN true THEN evil() END",
        "SELECT ARRAY(SELECT evil())",
        "SELECT x BETWEEN 1 AND evil() FROM t",
        "SELECT 'a' LIKE 'b' ESCAPE evil()",
        "SELECT substring('a' FROM evil())",
        "SELECT now() AT TIME ZONE evil()",
        "SELECT * FROM xmltable('/a' PASSING evil() COLUMNS x int)",
        "SELECT json_object('a': evil())",
        "SELECT make_interval(days => evil())",
        "VALUES (1, evil())",
        "INSERT INTO t VALUES (1) RETURNING evil()",
        "INSERT INTO t VALUES (1) ON CONFLICT (a) DO UPDATE SET a = evil()",
        "EXECUTE p(evil())",
        "COPY t FROM STDIN WHERE evil()",
        "SELECT 1 OPERATOR(evil.+) 1",
        "SELECT 1 OPERATOR(pg_catalog.@@@@) 1",
        "SELECT a <=> b FROM t",
        "SELECT @ evil()",
        "SELECT \"coalesce\"(1)",
        "SELECT pg_catalog.coalesce(1)",
        "SELECT public.now()",
        "SELECT t.now() FROM t",
        "SELECT query_to_xml('DELETE FROM t', true, true, '')",
        "SELECT * FROM cursor_to_xml('c', 1, true, true, '')",
        "SELECT ts_stat('SELECT evil()')",
        "SELECT database_to_xml(true, true, '')",
        // Roles and settings by other doors.
        "SELECT set_config('role', 'postgres', false)",
        "SELECT set_config('RoLe', 'postgres', false)",
        "SELECT set_config('ro' || 'le', 'postgres', false)",
        "SELECT set_config(E'r\\157le', 'postgres', false)",
        "SET LOCAL \"role\" TO postgres",
        "SET session_authorization = postgres",
        "UPDATE pg_settings SET setting = 'x' WHERE name = 'role'",
        "UPDATE pg_catalog.pg_settings SET setting = 'x'",
        // Reserved words that sqlparser would take for names.
        "SELECT * FROM only",
        "SELECT 1 FROM user",
        "SELECT * FROM t AS order",
        // What PostgreSQL does not have.
        "SELECT * FROM t PIVOT (sum(a) FOR b IN (1, 2))",
        "SELECT TOP 5 * FROM t",
        "SELECT * EXCLUDE (a) FROM t",
        "FROM t SELECT *",
        "SHOW TABLES FROM x",
        "PRAGMA x",
        "USE x",
        "INSERT OVERWRITE t SELECT 1",
        "REPLACE INTO t VALUES (1)",
        "KILL 1",
        "ATTACH DATABASE 'x' AS y",
        "MERGE INTO t USING u ON true WHEN MATCHED THEN DELETE",
        "SELECT 1 garbage garbage",
        "SELECT",
        "VACUUM t garbage",
        "BEGIN garbage",
        "DO 'x' garbage",
        "LOCK TABLE t IN evil MODE",
        "CREATE SCHEMA s CREATE TABLE t (a int)",
        "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC; DELETE FROM t; END",
    ];
    for text in attacks {
        if text == "SELECT" {
            // An empty list of columns is legal.
            continue;
        }
        let effects = classified(text).command.effects();
        let plain = [Effect::Read, Effect::Session, Effect::Transaction, Effect::Lock];
        assert!(
            !effects.iter().all(|effect| plain.contains(&effect)),
            "{text}: {}",
            classified(text).summary()
        );
    }
}

#[test]
fn a_backslash_while_strings_do_not_conform_is_refused() {
    let off = LexState {
        standard_conforming_strings: false,
    };
    for (text, unknown) in [
        ("SELECT '\\'; DELETE FROM t; --'", true),
        ("SELECT 'a\\b'", true),
        ("SELECT N'a\\b'", true),
        ("SELECT E'a\\'b'", false),
        ("SELECT 'a''b', $$\\$$, \"a\\b\"", false),
    ] {
        assert_eq!(classify(text, off).command.unknown.is_some(), unknown, "{text}");
    }
}

#[test]
fn explain_declare_leaves_an_older_cursor_what_it_was() {
    let batch = classified("EXPLAIN DECLARE c CURSOR FOR SELECT 1");
    assert!(matches!(batch.statements[0].session, SessionChange::None));
}

#[test]
fn reasons_quote_no_value() {
    for text in [
        "SELECT 'hunter2' 'hunter2'",
        "GARBAGE 'hunter2'",
        "SELECT 'hunter2' FROM FROM",
        "ALTER ROLE a PASSWORD 'hunter2' x",
        "hunter2 x",
    ] {
        let batch = classified(text);
        assert!(
            batch
                .command
                .unknown
                .is_none_or(|why| !why.contains("hunter2") || text.starts_with("hunter2")),
            "{text}"
        );
    }
}

#[test]
fn a_password_does_not_reach_the_shown_text() {
    let text = "CREATE ROLE a LOGIN PASSWORD 'hunter2'; SELECT 'b'";
    let batch = classified(text);
    assert_eq!(
        &*batch.command.text,
        "CREATE ROLE a LOGIN PASSWORD '***'; SELECT 'b'"
    );
    assert_eq!(&text[batch.secrets[0].clone()], "'hunter2'");
    let broken = classified("ALTER ROLE a PASSWORD 'hunter2");
    assert_eq!(&*broken.command.text, "ALTER ROLE a PASSWORD'***'");
    let prepared = classified("PREPARE p AS SELECT f('password=hunter2')");
    assert!(!format!("{prepared:?}").contains("hunter2"));
}
