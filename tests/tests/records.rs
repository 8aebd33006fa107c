//! What happened is on record, and nobody can change it unnoticed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use tollgate_tests::agent::workspace;
use tollgate_tests::driver;
use tollgate_tests::job;
use tollgate_tests::process::{eventually, run};
use tollgate_tests::world::{ALLOW_ALL, PASSWORD, ROLE, World};

const LIMIT: Duration = Duration::from_secs(30);

fn record_files(world: &World) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = walk(&world.agent.dir().join("shipped"));
    files.retain(|path| path.extension().is_some_and(|extension| extension == "tgr"));
    files.sort();
    files
}

/// Everything that is in the shipped records, as a program that is not Tollgate reads and verifies it: JSON frames as they
/// are, bytes as text.
fn read_by_python(world: &World) -> String {
    let script = r#"
import base64, json, pathlib, subprocess, sys
reader, directory = sys.argv[1:]
for record in sorted(pathlib.Path(directory, "records").glob("*.tgr")):
    if record.name.count(".") > 1: continue
    frames = subprocess.run([sys.executable, reader, directory, record.name[:36]], check=True, capture_output=True, text=True).stdout
    for line in frames.splitlines():
        frame = json.loads(line)
        if "base64" in frame: frame["text"] = base64.b64decode(frame.pop("base64")).decode("latin-1")
        print(json.dumps(frame, ensure_ascii=False))
"#;
    let reader = workspace().join("tests/reader/tollgate_record.py");
    let shipped = world.agent.dir().join("shipped");
    run(Command::new(driver::python())
        .args(["-c", script])
        .arg(reader)
        .arg(shipped))
    .unwrap()
}

fn walk(dir: &std::path::Path) -> Vec<PathBuf> {
    fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .flat_map(|entry| {
            if entry.path().is_dir() {
                walk(&entry.path())
            } else {
                vec![entry.path()]
            }
        })
        .collect()
}

#[test]
fn a_session_is_listed_replayed_verified_shipped_and_read_by_another_program() {
    let mut world = World::start(ALLOW_ALL).unwrap();
    world
        .sql("SELECT name, total FROM customers JOIN orders ON customer = customers.id WHERE orders.id = 2")
        .unwrap()
        .success()
        .unwrap();
    let session = eventually("the session to be closed", LIMIT, || {
        world
            .sessions()
            .ok()?
            .into_iter()
            .find(|session| session["state"] == "closed" && session["counts"]["commands"] == 1)
    })
    .unwrap();
    let id = session["session"].as_str().unwrap();
    let replay = world.agent.cli("replay", &[id, "--speed", "max"]).unwrap();
    for part in ["SELECT name, total", "Grace", "99.00", "test-job", "shop"] {
        assert!(replay.contains(part), "no {part:?} in:\n{replay}");
    }
    let steps = world.agent.cli("replay", &[id, "--json"]).unwrap();
    assert!(
        steps
            .lines()
            .all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()),
        "{steps}"
    );

    world.agent.cli("verify", &[]).unwrap();
    world.agent.stop().unwrap();
    let shipped = record_files(&world);
    assert!(
        shipped.iter().any(|path| path.to_string_lossy().contains(id)),
        "not shipped: {shipped:?}"
    );
    let frames = read_by_python(&world);
    assert!(
        frames.contains("SELECT name, total") && frames.contains(id),
        "{frames}"
    );
}

#[test]
fn a_changed_byte_in_any_shipped_record_is_named() {
    let mut world = World::start(ALLOW_ALL).unwrap();
    for n in 0..3 {
        world.sql(&format!("SELECT {n}")).unwrap().success().unwrap();
    }
    world.agent.stop().unwrap();
    let shipped = world.agent.dir().join("shipped").display().to_string();
    world.agent.cli("verify", &[&shipped]).unwrap();
    let reader = workspace().join("tests/reader/tollgate_record.py");
    let files = record_files(&world);
    assert!(files.len() >= 3, "{files:?}");
    for file in &files {
        let whole = fs::read(file).unwrap();
        for position in [whole.len() / 3, whole.len() / 2, whole.len() - 1] {
            let mut bytes = whole.clone();
            bytes[position] ^= 0x40;
            fs::write(file, &bytes).unwrap();
            let verify = world.agent.tollgate("verify").arg(&shipped).output().unwrap();
            assert_eq!(
                verify.status.code(),
                Some(1),
                "byte {position} of {} was changed unnoticed",
                file.display()
            );
            let python = Command::new(driver::python())
                .arg(&reader)
                .arg(&shipped)
                .output()
                .unwrap();
            assert!(
                !python.status.success(),
                "the Python reader did not notice byte {position} of {}",
                file.display()
            );
        }
        fs::write(file, &whole).unwrap();
    }
    fs::remove_file(&files[1]).unwrap();
    let verify = world.agent.tollgate("verify").arg(&shipped).output().unwrap();
    assert_eq!(verify.status.code(), Some(1), "a removed session went unnoticed");
}

