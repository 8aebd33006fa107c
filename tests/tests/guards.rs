//! What stands guard besides the rules: limits, the control socket, the links of the programs.

use std::time::Duration;

use tollgate_tests::job;
use tollgate_tests::process::{eventually, run};
use tollgate_tests::world::{ALLOW_ALL, PASSWORD, ROLE, World};

const LIMIT: Duration = Duration::from_secs(30);

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
