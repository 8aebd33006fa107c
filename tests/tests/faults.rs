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

/// A policy that is right in itself, for a cgroup that nobody is in.
fn harmless(agent: &Agent) -> String {
    let secret = agent.secret("harmless", "not used").unwrap();
    format!(
        "[workload]\nname = \"harmless\"\ncgroup = [\"/tollgate-test-none/x\"]\negress = \"allow\"\n[[service]]\nname = \"shop\"\n\
         protocol = \"postgres\"\naddress = [\"127.0.0.1:5999\"]\ntls = {{ upstream = \"disable\" }}\n[service.credential]\n\
         source = \"file\"\nuser = \"x\"\npassword = \"{}\"\n{ALLOW_ALL}",
        secret.display()
    )
}

fn fails_to_start(agent: &Agent) -> String {
    let mut command = Command::new(binary());
    command
        .arg("agent")
        .arg("--config")
        .arg(agent.config())
        .env("NO_COLOR", "1")
        .env("RUST_LOG", "warn");
    let mut child = command
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let ended = tollgate_tests::process::eventually("the start to fail", LIMIT, || child.try_wait().ok()?);
    if ended.is_err() {
        // It has started: it is stopped as it would be, so that it leaves nothing.
        run(Command::new("kill").arg(child.id().to_string())).unwrap();
    }
    let output = child.wait_with_output().unwrap();
    let words = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert_eq!(output.status.code(), Some(2), "{words}");
    words
}

/// What is spoilt, how, and what has to be said.
type Case<'a> = (&'a str, &'a dyn Fn(), &'a [&'a str]);

#[test]
fn a_start_that_cannot_succeed_says_why_in_one_sentence_and_leaves_nothing() {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    let agent = Agent::prepare(&[]).unwrap();
    let dir = agent.dir().to_owned();
    let policies = dir.join("policies.d");
    let (policy_file, secret) = (policies.join("harmless.toml"), dir.join("harmless"));
    let (config, policy) = (fs::read_to_string(agent.config()).unwrap(), harmless(&agent));
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let add = |lines: &str| fs::write(agent.config(), format!("{config}\n{lines}\n")).unwrap();
    let ship = |to: &str| fs::write(agent.config(), config.replace("file://", to)).unwrap();
    let verify = |ca: &str| {
        fs::write(
            &policy_file,
            policy.replace("\"disable\"", &format!("\"verify-full\", ca = \"{ca}\"")),
        )
        .unwrap();
    };
    let socket = dir.join("run/control.sock");
    let cases: &[Case<'_>] = &[
        (
            "no policy",
            &|| fs::remove_file(&policy_file).unwrap(),
            &["no policy", "policies.d"],
        ),
        (
            "no directory of policies",
            &|| fs::remove_dir_all(&policies).unwrap(),
            &["policies.d", "cannot be read"],
        ),
        (
            "no secret",
            &|| fs::remove_file(&secret).unwrap(),
            &["shop", "harmless", "create it"],
        ),
        (
            "a secret for all to read",
            &|| fs::set_permissions(&secret, fs::Permissions::from_mode(0o644)).unwrap(),
            &["read by others", "chmod"],
        ),
        (
            "no CA",
            &|| verify("/nonexistent/ca.pem"),
            &["shop", "/nonexistent/ca.pem"],
        ),
        (
            "a CA that is none",
            &|| verify("/etc/hostname"),
            &["shop", "certificate"],
        ),
        (
            "a port in use",
            &|| add(&format!("[listen]\nport = {port}")),
            &["Address already in use", "[listen]"],
        ),
        (
            "the control socket's place taken",
            &|| fs::write(&socket, "x").unwrap(),
            &["control.sock", "not a socket"],
        ),
        (
            "state that is no directory",
            &|| {
                fs::remove_dir_all(dir.join("state")).unwrap();
                fs::write(dir.join("state"), "x").unwrap();
            },
            &["state_dir", "File exists"],
        ),
        (
            "a target that there is not",
            &|| ship("ftp://"),
            &["tollgate.toml:", "s3://"],
        ),
        (
            "a target that cannot be written",
            &|| ship("file:///proc"),
            &["[ship]", "/proc"],
        ),
        (
            "the agent's own cgroup",
            &|| fs::write(&policy_file, policy.replace("/tollgate-test-none/x", "/**")).unwrap(),
            &["agent included"],
        ),
        (
            "pins that are not its own",
            &|| {
                fs::create_dir_all(dir.join("pins")).unwrap();
                fs::write(dir.join("pins/mine"), "x").unwrap();
            },
            &["pins", "not empty"],
        ),
    ];
    for (what, spoil, expected) in cases {
        for name in ["pins", "state"] {
            fs::remove_dir_all(dir.join(name))
                .or_else(|_| fs::remove_file(dir.join(name)))
                .ok();
        }
        fs::create_dir_all(dir.join("state")).unwrap();
        fs::create_dir_all(&policies).unwrap();
        fs::remove_file(&socket).ok();
        fs::write(agent.config(), &config).unwrap();
        fs::write(&policy_file, &policy).unwrap();
        agent.secret("harmless", "not used").unwrap();
        spoil();
        let words = fails_to_start(&agent);
        assert_eq!(words.lines().count(), 1, "{what}:\n{words}");
        for part in *expected {
            assert!(words.contains(part), "{what}: no {part:?} in:\n{words}");
        }
        assert!(!words.contains("not used"), "{what}: the secret is in:\n{words}");
        let left: Vec<_> = fs::read_dir(dir.join("pins"))
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.file_name())
            .collect();
        assert!(
            left.iter().all(|name| name == "mine"),
            "{what}: left behind {left:?}"
        );
    }
    fs::remove_dir_all(dir.join("pins")).ok();
}

