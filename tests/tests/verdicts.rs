//! No command reaches the server before its verdict, and a refusal looks as if the server itself had refused.

use tollgate_tests::world::World;

const RULES: &str = r#"
[[service.rule]]
name    = "reads"
effects = ["read", "transaction", "session"]
verdict = "allow"

[[service.rule]]
name    = "orders may be written"
effects = ["write", "modify"]
tables  = ["public.orders"]
verdict = "allow"

[[service.rule]]
name    = "no deletes"
effects = ["delete"]
verdict = "deny"
hint    = "archive the order instead"
"#;

#[test]
fn a_refusal_is_a_native_error_that_names_the_rule_and_what_to_do() {
    let world = World::start(RULES).unwrap();
    let ended = world.sql("\\set VERBOSITY verbose\nDELETE FROM orders").unwrap();
    assert_ne!(ended.code, Some(0));
    let ended =
        tollgate_tests::job::run(&mut world.psql(&["-v", "VERBOSITY=verbose", "-c", "DELETE FROM orders"]))
            .unwrap();
    for part in ["42501", "no deletes", "archive the order instead"] {
        assert!(ended.stderr.contains(part), "no {part:?} in:\n{}", ended.stderr);
    }
    assert!(
        !world.server.log().contains("DELETE FROM orders"),
        "the refused statement reached the server"
    );
    assert_eq!(
        world
            .server
            .admin("shop", "SELECT count(*) FROM orders")
            .unwrap()
            .trim(),
        "3"
    );
}

#[test]
fn nothing_that_hides_a_write_gets_past_a_policy_that_allows_reads() {
    let world = World::start(RULES).unwrap();
    let ways = [
        "DELETE FROM orders",
        "delete/**/from orders",
        "SELECT 1; DELETE FROM orders",
        "WITH d AS (DELETE FROM orders RETURNING *) SELECT * FROM d",
        "EXPLAIN ANALYZE DELETE FROM orders",
        "EXPLAIN (ANALYZE) DELETE FROM orders",
        "PREPARE x AS DELETE FROM orders; EXECUTE x",
        "COPY (DELETE FROM orders RETURNING id) TO STDOUT",
        "TRUNCATE orders",
        "DROP TABLE orders",
        "DO $$ BEGIN DELETE FROM orders; END $$",
        "CREATE FUNCTION f() RETURNS void LANGUAGE sql AS 'DELETE FROM orders'; SELECT f()",
        "SELECT query_to_xml('DELETE FROM orders', true, false, '')",
        "BEGIN; SAVEPOINT s; DELETE FROM orders; COMMIT",
        "SELECT 1 /* /* */ ; DELETE FROM orders; /* */ */; DELETE FROM orders",
        "SELECT E'\\'; DELETE FROM orders; --'; DELETE FROM orders",
        "SELECT $a$ $b$ $a$; DELETE FROM orders; SELECT $a$ $a$",
        "SELECT '\\'; DELETE FROM orders; --'",
        "SET standard_conforming_strings = off; SELECT '\\'; DELETE FROM orders; --'",
        "MERGE INTO orders USING (SELECT 1) s ON true WHEN MATCHED THEN DELETE",
        "SELECT lo_import('/etc/passwd')",
        "SELECT pg_read_file('/etc/passwd')",
        "COPY orders TO '/tmp/x'",
        "COPY orders FROM PROGRAM 'id'",
        "SELECT pg_terminate_backend(pg_backend_pid())",
        "SET ROLE postgres",
        "SET SESSION AUTHORIZATION postgres",
        "ALTER SYSTEM SET log_statement = 'none'",
        "GRANT ALL ON orders TO public",
        "CREATE TABLE x (a int)",
        "INSERT INTO customers (id) VALUES (9)",
        "SELECT * INTO x FROM orders",
        "LOCK TABLE orders",
        "SELECT * FROM orders FOR UPDATE",
        "NOTIFY x",
        "VACUUM orders",
        "CALL p()",
        "SELECT nextval('s')",
        "UPDATE customers SET name = 'x'",
        "UPDATE orders SET total = 0 FROM (DELETE FROM orders RETURNING 1) s",
        "SELECT dblink_exec('', 'DELETE FROM orders')",
        "this is not SQL",
    ];
    for way in ways {
        let ended = world.sql(way).unwrap();
        assert!(
            ended.stderr.contains("tollgate") || ended.stderr.contains("ERROR"),
            "{way} was not refused: {ended:?}"
        );
    }
    assert_eq!(
        world
            .server
            .admin("shop", "SELECT count(*), sum(total) FROM orders")
            .unwrap()
            .trim(),
        "3|118.75"
    );
    assert_eq!(
        world
            .server
            .admin("shop", "SELECT count(*) FROM customers")
            .unwrap()
            .trim(),
        "3"
    );
    assert_eq!(
        world
            .server
            .admin(
                "shop",
                "SELECT count(*) FROM pg_class WHERE relname IN ('x', 'f')"
            )
            .unwrap()
            .trim(),
        "0"
    );
}

