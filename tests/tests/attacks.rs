//! What somebody tries who wants a masked value and knows PostgreSQL well.

use std::time::Duration;

use tollgate_tests::job;
use tollgate_tests::world::{ALLOW_ALL, ROLE, World};

/// Three operators, since two of them show something of a value.
const MASKS: &str = r#"
[[service.mask]]
columns = ["customers.email", "parted.email"]
with    = "partial"

[[service.mask]]
columns = ["*.card_number"]
with    = "hash"

[[service.mask]]
columns = ["customers.ssn", "closed.contact.email"]
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
                 CREATE SEQUENCE counter; ALTER SEQUENCE counter OWNER TO {ROLE};
                 CREATE FUNCTION said(orders) RETURNS text LANGUAGE sql AS 'SELECT email FROM customers LIMIT 1';
                 ALTER FUNCTION said(orders) OWNER TO {ROLE};
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
    "SELECT xmltable.* FROM customers, XMLTABLE('/a' PASSING (('<a>'||email||'</a>')::xml) COLUMNS v text PATH '.')",
    "SELECT xmltable.v || '' FROM customers, XMLTABLE('/a' PASSING (('<a>'||email||'</a>')::xml) COLUMNS v text PATH '.')",
    "SELECT o.said FROM orders o",
    "SELECT public.orders.said FROM orders",
    "SELECT o.said FROM orders AS o(a, b)",
    "INSERT INTO orders VALUES (1, 1, 1) ON CONFLICT (id) DO UPDATE SET total = length(excluded.said) RETURNING orders.said",
    "SELECT v FROM customers, XMLTABLE('/a' PASSING (('<a>'||email||'</a>')::xml) COLUMNS v text PATH '.')",
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
    "ALTER FUNCTION said(orders) RENAME TO lower;; SELECT lower(o) FROM orders o",
    "CREATE OPERATOR + (rightarg = orders, function = said);; SELECT + o FROM orders o",
    "CREATE CAST (orders AS text) WITH FUNCTION said(orders);; SELECT o::text FROM orders o",
    "CREATE AGGREGATE max(orders) (sfunc = said, stype = text);; SELECT max(o) FROM orders o",
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
    "BEGIN;; CREATE TABLE second PARTITION OF parted FOR VALUES IN (3);; UPDATE parted SET part = 3;; SELECT email || '' FROM second;; SELECT email FROM second",
    "BEGIN;; CREATE TABLE third (id int, email text, part int);; ALTER TABLE parted ATTACH PARTITION third FOR VALUES IN (4);; UPDATE parted SET part = 4;; SELECT email FROM third",
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

/// What honest statements get, in the same strict world.
const HONEST: &[(&str, &str)] = &[
    (
        "SELECT id, upper(name) FROM customers WHERE id < 3",
        "1|ADA\n2|GRACE\n",
    ),
    ("SELECT s FROM (SELECT 1 AS a, 2 AS b) s", "(1,2)\n"),
    ("SELECT x FROM generate_series(1, 2) x", "1\n2\n"),
    ("SELECT e.key FROM json_each('{\"a\":1}') e", "a\n"),
    ("SELECT nosuch FROM customers", "column \"nosuch\" does not exist"),
    (
        "SELECT o.nosuch FROM orders o",
        "what function nosuch does is not known",
    ),
    ("SELECT email FROM nosuch", "relation \"nosuch\" does not exist"),
    ("SELECT length(email) / 0 FROM customers", "division by zero"),
    (
        "INSERT INTO customers (id, ssn) VALUES (7, 'abc')",
        "invalid input syntax for type integer: \"abc\"",
    ),
    (
        "SELECT no_such_function(email) FROM customers",
        "no_such_function",
    ),
    (
        "BEGIN;; CREATE TEMP TABLE mine (a text);; INSERT INTO mine VALUES ('v');; SELECT m.a, m.a || '!' FROM mine m;; COMMIT;; SELECT m.a FROM mine m",
        "v|v!\nv\n",
    ),
    (
        "BEGIN;; ALTER TABLE orders ADD x int;; SELECT o.id, o.x + 1 FROM orders o WHERE o.x IS NULL AND o.id = 1;; ROLLBACK",
        "1|\n",
    ),
    (
        "ALTER TABLE orders ADD y int DEFAULT 5; SELECT o.id FROM orders o WHERE o.y = 5 AND o.id = 1;; SELECT o.y FROM orders o WHERE o.id = 1",
        "1\n5\n",
    ),
    (
        "CREATE VIEW totals AS SELECT total AS t FROM orders;; SELECT v.t FROM totals v WHERE v.t > 90",
        "99.00\n",
    ),
    (
        "CREATE TYPE mood AS ENUM ('good');; SELECT 'good'::mood",
        "good\n",
    ),
    ("SELECT pg_advisory_lock(7) IS NULL, nextval('counter')", "f|1\n"),
    (
        "COPY (SELECT name FROM customers WHERE id = 1) TO STDOUT (FORMAT csv, HEADER)",
        "name\nAda\n",
    ),
];

