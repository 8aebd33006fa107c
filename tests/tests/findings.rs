//! Secrets that a job still has of its own are found, told and listed; and are nowhere afterwards.

use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command};
use std::time::Duration;

use serde_json::Value;
use tollgate_tests::job::{self, Ended};
use tollgate_tests::process::eventually;
use tollgate_tests::world::{ALLOW_ALL, World};

const LIMIT: Duration = Duration::from_secs(30);
/// What jobs have. It opens nothing.
const OWN: &str = "own-password-77e2";

/// A world with these lines under `[findings]`.
fn world(lines: &str) -> World {
    World::start(&format!("{ALLOW_ALL}\n[findings]\n{lines}\n")).unwrap()
}

fn run(command: &mut Command) -> Ended {
    job::run_within(command, LIMIT).unwrap()
}

/// `psql` that has a password, if it is asked for one.
fn psql_with(world: &World, password: &str) -> Command {
    let mut psql = world.psql(&["-qAt", "-c", "SELECT 1"]);
    psql.env("PGPASSWORD", password);
    psql
}

fn list(world: &World) -> Vec<Value> {
    let json = world.agent.cli("findings", &["list", "--json"]).unwrap();
    serde_json::from_str(&json).unwrap()
}

/// Fails if a secret of a job's is anywhere that the agent writes to.
fn nowhere(world: &World, secret: &str) {
    let mut places = vec![
        ("log".to_owned(), world.agent.log().into_bytes()),
        (
            "list".to_owned(),
            world.agent.cli("findings", &["list"]).unwrap().into_bytes(),
        ),
    ];
    for session in world.sessions().unwrap() {
        let id = session["session"].as_str().unwrap().to_owned();
        let shown = world.agent.cli("replay", &[&id, "--json"]).unwrap();
        places.push((id, shown.into_bytes()));
    }
    let mut folders = vec![world.agent.dir().join("state"), world.agent.dir().join("run")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.is_file() {
                places.push((
                    path.display().to_string(),
                    std::fs::read(&path).unwrap_or_default(),
                ));
            }
        }
    }
    assert!(places.len() > 4);
    for (place, bytes) in places {
        assert!(
            memchr::memmem::find(&bytes, secret.as_bytes()).is_none(),
            "it is in {place}"
        );
    }
}

#[test]
fn a_job_that_still_has_a_password_is_found_when_it_is_asked() {
    let mut world = world("probe = \"password\"");
    assert_eq!(run(&mut psql_with(&world, OWN)).success().unwrap(), "1\n");
    let found = list(&world);
    let [finding] = found.as_slice() else {
        panic!("{found:?}")
    };
    for (key, value) in [
        ("kind", "password"),
        ("workload", "test-job"),
        ("service", "shop"),
        ("protocol", "postgres"),
    ] {
        assert_eq!(finding[key], value, "{finding}");
    }
    assert_eq!(finding["at"]["login"]["user"], "nobody", "{finding}");
    assert_eq!(finding["count"], 1, "{finding}");
    assert!(
        finding["executable"].as_str().unwrap().ends_with("psql"),
        "{finding}"
    );
    assert_eq!(finding["cgroup"], world.job.path(), "{finding}");
    assert_eq!(finding["fingerprint"].as_str().unwrap().len(), 32, "{finding}");
    let log = world.agent.log();
    let id = finding["id"].as_str().unwrap();
    assert!(log.contains("finding.new") && log.contains(id), "{log}");
    assert!(
        world
            .agent
            .cli("status", &[])
            .unwrap()
            .contains("1 secret of a workload")
    );
    let session = finding["session"].as_str().unwrap();
    let shown = world.agent.cli("replay", &[session]).unwrap();
    assert!(
        shown.contains("a secret of its own: password, login as nobody") && shown.contains(id),
        "{shown}"
    );

    // Again, and with another one; over a restart, and over the end of an agent that could not say good-bye.
    run(&mut psql_with(&world, OWN)).success().unwrap();
    world.agent.stop().unwrap();
    world.agent.resume().unwrap();
    run(&mut psql_with(&world, "another-4410")).success().unwrap();
    eventually("the list to be written", LIMIT, || {
        let kept = std::fs::read_to_string(world.agent.dir().join("state/findings.json")).ok()?;
        (kept.matches("\"fingerprint\"").count() == 2).then_some(())
    })
    .unwrap();
    world.agent.kill().unwrap();
    world.agent.resume().unwrap();
    let found = list(&world);
    let counts: Vec<_> = found
        .iter()
        .map(|found| (found["id"] == finding["id"], &found["count"]))
        .collect();
    assert_eq!(
        counts,
        [(false, &Value::from(1)), (true, &Value::from(2))],
        "{found:?}"
    );
    assert_ne!(found[0]["fingerprint"], found[1]["fingerprint"]);
    nowhere(&world, OWN);
    nowhere(&world, "another-4410");

    // Forgotten, it comes back.
    let workload = |name: &str| {
        world
            .agent
            .cli("findings", &["list", "--workload", name])
            .unwrap()
    };
    assert!(workload("test-job").contains(id));
    assert!(workload("nobody-else").starts_with("No workload"));
    world.agent.cli("findings", &["forget", id]).unwrap();
    assert_eq!(list(&world).len(), 1);
    let unknown = world
        .agent
        .tollgate("findings")
        .args(["forget", id])
        .output()
        .unwrap();
    assert_eq!(unknown.status.code(), Some(1), "{unknown:?}");
    run(&mut psql_with(&world, OWN)).success().unwrap();
    assert_eq!(list(&world)[0]["id"], finding["id"]);
}