/// Runs the same conversation twice, with a statement that the policy refuses and with one that the server refuses,
/// at each position of pipelines of each length, in and out of transactions; compares all that a client can see.
#[test]
fn after_a_refusal_everything_is_as_after_the_servers_own() {
    let world = World::start(RULES).unwrap();
    let script = r#"
import os, socket, struct
def msg(t, b): return t + struct.pack("!i", 4 + len(b)) + b
def connect():
    s = socket.create_connection(("127.0.0.1", int(os.environ["PORT"])))
    p = b"user\0x\0database\0" + os.environ["DB"].encode() + b"\0\0"
    s.sendall(struct.pack("!ii", 8 + len(p), 196608) + p)
    f = s.makefile("rb"); read(f, 1); return s, f
def read(f, syncs):
    out = []
    while syncs:
        t = f.read(1); n = struct.unpack("!i", f.read(4))[0] - 4; b = f.read(n)
        assert t, "closed"
        if t == b"Z": syncs -= 1
        if t == b"E": b = [x for x in b.split(b"\0") if x[:1] == b"C"][0]
        if t in b"NS": continue
        out.append((t, b))
    return out
def extended(sql): return msg(b"P", b"\0" + sql + b"\0\0\0") + msg(b"B", b"\0\0\0\0\0\0\0\0") + msg(b"D", b"P\0") + msg(b"E", b"\0\0\0\0\0")
REFUSED, OWN = b"DELETE FROM orders", b"INSERT INTO orders SELECT id FROM forbidden"
OWN = b"SELECT * FROM forbidden"
def conversation(bad, length, at, kind, begin):
    s, f = connect(); seen = []
    if begin:
        s.sendall(msg(b"Q", b"BEGIN\0")); seen += read(f, 1)
    out = b""
    for n in range(length):
        sql = bad if n == at else b"INSERT INTO orders VALUES (%d, 1, 5)" % (1000 + n)
        if kind == "query": out += msg(b"Q", sql + b"\0")
        if kind == "extended": out += extended(sql)
        if kind == "synced": out += extended(sql) + msg(b"S", b"")
    if kind == "extended": out += msg(b"S", b"")
    s.sendall(out)
    seen += read(f, 1 if kind == "extended" else length)
    s.sendall(msg(b"Q", b"SELECT count(*) FROM orders WHERE id >= 1000\0")); seen += read(f, 1)
    if begin:
        s.sendall(msg(b"Q", b"COMMIT\0")); seen += read(f, 1)
        s.sendall(msg(b"Q", b"SELECT count(*) FROM orders WHERE id >= 1000\0")); seen += read(f, 1)
    s.sendall(msg(b"X", b"")); s.close()
    return seen
runs = 0
for kind in ("query", "extended", "synced"):
    for begin in (False, True):
        for length in (1, 2, 3, 5, 10):
            for at in range(length):
                seen = []
                for bad in (REFUSED, OWN):
                    seen.append(conversation(bad, length, at, kind, begin))
                    s, f = connect()
                    s.sendall(msg(b"Q", b"UPDATE orders SET id = -id - (random()*1e9)::int WHERE id >= 1000\0")); read(f, 1); s.close()
                a, b = seen
                # Where the server refuses later (at Bind and not at Parse), it has answered Parse by then.
                strip = lambda run: [m for m in run if m[0] not in b"1"]
                assert strip(a) == strip(b), (kind, begin, length, at, a, b)
                runs += 1
print(runs)
"#;
    let runs: u32 = world
        .python(script)
        .unwrap()
        .success()
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    assert_eq!(runs, 3 * 2 * (1 + 2 + 3 + 5 + 10));
}

