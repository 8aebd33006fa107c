use super::*;

#[test]
fn queries() {
    check(&[
        ("SELECT 1", "read"),
        ("", "session"),
        (" ; -- nothing\n", "session"),
        ("SELECT * FROM orders", "read:orders"),
        (
            "SELECT * FROM public.\"Orders\" o, ONLY Items",
            "read:public.Orders, read:items",
        ),
        ("TABLE orders", "read:orders"),
        ("(SELECT 1 FROM a) UNION ALL TABLE b", "read:a, read:b"),
        ("VALUES (1, 2), (3, DEFAULT)", "read"),
        (
            "SELECT FROM a WHERE EXISTS (SELECT FROM b WHERE b.x IN (SELECT y FROM c))",
            "read:a, read:b, read:c",
        ),
        ("WITH a AS (SELECT * FROM x) SELECT * FROM a", "read:x"),
        ("WITH a AS (SELECT * FROM a) SELECT * FROM a", "read:a"),
        (
            "WITH RECURSIVE a AS (SELECT 1 UNION SELECT n + 1 FROM a) SELECT * FROM a",
            "read",
        ),
        ("WITH a AS (SELECT 1) SELECT * FROM s.a", "read:s.a"),
        (
            "WITH d AS (DELETE FROM orders WHERE id = 1 RETURNING id) SELECT id FROM d",
            "delete:orders, read:orders",
        ),
        (
            "SELECT * INTO copy FROM customers",
            "read:customers, schema_create:copy",
        ),
        (
            "SELECT * FROM orders o FOR UPDATE OF o SKIP LOCKED",
            "read:orders, lock:orders",
        ),
        (
            "SELECT * FROM orders FOR NO KEY UPDATE",
            "read:orders, lock:orders",
        ),
        (
            "SELECT * FROM a JOIN b USING (id) WHERE a.x = $1 FOR KEY SHARE OF a, b NOWAIT",
            "read:a, read:b, lock:a, lock:b",
        ),
        ("SELECT * FROM pg_stats", "read:pg_catalog.pg_stats"),
        (
            "SELECT usename FROM pg_shadow, information_schema.tables",
            "read:pg_catalog.pg_shadow, read:information_schema.tables",
        ),
        (
            "SELECT a FROM t ORDER BY a COLLATE \"C\" LIMIT 5 OFFSET 2",
            "read:t",
        ),
        ("SELECT a FROM t FETCH FIRST 5 ROWS ONLY", "read:t"),
        (
            "SELECT count(*) FILTER (WHERE a > 1) OVER (PARTITION BY b ORDER BY c ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM t",
            "read:t",
        ),
        (
            "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY x) FROM t GROUP BY GROUPING SETS ((a), ())",
            "read:t",
        ),
        (
            "SELECT * FROM generate_series(1, 3) WITH ORDINALITY AS g(n, i), LATERAL (SELECT g.n) x",
            "read",
        ),
        (
            "SELECT a[1], b[1:2], c->>'k', d #>> '{x}', e @> '{}', f ? 'k' FROM t",
            "read:t",
        ),
        (
            "SELECT t.x::int, CAST(y AS numeric(10,2)), date '2020-01-01', interval '1 day', E'\\n' FROM t",
            "read:t",
        ),
        (
            "SELECT current_user, now(), current_date, localtimestamp, extract(epoch FROM now()), coalesce(NULL, 1)",
            "read",
        ),
        (
            "SELECT substring('a' FROM 1 FOR 2), position('a' IN 'b'), trim(both 'x' FROM 'y'), overlay('a' placing 'b' from 1)",
            "read",
        ),
        (
            "SELECT CASE WHEN a THEN 1 ELSE 2 END, ARRAY[1,2], ARRAY(SELECT 1), ROW(1,2), (1,2) = (3,4) FROM t",
            "read:t",
        ),
        (
            "SELECT x BETWEEN 1 AND 2, y LIKE 'a%' ESCAPE '!', z = ANY($1), w IS NOT DISTINCT FROM NULL FROM t",
            "read:t",
        ),
        (
            "SELECT * FROM t TABLESAMPLE bernoulli (10) REPEATABLE (1)",
            "read:t",
        ),
        ("SELECT concat_ws(',', VARIADIC ARRAY['a'])", "read"),
        ("SELECT a INTO TEMP TABLE x FROM t", "read:t, schema_create:x"),
        ("SELECT DISTINCT ON (a) a, b FROM t", "read:t"),
        (
            "SELECT c.relname FROM pg_catalog.pg_class c WHERE c.relname OPERATOR(pg_catalog.~) '^(x)$' COLLATE pg_catalog.default",
            "read:pg_catalog.pg_class",
        ),
        (
            "SELECT 1; SELECT * FROM a; DELETE FROM b",
            "read, read:a, delete:b",
        ),
    ]);
}

