//! A database's unix socket: through the proxy by its path, and not around it by another.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use tollgate_tests::job::{self, NOBODY};
use tollgate_tests::process::run;
use tollgate_tests::world::{ALLOW_ALL, DATABASE, World};

const LIMIT: Duration = Duration::from_secs(30);

/// A world whose service names the server's unix socket; and the socket's directory.
fn world(rules: &str) -> (World, PathBuf) {
    let mut world = World::start(rules).unwrap();
    let directory = world.server.dir().to_owned();
    let path = socket(&directory, &world);
    world
        .change_policy(|text| text.replace("\naddress  =", &format!("\nunix     = [\"{path}\"]\naddress  =")))
        .unwrap();
    (world, directory)
}

fn socket(directory: &std::path::Path, world: &World) -> String {
    format!("{}/.s.PGSQL.{}", directory.display(), world.address.port())
}

/// `psql` in the managed cgroup, by way of the socket in `directory`.
fn psql(world: &World, directory: &str, sql: &str) -> job::Ended {
    let mut command = job::command(&world.job, NOBODY, "psql");
    command.args([
        "-X",
        "-h",
        directory,
        "-p",
        &world.address.port().to_string(),
        "-d",
        DATABASE,
    ]);
    job::run_within(command.args(["-qAt", "-c", sql]), LIMIT).unwrap()
}

#[test]
fn a_real_client_on_a_unix_socket_is_judged_masked_recorded_and_replayable() {
    let rules = r#"
[[service.mask]]
columns = ["customers.email"]
with    = "redact"

[[service.rule]]
name    = "reads"
effects = ["read", "session"]
verdict = "allow"
"#;
    let (world, directory) = world(rules);
    let at = directory.display().to_string();
    let read = psql(&world, &at, "SELECT name, email FROM customers WHERE id = 1")
        .success()
        .unwrap();
    assert!(read.starts_with("Ada|") && !read.contains("ada@"), "{read}");
    let last = world.last_session().unwrap();
    assert_eq!(
        last["open"]["original_destination"],
        format!("unix:{}", socket(&directory, &world))
    );
    assert!(
        last["open"]["client"].as_str().unwrap().starts_with("unix:pid "),
        "{last}"
    );

    let refused = psql(&world, &at, "DELETE FROM orders");
    assert_ne!(refused.code, Some(0));
    assert!(refused.stderr.contains("tollgate"), "{}", refused.stderr);
    assert_eq!(
        world
            .server
            .admin(DATABASE, "SELECT count(*) FROM orders")
            .unwrap()
            .trim(),
        "3"
    );

    let last = world.last_session().unwrap();
    let id = last["open"]["session"].as_str().unwrap();
    let replayed = world.agent.cli("replay", &[id, "--speed", "max"]).unwrap();
    assert!(replayed.contains("DELETE FROM orders"), "{replayed}");
    world.agent.cli("verify", &[id]).unwrap();
}

#[test]
fn a_service_on_a_unix_socket_alone_is_protected() {
    let (mut world, directory) = world(ALLOW_ALL);
    world
        .change_policy(|text| {
            text.lines()
                .filter(|line| !line.starts_with("address"))
                .collect::<Vec<_>>()
                .join("\n")
        })
        .unwrap();
    let user = psql(&world, &directory.display().to_string(), "SELECT session_user")
        .success()
        .unwrap();
    assert_eq!(user.trim(), tollgate_tests::world::ROLE);
}

#[test]
fn other_ways_to_a_protected_unix_socket_are_refused_and_other_sockets_are_not() {
    let (world, directory) = world(ALLOW_ALL);
    let at = directory.display().to_string();
    let name = directory.file_name().unwrap().to_str().unwrap();
    let links = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(&directory, links.path().join("link")).unwrap();
    run(Command::new("chmod").arg("755").arg(links.path())).unwrap();
    for spelled in [
        format!("{at}/../{name}"),
        format!("{at}/"),
        format!("{}/link", links.path().display()),
    ] {
        let refused = psql(&world, &spelled, "SELECT 1");
        assert_ne!(refused.code, Some(0), "{spelled}");
        assert!(
            refused.stderr.contains("Operation not permitted"),
            "{spelled}: {}",
            refused.stderr
        );
    }
    assert!(
        world
            .agent
            .cli("status", &[])
            .unwrap()
            .contains("stopped by connect_unix")
    );
    // Whoever is not managed gets the server itself, by any spelling.
    let direct = Command::new("psql")
        .args([
            "-X",
            "-h",
            &format!("{at}/"),
            "-p",
            &world.address.port().to_string(),
            "-U",
            "postgres",
        ])
        .args(["-d", DATABASE, "-qAt", "-c", "SELECT session_user"])
        .env("PGPASSWORD", tollgate_tests::postgres::ADMIN_PASSWORD)
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8_lossy(&direct.stdout).trim(),
        "postgres",
        "{direct:?}"
    );
}

#[test]
fn a_killed_agent_leaves_unix_sockets_closed_and_its_successor_serves_them_again() {
    let (mut world, directory) = world(ALLOW_ALL);
    let at = directory.display().to_string();
    psql(&world, &at, "SELECT 1").success().unwrap();
    world.agent.kill().unwrap();
    let refused = psql(&world, &at, "SELECT 1");
    assert_ne!(refused.code, Some(0));
    assert!(
        refused.stderr.contains("Connection refused"),
        "{}",
        refused.stderr
    );
    world.agent.resume().unwrap();
    assert_eq!(psql(&world, &at, "SELECT 1").success().unwrap().trim(), "1");
}

#[test]
fn a_cancel_on_a_unix_socket_reaches_the_server() {
    let (world, directory) = world(ALLOW_ALL);
    let script = format!(
        r#"
import os, threading, psycopg
c = psycopg.connect(host="{}", port=os.environ["PORT"], dbname=os.environ["DB"], autocommit=True)
threading.Timer(0.3, c.cancel).start()
try:
    c.execute("SELECT pg_sleep(20)")
    print("slept")
except psycopg.errors.QueryCanceled:
    print("cancelled", c.execute("SELECT 1").fetchone()[0])
"#,
        directory.display()
    );
    assert_eq!(
        world.python(&script).unwrap().success().unwrap().trim(),
        "cancelled 1"
    );
}
