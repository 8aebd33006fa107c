//! Held commands wait for a person, and only for exactly what was shown.

use std::process::{Child, Stdio};
use std::time::Duration;

use tollgate_tests::process::eventually;
use tollgate_tests::world::World;

const LIMIT: Duration = Duration::from_secs(20);

fn rules(timeout: &str) -> String {
    format!(
        r#"
[[service.rule]]
name    = "reads"
effects = ["read", "transaction", "session", "write"]
verdict = "allow"

[[service.rule]]
name      = "deletes need a DBA"
effects   = ["delete"]
verdict   = "approve"
approvers = ["dba"]
timeout   = "{timeout}"
"#
    )
}

fn start(world: &World, sql: &str) -> Child {
    world
        .psql(&["-qAt", "-c", sql])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn holds(world: &World) -> Vec<serde_json::Value> {
    serde_json::from_str(&world.agent.cli("approvals", &["--json"]).unwrap()).unwrap()
}

fn wait_for_hold(world: &World) -> serde_json::Value {
    eventually("a hold", LIMIT, || holds(world).into_iter().next()).unwrap()
}

fn orders(world: &World) -> String {
    world
        .server
        .admin("shop", "SELECT count(*) FROM orders")
        .unwrap()
        .trim()
        .to_owned()
}

fn end(child: Child) -> (bool, String) {
    let output = child.wait_with_output().unwrap();
    (output.status.success(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn an_approved_command_runs_and_the_client_was_told_that_it_waits() {
    let world = World::start(&rules("1m")).unwrap();
    let child = start(&world, "DELETE FROM orders WHERE id = 1");
    let hold = wait_for_hold(&world);
    assert_eq!(orders(&world), "3");
    let text = hold.to_string();
    assert!(
        text.contains("DELETE FROM orders WHERE id = 1") && text.contains("delete"),
        "{text}"
    );
    let id = hold["id"].as_str().unwrap();
    world.agent.cli("approve", &[id]).unwrap();
    let (success, stderr) = end(child);
    assert!(
        success && stderr.contains("NOTICE") && stderr.contains(id),
        "{stderr}"
    );
    assert_eq!(orders(&world), "2");
}

#[test]
fn a_refused_command_does_not_run_and_the_reason_reaches_the_client() {
    let world = World::start(&rules("1m")).unwrap();
    let child = start(&world, "DELETE FROM orders");
    let hold = wait_for_hold(&world);
    world
        .agent
        .cli(
            "deny",
            &[hold["id"].as_str().unwrap(), "--reason", "not on a Friday"],
        )
        .unwrap();
    let (success, stderr) = end(child);
    assert!(!success && stderr.contains("not on a Friday"), "{stderr}");
    assert_eq!(orders(&world), "3");
}

#[test]
fn a_time_out_is_a_refusal() {
    let world = World::start(&rules("1s")).unwrap();
    let (success, stderr) = end(start(&world, "DELETE FROM orders"));
    assert!(!success && stderr.contains("within 1 s"), "{stderr}");
    assert_eq!(orders(&world), "3");
}

#[test]
fn the_client_can_cancel_a_held_command_and_go_on() {
    let world = World::start(&rules("1m")).unwrap();
    let script = r#"
import os, psycopg, threading, time
c = psycopg.connect(host="127.0.0.1", port=os.environ["PORT"], dbname=os.environ["DB"], autocommit=True)
c.add_notice_handler(lambda n: threading.Thread(target=c.cancel).start())
try:
    c.execute("DELETE FROM orders"); raise SystemExit("it ran")
except psycopg.Error as e:
    print(e.sqlstate)
print(c.execute("SELECT count(*) FROM orders").fetchone()[0])
"#;
    let output = world.python(script).unwrap().success().unwrap();
    assert_eq!(output, "57014\n3\n");
    assert!(holds(&world).is_empty());
}

#[test]
fn a_client_that_goes_away_takes_its_hold_with_it() {
    let world = World::start(&rules("1m")).unwrap();
    let mut child = start(&world, "DELETE FROM orders");
    let hold = wait_for_hold(&world);
    child.kill().unwrap();
    child.wait().unwrap();
    eventually("the hold to go", LIMIT, || holds(&world).is_empty().then_some(())).unwrap();
    assert!(
        world
            .agent
            .cli("approve", &[hold["id"].as_str().unwrap()])
            .is_err()
    );
    assert_eq!(orders(&world), "3");
}

#[test]
fn an_approval_is_for_these_bind_parameters_and_for_once() {
    let world = World::start(&rules("1m")).unwrap();
    let script = r#"
import os, psycopg
c = psycopg.connect(host="127.0.0.1", port=os.environ["PORT"], dbname=os.environ["DB"], autocommit=True)
for n in (1, 2):
    try:
        c.execute("DELETE FROM orders WHERE id = %s", (n,), prepare=True); print("ran", n)
    except psycopg.Error as e:
        print("refused", n)
"#;
    let mut command = world.program(&tollgate_tests::driver::python().display().to_string());
    command
        .args(["-c", script])
        .env("PORT", world.server.port().to_string())
        .env("DB", "shop");
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let first = wait_for_hold(&world);
    assert!(first["parameters"].to_string().contains('1'), "{first}");
    let first_id = first["id"].as_str().unwrap().to_owned();
    world.agent.cli("approve", &[&first_id]).unwrap();
    let second = eventually("another hold", LIMIT, || {
        holds(&world)
            .into_iter()
            .find(|hold| hold["id"].as_str() != Some(&first_id))
    })
    .unwrap();
    assert_ne!(
        first["binding"], second["binding"],
        "two different parameters, one binding"
    );
    // What was approved for the first is not accepted for the second.
    let wrong = first["binding"].as_str().unwrap();
    let second_id = second["id"].as_str().unwrap();
    assert!(
        world
            .agent
            .cli("approve", &[second_id, "--binding", wrong])
            .is_err()
    );
    world.agent.cli("deny", &[second_id, "--reason", "no"]).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "ran 1\nrefused 2\n");
    assert_eq!(orders(&world), "2");
}

#[test]
fn a_managed_process_cannot_approve_not_even_as_root() {
    let world = World::start(&rules("1m")).unwrap();
    let child = start(&world, "DELETE FROM orders");
    let hold = wait_for_hold(&world);
    let mut approve = world.program(&tollgate_tests::agent::binary().display().to_string());
    approve
        .arg("approve")
        .arg("--config")
        .arg(world.agent.config())
        .arg(hold["id"].as_str().unwrap());
    let ended = tollgate_tests::job::run(&mut approve).unwrap();
    assert_ne!(
        ended.code,
        Some(0),
        "a root job approved itself: {}",
        ended.stdout
    );
    assert_eq!(orders(&world), "3");
    world
        .agent
        .cli("deny", &[hold["id"].as_str().unwrap(), "--reason", "end of test"])
        .unwrap();
    end(child);
}

#[test]
fn a_transaction_that_has_written_is_not_made_to_wait() {
    let world = World::start(&rules("1m")).unwrap();
    let mut psql = world.psql(&["-qAt"]);
    psql.args([
        "-c",
        "BEGIN",
        "-c",
        "INSERT INTO orders VALUES (9, 1, 1)",
        "-c",
        "DELETE FROM orders",
        "-c",
        "ROLLBACK",
    ]);
    let ended = tollgate_tests::job::run_within(&mut psql, LIMIT).unwrap();
    assert!(ended.stderr.contains("already written"), "{}", ended.stderr);
}