#[test]
fn what_the_server_received_is_on_record_when_the_agent_is_killed() {
    let mut world = World::start(ALLOW_ALL).unwrap();
    for round in 0..4 {
        let script = format!(
            "for n in $(seq 1 100000); do echo \"SELECT 'marker-{round}-'||$n;\"; done | psql -X -h 127.0.0.1 -p {} -d shop -qAt",
            world.server.port()
        );
        let mut command = world.program("bash");
        command
            .args(["-c", &script])
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let marker = format!("marker-{round}-'||{}", 50 + 37 * round);
        eventually("some statements", LIMIT, || {
            world.server.log().contains(&marker).then_some(())
        })
        .unwrap();
        world.agent.kill().unwrap();
        child.wait().unwrap();
        let received: Vec<String> = world
            .server
            .log()
            .lines()
            .filter_map(|line| line.split_once(&format!("SELECT 'marker-{round}-'||")))
            .map(|(_, n)| n.trim_end_matches(';').to_owned())
            .collect();
        assert!(received.len() >= 50, "{}", received.len());
        world.agent.resume().unwrap();
        let session = eventually("the killed session to be sealed", LIMIT, || {
            world
                .sessions()
                .ok()?
                .into_iter()
                .rfind(|session| session["state"] == "crashed")
        })
        .unwrap();
        let replay = world
            .agent
            .cli("replay", &[session["session"].as_str().unwrap(), "--json"])
            .unwrap();
        for n in received {
            assert!(
                replay.contains(&format!("SELECT 'marker-{round}-'||{n};")),
                "statement {n} of round {round} reached the server and is not on record"
            );
        }
    }
    world.agent.cli("verify", &[]).unwrap();
}

#[test]
fn the_injected_login_is_seen_by_nobody() {
    let mut world = World::start(ALLOW_ALL).unwrap();
    for sql in [
        "SELECT 1",
        "SELECT session_user, current_user",
        "DELETE FROM nowhere",
        "SELECT * FROM forbidden",
    ] {
        world.sql(sql).unwrap();
    }
    let mut seen = String::new();
    for sql in ["\\conninfo", "SELECT 1"] {
        let ended = job::run(&mut world.psql(&["-c", sql])).unwrap();
        seen += &format!("{}{}", ended.stdout, ended.stderr);
    }
    // A wrong password: the server names the role in its refusal.
    world
        .server
        .admin("postgres", &format!("ALTER ROLE {ROLE} PASSWORD 'another'"))
        .unwrap();
    let ended = world.sql("SELECT 1").unwrap();
    assert!(ended.stderr.contains("tollgate"), "{}", ended.stderr);
    seen += &ended.stderr;
    for log in walk(world.agent.dir())
        .iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
    {
        seen += &fs::read_to_string(log).unwrap();
    }
    let pid = world.agent.pid();
    for file in ["environ", "cmdline"] {
        seen += &String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/{file}")).unwrap());
    }
    world.agent.stop().unwrap();
    let frames = read_by_python(&world);
    assert!(
        !seen.contains(PASSWORD) && !frames.contains(PASSWORD),
        "the injected password was seen"
    );
    assert!(!seen.contains(ROLE), "the injected user name was seen:\n{seen}");
}

#[test]
fn a_password_in_a_statement_is_not_on_record() {
    let mut world = World::start(ALLOW_ALL).unwrap();
    let words = "s3cret-new-passw0rd";
    world
        .sql(&format!("ALTER ROLE {ROLE} PASSWORD '{words}'"))
        .unwrap()
        .success()
        .unwrap();
    world.agent.stop().unwrap();
    let frames = read_by_python(&world);
    assert!(frames.contains("ALTER ROLE"), "{frames}");
    assert!(
        !frames.contains(words),
        "the password of an ALTER ROLE is on record"
    );
    for file in walk(&world.agent.dir().join("state")) {
        let bytes = fs::read(&file).unwrap();
        assert!(
            !bytes
                .windows(words.len())
                .any(|window| window == words.as_bytes()),
            "{}",
            file.display()
        );
    }
}

/// Runs `work` with the agent's state on a disk of 24 MiB. `work` is given the mount point.
fn on_a_small_disk<T>(world: &mut World, work: impl FnOnce(&mut World, &Path) -> T) -> T {
    world.agent.stop().unwrap();
    let state = world.agent.dir().join("state");
    let saved = world.agent.dir().join("state-saved");
    fs::rename(&state, &saved).unwrap();
    fs::create_dir(&state).unwrap();
    run(Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=24m,mode=0700", "tmpfs"])
        .arg(&state))
    .unwrap();
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        run(Command::new("cp")
            .arg("-a")
            .arg(format!("{}/.", saved.display()))
            .arg(&state))
        .unwrap();
        world.agent.resume().unwrap();
        work(world, &state)
    }));
    world.agent.stop().ok();
    run(Command::new("umount").arg(&state)).unwrap();
    outcome.unwrap()
}

