//! A session under load, under faults and at its end: no peer is left waiting, each is told what the protocol has words
//! for, and the record has how it ended.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use tollgate_tests::faulty::Fault;
use tollgate_tests::job;
use tollgate_tests::postgres::Options;
use tollgate_tests::process::{eventually, run};
use tollgate_tests::world::{ALLOW_ALL, PASSWORD, ROLE, World};

const LIMIT: Duration = Duration::from_secs(30);

/// Starts a script and waits for the first line that it prints.
fn started(world: &World, script: &str) -> Child {
    let mut child = world
        .script(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    output.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    child.stdout = Some(output.into_inner());
    child
}

/// What it prints until it ends by itself.
fn ended(mut child: Child) -> String {
    drop(child.stdin.take());
    let until = Instant::now() + LIMIT;
    while child.try_wait().unwrap().is_none() {
        assert!(Instant::now() < until, "the script does not end");
        std::thread::sleep(Duration::from_millis(10));
    }
    let output = child.wait_with_output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

fn serves(world: &World) {
    assert_eq!(world.sql("SELECT 1").unwrap().success().unwrap(), "1\n");
}

#[test]
fn what_a_client_sends_early_unasked_or_last_is_answered_as_a_server_would() {
    let world = World::start(ALLOW_ALL).unwrap();
    world
        .python(
            r#"
import socket
from wire import *

def rows(got): return [body for tag, body in got if tag == b"D"]

# The first query in the packet of the start-up message.
c = Client(startup() + query("SELECT 'early'"))
assert b"early" in rows(c.until(b"Z") + c.until(b"Z"))[0]

# A password that nobody asked for, whole, in pieces, and twice; then a session as any other.
for pieces in ([message(b"p", b"hunter2\0")], [b"p\0\0", b"\0\x0chunt", b"er2\0"], [message(b"p", b"hunter2\0") * 2]):
    c = Client()
    c.until(b"Z")
    for piece in pieces: c.send(piece)
    c.send(query("SELECT 'in'"))
    assert b"in" in rows(c.until(b"Z"))[0]
    # Later it has no place.
    c.send(message(b"p", b"hunter2\0"))
    assert told(c.until())[0] == "08P01"

# Terminate right behind a query: its answer is still owed.
c = Client()
c.until(b"Z")
c.send(query("SELECT repeat('x', 100000) FROM generate_series(1, 100)") + TERMINATE)
got = c.until()
assert len(rows(got)) == 100 and got[-2][0] == b"Z" and got[-1] == (b"", b""), [tag for tag, _ in got][-4:]

# So it is to a client that has closed its half, also where statements wait for one another.
c = Client()
c.until(b"Z")
c.send(query("CREATE TEMP TABLE t (n int)") + query("INSERT INTO t VALUES (41), (42)") + query("TABLE t"))
c.socket.shutdown(socket.SHUT_WR)
got = c.until()
assert [tag for tag, _ in got].count(b"Z") == 3 and len(rows(got)) == 2 and got[-1] == (b"", b""), got

# Sent and gone: the statement has run all the same.
c = Client()
c.until(b"Z")
c.send(query("CREATE TABLE left_behind (n int)") + TERMINATE)
c.socket.close()
"#,
        )
        .unwrap()
        .success()
        .unwrap();
    eventually("the last statement to run", LIMIT, || {
        world
            .server
            .admin("shop", "SELECT 1 FROM pg_class WHERE relname = 'left_behind'")
            .ok()
            .filter(|found| found == "1\n")
    })
    .unwrap();
    let last = world.last_session().unwrap();
    assert_eq!(
        last["counts"]["reason"], "the client closed the session",
        "{last}"
    );
    let log = world.agent.log();
    assert!(!log.contains("hunter2"), "{log}");
    assert!(log.contains("a password that nobody asked for"), "{log}");
}

#[test]
fn notices_of_the_login_reach_the_client_before_it_may_speak() {
    let world = World::start(ALLOW_ALL).unwrap();
    let settings = format!(
        "INSERT INTO pg_db_role_setting SELECT 0, oid, '{{work_mem=nonsense}}' FROM pg_roles WHERE rolname = '{ROLE}'"
    );
    world.server.admin("shop", &settings).unwrap();
    world
        .python(
            r#"
from wire import *
tags = []
c = Client()
got = c.until(b"Z")
notices = [fields(body)["M"] for tag, body in got if tag == b"N"]
assert any("work_mem" in words for words in notices), got
"#,
        )
        .unwrap()
        .success()
        .unwrap();
}

#[test]
fn a_pipeline_and_a_copy_larger_than_every_buffer_move_both_ways() {
    let world = World::start(ALLOW_ALL).unwrap();
    let begun = Instant::now();
    world
        .python(
            r#"
import threading
from wire import *
c = Client(timeout=50)
c.until(b"Z")
COUNT = 3000
def write():
    for n in range(COUNT):
        c.send(query(f"SELECT repeat('r', 20000) /* {'q' * 20000} */"))
writer = threading.Thread(target=write)
writer.start()
for n in range(COUNT):
    got = c.until(b"Z")
    assert [tag for tag, _ in got] == [b"T", b"D", b"C", b"Z"], (n, got)
writer.join()

# The server floods notices while it is sent COPY data.
import psycopg
with psycopg.connect(host=HOST, port=PORT, dbname=DB, user="x", autocommit=True) as db:
    heard = []
    db.add_notice_handler(lambda notice: heard.append(1))
    db.execute("CREATE TABLE noisy (n int, words text)")
    db.execute("""CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE NOTICE 'row % %', NEW.n, repeat('n', 400); RETURN NEW; END $$""")
    db.execute("CREATE TRIGGER shout BEFORE INSERT ON noisy FOR EACH ROW EXECUTE FUNCTION shout()")
    with db.cursor().copy("COPY noisy FROM STDIN") as copy:
        for n in range(20000):
            copy.write(f"{n}\t{'w' * 400}\n")
    assert db.execute("SELECT count(*) FROM noisy").fetchone() == (20000,)
    assert len(heard) == 20000, len(heard)
"#,
        )
        .unwrap()
        .success()
        .unwrap();
    println!("60 MB each way and 20,000 notices: {:.1?}", begun.elapsed());
    let last = world.last_session().unwrap();
    assert_eq!(last["state"], "closed", "{last}");
    serves(&world);
}

#[test]
fn large_transfers_arrive_whole_through_tls_on_both_sides() {
    let tls = "{ upstream = \"verify-full\", ca = \"{ca}\", server_name = \"db.acme.test\" }";
    let options = Options {
        tls: true,
        ..Options::default()
    };
    let world = World::with(ALLOW_ALL, options, tls).unwrap();
    let begun = Instant::now();
    world
        .python(
            r#"
import hashlib, psycopg
from wire import *
with psycopg.connect(host=HOST, port=PORT, dbname=DB, user="x", sslmode="require", autocommit=True) as db:
    assert db.pgconn.ssl_in_use
    db.execute("CREATE TABLE big (n int, v text)")
    sent, line = hashlib.md5(), "z" * 1000
    with db.cursor().copy("COPY big FROM STDIN") as copy:
        for n in range(30000):
            row = f"{n}\t{line}\n"
            sent.update(row.encode())
            copy.write(row)
    got = hashlib.md5()
    with db.cursor().copy("COPY (SELECT * FROM big ORDER BY n) TO STDOUT") as copy:
        for piece in copy: got.update(piece)
    assert sent.hexdigest() == got.hexdigest()
    (value,) = db.execute("SELECT repeat('y', 60000000)").fetchone()
    assert value == "y" * 60000000
"#,
        )
        .unwrap()
        .success()
        .unwrap();
    println!(
        "30 MB up, 90 MB down through TLS on both sides: {:.1?}",
        begun.elapsed()
    );
    let last = world.last_session().unwrap();
    assert_eq!(last["counts"]["rows"], 30001, "{last}");
    assert!(
        last["counts"]["bytes_to_client"].as_u64().unwrap() > 90_000_000,
        "{last}"
    );
    assert!(
        last["counts"]["bytes_to_server"].as_u64().unwrap() > 30_000_000,
        "{last}"
    );
}

#[test]
fn a_hundred_sessions_at_a_time_and_five_hundred_at_once_are_served_or_told() {
    let mut world = World::start(ALLOW_ALL).unwrap();
    world
        .server
        .admin("postgres", "ALTER SYSTEM SET max_connections = 120")
        .unwrap();
    world.server.crash().unwrap();
    world.server.resume().unwrap();
    serves(&world);
    let resident = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", world.agent.pid())).unwrap();
        let kib = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
        };
        (kib("RssAnon:"), kib("RssFile:") + kib("RssShmem:"))
    };
    let before = resident();
    let idle = started(
        &world,
        r#"
import sys
from wire import *
clients = [Client(timeout=50) for _ in range(100)]
for c in clients: assert c.until(b"Z")[-1][0] == b"Z"
for c in clients: c.send(query("SELECT 1"))
for c in clients: assert c.until(b"Z")[-1][0] == b"Z"
print("ready", flush=True)
sys.stdin.read()
"#,
    );
    let after = resident();
    let anonymous = (after.0 - before.0.min(after.0)) / 100;
    println!(
        "a session that idles: {anonymous} KiB anonymous, {} KiB of mapped journal",
        (after.1 - before.1.min(after.1)) / 100
    );
    assert!(anonymous < 512, "{anonymous} KiB a session");
    let status = world.agent.cli("status", &["--json"]).unwrap();
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["live_sessions"], 100, "{status}");
    ended(idle);
    world.last_session().unwrap();

    let begun = Instant::now();
    let counts = world
        .python(
            r#"
import asyncio
from collections import Counter
from wire import *

async def read(reader):
    head = await reader.readexactly(5)
    return head[:1], await reader.readexactly(struct.unpack("!i", head[1:])[0] - 4)

async def one():
    reader, writer = await asyncio.open_connection(HOST, PORT)
    writer.write(startup())
    while True:
        tag, body = await read(reader)
        if tag == b"E": return fields(body)["C"]
        if tag == b"Z": break
    writer.write(query("SELECT 1") + TERMINATE)
    return "served" if b"Z" in [t for t in [(await read(reader))[0] for _ in range(4)]] else "?"

async def all():
    return Counter(await asyncio.gather(*(one() for _ in range(500))))

counts = asyncio.run(all())
assert set(counts) <= {"served", "53300"} and counts["served"] >= 100, counts
print(counts)
"#,
        )
        .unwrap()
        .success()
        .unwrap();
    println!("500 connects at once: {:.1?}, {}", begun.elapsed(), counts.trim());
    eventually("the live list to be empty", LIMIT, || {
        let status = world.agent.cli("status", &["--json"]).ok()?;
        let status: serde_json::Value = serde_json::from_str(&status).ok()?;
        (status["live_sessions"] == 0 && status["total_sessions"] == 601).then_some(())
    })
    .unwrap();
    serves(&world);
}

