//! What somebody tries who wants a masked value and knows PostgreSQL well.

use std::time::Duration;

use tollgate_tests::job;
use tollgate_tests::world::{ALLOW_ALL, ROLE, World};

/// Three operators, since two of them show something of a value.
const MASKS: &str = r#"
[[service.mask]]
columns = ["customers.email", "people.email", "parted.email"]
with    = "partial"

[[service.mask]]
columns = ["*.card_number"]
with    = "hash"

[[service.mask]]
columns = ["customers.ssn"]
with    = "redact"
"#;

const SECRETS: &[&str] = &[
    "ada@",
    "grace@",
    "da@acme",
    "4111111111111111",
    "5500005555555559",
    "123456789",
    "987654321",
];

/// A world whose login owns everything: whatever the server would let it do, it may do.
fn world() -> World {
    let world = World::start(&format!("{MASKS}{ALLOW_ALL}")).unwrap();
    world
        .server
        .admin(
            "shop",
            &format!(
                "ALTER TABLE customers OWNER TO {ROLE}; ALTER TABLE orders OWNER TO {ROLE};
                 ALTER VIEW mailing OWNER TO {ROLE}; GRANT CREATE ON DATABASE shop TO {ROLE};
                 GRANT ALL ON SCHEMA public TO {ROLE};
                 CREATE TABLE parted (id int, email text, part int) PARTITION BY LIST (part);
                 CREATE TABLE parted_one PARTITION OF parted FOR VALUES IN (1);
                 INSERT INTO parted VALUES (1, 'ada@acme.test', 1);
                 ALTER TABLE parted OWNER TO {ROLE}; ALTER TABLE parted_one OWNER TO {ROLE};
                 CREATE SCHEMA open AUTHORIZATION {ROLE}; CREATE SCHEMA closed AUTHORIZATION {ROLE};
                 CREATE TABLE open.contact (email text); INSERT INTO open.contact VALUES ('public@acme.test');
                 CREATE TABLE closed.contact (email text); INSERT INTO closed.contact VALUES ('ada@acme.test');
                 ALTER TABLE open.contact OWNER TO {ROLE}; ALTER TABLE closed.contact OWNER TO {ROLE};
                 ANALYZE"
            ),
        )
        .unwrap();
    world
}

/// Runs the messages of `way`, which stand between `;;`, in one session.
fn run(world: &World, way: &str) -> String {
    let mut args = vec!["-qAt"];
    for message in way.split(";;") {
        args.extend(["-c", message]);
    }
    let ended = job::run_within(&mut world.psql(&args), Duration::from_secs(30)).unwrap();
    format!("{}{}", ended.stdout, ended.stderr)
}