#[test]
fn pins_belong_to_one_agent_and_a_running_ones_are_not_taken_away() {
    let world = World::start(ALLOW_ALL).unwrap();
    let mut other = Agent::prepare(&[]).unwrap();
    let policy = harmless(&other);
    other.policy("harmless", &Policy::from_text(&policy)).unwrap();
    let config = std::fs::read_to_string(other.config()).unwrap();
    let pins = |agent: &Agent| format!("{}/pins", agent.dir().display());
    std::fs::write(other.config(), config.replace(&pins(&other), &pins(&world.agent))).unwrap();
    let words = fails_to_start(&other);
    assert!(words.contains("another tollgate agent"), "{words}");
    // By its own configuration, and by the other's, which has another lock file.
    for config in [world.agent.config(), other.config()] {
        let output = Command::new(binary())
            .arg("uninstall")
            .arg("--config")
            .arg(config)
            .output()
            .unwrap();
        let words = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{words}");
        assert!(
            words.contains("another tollgate agent") && words.contains("stop it first"),
            "{words}"
        );
    }
    std::fs::write(other.config(), config).unwrap();
    other.resume().unwrap();
    assert_eq!(world.sql("SELECT 1").unwrap().success().unwrap(), "1\n");
    world.agent.cli("status", &[]).unwrap();
}

#[test]
fn a_start_that_fails_after_a_crash_leaves_managed_cgroups_closed_and_others_alone() {
    let mut world = World::start(ALLOW_ALL).unwrap();
    assert_eq!(world.sql("SELECT 1").unwrap().success().unwrap(), "1\n");
    world.agent.kill().unwrap();
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let config = std::fs::read_to_string(world.agent.config()).unwrap();
    world
        .agent
        .configure(&format!(
            "[listen]\nport = {}",
            taken.local_addr().unwrap().port()
        ))
        .unwrap();
    let words = fails_to_start(&world.agent);
    assert!(words.contains("Address already in use"), "{words}");
    let mut psql = world.psql(&["-qAt", "-U", ROLE, "-c", "SELECT 1"]);
    psql.env("PGPASSWORD", PASSWORD);
    assert_ne!(
        job::run_within(&mut psql, LIMIT).unwrap().code,
        Some(0),
        "the server was reached past a start that failed"
    );
    run(world.server.psql(ROLE, PASSWORD, "shop").args(["-c", "SELECT 1"])).unwrap();
    std::fs::write(world.agent.config(), config).unwrap();
    world.agent.resume().unwrap();
    assert_eq!(world.sql("SELECT 1").unwrap().success().unwrap(), "1\n");
}

#[test]
fn an_agent_whose_pins_would_go_with_its_mount_namespace_does_not_start() {
    let mut world = World::start(ALLOW_ALL).unwrap();
    world.agent.uninstall().unwrap();
    let output = Command::new("timeout")
        .args(["20", "unshare", "--mount", "--"])
        .arg(binary())
        .arg("agent")
        .arg("--config")
        .arg(world.agent.config())
        .output()
        .unwrap();
    let words = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert_eq!(output.status.code(), Some(2), "{words}");
    assert!(
        words.contains("mount namespace") && words.contains("mount -t bpf"),
        "{words}"
    );
}