#[test]
fn a_server_that_breaks_off_anywhere_is_told_to_the_client_and_nobody_hangs() {
    let (world, relay) = World::behind_a_relay(ALLOW_ALL).unwrap();
    let script = r#"
from collections import Counter
from wire import *
outcomes = Counter()
for n in range(COUNT):
    c = Client()
    got = c.until(b"Z")
    if got[-1][0] == b"Z":
        c.send(query("SELECT n, repeat('v', 50) FROM generate_series(1, 20) n"))
        got += c.until(b"Z")
    if got[-1][0] == b"Z":
        outcomes["answered"] += 1
        continue
    # What came, came in whole messages, and the last of them says what happened.
    assert got[-1] == (b"", b""), (n, got[-3:])
    code, severity, words = told(got)
    assert severity == "FATAL" and "tollgate" in words, words
    outcomes[code] += 1
print(dict(outcomes))
"#;
    for fault in [Fault::Reset, Fault::Close] {
        relay.sweep(fault, 0, 17);
        let outcomes = world
            .python(&script.replace("COUNT", "160"))
            .unwrap()
            .success()
            .unwrap();
        println!("{fault:?}: {}", outcomes.trim());
        assert!(
            outcomes.contains("08006") && outcomes.contains("answered"),
            "{outcomes}"
        );
    }
    relay.heal();
    serves(&world);
    for session in world.sessions().unwrap() {
        assert_ne!(session["state"], "damaged", "{session}");
    }
    world.last_session().unwrap();
    world.agent.cli("verify", &[]).unwrap();
}

