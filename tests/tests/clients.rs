//! Real clients see the protocol that they know.

use std::time::Duration;

use tollgate_tests::job;
use tollgate_tests::postgres::Options;
use tollgate_tests::world::{ALLOW_ALL, PASSWORD, ROLE, World};

const LIMIT: Duration = Duration::from_mins(1);

#[test]
fn psql_logs_in_without_any_secret_and_its_own_commands_work() {
    let world = World::start(ALLOW_ALL).unwrap();
    assert_eq!(
        world
            .sql("SELECT name FROM customers ORDER BY id")
            .unwrap()
            .success()
            .unwrap(),
        "Ada\nGrace\nEdsger\n"
    );
    for command in [
        "\\d",
        "\\d customers",
        "\\dt+",
        "\\l",
        "\\df",
        "\\dn+",
        "\\du",
        "\\conninfo",
    ] {
        let ended = job::run_within(&mut world.psql(&["-c", command]), LIMIT).unwrap();
        assert_eq!(ended.code, Some(0), "{command}: {}", ended.stderr);
        assert!(!ended.stderr.contains("tollgate"), "{command}: {}", ended.stderr);
    }
}

#[test]
fn psql_over_tls_is_shown_a_certificate_of_the_local_authority() {
    let world = World::with(
        ALLOW_ALL,
        Options {
            tls: true,
            ..Options::default()
        },
        "{ upstream = \"verify-full\", ca = \"{ca}\", server_name = \"db.acme.test\" }",
    )
    .unwrap();
    let ca = world.agent.dir().join("state/ca/ca.pem");
    let readable = world.server.dir().join("tollgate-ca.pem");
    std::fs::copy(&ca, &readable).unwrap();
    let mut psql = world.psql(&[
        "-qAt",
        "-c",
        "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()",
    ]);
    psql.env("PGSSLMODE", "verify-full")
        .env("PGSSLROOTCERT", &readable);
    assert_eq!(
        job::run_within(&mut psql, LIMIT).unwrap().success().unwrap(),
        "t\n"
    );
}

#[test]
fn md5_servers_are_logged_in_to() {
    let world = World::with(
        ALLOW_ALL,
        Options {
            md5: true,
            ..Options::default()
        },
        "{ upstream = \"disable\" }",
    )
    .unwrap();
    assert_eq!(world.sql("SELECT 1").unwrap().success().unwrap(), "1\n");
}

#[test]
fn a_dump_made_through_the_proxy_is_the_dump_made_directly() {
    let world = World::start(ALLOW_ALL).unwrap();
    let port = world.server.port().to_string();
    let tables = ["-t", "customers", "-t", "orders", "-t", "mailing"];
    let mut through = job::command(&world.job, "nobody", "pg_dump");
    through
        .args(["-h", "127.0.0.1", "-p", &port, "-d", "shop"])
        .args(tables);
    let through = job::run_within(&mut through, LIMIT).unwrap().success().unwrap();
    let mut direct = std::process::Command::new("pg_dump");
    direct
        .args(["-h", "127.0.0.1", "-p", &port, "-U", ROLE, "-d", "shop"])
        .args(tables)
        .env("PGPASSWORD", PASSWORD);
    let direct = tollgate_tests::process::run(&mut direct).unwrap();
    let lines = |dump: &str| {
        dump.lines()
            .filter(|line| !line.starts_with('\\') || *line == "\\.")
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(lines(&through), lines(&direct));
    assert!(through.contains("ada@acme.test"));
}

#[test]
fn pgbench_runs_in_every_mode() {
    let world = World::start(ALLOW_ALL).unwrap();
    let pgbench = |args: &[&str]| {
        let mut command = job::command(&world.job, "nobody", "pgbench");
        command
            .args(["-h", "127.0.0.1", "-p", &world.server.port().to_string()])
            .args(args)
            .arg("shop");
        job::run_within(&mut command, LIMIT).unwrap().success().unwrap()
    };
    pgbench(&["-i", "-s", "1", "-q"]);
    for mode in ["simple", "extended", "prepared"] {
        let report = pgbench(&["-n", "-M", mode, "-c", "4", "-j", "2", "-t", "50"]);
        assert!(
            report.contains("number of transactions actually processed: 200/200"),
            "{mode}: {report}"
        );
        assert!(
            report.contains("number of failed transactions: 0"),
            "{mode}: {report}"
        );
    }
}

#[test]
fn a_driver_pipelines_prepares_copies_and_is_notified() {
    let world = World::start(ALLOW_ALL).unwrap();
    let script = r#"
import os, psycopg
c = psycopg.connect(host="127.0.0.1", port=os.environ["PORT"], dbname=os.environ["DB"], autocommit=True)
for _ in range(8):
    assert c.execute("SELECT id, total FROM orders WHERE id = %s", (2,), prepare=True).fetchone()[0] == 2
with c.pipeline():
    got = [c.execute("SELECT %s::int + 1", (n,)) for n in range(50)]
assert [g.fetchone()[0] for g in got] == list(range(1, 51))
c.execute("CREATE TEMP TABLE t (a int, b text)")
with c.cursor().copy("COPY t FROM STDIN") as copy:
    for n in range(1000):
        copy.write_row((n, "row %d" % n))
with c.cursor().copy("COPY t TO STDOUT") as copy:
    assert len(list(copy.rows())) == 1000
with c.cursor(binary=True) as cur:
    assert cur.execute("SELECT a, b FROM t WHERE a = %b", (7,)).fetchone() == (7, "row 7")
c.execute("LISTEN ch"); c.execute("NOTIFY ch, 'hello'")
assert next(c.notifies(timeout=5, stop_after=1)).payload == "hello"
with c.transaction():
    with c.cursor(name="named") as cur:
        cur.execute("SELECT a FROM t ORDER BY a"); cur.itersize = 100
        assert sum(1 for _ in cur) == 1000
try:
    c.execute("SELECT 1/0"); raise SystemExit("no error")
except psycopg.errors.DivisionByZero:
    pass
assert c.execute("SELECT 'still here'").fetchone()[0] == "still here"
print("ok")
"#;
    assert_eq!(world.python(script).unwrap().success().unwrap(), "ok\n");
}
