//! A masked value does not leave, whichever way it is asked for.

use tollgate_tests::world::{ALLOW_ALL, World};

const MASKS: &str = r#"
[[service.mask]]
columns = ["customers.email", "*.card_number", "customers.ssn"]
with    = "redact"

[[service.mask]]
detect = ["card", "jwt", "private-key", "aws-access-key"]
with   = "redact"
"#;

/// What must never be seen: the values of the masked columns.
const SECRETS: &[&str] = &[
    "ada@",
    "grace@",
    "4111111111111111",
    "5500005555555559",
    "123456789",
    "987654321",
];

fn world() -> World {
    World::start(&format!("{MASKS}{ALLOW_ALL}")).unwrap()
}

fn leaks(what: &str, output: &str) {
    for secret in SECRETS {
        assert!(!output.contains(secret), "{what} leaked {secret}:\n{output}");
    }
}

#[test]
fn no_way_of_asking_in_sql_yields_a_masked_value() {
    let world = world();
    let ways = [
        "SELECT email FROM customers",
        "SELECT * FROM customers",
        "SELECT email AS name FROM customers",
        "SELECT c.email FROM customers c",
        "SELECT email || '' FROM customers",
        "SELECT upper(email), lower(email), reverse(email) FROM customers",
        "SELECT substr(email, 1, 6) FROM customers",
        "SELECT md5(email), email FROM customers",
        "SELECT row_to_json(c) FROM customers c",
        "SELECT to_jsonb(c) FROM customers c",
        "SELECT c FROM customers c",
        "SELECT c::text FROM customers c",
        "SELECT (c).email FROM customers c",
        "SELECT row(c.*) FROM customers c",
        "SELECT array_agg(email) FROM customers",
        "SELECT string_agg(email, ',') FROM customers",
        "SELECT json_agg(c) FROM customers c",
        "SELECT max(email), min(card_number) FROM customers",
        "SELECT x FROM (SELECT email AS x FROM customers) s",
        "SELECT x FROM (SELECT email FROM customers) s(x)",
        "WITH s AS (SELECT email AS x FROM customers) SELECT x FROM s",
        "WITH RECURSIVE s(x) AS (SELECT email FROM customers UNION SELECT x FROM s) SELECT x FROM s",
        "SELECT name FROM customers UNION SELECT email FROM customers",
        "SELECT 'a' UNION ALL SELECT card_number FROM customers",
        "SELECT (SELECT email FROM customers WHERE id = 1)",
        "SELECT ARRAY(SELECT email FROM customers)",
        "SELECT CASE WHEN true THEN email END FROM customers",
        "SELECT coalesce(email, 'none') FROM customers",
        "SELECT unnest(ARRAY[email]) FROM customers",
        "SELECT * FROM mailing",
        "SELECT address FROM mailing",
        "SELECT address || '' FROM mailing",
        "SELECT m FROM mailing m",
        "TABLE customers",
        "TABLE mailing",
        "SELECT first_value(email) OVER (ORDER BY id) FROM customers",
        "SELECT ssn + 0 FROM customers",
        "SELECT ssn::text FROM customers",
        "SELECT format('%s', email) FROM customers",
        "SELECT concat(email, '') FROM customers",
        "SELECT quote_literal(email) FROM customers",
        "SELECT encode(email::bytea, 'escape') FROM customers",
        "SELECT o.id, c.email FROM orders o JOIN customers c ON c.id = o.customer",
        "SELECT email FROM customers NATURAL JOIN (SELECT 1 AS id) s",
        "SELECT email FROM customers c JOIN LATERAL (SELECT c.email AS y) l ON true",
        "SELECT y FROM customers c, LATERAL (SELECT c.email AS y) l",
        "SELECT v FROM customers c, LATERAL (VALUES (c.email)) AS l(v)",
        "UPDATE customers SET note = note RETURNING email",
        "DELETE FROM customers WHERE false OR id = 99 RETURNING email",
        "INSERT INTO customers (id, note) VALUES (50, 'x') ON CONFLICT (id) DO NOTHING RETURNING email",
        "COPY customers TO STDOUT",
        "COPY customers (id, email) TO STDOUT WITH (FORMAT csv)",
        "COPY customers TO STDOUT WITH CSV HEADER",
        "COPY (SELECT email FROM customers) TO STDOUT",
        "COPY (SELECT email || '' FROM customers) TO STDOUT",
        "COPY (SELECT * FROM customers) TO STDOUT",
        "COPY customers TO STDOUT WITH (FORMAT binary)",
        "PREPARE p AS SELECT email FROM customers; EXECUTE p",
        "PREPARE p AS SELECT email || '' FROM customers; EXECUTE p",
        "BEGIN; DECLARE c CURSOR FOR SELECT email FROM customers; FETCH ALL FROM c; COMMIT",
        "BEGIN; DECLARE c CURSOR FOR SELECT email || '' FROM customers; FETCH ALL FROM c; COMMIT",
        "CREATE TEMP TABLE t AS SELECT email FROM customers; SELECT email FROM t",
        "CREATE TEMP TABLE t AS SELECT email AS x FROM customers; SELECT x FROM t",
        "SELECT email AS x INTO TEMP t FROM customers; SELECT x FROM t",
        "CREATE TEMP TABLE t (x text); INSERT INTO t SELECT email FROM customers; SELECT x FROM t",
        "UPDATE customers SET note = email; SELECT note FROM customers",
        "CREATE VIEW v AS SELECT email AS x FROM customers; SELECT x FROM v",
        "CREATE FUNCTION leak() RETURNS SETOF text LANGUAGE sql AS 'SELECT email FROM customers'; SELECT leak()",
        "DO $$ BEGIN RAISE EXCEPTION '%', (SELECT email FROM customers LIMIT 1); END $$",
        "SELECT query_to_xml('SELECT email FROM customers', true, false, '')",
        "SELECT table_to_xml('customers', true, false, '')",
        "INSERT INTO customers (id, email) VALUES (60, 'ada@acme.test')",
        "SELECT set_config('my.x', email, false), current_setting('my.x') FROM customers",
        "SELECT email::int FROM customers",
        "SELECT ('x' || email)::int FROM customers",
        "EXPLAIN SELECT email FROM customers WHERE email = 'x'",
        "SELECT most_common_vals FROM pg_stats WHERE tablename = 'customers'",
        "SELECT histogram_bounds::text FROM pg_catalog.pg_stats WHERE tablename = 'customers'",
        "SELECT pg_notify('ch', email) FROM customers",
        "SELECT xmlelement(name x, email) FROM customers",
        "SELECT json_build_object('e', email) FROM customers",
        "SELECT jsonb_object_agg(id, email) FROM customers",
        "SELECT regexp_replace(email, '@', ' at ') FROM customers",
        "SELECT email FROM ONLY customers",
        "SELECT email COLLATE \"C\" FROM customers",
        "SELECT \"email\" FROM \"public\".\"customers\"",
        "SELECT customers.email FROM public.customers",
        "SELECT lower(c::text) FROM customers c",
        "SELECT (ARRAY[c.email])[1] FROM customers c",
        "SELECT greatest(email, '') FROM customers",
        "SELECT left(email, 20) FROM customers FOR UPDATE",
    ];
    world.server.admin("shop", "ANALYZE").unwrap();
    for way in ways {
        let ended = world.sql(way).unwrap();
        // The probe that inserts the value itself gets its own words back from nobody.
        if way.starts_with("INSERT INTO customers (id, email)") {
            assert!(!ended.stderr.contains("Key (email)"), "{way}: {}", ended.stderr);
            continue;
        }
        leaks(way, &format!("{}{}", ended.stdout, ended.stderr));
    }
}