/// How a text is read depends on two settings, and those on transactions that may fail while the text is on its way.
#[test]
fn no_text_is_read_otherwise_by_the_server_than_by_the_one_who_judged_it() {
    let world = World::start(RULES).unwrap();
    let script = r#"
import os, socket, struct
def msg(t, b): return t + struct.pack("!i", 4 + len(b)) + b
def Q(sql): return msg(b"Q", sql + b"\0")
def connect():
    s = socket.create_connection(("127.0.0.1", int(os.environ["PORT"]))); s.settimeout(20)
    p = b"user\0x\0database\0" + os.environ["DB"].encode() + b"\0\0"
    s.sendall(struct.pack("!ii", 8 + len(p), 196608) + p)
    f = s.makefile("rb"); read(f, 1); return s, f
def read(f, ready):
    tags = b""
    while ready:
        t = f.read(1)
        if not t: return tags + b"."
        f.read(struct.unpack("!i", f.read(4))[0] - 4)
        ready -= t == b"Z"; tags += t
    return tags
STRING = rb"SELECT 'a\', ';DELETE FROM orders; --'"
LETTER = b"SELECT E'\xc3\x83\\'; DELETE FROM orders; --'"
SLOW = b"SELECT pg_sleep(0.4); SELECT 1/0"
EXTENDED = lambda sql: msg(b"P", b"\0" + sql + b"\0\0\0") + msg(b"B", b"\0\0\0\0\0\0\0\0") + msg(b"E", b"\0\0\0\0\0")
scs, enc = b"standard_conforming_strings", b"client_encoding"
ways = []
for setting, usual, odd, text in ((scs, b"on", b"off", STRING), (enc, b"'UTF8'", b"'SJIS'", LETTER)):
    off, back = b"SET %s = %s" % (setting, odd), b"SET LOCAL %s = %s" % (setting, usual)
    ways += [
        [[off, text]],
        [[off], [text]],
        [[b"SELECT set_config('%s', %s, false)" % (setting, odd if odd[:1] == b"'" else b"'off'"), text]],
        [[off + b"; " + text]],
        # A transaction that has set it to the usual value fails, and the text is under way by then.
        [[off], [b"BEGIN", back], [SLOW, b"ROLLBACK; " + text]],
        [[off], [b"BEGIN", back], [b"SELECT pg_sleep(0.4); ROLLBACK", text]],
        [[off], [b"BEGIN", back], [b"SAVEPOINT s", b"ROLLBACK", text]],
        [[off, b"BEGIN; " + back], [b"SELECT pg_sleep(0.4); COMMIT", text]],
        [[off], [b"BEGIN", b"SAVEPOINT s", back], [b"SELECT pg_sleep(0.4); ROLLBACK TO s", text]],
        [[b"BEGIN", off], [b"RESET " + setting, b"SELECT 1"], [b"ROLLBACK", text]],
        [[off], [b"RESET ALL"], [b"BEGIN", off], [b"DISCARD ALL", text]],
    ]
for way in ways:
    s, f = connect()
    for sent in way:
        s.sendall(b"".join(map(Q, sent))); read(f, len(sent))
    s.close()
    s, f = connect()
    for sent in way:
        s.sendall(b"".join(EXTENDED(sql) for step in sent for sql in step.split(b"; ", 1)) + msg(b"S", b"")); read(f, 1)
    s.close()
for raw in (msg(b"Q", b"SELECT 1\0; DELETE FROM orders\0"), msg(b"Q", b"DELETE FROM orders"), Q(b"SELECT '\xff'; DELETE FROM orders"), Q(b"SELECT 1 --" + b"x" * (2 << 20) + b"\nDELETE FROM orders"),
            msg(b"P", b"\0SELECT 1; DELETE FROM orders\0\0\0") + msg(b"S", b""), msg(b"P", b"\0DELETE FROM orders -- " + b"x" * (1 << 20) + b"\0\0\0") + msg(b"B", b"\0\0\0\0\0\0\0\0") + msg(b"E", b"\0\0\0\0\0") + msg(b"S", b""),
            msg(b"F", struct.pack("!ihhh", 1574, 0, 0, 0)) + msg(b"S", b""), msg(b"d", Q(b"DELETE FROM orders")) + msg(b"c", b"") + Q(b"DELETE FROM orders"),
            Q(b"COPY orders FROM STDIN") + msg(b"d", b"9\t1\t1\n") + msg(b"c", b"") + Q(b"SELECT 1"), msg(b"P", b"\0DELETE FROM orders\0\0\x7f") + msg(b"S", b"")):
    s, f = connect(); s.sendall(raw); s.shutdown(socket.SHUT_WR); read(f, 9); s.close()
print(len(ways))
"#;
    assert_eq!(world.python(script).unwrap().success().unwrap().trim(), "22");
    assert_eq!(
        world
            .server
            .admin("shop", "SELECT count(*), sum(total) FROM orders")
            .unwrap()
            .trim(),
        "3|118.75"
    );
}

#[test]
fn a_refused_statement_in_a_transaction_aborts_it_and_rollback_mends_it() {
    let world = World::start(RULES).unwrap();
    let mut psql = world.psql(&["-qAt"]);
    psql.args([
        "-c",
        "BEGIN",
        "-c",
        "DELETE FROM orders",
        "-c",
        "SELECT 1",
        "-c",
        "ROLLBACK",
        "-c",
        "SELECT 'mended'",
    ]);
    let ended = tollgate_tests::job::run(&mut psql).unwrap();
    assert!(
        ended.stderr.contains("current transaction is aborted"),
        "{}",
        ended.stderr
    );
    assert!(ended.stdout.contains("mended"), "{}", ended.stdout);
}

#[test]
fn limits_end_the_session_natively_and_the_record_says_which() {
    let world = World::start(&format!("{RULES}\n[service.limits]\nrows = 10\n")).unwrap();
    let ended = world.sql("SELECT generate_series(1, 100000)").unwrap();
    assert_ne!(ended.code, Some(0));
    assert!(ended.stderr.contains("limit of 10 rows"), "{}", ended.stderr);
    let sessions = world.sessions().unwrap();
    assert!(
        sessions
            .iter()
            .any(|session| session.to_string().contains("limit of 10 rows")),
        "{sessions:?}"
    );
}
