//! Bad input: one clear sentence, and only what must end ends.

use std::process::Command;
use std::time::Duration;

use tollgate_tests::agent::{Agent, binary};
use tollgate_tests::job;
use tollgate_tests::policy::Policy;
use tollgate_tests::process::run;
use tollgate_tests::world::{ALLOW_ALL, PASSWORD, ROLE, World};

const LIMIT: Duration = Duration::from_secs(30);

/// Sends raw bytes to the service from inside the managed cgroup and prints what comes back.
fn raw(world: &World, bytes: &str) -> String {
    let script = format!(
        "import os, socket\n\
         s = socket.create_connection(('127.0.0.1', int(os.environ['PORT'])))\n\
         s.settimeout(20)\n\
         s.sendall({bytes})\n\
         s.shutdown(socket.SHUT_WR)\n\
         out = b''\n\
         try:\n\
         \x20   while True:\n\
         \x20       piece = s.recv(65536)\n\
         \x20       if not piece: break\n\
         \x20       out += piece\n\
         except ConnectionResetError: pass\n\
         print(out)\n"
    );
    world.python(&script).unwrap().success().unwrap()
}

#[test]
fn broken_bytes_are_refused_and_the_next_client_is_served() {
    let world = World::start(ALLOW_ALL).unwrap();
    let login = "b'\\0\\0\\0\\x1a\\0\\3\\0\\0user\\0x\\0database\\0' + b'shop\\0\\0'";
    let login = login.replace("\\x1a", "\\x21");
    for (what, bytes) in [
        ("HTTP", "b'GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n'".to_owned()),
        ("SSH", "b'SSH-2.0-OpenSSH_9.2\\r\\n'".to_owned()),
        (
            "a truncated startup packet",
            "b'\\0\\0\\0\\x40\\0\\3\\0\\0user'".to_owned(),
        ),
        (
            "a startup packet of 2 GB",
            "b'\\x7f\\xff\\xff\\xff\\0\\3\\0\\0'".to_owned(),
        ),
        (
            "a startup packet of -1",
            "b'\\xff\\xff\\xff\\xff\\0\\3\\0\\0'".to_owned(),
        ),
        ("nothing", "b''".to_owned()),
        (
            "a message of 2 GB",
            format!("{login} + b'Q\\x7f\\xff\\xff\\xffSELECT'"),
        ),
        (
            "a message of -1",
            format!("{login} + b'Q\\xff\\xff\\xff\\xffSELECT'"),
        ),
        ("an unknown message", format!("{login} + b'!\\0\\0\\0\\4'")),
    ] {
        let answer = raw(&world, &bytes);
        assert!(!answer.contains("SELECT"), "{what}: {answer}");
        assert_eq!(
            world.sql("SELECT 1").unwrap().success().unwrap(),
            "1\n",
            "after {what}"
        );
    }
    let log = world.agent.log();
    assert!(!log.contains("panicked"), "{log}");
}

#[test]
fn an_unreachable_server_is_said_to_be_unreachable() {
    let mut world = World::start(ALLOW_ALL).unwrap();
    world.server.crash().unwrap();
    let ended = world.sql("SELECT 1").unwrap();
    assert!(
        ended.stderr.contains("tollgate") && ended.stderr.contains("reach"),
        "{}",
        ended.stderr
    );
    world.server.resume().unwrap();
    assert_eq!(world.sql("SELECT 1").unwrap().success().unwrap(), "1\n");
}

#[test]
fn a_wrong_injected_password_is_told_without_the_login() {
    let world = World::start(ALLOW_ALL).unwrap();
    world
        .server
        .admin("postgres", &format!("ALTER ROLE {ROLE} PASSWORD 'another'"))
        .unwrap();
    let ended = world.sql("SELECT 1").unwrap();
    assert!(
        ended.stderr.contains("shop") && ended.stderr.contains("tollgate"),
        "{}",
        ended.stderr
    );
    assert!(
        !ended.stderr.contains(ROLE) && !ended.stderr.contains(PASSWORD),
        "{}",
        ended.stderr
    );
}

#[test]
fn a_server_that_dies_in_the_middle_of_a_result_ends_that_session_alone() {
    let mut world = World::start(ALLOW_ALL).unwrap();
    let mut child = world
        .psql(&["-qAt", "-c", "SELECT pg_sleep(20)"])
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    tollgate_tests::process::eventually("the statement to run", LIMIT, || {
        (world.server.admin("shop", "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(20)%' AND pid <> pg_backend_pid()").ok()?.trim() == "1").then_some(())
    })
    .unwrap();
    world.server.crash().unwrap();
    let status = child.wait().unwrap();
    assert!(!status.success());
    world.server.resume().unwrap();
    assert_eq!(world.sql("SELECT 1").unwrap().success().unwrap(), "1\n");
    world.agent.cli("verify", &[]).unwrap();
}