#[test]
fn changes() {
    check(&[
        ("INSERT INTO t VALUES (1)", "write:t"),
        (
            "INSERT INTO t (a) SELECT b FROM u RETURNING id",
            "write:t, read:u, read:t",
        ),
        (
            "INSERT INTO t AS x (a) VALUES (1) ON CONFLICT (a) DO UPDATE SET a = excluded.a WHERE x.a > 1",
            "write:t, modify:t",
        ),
        ("INSERT INTO t DEFAULT VALUES ON CONFLICT DO NOTHING", "write:t"),
        ("UPDATE s.t SET a = 1 WHERE id = 2", "modify:s.t"),
        (
            "UPDATE ONLY t AS x SET (a, b) = (SELECT 1, c FROM u) FROM v WHERE x.id = v.id RETURNING x.a",
            "modify:t, read:v, read:u, read:t",
        ),
        ("DELETE FROM t USING u WHERE t.id = u.id", "delete:t, read:u"),
        ("DELETE FROM t WHERE CURRENT OF c", "delete:t"),
        ("WITH x AS (SELECT 1) INSERT INTO t SELECT * FROM x", "write:t"),
        (
            "MERGE INTO t USING u ON t.id = u.id WHEN MATCHED AND u.x THEN DELETE WHEN MATCHED THEN UPDATE SET a = u.a WHEN NOT MATCHED THEN INSERT (id) VALUES (u.id)",
            "modify:t, read:u, delete:t, write:t",
        ),
        ("TRUNCATE a, ONLY b RESTART IDENTITY", "delete:a, delete:b"),
        ("TRUNCATE TABLE a CASCADE", "delete:a, delete"),
        (
            "LOCK TABLE a, s.b IN SHARE ROW EXCLUSIVE MODE NOWAIT",
            "lock:a, lock:s.b",
        ),
        ("COPY t FROM STDIN", "write:t, bulk_load:t"),
        ("COPY s.t (a, b) TO stdout", "read:s.t, bulk_export:s.t"),
        (
            "COPY (DELETE FROM t RETURNING *) TO STDOUT WITH (FORMAT csv, HEADER true)",
            "delete:t, read:t, bulk_export",
        ),
        ("COPY t TO '/tmp/x'", "read:t, unsafe_io:/tmp/x, bulk_export:t"),
        (
            "COPY t FROM PROGRAM 'curl x'",
            "write:t, unsafe_io:curl x, bulk_load:t",
        ),
        ("COPY BINARY t FROM STDOUT", "write:t, bulk_load:t"),
        (
            "copy t from stdin with (freeze on) where a > 1",
            "write:t, bulk_load:t, read",
        ),
        (
            "COPY t TO STDOUT USING DELIMITERS '|' WITH NULL AS 'x'",
            "read:t, bulk_export:t",
        ),
        (
            "COPY t TO STDOUT CSV HEADER QUOTE AS '\"' FORCE QUOTE *",
            "read:t, bulk_export:t",
        ),
    ]);
}

