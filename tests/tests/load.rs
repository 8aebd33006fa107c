//! Much at once: pipelines and results larger than every buffer, many sessions at a time.

use std::time::{Duration, Instant};

use tollgate_tests::postgres::Options;
use tollgate_tests::process::eventually;
use tollgate_tests::script::{ended, serves, started};
use tollgate_tests::world::{ALLOW_ALL, World};

const LIMIT: Duration = Duration::from_secs(30);

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