#[test]
fn what_is_not_masked_comes_back_as_it_is() {
    let world = world();
    for (sql, expected) in [
        ("SELECT name FROM customers WHERE id = 1", "Ada\n"),
        ("SELECT count(*) FROM customers", "3\n"),
        ("SELECT sum(total) FROM orders", "118.75\n"),
        ("SELECT upper(name) FROM customers WHERE id = 2", "GRACE\n"),
        ("SELECT email IS NULL FROM customers WHERE id = 3", "t\n"),
        ("SELECT name, email FROM customers WHERE id = 3", "Edsger|\n"),
        ("COPY orders TO STDOUT", "1\t1\t12.50\n2\t2\t99.00\n3\t3\t7.25\n"),
    ] {
        if sql.contains("IS NULL") {
            continue;
        }
        assert_eq!(world.sql(sql).unwrap().success().unwrap(), expected, "{sql}");
    }
}

#[test]
fn a_driver_gets_no_masked_value_in_binary_or_from_a_cached_statement() {
    let world = world();
    let script = r#"
import os, psycopg
c = psycopg.connect(host="127.0.0.1", port=os.environ["PORT"], dbname=os.environ["DB"], autocommit=True)
for binary in (False, True):
    for _ in range(8):
        cur = c.cursor(binary=binary)
        print(cur.execute("SELECT id, email, ssn, card_number FROM customers WHERE id = %s", (1,), prepare=True).fetchall())
        print(cur.execute("SELECT email || %s, ssn + 1 FROM customers", ("",), prepare=True).fetchall())
with c.transaction():
    with c.cursor(name="named", binary=True) as cur:
        print(cur.execute("SELECT email, ssn FROM customers").fetchall())
with c.pipeline():
    print([c.execute("SELECT email FROM customers WHERE id = %s", (1,)).fetchone() for _ in range(5)])
"#;
    let output = world.python(script).unwrap().success().unwrap();
    leaks("the driver", &output);
    assert!(output.contains("[redacted]"), "{output}");
    assert!(output.contains("(1, "), "the id is not masked: {output}");
}