#[test]
fn a_client_that_resets_after_any_message_ends_its_own_session_alone() {
    let world = World::start(ALLOW_ALL).unwrap();
    world
        .python(
            r#"
import struct, threading
from wire import *
bind = message(b"B", b"\0\0" + struct.pack("!hhh", 0, 0, 0))
SCRIPTS = [
    [query("SELECT repeat('x', 1000) FROM generate_series(1, 20000)"), TERMINATE],
    [message(b"P", b"\0SELECT 1\0\0\0"), bind, message(b"D", b"P\0"), message(b"E", b"\0\0\0\0\0"), message(b"S")],
    [query("CREATE TEMP TABLE c (t text)"), query("COPY c FROM STDIN"), message(b"d", b"a\n") * 5000, message(b"c")],
    [query("COPY (SELECT repeat('y', 1000) FROM generate_series(1, 20000)) TO STDOUT"), TERMINATE],
    [query("BEGIN"), query("LOCK TABLE customers"), query("SELECT pg_sleep(0.2)")],
]
for script in SCRIPTS:
    for upto in range(len(script) + 1):
        for wait in (False, True):
            c = Client()
            if wait: c.until(b"Z")
            for n, part in enumerate(script[:upto]):
                c.send(part)
                if wait and n + 1 < upto: c.until(b"Z", b"1", b"2", b"T", b"G", b"H") if part[:1] == b"Q" else None
            c.reset()
# Nothing that they held is held any more.
c = Client()
c.until(b"Z")
c.send(query("SET lock_timeout = '10s'") + query("BEGIN") + query("LOCK TABLE customers"))
got = c.until(b"Z") + c.until(b"Z") + c.until(b"Z")
assert told(got) is None, got
"#,
        )
        .unwrap()
        .success()
        .unwrap();
    serves(&world);
    world.last_session().unwrap();
    for session in world.sessions().unwrap() {
        assert_eq!(session["state"], "closed", "{session}");
        assert_ne!(session["counts"]["reason"], "", "{session}");
    }
    let log = world.agent.log();
    assert!(!log.contains("panicked"), "{log}");
    world.agent.cli("verify", &[]).unwrap();
}