const WAYS: &[&str] = &[
    // names that mean something else than they seem to
    "SELECT email || '' FROM (SELECT 1 AS one) email, customers",
    "SELECT (SELECT email || '' FROM json_each('{\"a\":1}') email) FROM customers",
    "SELECT (SELECT c.email || '' FROM (orders c JOIN orders o ON true) AS j LIMIT 1) FROM customers c",
    "SELECT (SELECT public.customers.email || '' FROM (SELECT 'x' AS email) customers) FROM customers",
    "SELECT (WITH w AS (SELECT name AS x) SELECT x || '' FROM w) FROM (SELECT email AS name FROM customers) s",
    "SELECT (SELECT id || s.name FROM (SELECT email AS name FROM customers LIMIT 1) s) FROM orders",
    "SELECT name || '' FROM customers AS c(id, x, name)",
    "SELECT j.name || '' FROM (customers c JOIN orders o ON true) AS j(id, x, name)",
    "SELECT name || '' FROM (SELECT * FROM customers) AS c(id, x, name)",
    "SELECT x FROM (SELECT customers AS x FROM customers) s",
    "SELECT (x).email FROM (SELECT customers AS x FROM customers) s",
    "SELECT (x::customers).email FROM (SELECT customers AS x FROM customers) s",
    "SELECT (row_to_json(c) ->> 'email') FROM customers c",
    "SELECT e.value FROM customers c, json_each_text(row_to_json(c)) e",
    "SELECT value FROM customers c, json_each_text(row_to_json(c))",
    "SELECT v FROM customers, unnest(ARRAY[name, email]) AS v",
    "SELECT name || '' FROM customers, LATERAL unnest(ARRAY[email]) AS name(name) WHERE false",
    "SELECT k.name || '' FROM customers, LATERAL unnest(ARRAY[email]) AS k(name)",
    "SELECT name || '' FROM (VALUES ((SELECT email FROM customers LIMIT 1))) AS t(name)",
    "SELECT u&\"\\0065mail\" FROM customers",
    "SELECT \"email\"::varchar(20) FROM customers",
    "SELECT EMAIL || '' FROM CUSTOMERS",
    "SELECT customers.* FROM customers",
    "SELECT (customers.*)::text FROM customers",
    "SELECT c.email::\"char\" || substr(c.email, 2) FROM customers c",
    "SELECT xmltable.* FROM customers, XMLTABLE('/a' PASSING ('<a>'||email||'</a>')::xml COLUMNS v text PATH '.')",
    "SELECT v FROM customers, XMLTABLE('/a' PASSING ('<a>'||email||'</a>')::xml COLUMNS v text PATH '.')",
    "SELECT email, count(*) FROM customers GROUP BY GROUPING SETS ((email), ())",
    "SELECT lag(email) OVER (ORDER BY id), nth_value(card_number, 1) OVER () FROM customers",
    "SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY email) FROM customers",
    "SELECT mode() WITHIN GROUP (ORDER BY card_number) FROM customers",
    "SELECT (array_agg(email ORDER BY id))[1] FROM customers",
    "SELECT jsonb_path_query(to_jsonb(c), '$.email') FROM customers c",
    "SELECT to_jsonb(c) #>> '{email}' FROM customers c",
    "SELECT (SELECT string_agg(x, ',') FROM (SELECT email AS x FROM customers) s)",
    "SELECT o.id, (SELECT c.email FROM customers c WHERE c.id = o.customer) FROM orders o",
    "SELECT repeat('x', 1) || ssn FROM customers",
    "SELECT to_hex(ssn), to_char(ssn, '999999999') FROM customers",
    "SELECT ssn, ssn * 1, ssn::bigint, ssn::numeric, ssn::float8 FROM customers",
    "SELECT int4send(ssn), textsend(email) FROM customers",
    "SELECT make_interval(secs => ssn), to_timestamp(ssn) FROM customers",
    "SELECT max(c) FROM customers c",
    "SELECT array_agg(c) FROM customers c",
    "SELECT json_object_agg(id, c) FROM customers c",
    "SELECT id, email FROM customers INTERSECT SELECT id, email FROM customers",
    "SELECT * FROM customers WHERE id = 1 UNION ALL SELECT * FROM customers",
    "VALUES ((SELECT email FROM customers WHERE id = 1))",
    "SELECT t.x FROM ROWS FROM (unnest((SELECT array_agg(email) FROM customers))) AS t(x)",
    "SELECT * FROM parted_one",
    "SELECT email || '' FROM parted_one",
    "TABLE parted",
    "COPY parted_one TO STDOUT",
    "COPY (SELECT email || '' FROM parted_one) TO STDOUT",
    // errors and notices that quote values
    "SELECT email::regclass FROM customers",
    "SELECT email::regtype FROM customers",
    "SELECT email::regrole FROM customers",
    "SELECT email::regproc FROM customers",
    "SELECT email::regprocedure FROM customers",
    "SELECT email::regoper FROM customers",
    "SELECT email::regoperator FROM customers",
    "SELECT email::regnamespace FROM customers",
    "SELECT email::regconfig FROM customers",
    "SELECT email::regcollation FROM customers",
    "SELECT email::tsquery FROM customers",
    "SELECT ('& ' || email)::tsquery FROM customers",
    "SELECT email::jsonpath FROM customers",
    "SELECT email::json FROM customers",
    "SELECT email::xml FROM customers",
    "SELECT ('<a>' || email)::xml FROM customers",
    "SELECT email::int4range, email::point, email::uuid FROM customers",
    "SELECT current_setting(email) FROM customers",
    "SELECT date_trunc(email, now()) FROM customers",
    "SELECT timezone(email, now()) FROM customers",
    "SELECT encode('a', email) FROM customers",
    "SELECT decode(email, 'base64') FROM customers",
    "SELECT decode(email, 'hex') FROM customers",
    "SELECT has_table_privilege(email, 'select') FROM customers",
    "SELECT pg_get_serial_sequence(email, 'x') FROM customers",
    "SELECT to_date(email, 'YYYY') FROM customers",
    "SELECT to_number(email, '999') FROM customers",
    "SELECT format('%' || email) FROM customers",
    "SELECT 'x' ~ ('(' || email) FROM customers",
    "SELECT chr(ssn) FROM customers",
    "SELECT make_date(ssn, 1, 1) FROM customers",
    "SELECT make_time(ssn, 1, 1) FROM customers",
    "SELECT setseed(ssn) FROM customers",
    "SELECT get_byte('a'::bytea, ssn) FROM customers",
    "SELECT ssn::int2 FROM customers",
    "SELECT nextval(ssn::text::regclass) FROM customers",
    "SELECT lo_get(ssn::oid) FROM customers",
    "SELECT pg_cancel_backend(ssn) FROM customers",
    "SELECT ssn::bit(3)::text, ('x' || email)::bit(4) FROM customers",
    "SELECT convert_from(email::bytea, email) FROM customers",
    "SELECT card_number::int FROM customers",
    "SELECT card_number::date FROM customers",
    "SELECT ('{' || email)::text[] FROM customers",
    "SELECT row_to_json(c)::text::int FROM customers c",
    "SELECT pg_size_bytes(email) FROM customers",
    "SELECT regexp_replace('a', 'a', 'b', email) FROM customers",
    "SELECT xpath('/' || email, '<a/>') FROM customers",
    "SELECT json_populate_record(null::customers, row_to_json(c)) FROM customers c",
    "SELECT CAST(email AS customers) FROM customers",
    "UPDATE customers SET id = 1",
    "UPDATE customers SET id = NULL WHERE id = 1",
    "ALTER TABLE customers ADD CHECK (id > 5)",
    "ALTER TABLE customers ADD CHECK (length(email) < 2)",
    "ALTER TABLE customers ALTER email TYPE int USING email::int",
    "ALTER TABLE customers ALTER note TYPE text USING email;; SELECT note FROM customers",
    "CREATE INDEX ON customers ((email::int))",
    "CREATE UNIQUE INDEX ON customers ((left(email, 0)))",
    "ALTER TABLE customers ADD EXCLUDE USING btree (left(email, 0) WITH =)",
    "INSERT INTO parted VALUES (1, 'x', 99)",
    "UPDATE parted SET part = 99",
    "ALTER TABLE parted_one ADD CHECK (id > 5)",
    "UPDATE parted_one SET id = 2, part = 7",
    "ALTER TABLE customers ADD FOREIGN KEY (ssn) REFERENCES orders (id)",
    "INSERT INTO orders SELECT ssn, 1, 1 FROM customers",
    // other places to put a value
    "SELECT pg_advisory_lock(ssn) FROM customers; SELECT objid FROM pg_locks WHERE locktype = 'advisory'",
    "CREATE SEQUENCE seq;; SELECT setval('seq', ssn) FROM customers WHERE id = 1;; SELECT last_value FROM seq;; SELECT currval('seq'), lastval()",
    "DO $$ BEGIN CREATE TEMP TABLE copied AS SELECT email AS x FROM customers; END $$;; SELECT x FROM copied",
    "DO $$ BEGIN CREATE TEMP TABLE copied AS SELECT email AS x FROM customers; END $$; SELECT x FROM copied",
    "DO $$ BEGIN PERFORM set_config('my.x', (SELECT email FROM customers LIMIT 1), false); END $$;; SHOW my.x",
    "DO $$ BEGIN PERFORM set_config('application_name', (SELECT email FROM customers LIMIT 1), false); END $$;; SHOW application_name",
    "DO $$ BEGIN RAISE NOTICE '%', (SELECT email FROM customers LIMIT 1); END $$",
    "LISTEN ch;; DO $$ BEGIN PERFORM pg_notify('ch', (SELECT email FROM customers LIMIT 1)); END $$;; SELECT 1",
    "CREATE FUNCTION upper(int) RETURNS text LANGUAGE sql AS 'SELECT email FROM customers LIMIT 1';; SELECT upper(1)",
    "CREATE FUNCTION plus(int, point) RETURNS text LANGUAGE sql AS 'SELECT email FROM customers LIMIT 1';; CREATE OPERATOR + (leftarg = int, rightarg = point, function = plus);; SELECT 1 + point(1, 2)",
    "CREATE TYPE pair AS (a int);; CREATE FUNCTION said(pair) RETURNS text LANGUAGE sql AS 'SELECT email FROM customers LIMIT 1';; CREATE CAST (pair AS text) WITH FUNCTION said(pair);; SELECT ROW(1)::pair::text",
    "CREATE FUNCTION name(orders) RETURNS text LANGUAGE sql AS 'SELECT email FROM customers LIMIT 1';; SELECT o.name FROM orders o",
    "CREATE FUNCTION evil() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.note := NEW.email; RETURN NEW; END';; CREATE TRIGGER evil BEFORE UPDATE ON customers FOR EACH ROW EXECUTE FUNCTION evil();; UPDATE customers SET name = name;; SELECT note FROM customers",
    "ALTER TABLE customers ADD words tsvector;; CREATE TRIGGER words BEFORE UPDATE ON customers FOR EACH ROW EXECUTE FUNCTION tsvector_update_trigger(words, 'pg_catalog.simple', email);; UPDATE customers SET id = id;; SELECT words FROM customers",
    "CREATE RULE also AS ON UPDATE TO orders DO ALSO UPDATE customers SET note = email;; UPDATE orders SET id = id;; SELECT note FROM customers",
    "PREPARE p AS SELECT email || '' AS x FROM customers;; CREATE TEMP TABLE copied AS EXECUTE p;; SELECT x FROM copied",
    "CREATE TEMP VIEW v AS SELECT email || '' AS x FROM customers;; SELECT x FROM v",
    "CREATE MATERIALIZED VIEW v AS SELECT email || '' AS x FROM customers;; SELECT x FROM v",
    "CREATE TABLE child () INHERITS (customers);; ALTER TABLE child NO INHERIT customers",
    "ALTER TABLE customers RENAME COLUMN email TO x;; SELECT x FROM customers",
    "ALTER TABLE customers RENAME TO renamed;; SELECT email FROM renamed",
    "BEGIN; ALTER TABLE customers RENAME COLUMN email TO x; SELECT x FROM customers; ROLLBACK",
    "BEGIN;; ALTER TABLE customers RENAME COLUMN email TO x;; SELECT x FROM customers",
    "BEGIN;; ALTER TABLE customers RENAME name TO old;; ALTER TABLE customers RENAME email TO name;; SELECT name || '' FROM customers",
    "ALTER TABLE customers ADD y text GENERATED ALWAYS AS (lower(email)) STORED;; SELECT y FROM customers",
    "ALTER TABLE parted DETACH PARTITION parted_one;; SELECT email FROM parted_one",
    "CREATE TABLE standalone PARTITION OF parted FOR VALUES IN (2);; UPDATE parted SET part = 2;; SELECT email || '' FROM standalone",
    "BEGIN;; CREATE TABLE standalone PARTITION OF parted FOR VALUES IN (2);; UPDATE parted SET part = 2;; SELECT email || '' FROM standalone;; SELECT email FROM standalone",
    "BEGIN;; CREATE TABLE standalone (id int, email text, part int);; ALTER TABLE parted ATTACH PARTITION standalone FOR VALUES IN (2);; UPDATE parted SET part = 2;; SELECT email FROM standalone",
    "CREATE STATISTICS st (mcv) ON email, id FROM customers;; ANALYZE customers;; SELECT most_common_vals FROM pg_stats_ext",
    "CREATE STATISTICS st ON (lower(email)) FROM customers;; ANALYZE customers;; SELECT most_common_vals::text, histogram_bounds::text FROM pg_stats_ext_exprs",
    "CREATE INDEX lowered ON customers ((lower(email)));; ANALYZE customers;; SELECT histogram_bounds::text FROM pg_stats WHERE tablename = 'lowered'",
    "SELECT lo_from_bytea(4242, email::bytea) FROM customers WHERE id = 1;; SELECT convert_from(lo_get(4242), 'utf8')",
    "SELECT query FROM pg_stat_activity",
    "SELECT query FROM pg_stat_get_activity(NULL)",
    // cursors and prepared statements
    "BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT email || '' FROM customers; COMMIT;; FETCH ALL FROM c",
    "BEGIN; DECLARE c BINARY CURSOR FOR SELECT email, ssn FROM customers;; FETCH ALL FROM c",
    "BEGIN;; DECLARE c CURSOR FOR SELECT name || '' FROM customers;; FETCH 1 FROM c;; CLOSE c;; DECLARE c CURSOR FOR SELECT email || '' FROM customers;; FETCH ALL FROM c",
    "BEGIN;; DECLARE c CURSOR FOR SELECT name || '' FROM customers;; SAVEPOINT s;; CLOSE c;; DECLARE c CURSOR FOR SELECT email || '' FROM customers;; ROLLBACK TO s;; FETCH ALL FROM c",
    "PREPARE p AS SELECT name || '' FROM customers;; DEALLOCATE p;; PREPARE p AS SELECT email || '' FROM customers;; EXECUTE p",
    "PREPARE p AS SELECT name || '' FROM customers;; DEALLOCATE ALL;; PREPARE p AS SELECT email || '' FROM customers; EXECUTE p",
    "PREPARE p(text) AS SELECT $1 || email FROM customers;; EXECUTE p('x')",
    "EXPLAIN (ANALYZE, VERBOSE) SELECT email FROM customers WHERE email = 'x'",
    "EXPLAIN (ANALYZE, VERBOSE) SELECT * FROM orders WHERE id = (SELECT ssn FROM customers WHERE id = 1)",
    "SELECT 1/0; SELECT email || '' FROM customers",
    "SELECT name FROM customers; SELECT email || '' FROM customers",
    // COPY
    "COPY customers TO STDOUT (FORMAT csv, DELIMITER ';', QUOTE '''', ESCAPE '\\')",
    "COPY customers TO STDOUT (FORMAT csv, HEADER, FORCE_QUOTE *)",
    "COPY customers TO STDOUT (DELIMITER '|', NULL 'none')",
    "COPY customers TO STDOUT (ENCODING 'sjis')",
    "COPY customers (note, email) TO STDOUT (DELIMITER '@')",
    "COPY customers TO STDOUT WITH DELIMITER AS '.' NULL AS ''",
    "SET client_encoding = 'SJIS';; COPY customers TO STDOUT",
    "COPY (TABLE customers) TO STDOUT",
    "COPY (SELECT c FROM customers c) TO STDOUT",
    "COPY (SELECT substr(email, 2) FROM customers) TO STDOUT",
    "COPY (DELETE FROM customers WHERE id = 2 RETURNING email) TO STDOUT",
    "COPY (SELECT address FROM mailing) TO STDOUT",
    // the role, the database, the path
    "SET search_path = public, pg_catalog;; SELECT upper(email) FROM customers",
    "SET search_path = pg_temp;; SELECT email FROM public.customers",
    "CREATE TEMP TABLE customers AS SELECT 1 AS id, 'x' AS email;; SELECT public.customers.email || '' FROM public.customers",
];

#[test]
fn no_trick_of_sql_yields_a_masked_value() {
    let world = world();
    let mut leaked = Vec::new();
    for way in WAYS {
        let output = run(&world, way);
        if std::env::var_os("SHOW").is_some() {
            eprintln!("--- {way}\n{output}");
        }
        if SECRETS.iter().any(|secret| output.contains(secret)) {
            leaked.push(format!("{way}\n{output}"));
        }
    }
    assert!(
        leaked.is_empty(),
        "{} ways leak:\n{}",
        leaked.len(),
        leaked.join("\n")
    );
}