#[test]
fn statements_inside_statements() {
    check(&[
        ("EXPLAIN SELECT * FROM t", "read:t, session"),
        (
            "EXPLAIN (COSTS off, FORMAT json) DELETE FROM t",
            "read:t, session",
        ),
        ("EXPLAIN (ANALYZE false) DELETE FROM t", "read:t, session"),
        ("EXPLAIN ANALYZE DELETE FROM t", "delete:t, session"),
        ("EXPLAIN (VERBOSE, ANALYZE) DELETE FROM t", "delete:t, session"),
        ("EXPLAIN (ANALYZE 1) DELETE FROM t", "delete:t, session"),
        ("EXPLAIN (ANALYZE 'on') DELETE FROM t", "delete:t, session"),
        (
            "PREPARE p (int, text) AS DELETE FROM t WHERE id = $1",
            "session, delete:t",
        ),
        ("EXECUTE p (1, 'x')", "session"),
        (
            "EXECUTE p (lo_import('/etc/passwd'))",
            "session, unsafe_io:pg_catalog.lo_import",
        ),
        (
            "DECLARE c BINARY NO SCROLL CURSOR WITH HOLD FOR SELECT * FROM t",
            "session, read:t",
        ),
        (
            "FETCH FORWARD 100 FROM c; MOVE ALL IN c; FETCH c; CLOSE c; CLOSE ALL",
            "session",
        ),
        (
            "CREATE TABLE a AS SELECT * FROM b WITH NO DATA",
            "schema_create:a, read:b",
        ),
        (
            "CREATE TEMP TABLE IF NOT EXISTS a (x) ON COMMIT DROP AS TABLE b",
            "schema_create:a, read:b",
        ),
        ("CREATE TABLE a AS EXECUTE p", "schema_create:a, session"),
        (
            "CREATE OR REPLACE VIEW v AS SELECT * FROM b WITH CHECK OPTION",
            "schema_create:v, read:b",
        ),
        (
            "CREATE MATERIALIZED VIEW v AS SELECT * FROM b",
            "schema_create:v, read:b",
        ),
    ]);
}

#[test]
fn session_and_transaction() {
    check(&[
        ("BEGIN; COMMIT", "transaction"),
        (
            "BEGIN ISOLATION LEVEL SERIALIZABLE, READ ONLY DEFERRABLE",
            "transaction",
        ),
        ("START TRANSACTION READ WRITE", "transaction"),
        (
            "SAVEPOINT a; RELEASE SAVEPOINT a; RELEASE a; ROLLBACK TO SAVEPOINT a; ROLLBACK WORK TO a",
            "transaction",
        ),
        (
            "COMMIT AND NO CHAIN; END; ABORT; ROLLBACK AND CHAIN",
            "transaction",
        ),
        (
            "PREPARE TRANSACTION 'x'; COMMIT PREPARED 'x'; ROLLBACK PREPARED 'y'",
            "transaction",
        ),
        ("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", "transaction"),
        (
            "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
            "transaction",
        ),
        ("SET TRANSACTION SNAPSHOT '0-1'", "transaction"),
        ("SET CONSTRAINTS ALL DEFERRED", "transaction"),
        ("SET LOCAL statement_timeout = '5s'", "session:statement_timeout"),
        ("SET search_path TO a, \"B\", public", "session:search_path"),
        ("SET SCHEMA 'x'", "session:search_path"),
        ("SET my.app = -1", "session:my.app"),
        (
            "SET TIME ZONE 'UTC'; SET NAMES 'UTF8'",
            "session:timezone, session:client_encoding",
        ),
        ("SET ROLE admin", "session:role, privilege:role"),
        ("SET \"role\" = 'admin'", "session:role, privilege:role"),
        (
            "SET SESSION AUTHORIZATION DEFAULT",
            "session:session_authorization, privilege:session_authorization",
        ),
        ("RESET ROLE", "session:role, privilege:role"),
        ("RESET ALL", "session:all, session:search_path"),
        (
            "DISCARD ALL",
            "session, session:search_path, session:session_authorization, privilege:session_authorization",
        ),
        (
            "SHOW search_path; SHOW TRANSACTION ISOLATION LEVEL",
            "session:search_path, session:transaction_isolation",
        ),
        (
            "SELECT set_config('search_path', '', false)",
            "session:search_path",
        ),
        (
            "SELECT pg_catalog.set_config('ROLE', 'admin', false)",
            "session:role, privilege:role",
        ),
        ("SELECT set_config($1, '', false)", "session, unknown"),
        (
            "SELECT set_config(name, 'x', false) FROM pg_settings WHERE name = 'a'",
            "read:pg_catalog.pg_settings, session:a",
        ),
        (
            "SELECT set_config(name, 'x', false) FROM pg_settings WHERE name > 'a'",
            "read:pg_catalog.pg_settings, session, unknown",
        ),
        (
            "LISTEN a; NOTIFY b, 'x'; UNLISTEN *",
            "notify:a, notify:b, notify",
        ),
        ("SELECT pg_notify('c', 'x')", "notify:c"),
        ("DEALLOCATE ALL; DEALLOCATE PREPARE p", "session"),
        ("LOAD 'x.so'", "unsafe_io:x.so"),
        ("DO $$ BEGIN END $$ LANGUAGE plpgsql", "procedural"),
        ("CALL s.p(1, 'x')", "procedural:s.p"),
        (
            "VACUUM; VACUUM (ANALYZE, VERBOSE) a, b (x, y); ANALYZE; CHECKPOINT",
            "maintenance, maintenance:a, maintenance:b",
        ),
        (
            "REINDEX TABLE CONCURRENTLY a; REINDEX DATABASE d; CLUSTER a USING i",
            "maintenance:a, maintenance:d",
        ),
        (
            "REFRESH MATERIALIZED VIEW CONCURRENTLY v WITH DATA",
            "write:v, maintenance:v",
        ),
        ("SELECT nextval('public.\"Seq\"'::regclass)", "write:public.Seq"),
        (
            "SELECT pg_advisory_lock(1), pg_terminate_backend(2)",
            "lock:pg_catalog.pg_advisory_lock, privilege:pg_catalog.pg_terminate_backend",
        ),
        ("SELECT lo_export(1, '/x')", "unsafe_io:pg_catalog.lo_export"),
        (
            "SELECT query_to_xml('DELETE FROM t', true, true, '')",
            "procedural:pg_catalog.query_to_xml",
        ),
        (
            "SELECT f(1), public.lower('x'), dblink('a', 'b')",
            "unknown:f, unknown:public.lower, unsafe_io:dblink, unknown:dblink",
        ),
    ]);
}