#[test]
fn a_server_that_ends_a_session_is_told_once_and_the_next_session_works() {
    let mut world = World::start(ALLOW_ALL).unwrap();
    let idle = r#"
from wire import *
c = Client()
c.until(b"Z")
print("ready", flush=True)
got = c.until()
print([fields(body)["C"] for tag, body in got if tag == b"E"], got[-1])
"#;
    // In its own words, and in no others.
    let child = started(&world, idle);
    world
        .server
        .admin(
            "shop",
            &format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{ROLE}'"),
        )
        .unwrap();
    assert_eq!(ended(child).trim(), "['57P01'] (b'', b'')");
    // An immediate shutdown is a warning of the server's, after which it is gone.
    let child = started(&world, idle);
    world.server.crash().unwrap();
    assert_eq!(ended(child).trim(), "['08006'] (b'', b'')");
    for session in world.sessions().unwrap() {
        assert!(
            session["counts"]["reason"]
                .as_str()
                .unwrap()
                .contains("the server closed"),
            "{session}"
        );
    }
    world.server.resume().unwrap();
    serves(&world);
}

#[test]
fn a_stopped_agent_ends_each_session_in_the_protocols_words_and_at_once() {
    let (mut world, relay) = World::behind_a_relay(ALLOW_ALL).unwrap();
    let mut children: Vec<Child> = Vec::new();
    for before in [
        "c.until(b'Z')",
        "c.until(b'Z'); c.send(query('SELECT pg_sleep(60)'))",
        "c.until(b'Z'); c.send(query('COPY customers FROM STDIN')); c.until(b'G')",
        // Does not read: what it is owed does not fit into any buffer.
        "c.until(b'Z'); c.send(query(\"SELECT repeat('x', 1000) FROM generate_series(1, 100000)\")); c.read()",
    ] {
        let script = format!(
            "from wire import *\nc = Client(timeout=50)\n{before}\nprint('ready', flush=True)\nimport sys\nsys.stdin.readline()\nprint(told(c.until()))\n"
        );
        children.push(started(&world, &script));
    }
    let silent = started(
        &world,
        "from wire import *\nc = Client(b'')\nprint('ready', flush=True)\nprint(told(c.until()))\n",
    );
    relay.sweep(Fault::Stall, 40, 0);
    let logging_in = started(
        &world,
        "from wire import *\nc = Client()\nprint('ready', flush=True)\nprint(told(c.until()))\n",
    );
    eventually("six sessions", LIMIT, || {
        let status: serde_json::Value =
            serde_json::from_str(&world.agent.cli("status", &["--json"]).ok()?).ok()?;
        (status["live_sessions"] == 6).then_some(())
    })
    .unwrap();
    let begun = Instant::now();
    let log = world.agent.stop().unwrap();
    let took = begun.elapsed();
    println!("stopped in {took:.1?}");
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert!(!log.contains("cut off"), "{log}");
    for (number, child) in children.into_iter().enumerate() {
        let words = ended(child);
        if number < 3 {
            assert!(
                words.contains("('57P01', 'FATAL', 'tollgate"),
                "{number}: {words}"
            );
        }
    }
    assert_eq!(ended(silent).trim(), "None");
    assert!(ended(logging_in).contains("57P01"));
    world.agent.resume().unwrap();
    for session in world.sessions().unwrap() {
        assert_eq!(session["state"], "closed", "{session}");
        assert_eq!(session["counts"]["reason"], "the agent was stopped", "{session}");
    }
    relay.heal();
    serves(&world);
}