#[test]
fn a_client_that_stops_reading_holds_no_memory_and_no_other_client_up() {
    let world = World::start(ALLOW_ALL).unwrap();
    let script = r#"
import os, socket, struct, subprocess, sys, time
s = socket.create_connection(("127.0.0.1", int(os.environ["PORT"])))
p = b"user\0x\0database\0" + os.environ["DB"].encode() + b"\0\0"
s.sendall(struct.pack("!ii", 8 + len(p), 196608) + p)
q = b"SELECT repeat('x', 1000) FROM generate_series(1, 1000000)\0"
s.sendall(b"Q" + struct.pack("!i", 4 + len(q)) + q)
print("stopped", flush=True)
sys.stdin.read()
"#;
    let mut command = world.program(&tollgate_tests::driver::python().display().to_string());
    command
        .args(["-c", script])
        .env("PORT", world.server.port().to_string())
        .env("DB", "shop");
    command
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut line = [0; 8];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut line).unwrap();
    for _ in 0..20 {
        assert_eq!(world.sql("SELECT 1").unwrap().success().unwrap(), "1\n");
    }
    let status = std::fs::read_to_string(format!("/proc/{}/status", world.agent.pid())).unwrap();
    let anonymous = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))
        .unwrap();
    let kib: u64 = anonymous.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(kib < 64 * 1024, "{kib} KiB");
    drop(child.stdin.take());
    child.wait().unwrap();
}

#[test]
fn a_malformed_policy_stops_the_start_with_file_and_line() {
    let agent = Agent::prepare(&[(
        "broken",
        Policy::from_text("[workload]\nname = \"x\"\ncgruop = [\"/x\"]\n"),
    )])
    .unwrap();
    let output = Command::new(binary())
        .arg("agent")
        .arg("--config")
        .arg(agent.config())
        .output()
        .unwrap();
    assert!(!output.status.success());
    let words = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    for part in ["broken.toml:3", "cgruop", "cgroup"] {
        assert!(words.contains(part), "no {part:?} in:\n{words}");
    }
    let check = agent
        .tollgate("policy")
        .arg("check")
        .arg(agent.dir().join("policies.d/broken.toml"))
        .output()
        .unwrap();
    assert_eq!(check.status.code(), Some(1), "{check:?}");
}

#[test]
fn an_agent_started_twice_says_that_one_runs_already() {
    let world = World::start(ALLOW_ALL).unwrap();
    let output = Command::new(binary())
        .arg("agent")
        .arg("--config")
        .arg(world.agent.config())
        .output()
        .unwrap();
    assert!(!output.status.success());
    let words = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(words.contains("another tollgate agent"), "{words}");
    assert_eq!(world.sql("SELECT 1").unwrap().success().unwrap(), "1\n");
}

#[test]
fn managed_cgroups_are_closed_while_the_agent_is_dead_and_nobody_else_notices() {
    let mut world = World::start(ALLOW_ALL).unwrap();
    assert_eq!(world.sql("SELECT 1").unwrap().success().unwrap(), "1\n");
    world.agent.kill().unwrap();
    // With the right password: it is the way that is closed.
    let mut psql = world.psql(&["-qAt", "-U", ROLE, "-c", "SELECT 1"]);
    psql.env("PGPASSWORD", PASSWORD);
    let ended = job::run_within(&mut psql, LIMIT).unwrap();
    assert_ne!(ended.code, Some(0), "the server was reached past a dead agent");
    run(world.server.psql(ROLE, PASSWORD, "shop").args(["-c", "SELECT 1"])).unwrap();
    world.agent.resume().unwrap();
    assert_eq!(world.sql("SELECT 1").unwrap().success().unwrap(), "1\n");
}

#[test]
fn uninstall_leaves_nothing_in_the_kernel() {
    let mut world = World::start(ALLOW_ALL).unwrap();
    world.agent.uninstall().unwrap();
    let pins = world.agent.dir().join("pins");
    assert!(!pins.exists(), "{} is still there", pins.display());
    let mut psql = world.psql(&["-qAt", "-U", ROLE, "-c", "SELECT 1"]);
    psql.env("PGPASSWORD", PASSWORD);
    assert_eq!(
        job::run_within(&mut psql, LIMIT).unwrap().success().unwrap(),
        "1\n"
    );
}
