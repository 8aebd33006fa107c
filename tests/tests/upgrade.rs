//! Another version of the agent in the place of the one that runs, and an agent that the service manager starts again.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tollgate_tests::agent::binary;
use tollgate_tests::job;
use tollgate_tests::manager::Manager;
use tollgate_tests::process::eventually;
use tollgate_tests::script::{ended, serves, started};
use tollgate_tests::world::{ALLOW_ALL, World};

const LIMIT: Duration = Duration::from_secs(30);

/// A world whose agent is a copy of the binary that a test can put something else in the place of.
fn world() -> (World, PathBuf) {
    let mut world = World::start(ALLOW_ALL).unwrap();
    let program = world.agent.dir().join("tollgate");
    if std::fs::hard_link(binary(), &program).is_err() {
        std::fs::copy(binary(), &program).unwrap();
    }
    world.agent.stop().unwrap();
    world.agent.run_by(program.clone());
    world.agent.resume().unwrap();
    (world, program)
}

/// Pid and time of the start, of the agent that answers.
fn incarnation(world: &World) -> (u64, String) {
    let status = eventually("the agent to answer", LIMIT, || {
        world.agent.cli("status", &["--json"]).ok()
    })
    .unwrap();
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    (
        status["pid"].as_u64().unwrap(),
        status["started_at"].as_str().unwrap().to_owned(),
    )
}

/// Puts a shell script in the place of the program.
fn replace(program: &std::path::Path, script: &str) {
    let coming = program.with_extension("new");
    std::fs::write(&coming, script).unwrap();
    std::fs::set_permissions(&coming, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::rename(coming, program).unwrap();
}

#[test]
fn no_connection_is_refused_while_another_version_takes_over_and_no_other_agent_comes_between() {
    let (world, _program) = world();
    let before = incarnation(&world);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let clients = scope.spawn(|| {
            let mut served = 0;
            while !over.load(Ordering::Relaxed) {
                serves(&world);
                served += 1;
            }
            served
        });
        let rivals = scope.spawn(|| {
            let mut refused = 0;
            while !over.load(Ordering::Relaxed) {
                let ended = job::run(&mut world.agent.tollgate("agent")).unwrap();
                assert!(ended.stderr.contains("another tollgate agent"), "{ended:?}");
                refused += 1;
            }
            refused
        });
        let mut last = before.clone();
        for round in 0..3 {
            if round == 2 {
                kill(Pid::from_raw(i32::try_from(before.0).unwrap()), Signal::SIGUSR2).unwrap();
                eventually("the signal to be heeded", LIMIT, || {
                    (incarnation(&world) != last).then_some(())
                })
                .unwrap();
            } else {
                let said = world.agent.cli("upgrade", &[]).unwrap();
                assert!(said.contains(&format!("pid {}", before.0)), "{said}");
            }
            let now = incarnation(&world);
            assert_eq!(now.0, before.0);
            assert_ne!(now.1, last.1);
            last = now;
        }
        over.store(true, Ordering::Relaxed);
        let (served, refused) = (clients.join().unwrap(), rivals.join().unwrap());
        assert!(served > 3 && refused > 3, "{served} {refused}");
    });
    let sessions = world.sessions().unwrap();
    assert!(
        sessions.iter().all(|session| session["state"] == "closed"),
        "{sessions:?}"
    );
    world.agent.cli("verify", &[]).unwrap();
}