#[test]
fn no_row_or_byte_beyond_a_limit_reaches_the_client() {
    let world = World::start(&format!(
        "{ALLOW_ALL}\n[service.limits]\nrows = 100\nbytes = \"100KiB\"\n"
    ))
    .unwrap();
    world
        .python(
            r#"
from wire import *
for sql, most in [
    ("SELECT * FROM generate_series(1, 5000)", 100),
    ("COPY (SELECT * FROM generate_series(1, 5000)) TO STDOUT", 100),
    ("SELECT repeat('x', 2000) FROM generate_series(1, 90)", 51),
    ("SELECT repeat('x', 2000000)", 0),
]:
    c = Client()
    c.until(b"Z")
    c.send(query(sql))
    got = c.until()
    rows = [body for tag, body in got if tag in (b"D", b"d")]
    assert len(rows) <= most, (sql, len(rows))
    assert sum(len(body) for body in rows) <= 100 * 1024
    # In the middle of a value that is longer than any limit, nothing can be said.
    if most: assert told(got)[0] == "42501" and "limit" in told(got)[2], (sql, got[-2:])
# A hundred rows are a hundred rows, over all of a session.
c = Client()
c.until(b"Z")
for n in range(10):
    c.send(query("SELECT * FROM generate_series(1, 10)"))
    assert told(c.until(b"Z")) is None
c.send(query("SELECT 1"))
assert told(c.until(b"Z"))[0] == "42501"
"#,
        )
        .unwrap()
        .success()
        .unwrap();
    let last = world.last_session().unwrap();
    assert_eq!(last["counts"]["rows"], 100, "{last}");
    assert!(
        last["counts"]["reason"].as_str().unwrap().contains("100 rows"),
        "{last}"
    );
}

#[test]
fn a_managed_job_cannot_reach_the_control_socket_before_its_cgroup_is_classified_either() {
    let world = World::start(ALLOW_ALL).unwrap();
    let socket = world.agent.dir().join("run/control.sock");
    let mut status = world.program(&tollgate_tests::agent::binary().display().to_string());
    status.arg("status").arg("--config").arg(world.agent.config());
    let ended = job::run(&mut status).unwrap();
    assert_ne!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stderr.contains("managed cgroup"), "{ended:?}");
    assert!(socket.exists());
    world.agent.cli("status", &[]).unwrap();
}

#[test]
fn a_detached_program_is_shouted_about_and_shown() {
    let world = World::start(ALLOW_ALL).unwrap();
    let pins = world.agent.dir().join("pins");
    let link = std::fs::read_dir(&pins)
        .unwrap()
        .flatten()
        .map(|generation| generation.path().join("link_tollgate_connect4"))
        .find(|link| link.exists())
        .unwrap();
    std::fs::remove_file(&link).unwrap();
    eventually("the log to say so", LIMIT, || {
        world
            .agent
            .log()
            .contains("MANAGED CGROUPS MAY BE OPEN")
            .then_some(())
    })
    .unwrap();
    let status = world.agent.cli("status", &[]).unwrap();
    assert!(
        status.contains("may be open") && status.contains("connect4"),
        "{status}"
    );
    // Direct, with a password of its own: whoever runs jobs without the program has been warned.
    run(world.server.psql(ROLE, PASSWORD, "shop").args(["-c", "SELECT 1"])).unwrap();
}