#[test]
fn honest_statements_go_on_working() {
    let world = world();
    let wrong: Vec<String> = HONEST
        .iter()
        .filter_map(|(way, expected)| {
            let output = run(&world, way);
            (!output.contains(expected)).then(|| format!("{way}\n{output}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // A column that somebody else has just made is no call of a function.
    world
        .server
        .admin("shop", "ALTER TABLE orders ADD z int DEFAULT 6")
        .unwrap();
    assert_eq!(run(&world, "SELECT o.z FROM orders o WHERE o.id = 1"), "6\n");
}

/// A client that speaks the protocol byte by byte, and looks for the values in everything that it gets.
const CLIENT: &str = r#"
import os, socket, struct
SECRETS = [b"ada@", b"grace@", b"da@acme", b"4111111111111111", b"123456789", bytes.fromhex("075bcd15"),
           b"ada@".hex().encode(), b"123456789".hex().encode()]
def msg(t, b): return t + struct.pack("!i", 4 + len(b)) + b
def cstr(t): return (t.encode() if isinstance(t, str) else t) + b"\0"
def Q(t): return msg(b"Q", cstr(t))
def P(n, t): return msg(b"P", cstr(n) + cstr(t) + b"\0\0")
def B(p, s, formats=(), params=()):
    b = cstr(p) + cstr(s) + b"\0\0" + struct.pack("!h", len(params))
    for v in params: b += struct.pack("!i", len(v)) + v
    return msg(b"B", b + struct.pack("!h", len(formats)) + b"".join(struct.pack("!h", f) for f in formats))
def D(k, n): return msg(b"D", k + cstr(n))
def E(p="", rows=0): return msg(b"E", cstr(p) + struct.pack("!i", rows))
def C(k, n): return msg(b"C", k + cstr(n))
S, H = msg(b"S", b""), msg(b"H", b"")
way, rows = "", 0
class Session:
    def __init__(self):
        self.s = socket.create_connection(("127.0.0.1", int(os.environ["PORT"]))); self.s.settimeout(30)
        p = b"user\0x\0database\0" + os.environ["DB"].encode() + b"\0\0"
        self.s.sendall(struct.pack("!ii", 8 + len(p), 196608) + p)
        self.f = self.s.makefile("rb"); self.read(1)
    def read(self, ready):
        global rows
        got = []
        while ready:
            t = self.f.read(1)
            if not t: got.append((b"", b"")); return got
            n = struct.unpack("!i", self.f.read(4))[0] - 4; b = self.f.read(n)
            ready -= t == b"Z"; rows += t in b"Dd"
            if os.environ.get("TELL"): print(way, t, b[:120], flush=True)
            for secret in SECRETS:
                if secret in b.lower(): print("LEAK", way, secret, t, b[:200], flush=True)
            got.append((t, b))
        return got
    def send(self, *parts, ready=None):
        data = b"".join(parts); self.s.sendall(data)
        return self.read(sum(p[:1] in b"QS" for p in parts) if ready is None else ready)
    def close(self): self.s.close()
"#;

const PROTOCOL: &str = r#"
def fresh(name):
    global way, rows
    if way: print("done", way, rows, flush=True)
    way, rows = name, 0
    return Session()

a = fresh("a prepared statement whose name means another table by now")
for describe in ([], [D(b"P", "")]):
    a.send(Q("DISCARD ALL")); a.send(Q("SET search_path = open"))
    a.send(P("s", "SELECT email FROM contact"), D(b"S", "s"), B("", "s"), D(b"P", ""), E(), S)
    a.send(B("", "s"), E(), S)
    a.send(Q("SET search_path = closed"))
    a.send(B("", "s"), *describe, E(), S)
    a.send(Q("SELECT set_config('search_path', 'open', false)"))
    a.send(B("", "s"), *describe, E(), S)
    a.send(Q("BEGIN; SET LOCAL search_path = closed"))
    a.send(B("", "s"), *describe, E(), S)
    a.send(Q("ROLLBACK"))
    a.send(B("", "s"), *describe, E(), S)

a = fresh("a table of another session comes to be in the way"); b = Session()
for describe in ([], [D(b"P", "")]):
    a.send(Q("DISCARD ALL")); a.send(Q("SET search_path = open, closed"))
    b.send(Q("DROP TABLE IF EXISTS open.contact")); b.send(Q("CREATE TABLE open.contact (email text)"))
    b.send(Q("INSERT INTO open.contact VALUES ('public')"))
    a.send(P("s", "SELECT email FROM contact"), D(b"S", "s"), B("", "s"), D(b"P", ""), E(), S)
    a.send(B("", "s"), E(), S)
    b.send(Q("DROP TABLE open.contact"))
    a.send(B("", "s"), *describe, E(), S)
b.close()

a = fresh("portals in pieces")
a.send(P("s", "SELECT email || '', ssn FROM customers"), B("p", "s", [0, 1]), E("p", 1), D(b"P", "p"), E("p", 1), D(b"S", "s"), E("p"), S)
a.send(Q("BEGIN"))
a.send(B("p", "s", [1]), E("p", 1), S)
a.send(E("p", 1), S)
a.send(B("q", "s"), D(b"P", "q"), S); a.send(E("q"), C(b"P", "q"), B("q", "s", [1]), E("q"), S)
a.send(Q("FETCH ALL FROM p")); a.send(Q("MOVE BACKWARD ALL FROM q")); a.send(Q("FETCH BACKWARD 1 FROM q")); a.send(Q("ROLLBACK"))

a = fresh("names that stand for something else by now")
a.send(P("s", "SELECT name || '' FROM customers"), S)
a.send(P("s", "SELECT email || '' FROM customers"), S); a.send(B("", "s"), E(), S)
a.send(C(b"S", "s"), P("s", "SELECT email || '' FROM customers"), B("", "s"), E(), S); a.send(B("", "s"), E(), S)
a.send(P("bad", "SELECT nonsense"), P("t", "SELECT email || '' FROM customers"), S); a.send(B("", "t"), E(), S)
a.send(P("t", "SELECT name || '' FROM customers"), S); a.send(P("bad", "SELECT nonsense"), C(b"S", "t"), P("t", "SELECT email || '' FROM customers"), S)
a.send(B("", "t"), E(), S)
a.send(Q("DEALLOCATE t")); a.send(Q("PREPARE t AS SELECT email || '' FROM customers")); a.send(B("", "t"), E(), S)
a.send(P("e", "EXECUTE t"), B("", "e"), E(), S); a.send(Q("DEALLOCATE t; PREPARE t AS SELECT ssn + 0 FROM customers")); a.send(B("", "e"), E(), S)
a.send(Q("DISCARD ALL")); a.send(B("", "e"), E(), S); a.send(B("", "t"), E(), S)
a.send(P("", "SELECT name || '' FROM customers"), S); a.send(P("", "SELECT email || '' FROM customers"), B("", ""), E(), S); a.send(B("", ""), E(), S)
a.send(Q("SELECT 1")); a.send(B("", ""), E(), S)

a = fresh("cursors that stand for something else by now")
a.send(Q("BEGIN")); a.send(Q("DECLARE c CURSOR FOR SELECT name || '' FROM customers"))
a.send(P("f", "FETCH 1 FROM c"), B("", "f"), E(), S)
a.send(Q("CLOSE c; DECLARE c CURSOR FOR SELECT email || '' FROM customers")); a.send(B("", "f"), E(), S)
a.send(Q("CLOSE c")); a.send(Q("DECLARE c BINARY CURSOR FOR SELECT email || '', ssn FROM customers")); a.send(B("", "f", [1]), E(), S); a.send(B("", "f"), E(), S)
a.send(P("", "CLOSE c"), B("", ""), E(), P("", "DECLARE c CURSOR FOR SELECT card_number || '' FROM customers"), B("", ""), E(), B("", "f"), E(), S)
a.send(Q("ROLLBACK"))
a.send(Q("BEGIN; DECLARE h CURSOR WITH HOLD FOR SELECT ssn + 0, email || '' FROM customers; COMMIT"))
a.send(P("", "FETCH ALL FROM h"), B("", "", [1]), E(), S); a.send(Q("FETCH FIRST FROM h"))

a = fresh("types and formats")
TYPES = ["email", "email::varchar", "email::char(30)", "email::name", "email::bytea", "to_json(email)", "to_jsonb(email)", "ARRAY[email]",
    "ROW(email, ssn)", "ssn", "ssn::bigint", "ssn::numeric", "ssn::oid", "ssn::float8", "ssn::money", "ssn::bit(32)", "ssn::text", "c", "row_to_json(c)",
    "to_tsvector(email)", "md5(email)::uuid", "sha256(email::bytea)", "(email || '')::xml", "ARRAY[ssn]", "ARRAY[c]", "int4range(ssn, ssn + 1)", "point(ssn, ssn)",
    "hashtext(email)", "left(email, 4)", "ascii(email)", "card_number", "card_number::bigint", "to_timestamp(ssn)", "make_interval(secs => ssn)", "jsonb_build_object('e', email)"]
for n, t in enumerate(TYPES):
    for f in ((), (0,), (1,)):
        a.send(P("", "SELECT %s FROM customers c" % t), B("", "", f), E(), S)
a.send(P("m", "SELECT %s FROM customers c" % ", ".join(TYPES)), S)
a.send(B("", "m", [n % 2 for n in range(len(TYPES))]), E(), S); a.send(B("", "m", [1 - n % 2 for n in range(len(TYPES))]), E(), S)

a = fresh("values of more than a megabyte")
for t in ("repeat(email, 120000)", "repeat('-', 2000000), email", "email, repeat('-', 2000000)", "repeat('-', 1048576 - 3) || email", "name, repeat('ü', 600000), email || '', ssn",
          "to_json(repeat(email, 120000))", "to_jsonb(repeat(email, 120000))"):
    for f in ((), (1,)):
        a.send(P("", "SELECT %s FROM customers WHERE id = 1" % t), B("", "", f), E(), S)
    for o in ("", " (FORMAT csv)", " (DELIMITER ',')"):
        a.send(Q("COPY (SELECT %s FROM customers WHERE id = 1) TO STDOUT%s" % (t, o)))

a = fresh("errors")
for t in ("email::int", "email::regclass", "chr(ssn)", "make_date(ssn, 1, 1)", "email::tsquery", "current_setting(email)", "email::regtype", "email::json", "('(' || email)::point"):
    a.send(P("", "SELECT %s FROM customers" % t), B("", ""), D(b"P", ""), E(), S)
    a.send(P("", "COPY (SELECT %s FROM customers) TO STDOUT" % t), B("", ""), E(), S)
    a.send(Q("PREPARE x AS SELECT %s FROM customers" % t)); a.send(P("", "EXECUTE x"), B("", ""), E(), S); a.send(Q("DEALLOCATE x"))
    a.send(Q("BEGIN; DECLARE c CURSOR FOR SELECT %s FROM customers" % t)); a.send(Q("FETCH ALL FROM c")); a.send(Q("ROLLBACK"))

a = fresh("encodings")
SHIFT = "COPY (SELECT 'x' || chr(12477) AS a, email, 'y' || chr(12509) || 'z' AS b FROM customers) TO STDOUT (DELIMITER '|')"
for e in ("SJIS", "GBK", "BIG5", "UHC", "GB18030", "LATIN1", "EUC_JP", "UTF8"):
    a.send(Q("SET client_encoding = '%s'" % e))
    a.send(Q(SHIFT)); a.send(Q("SELECT email, email || '' FROM customers")); a.send(P("", "SELECT email, email || '' FROM customers"), B("", ""), E(), S)
    a.send(Q("RESET client_encoding"))
    a.send(Q("SET client_encoding = '%s'; %s" % (e, SHIFT)))
    a.send(Q("RESET ALL")); a.send(P("", "SET client_encoding = '%s'" % e), B("", ""), E(), P("", SHIFT), B("", ""), E(), S)
    a.send(Q("DISCARD ALL")); a.send(Q("BEGIN; SET LOCAL client_encoding = '%s'" % e)); a.send(Q(SHIFT)); a.send(Q("ROLLBACK"))
    a.close(); a = Session()

a = fresh("what other sessions say"); b = Session()
a.send(Q("LISTEN ch")); b.send(Q("NOTIFY ch, 'new customer ' 'x'")); b.s.sendall(Q("SELECT pg_notify('ch', 'ada' || '@acme.test')")); b.read(1); a.send(Q("SELECT 1")); b.close()
a = fresh("")
"#;

#[test]
fn no_trick_of_the_protocol_yields_a_masked_value() {
    let world = world();
    let output = world.python(&format!("{CLIENT}{PROTOCOL}")).unwrap();
    if std::env::var_os("SHOW").is_some() {
        eprintln!("{}\n{}", output.stdout, output.stderr);
    }
    let output = output.success().unwrap();
    assert!(!output.contains("LEAK"), "{output}");
    // Each of them got to rows, or it would prove nothing.
    let done: Vec<_> = output
        .lines()
        .filter_map(|line| line.strip_prefix("done "))
        .collect();
    assert_eq!(done.len(), 10, "{output}");
    let silent = ["errors", "what other sessions say"];
    for way in done {
        let (name, rows) = way.rsplit_once(' ').unwrap();
        assert!(silent.contains(&name) || rows != "0", "{name}");
    }
}

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