#[test]
fn a_job_without_a_password_gets_in_the_second_time_and_is_no_finding() {
    let world = world("probe = \"password\"");
    let psql = || run(&mut world.psql(&["-w", "-qAt", "-c", "SELECT 1"]));
    let first = psql();
    assert_ne!(first.code, Some(0), "{first:?}");
    assert!(first.stderr.contains("no password supplied"), "{first:?}");
    for _ in 0..2 {
        assert_eq!(psql().success().unwrap(), "1\n");
    }
    assert_eq!(list(&world), [Value::Null; 0]);
    let shown = world.sessions().unwrap();
    let reason = shown[0]["counts"]["reason"].as_str().unwrap();
    assert!(reason.contains("asked for a password of its own"), "{reason}");
    // Somebody else of the same job is asked.
    run(psql_with(&world, OWN).env("PGUSER", "other"))
        .success()
        .unwrap();
    assert_eq!(list(&world).len(), 1);
}

#[test]
fn a_job_proves_that_it_has_a_password_and_keeps_it() {
    let world = world("probe = \"proof\"");
    for password in [OWN, OWN, "another-4410"] {
        run(&mut psql_with(&world, password)).success().unwrap();
    }
    let found = list(&world);
    let counts: Vec<_> = found.iter().map(|found| &found["count"]).collect();
    assert_eq!(counts, [1, 2], "{found:?}");
    assert!(
        found.iter().all(|found| found["kind"] == "password-proof"),
        "{found:?}"
    );
    assert_ne!(found[0]["fingerprint"], found[1]["fingerprint"]);
    nowhere(&world, OWN);
}

#[test]
fn what_clients_answer_when_they_are_asked_decides_nothing_and_breaks_nothing() {
    let world = world("probe = \"password\"");
    // Not on the command line, which the record shows.
    let mut script = world.script(
        r#"
from wire import *
early, late = os.environ["EARLY"].encode() + b"\0", os.environ["LATE"].encode() + b"\0"

def rows(got): return [body for tag, body in got if tag == b"D"]

# The password in the packet of the start-up message, and a query behind it; whole, and byte by byte.
c = Client(startup() + message(b"p", early) + query("SELECT 'in'"))
got = c.until(b"Z") + c.until(b"Z")
assert got[0] == (b"R", b"\0\0\0\x03") and got[1] == (b"R", b"\0\0\0\0"), got[:2]
assert b"in" in rows(got)[0]
c = Client(startup())
for byte in message(b"p", late): c.send(bytes([byte]))
c.until(b"Z")
# An empty one is none, and its session goes on.
c = Client(startup() + message(b"p", b"\0"))
c.until(b"Z")
"#,
    );
    run(script.env("EARLY", "early-secret").env("LATE", "late-secret"))
        .success()
        .unwrap();
    assert_eq!(list(&world).len(), 2);
    for secret in ["early-secret", "late-secret"] {
        nowhere(&world, secret);
    }
    for (answer, code) in [
        ("query('SELECT 1')", "08P01"),
        ("message(b'p', b'x' * 61440)", "08P01"),
    ] {
        let script = format!(
            "from wire import *\nc = Client(startup(user='u{code}{len}'))\nc.send({answer})\ngot = c.until()\nassert told(got)[0] == '{code}', got",
            len = answer.len()
        );
        world.python(&script).unwrap().success().unwrap();
    }
}

#[test]
fn secrets_of_a_process_are_found_where_the_policy_has_them_looked_for() {
    let world = world("environment = true\ncommand_line = true\nignore = [\"CI_*\"]");
    let own = format!("postgres://nobody:{OWN}@{}/shop", world.address);
    let mut psql = world.psql(&["-qAt", "-c", "SELECT 1"]);
    psql.args(["-d", &own])
        .env("DEPLOY_TOKEN", "deploy-token-51aa")
        .env("CI_JOB_TOKEN", "ignored-token-51aa")
        .env("DATABASE_URL", &own);
    run(&mut psql).success().unwrap();
    let found = list(&world);
    let mut places: Vec<String> = found
        .iter()
        .map(|found| format!("{} {} {}", found["kind"], found["at"], found["service"]))
        .collect();
    places.sort();
    assert_eq!(
        places,
        [
            r#""password" {"argument":{"number":12}} null"#,
            r#""password" {"variable":{"name":"DATABASE_URL"}} null"#,
            r#""token" {"variable":{"name":"DEPLOY_TOKEN"}} null"#,
        ],
        "{found:?}"
    );
    let of = |kind: &str| -> Vec<&Value> {
        found
            .iter()
            .filter(|found| found["kind"] == kind)
            .map(|found| &found["fingerprint"])
            .collect()
    };
    // The same password is seen to be the same.
    assert_eq!(of("password")[0], of("password")[1]);
    assert_ne!(of("password")[0], of("token")[0]);
    for secret in [OWN, "deploy-token-51aa", "ignored-token-51aa"] {
        nowhere(&world, secret);
    }
}