#[test]
fn a_session_that_goes_on_for_too_long_is_told_and_nobody_is_told_before_the_other_version_could_start() {
    let (world, program) = world();
    let before = incarnation(&world);
    let mut open = started(
        &world,
        r#"
import sys
from wire import *
c = Client(timeout=50)
c.until(b"Z")
print("ready", flush=True)
sys.stdin.readline()
c.send(query("SELECT 1"))
assert told(c.until(b"Z")) is None
print(told(c.until()), flush=True)
"#,
    );
    // A policy that the other version does not take.
    let policy = world.agent.dir().join("policies.d/test-job.toml");
    let good = std::fs::read_to_string(&policy).unwrap();
    std::fs::write(&policy, format!("{good}\nnonsense = 1\n")).unwrap();
    let refused = job::run(&mut world.agent.tollgate("upgrade")).unwrap();
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(
        refused.stderr.contains("nonsense") && refused.stderr.contains("goes on"),
        "{refused:?}"
    );
    std::fs::write(&policy, good).unwrap();
    // No program at all.
    replace(&program, "#!/no/such/interpreter\n");
    kill(Pid::from_raw(i32::try_from(before.0).unwrap()), Signal::SIGUSR2).unwrap();
    eventually("the refusal to be logged", LIMIT, || {
        world
            .agent
            .log()
            .contains("another version cannot take over")
            .then_some(())
    })
    .unwrap();
    let status = Command::new(binary())
        .args(["status", "--json", "--config"])
        .arg(world.agent.config())
        .output()
        .unwrap();
    assert!(
        String::from_utf8_lossy(&status.stdout).contains(&before.1),
        "{status:?}"
    );

    // One that says that it could start, and cannot be executed any more.
    replace(&program, "#!/bin/sh\nrm -- \"$0\"\n");
    writeln!(open.stdin.as_mut().unwrap()).unwrap();
    let failed = Command::new(binary())
        .args(["upgrade", "--config"])
        .arg(world.agent.config())
        .output()
        .unwrap();
    assert_eq!(failed.status.code(), Some(1), "{failed:?}");
    let said = String::from_utf8_lossy(&failed.stderr);
    assert!(
        said.contains("goes on") && said.contains("cannot be executed"),
        "{said}"
    );
    let last_words = ended(open);
    assert!(last_words.contains("57P01"), "{last_words}");
    serves(&world);
    std::fs::copy(binary(), &program).unwrap();
    world.agent.cli("upgrade", &[]).unwrap();
    serves(&world);
}

#[test]
fn connections_wait_in_the_keeping_of_the_service_manager_while_the_agent_is_away() {
    let mut world = World::start(ALLOW_ALL).unwrap();
    world.agent.stop().unwrap();
    let mut manager = Manager::start(&world.agent).unwrap();
    manager.tell("start").unwrap();
    assert_eq!(manager.tell("ready").unwrap(), "ready");
    serves(&world);
    let own = manager.keeps("listener-").unwrap();
    assert!(matches!(own, 1 | 2), "one for each family: {own}");
    for how in ["kill", "stop"] {
        manager.tell(how).unwrap();
        assert!(world.agent.cli("status", &[]).is_err());
        let connected = Arc::new(AtomicBool::new(false));
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                let script = "from wire import *\nc = Client(timeout=50)\nprint('connected', flush=True)\n\
                              c.until(b'Z'); c.send(query('SELECT 1')); c.until(b'Z')";
                let mut child = world.script(script).stdout(Stdio::piped()).spawn().unwrap();
                let mut line = String::new();
                BufReader::new(child.stdout.take().unwrap())
                    .read_line(&mut line)
                    .unwrap();
                assert_eq!(line, "connected\n");
                connected.store(true, Ordering::Relaxed);
                child.wait().unwrap()
            });
            eventually("a connection in the queue", LIMIT, || {
                connected.load(Ordering::Relaxed).then_some(())
            })
            .unwrap();
            manager.tell("start").unwrap();
            assert_eq!(manager.tell("ready").unwrap(), "ready");
            assert!(waiting.join().unwrap().success());
        });
        assert_eq!(
            manager.keeps("listener-").unwrap(),
            own,
            "what it keeps it does not get twice"
        );
        serves(&world);
    }

    // A namespace's listeners are kept for as long as somebody is in it.
    let script = format!(
        "import socket, sys, time\nwhile True:\n    try: socket.create_connection(('127.0.0.1', {}), 20); break\n    \
         except ConnectionRefusedError: time.sleep(0.01)\nsys.stdin.read()",
        world.address.port()
    );
    let mut inside = world
        .program("unshare")
        .args([
            "--net",
            "sh",
            "-c",
            "ip link set lo up && exec python3 -c \"$0\"",
            &script,
        ])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    eventually("listeners in the namespace to be kept", LIMIT, || {
        (manager.keeps("listener-").unwrap() > own).then_some(())
    })
    .unwrap();
    manager.tell("kill").unwrap();
    drop(inside.stdin.take());
    inside.wait().unwrap();
    manager.tell("start").unwrap();
    assert_eq!(manager.tell("ready").unwrap(), "ready");
    eventually("listeners of the namespace to be given up", LIMIT, || {
        (manager.keeps("listener-").unwrap() == own).then_some(())
    })
    .unwrap();
    serves(&world);
}
