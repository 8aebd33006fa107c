//! A session under faults and at its end: no peer is left waiting, each is told what the protocol has words
//! for, and the record has how it ended.

use std::process::Child;
use std::time::{Duration, Instant};

use tollgate_tests::faulty::Fault;
use tollgate_tests::process::eventually;
use tollgate_tests::script::{ended, serves, started};
use tollgate_tests::world::{ALLOW_ALL, ROLE, World};

const LIMIT: Duration = Duration::from_secs(30);

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
    assert!(log.contains("finding.new"), "{log}");
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