#[test]
fn definitions() {
    check(&[
        (
            "CREATE TABLE s.t (id serial PRIMARY KEY, a numeric(10,2) DEFAULT 0 CHECK (a > 0), b varchar(5)[] DEFAULT now(), FOREIGN KEY (a) REFERENCES u (id) ON DELETE CASCADE)",
            "schema_create:s.t",
        ),
        (
            "CREATE TABLE t (a int DEFAULT evil())",
            "schema_create:t, unknown:evil",
        ),
        (
            "CREATE TABLE t (a int GENERATED ALWAYS AS (x.evil(b)) STORED)",
            "schema_create:t, unknown:x.evil",
        ),
        (
            "CREATE TABLE p PARTITION OF t FOR VALUES FROM (1) TO (10)",
            "schema_create:p, schema_alter:t",
        ),
        (
            "CREATE UNIQUE INDEX CONCURRENTLY i ON s.t USING btree (lower(a), b DESC) WHERE b > 1",
            "schema_create:s.t",
        ),
        (
            "CREATE TABLE t (a int CHECK (add(1)), b int CHECK (hash(b) > 1), PRIMARY KEY (a) INCLUDE (b))",
            "schema_create:t, unknown:add, unknown:hash",
        ),
        (
            "ALTER TABLE t ALTER COLUMN a TYPE int USING hash(a)",
            "schema_alter:t, unknown:hash",
        ),
        (
            "ALTER TABLE t SET (fillfactor = 70), ALTER COLUMN a SET (n_distinct = 1)",
            "schema_alter:t",
        ),
        (
            "CREATE TABLE t (a character varying(3), EXCLUDE USING gist (a WITH =)) PARTITION BY RANGE (a)",
            "schema_create:t",
        ),
        ("CREATE INDEX ON t (evil(a))", "schema_create:t, unknown:evil"),
        (
            "ALTER TABLE ONLY t ADD CONSTRAINT c PRIMARY KEY (id), ALTER COLUMN a TYPE int USING evil(a)",
            "schema_alter:t, unknown:evil",
        ),
        ("ALTER TABLE t OWNER TO bob", "schema_alter:t, privilege"),
        (
            "ALTER TABLE t DISABLE ROW LEVEL SECURITY",
            "schema_alter:t, privilege:t",
        ),
        (
            "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
            "schema_create:f, procedural:f",
        ),
        (
            "CREATE TRIGGER x AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION f()",
            "schema_create:t, procedural",
        ),
        (
            "CREATE RULE r AS ON SELECT TO t DO INSTEAD SELECT 1",
            "schema_create:t, procedural",
        ),
        (
            "CREATE SCHEMA s AUTHORIZATION bob",
            "schema_create:s, privilege:bob, schema_create",
        ),
        (
            "CREATE EXTENSION IF NOT EXISTS dblink",
            "schema_create:dblink, procedural",
        ),
        ("CREATE ROLE a LOGIN PASSWORD 'x'", "privilege:a"),
        (
            "ALTER ROLE a SET search_path = evil",
            "privilege:a, session:search_path",
        ),
        (
            "ALTER USER a IN DATABASE d SET role TO b",
            "privilege:a, session:role, privilege:role",
        ),
        (
            "ALTER SYSTEM SET archive_command = 'x'",
            "unsafe_io, privilege, session:archive_command",
        ),
        (
            "GRANT SELECT (a), INSERT ON t, u TO bob; REVOKE ALL ON SCHEMA s FROM bob",
            "privilege:t, privilege:u, privilege, privilege:s",
        ),
        ("GRANT admin TO bob", "privilege:admin, privilege"),
        (
            "GRANT EXECUTE ON FUNCTION f(int) TO bob",
            "privilege:f, privilege",
        ),
        (
            "DROP TABLE IF EXISTS a, s.b CASCADE",
            "schema_destroy:a, schema_destroy:s.b",
        ),
        (
            "DROP FUNCTION f(int, text); DROP ROLE bob; DROP SCHEMA s CASCADE",
            "schema_destroy:f, privilege:bob, schema_destroy:s",
        ),
        (
            "COMMENT ON COLUMN s.t.c IS 'x'; COMMENT ON FUNCTION f(int) IS NULL",
            "schema_alter:s.t, schema_alter",
        ),
        (
            "CREATE SUBSCRIPTION s CONNECTION 'password=x' PUBLICATION p",
            "schema_create:s, unsafe_io:s",
        ),
        (
            "ALTER DEFAULT PRIVILEGES IN SCHEMA s GRANT SELECT ON TABLES TO bob",
            "privilege, schema_alter",
        ),
        (
            "DROP OWNED BY bob; REASSIGN OWNED BY bob TO alice",
            "privilege:bob, schema_destroy",
        ),
        ("SECURITY LABEL ON TABLE t IS 'x'", "privilege, schema_alter"),
        (
            "IMPORT FOREIGN SCHEMA s FROM SERVER x INTO y",
            "schema_create, unsafe_io",
        ),
        (
            "CREATE SEQUENCE s START 1; ALTER SEQUENCE s RESTART; DROP SEQUENCE s",
            "schema_create:s, schema_alter:s, schema_destroy:s",
        ),
        (
            "CREATE TYPE mood AS ENUM ('a', 'b')",
            "schema_create:mood, procedural",
        ),
    ]);
}

#[test]
fn a_change_of_all_rows_is_marked() {
    for (text, marked) in [
        ("DELETE FROM t", true),
        ("UPDATE t SET a = 1", true),
        ("TRUNCATE t", true),
        ("WITH x AS (DELETE FROM t) SELECT 1", true),
        ("DELETE FROM t WHERE id = 1", false),
        ("EXPLAIN DELETE FROM t", false),
        ("INSERT INTO t VALUES (1)", false),
    ] {
        assert_eq!(classified(text).command.without_where, marked, "{text}");
    }
}