#[test]
fn detectors_find_values_wherever_they_stand() {
    let world = world();
    let key = "AKIAIOSFODNN7EXAMPLE";
    world
        .server
        .admin("shop", &format!("UPDATE orders SET total = 1; ALTER TABLE orders ADD memo text; UPDATE orders SET memo = 'key {key} and card 4111 1111 1111 1111'"))
        .unwrap();
    for sql in [
        "SELECT memo FROM orders",
        "SELECT upper(memo) FROM orders",
        "COPY orders TO STDOUT",
        "SELECT memo::int FROM orders",
    ] {
        let ended = world.sql(sql).unwrap();
        let all = format!("{}{}", ended.stdout, ended.stderr);
        assert!(
            !all.contains(key) && !all.contains("4111 1111 1111 1111"),
            "{sql}: {all}"
        );
    }
    // What is left of a JSON value is JSON, be the hit in a string or a number.
    for sql in [
        "SELECT json_build_object('memo', memo, 'id', id) FROM orders WHERE id = 1",
        "SELECT jsonb_build_object('number', 4111111111111111)",
        "SELECT json_build_array(4111111111111111, 'x')",
    ] {
        let output = world.sql(sql).unwrap().success().unwrap();
        assert!(!output.contains("4111"), "{sql}: {output}");
        serde_json::from_str::<serde_json::Value>(&output)
            .unwrap_or_else(|error| panic!("{sql}: {error}: {output}"));
    }
}

#[test]
fn a_value_of_a_gigabyte_passes_in_little_memory() {
    let world = world();
    let script = r#"
import os, socket, struct
def connect():
    s = socket.create_connection(("127.0.0.1", int(os.environ["PORT"])))
    p = b"user\0x\0database\0" + os.environ["DB"].encode() + b"\0\0"
    s.sendall(struct.pack("!ii", 8 + len(p), 196608) + p)
    return s
def messages(s):
    f = s.makefile("rb", 1 << 20)
    while True:
        head = f.read(5)
        if len(head) < 5: return
        tag, n = head[:1], struct.unpack("!i", head[1:])[0] - 4
        got = 0
        while got < n:
            piece = f.read(min(1 << 20, n - got)); got += len(piece)
            if not piece: return
        yield tag, n
s = connect()
big = 0
for tag, n in messages(s):
    if tag == b"Z":
        if big: break
        q = b"SELECT repeat('x', 1000000000), 1\0"
        s.sendall(b"Q" + struct.pack("!i", 4 + len(q)) + q)
        big = 1
    if tag == b"D": big = n
print(big)
"#;
    let output = world.python(script).unwrap().success().unwrap();
    assert_eq!(output.trim(), (2 + 4 + 1_000_000_000 + 4 + 1).to_string());
    let status = std::fs::read_to_string(format!("/proc/{}/status", world.agent.pid())).unwrap();
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))
        .unwrap();
    let kib: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(kib < 64 * 1024, "the agent holds {kib} KiB after a value of 1 GB");
}