const SIXTY: Duration = Duration::from_mins(1);

#[test]
fn a_full_disk_ends_the_session_and_says_so() {
    let mut world = World::start(ALLOW_ALL).unwrap();
    let sql = "SELECT md5(random()::text) FROM generate_series(1, 4000000)";
    let (ended, log) = on_a_small_disk(&mut world, |world, _| {
        let ended = job::run_within(&mut world.psql(&["-qAt", "-c", sql]), SIXTY).unwrap();
        (ended, world.agent.log())
    });
    assert_ne!(ended.code, Some(0), "170 MB passed that could not be recorded");
    assert!(
        ended
            .stderr
            .contains("FATAL:  tollgate: this session cannot be recorded"),
        "{}",
        ended.stderr
    );
    assert!(log.contains("No space left") || log.contains("full"), "{log}");
}

#[test]
fn a_full_disk_in_the_middle_of_one_huge_value_ends_the_session_and_the_next_is_told() {
    let mut world = World::start(ALLOW_ALL).unwrap();
    let sql = "SELECT string_agg(md5(random()::text), '') FROM generate_series(1, 4000000)";
    on_a_small_disk(&mut world, |world, state| {
        let spare = state.join("spare");
        fs::write(&spare, vec![1; 8 << 20]).unwrap();
        let ended = job::run_within(&mut world.psql(&["-qAt", "-c", sql]), SIXTY).unwrap();
        // In the middle of a value there is no place for words, and nothing is made up to fill it.
        assert_ne!(ended.code, Some(0), "130 MB passed that could not be recorded");
        assert!(
            ended.stdout.len() < 1000,
            "a part of a value was taken for the whole"
        );
        // With no room at all, no session begins, and the client is told so.
        let filler = state.join("filler");
        run(Command::new("sh")
            .arg("-c")
            .arg(format!("cat /dev/zero > {} || true", filler.display())))
        .unwrap();
        let ended = world.sql("SELECT 1").unwrap();
        assert!(
            ended
                .stderr
                .contains("FATAL:  tollgate: this session cannot be recorded"),
            "{}",
            ended.stderr
        );
        let status = world.agent.cli("status", &[]).unwrap();
        assert!(status.contains("0 live"), "{status}");
        // And as soon as there is room again, all is well without anybody's help.
        fs::remove_file(&filler).unwrap();
        fs::remove_file(&spare).unwrap();
        eventually("sessions to begin again", LIMIT, || {
            (world.sql("SELECT 1").ok()?.stdout == "1\n").then_some(())
        })
        .unwrap_or_else(|error| panic!("{error}\n{}", world.agent.log()));
        world.last_session().unwrap();
        world.agent.cli("verify", &[]).unwrap();
    });
}

#[test]
fn a_workload_that_is_only_observed_goes_on_and_its_record_says_what_it_lacks() {
    let mut world = World::start(ALLOW_ALL).unwrap();
    world
        .change_policy(|text| text.replace("egress = \"allow\"", "egress = \"allow\"\nmode = \"observe\""))
        .unwrap();
    on_a_small_disk(&mut world, |world, state| {
        let script = r#"
import os
from wire import *
c = Client(timeout=50)
c.until(b"Z")
c.send(query("SELECT md5(random()::text) FROM generate_series(1, 1200000)"))
rows = 0
while True:
    tag, body = c.read()
    if tag == b"D": rows += 1
    if tag in (b"Z", b"", b"!"): break
print("rows", rows, tag)
import time
os.remove(FILLER)
until = time.time() + 20
while time.time() < until:
    time.sleep(0.2)
    c.send(query("SELECT 'after the gap'"))
    assert c.until(b"Z")[-1][0] == b"Z"
    if time.time() > until - 16: break
c.send(TERMINATE)
"#;
        let filler = state.join("filler");
        fs::write(&filler, vec![1; 12 << 20]).unwrap();
        let script = script.replace("FILLER", &format!("{:?}", filler.display().to_string()));
        let ended = job::run_within(&mut world.script(&script), SIXTY).unwrap();
        assert!(
            ended.stdout.contains("rows 1200000"),
            "{ended:?}\n{}",
            world.agent.log()
        );
        let log = world.agent.log();
        assert!(log.contains("goes on unrecorded"), "{log}");
        let last = world.last_session().unwrap();
        let replay = world
            .agent
            .cli("replay", &[last["session"].as_str().unwrap(), "--json"])
            .unwrap();
        assert!(replay.contains("gap"), "{last}");
        assert!(replay.contains("after the gap"), "{last}");
        world.agent.cli("verify", &[]).unwrap();
    });
}