/// A process that runs until this is dropped.
struct Running(Child);

impl Running {
    fn start(command: &mut Command) -> Self {
        Self(command.spawn().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[test]
fn a_process_that_never_opens_a_session_is_looked_at_where_the_policy_says_how_often() {
    let world = world("environment = true\ncommand_line = true\ninterval = \"1s\"");
    let variable = |name: &str| {
        let wanted = serde_json::json!({ "variable": { "name": name } });
        list(&world).into_iter().find(|found| found["at"] == wanted)
    };
    let (go, gone) = (world.agent.dir().join("go"), "then-token-51aa");
    // It has one secret from its beginning, and another one when it has become another program.
    let script = format!(
        "while [ ! -e {} ]; do sleep 0.1; done; exec env THEN_TOKEN={gone} sleep 600",
        go.display()
    );
    std::fs::set_permissions(world.agent.dir(), PermissionsExt::from_mode(0o755)).unwrap();
    let mut shell = world.program("sh");
    shell.args(["-c", &script]).env("IDLE_TOKEN", "idle-token-51aa");
    let _running = Running::start(&mut shell);
    let idle = eventually("the process to be found", LIMIT, || variable("IDLE_TOKEN")).unwrap();
    for (key, value) in [("kind", "token"), ("workload", "test-job")] {
        assert_eq!(idle[key], value, "{idle}");
    }
    for key in ["session", "service", "protocol"] {
        assert_eq!(idle[key], Value::Null, "{idle}");
    }
    assert_eq!(idle["cgroup"], world.job.path(), "{idle}");
    assert_eq!(
        idle["identity"],
        idle["uid"].as_u64().map(|uid| format!("uid {uid}")).unwrap()
    );
    assert!(world.sessions().unwrap().is_empty());
    assert!(variable("THEN_TOKEN").is_none());

    std::fs::write(&go, "").unwrap();
    let then = eventually("the program to be found that it executed", LIMIT, || {
        variable("THEN_TOKEN")
    })
    .unwrap();
    assert!(then["executable"].as_str().unwrap().ends_with("sleep"), "{then}");
    // What it had before it still has: seen again, with the new program.
    let seen = |name: &str| variable(name).unwrap()["count"].as_u64().unwrap();
    let before = (seen("IDLE_TOKEN"), seen("THEN_TOKEN"));
    // A second process, which is found by a later round. By then nothing that was looked at was looked at again.
    let mut late = world.program("sleep");
    late.arg("600").env("LATE_TOKEN", "late-token-51aa");
    let _late = Running::start(&mut late);
    eventually("the later process to be found", LIMIT, || variable("LATE_TOKEN")).unwrap();
    assert_eq!((seen("IDLE_TOKEN"), seen("THEN_TOKEN")), before);
    // A process that is under no policy is nobody's business.
    let mut other = Command::new("sleep");
    let _other = Running::start(other.arg("600").env("OTHER_TOKEN", "other-token-51aa"));
    let mut last = world.program("sleep");
    let _last = Running::start(last.arg("600").env("LAST_TOKEN", "last-token-51aa"));
    eventually("the last process to be found", LIMIT, || variable("LAST_TOKEN")).unwrap();
    assert!(variable("OTHER_TOKEN").is_none());
    for secret in ["idle-token-51aa", gone, "late-token-51aa"] {
        nowhere(&world, secret);
    }
}

#[test]
fn nothing_is_asked_or_looked_at_that_the_policy_does_not_name() {
    let world = World::start(ALLOW_ALL).unwrap();
    let mut idle = world.program("sleep");
    let _idle = Running::start(idle.arg("600").env("IDLE_TOKEN", "idle-token-51aa"));
    let mut psql = psql_with(&world, OWN);
    psql.args([
        "-d",
        &format!("host={} dbname=shop password={OWN}", world.address.ip()),
    ]);
    run(&mut psql).success().unwrap();
    assert_eq!(list(&world), [Value::Null; 0]);
    let status = world.agent.cli("status", &["--json"]).unwrap();
    let status: Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["findings"], 0);
}

#[test]
fn a_managed_job_can_neither_see_nor_forget_findings() {
    let world = world("probe = \"password\"");
    run(&mut psql_with(&world, OWN)).success().unwrap();
    let id = list(&world)[0]["id"].as_str().unwrap().to_owned();
    for arguments in [&["list"][..], &["forget", &id]] {
        let mut tollgate = world.program(&tollgate_tests::agent::binary().display().to_string());
        tollgate
            .arg("findings")
            .args(arguments)
            .arg("--config")
            .arg(world.agent.config());
        let ended = run(&mut tollgate);
        assert_ne!(ended.code, Some(0), "{ended:?}");
        assert!(!ended.stdout.contains("nobody"), "{ended:?}");
    }
    assert_eq!(list(&world).len(), 1);
}
