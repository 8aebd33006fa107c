//! The injected secret is nowhere that a job, an operator or an auditor looks; and it is in the agent's own memory only for
//! as long as it is needed.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use tollgate_tests::agent::{binary, workspace};
use tollgate_tests::driver;
use tollgate_tests::memory::{Memory, runs};
use tollgate_tests::process::{eventually, run};
use tollgate_tests::world::{ALLOW_ALL, DATABASE, PASSWORD, ROLE, World};

const LIMIT: Duration = Duration::from_secs(40);
/// How long the agent may take to be done with a secret when its log says that it is.
const MOMENT: Duration = Duration::from_secs(1);
/// Sessions that each test has: each leaves copies behind, if any does.
const SESSIONS: usize = 12;
/// Bytes that every process of these tests has at least.
const SOME_MEMORY: usize = 1 << 20;
/// Bytes that glibc's allocator may write over at the beginning of what is given back.
const ALLOCATORS: usize = 16;
/// What the job itself sends: it is found wherever its bytes go, so the search can find something.
const CANARY: &str = "canary-of-the-job-50f1";
/// In the environment of the agent.
const ENVIRONMENT: &str = "canary-of-the-environment-50f1";

/// `psql` in the job's cgroup, in an open session.
struct Client {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Client {
    fn start(world: &World) -> Self {
        let mut child = world
            .psql(&["-qAt"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let mut client = Self {
            input: child.stdin.take(),
            output: BufReader::new(child.stdout.take().unwrap()),
            child,
        };
        assert_eq!(client.ask("SELECT 42"), "42");
        client
    }

    fn ask(&mut self, sql: &str) -> String {
        let input = self.input.as_mut().unwrap();
        writeln!(input, "{sql};").unwrap();
        input.flush().unwrap();
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn end(mut self) {
        drop(self.input.take());
        self.child.wait().unwrap();
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Has the agent say everything that it can say, with a canary in its environment.
fn trace(world: &mut World) {
    let script = world.agent.dir().join("traced");
    let text = format!(
        "#!/bin/sh\nRUST_LOG=trace CANARY={ENVIRONMENT} exec {} \"$@\"\n",
        binary().display()
    );
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).unwrap();
    world.agent.stop().unwrap();
    world.agent.run_by(script);
    world.agent.resume().unwrap();
}

/// Replaces the credential of the world's service.
fn credential(world: &mut World, text: &str) {
    world
        .change_policy(|policy| {
            let start = policy.find("[service.credential]").unwrap();
            let end = policy.find("[[service.rule]]").unwrap();
            format!(
                "{}[service.credential]\n{text}\n{}",
                &policy[..start],
                &policy[end..]
            )
        })
        .unwrap();
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.is_file() {
            found.push(path);
        }
    }
    found
}

/// All frames of all sessions, unpacked by a reader that is not Tollgate's.
fn records(world: &World) -> Vec<u8> {
    let script = r#"
import base64, json, subprocess, sys
reader, directory, *sessions = sys.argv[1:]
for session in sessions:
    frames = subprocess.run([sys.executable, reader, directory, session], check=True, capture_output=True, text=True).stdout
    for line in frames.splitlines():
        frame = json.loads(line)
        if "base64" in frame: frame["text"] = base64.b64decode(frame.pop("base64")).decode("latin-1")
        print(json.dumps(frame, ensure_ascii=False))
"#;
    let sessions = world.sessions().unwrap();
    let closed = sessions.iter().filter(|session| session["state"] != "open");
    let ids: Vec<&str> = closed.filter_map(|session| session["session"].as_str()).collect();
    assert!(!ids.is_empty());
    run(Command::new(driver::python())
        .args(["-c", script])
        .arg(workspace().join("tests/reader/tollgate_record.py"))
        .arg(world.agent.dir().join("state/records"))
        .args(ids))
    .unwrap()
    .into_bytes()
}

/// Looks for `secrets` wherever the agent writes or answers, each place with something that has to be found in it.
fn nowhere_outside(world: &World, secrets: &[&str]) {
    let pid = world.agent.pid();
    let cli = |verb: &str, args: &[&str]| world.agent.cli(verb, args).unwrap().into_bytes();
    let last = world.sessions().unwrap().last().unwrap()["session"]
        .as_str()
        .unwrap()
        .to_owned();
    let proc = |file: &str| std::fs::read(format!("/proc/{pid}/{file}")).unwrap();
    let state = world.agent.dir().join("state");
    let kept = files(&state)
        .into_iter()
        .map(|path| std::fs::read(path).unwrap())
        .collect::<Vec<_>>()
        .concat();
    let places = [
        ("the log", world.agent.log().into_bytes(), "TRACE"),
        ("the records, unpacked", records(world), CANARY),
        ("replay", cli("replay", &[&last, "--json"]), "test-job"),
        ("the state directory", kept, "TGLEDGER"),
        ("status", cli("status", &["--json"]), "test-job"),
        ("sessions", cli("sessions", &["--json"]), "test-job"),
        ("findings", cli("findings", &["list", "--json"]), "["),
        ("leases", cli("leases", &["list", "--json"]), "["),
        ("identities", cli("identity", &["list", "--json"]), "["),
        ("egress", cli("egress", &["--json"]), "{"),
        ("its environment", proc("environ"), ENVIRONMENT),
        ("its command line", proc("cmdline"), "tollgate.toml"),
    ];
    for (place, bytes, canary) in &places {
        assert!(
            memchr::memmem::find(bytes, canary.as_bytes()).is_some(),
            "{canary} is not in {place}"
        );
        for secret in secrets {
            assert!(
                memchr::memmem::find(bytes, secret.as_bytes()).is_none(),
                "{secret} is in {place}"
            );
        }
    }
}

/// Looks for `secrets` in all of the job's memory, and for what it typed itself.
fn nowhere_in(client: &Client, secrets: &[&str]) {
    let mut needles = vec![CANARY.as_bytes()];
    needles.extend(secrets.iter().map(|secret| secret.as_bytes()));
    let memory = Memory::search(client.child.id(), &needles).unwrap();
    assert!(memory.size > SOME_MEMORY && memory.has(0), "{memory:?}");
    for (number, secret) in secrets.iter().enumerate() {
        memory.lacks(number + 1, secret);
    }
}

/// What stays of a copy that nobody wiped: the allocator writes over the first bytes of what is given back.
fn tail(secret: &str) -> &[u8] {
    let tail = secret.as_bytes().get(ALLOCATORS..).unwrap_or_default();
    assert!(tail.len() > 5, "{secret} is too short to be searched for");
    tail
}

/// Whether the search finds `secret` in the agent's memory. Where it has to be there, that shows that the search would find
/// it where it has not.
fn held(world: &World, secret: &str) -> bool {
    Memory::search(world.agent.pid(), &[tail(secret)]).unwrap().has(0)
}

/// Sees that `secret` is not in the agent's memory any more. `canary`: something that is.
///
/// Nobody asks the agent anything meanwhile, and it is not waited for long: an agent that works writes over what it has given back,
/// wiped or not.
fn forgotten(world: &World, secret: &str, canary: &str) {
    let needles = [canary.as_bytes(), tail(secret)];
    let gone = eventually("the agent to have forgotten", MOMENT, || {
        let memory = Memory::search(world.agent.pid(), &needles).unwrap();
        assert!(memory.size > SOME_MEMORY && memory.has(0));
        (!memory.has(1)).then_some(())
    });
    if gone.is_err() {
        Memory::search(world.agent.pid(), &needles)
            .unwrap()
            .lacks(1, secret);
    }
}

/// Waits until no session is open, and nothing of one is to be voided.
fn ended(world: &World) {
    eventually("all sessions to end", LIMIT, || {
        let status: serde_json::Value =
            serde_json::from_str(&world.agent.cli("status", &["--json"]).ok()?).ok()?;
        let leases: serde_json::Value =
            serde_json::from_str(&world.agent.cli("leases", &["list", "--json"]).ok()?).ok()?;
        (status["live_sessions"] == 0 && leases.as_array()?.is_empty()).then_some(())
    })
    .unwrap();
}

#[test]
fn the_search_finds_what_was_given_back_unwiped_and_nothing_that_was_wiped() {
    const SECRET: &str = "a-secret-of-the-search-itself-2f6d";
    for (how, found) in [("keep", true), ("free", true), ("wipe", false)] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_tollgate-forgetful"))
            .arg(how)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        let shifted: Vec<u8> = SECRET.bytes().map(|byte| byte + 1).collect();
        input.write_all(&shifted).unwrap();
        input.write_all(b"\n").unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert_eq!(line, "ready\n");
        let memory = Memory::search(child.id(), &[tail(SECRET), &shifted[ALLOCATORS..]]).unwrap();
        drop(input);
        child.wait().unwrap();
        // What it was sent is found in any case.
        assert!(memory.has(1), "{how}: {memory:?}");
        assert_eq!(memory.has(0), found, "{how}: {memory:?}");
    }
}

#[test]
fn a_password_from_a_file_is_in_no_output_and_in_no_memory_but_for_the_moment_of_the_login() {
    let mut world = World::start(&format!(
        "{ALLOW_ALL}\n[findings]\nenvironment = true\ncommand_line = true\n"
    ))
    .unwrap();
    trace(&mut world);
    for _ in 0..SESSIONS {
        Client::start(&world).end();
    }
    let mut client = Client::start(&world);
    assert_eq!(client.ask(&format!("SELECT '{CANARY}'")), CANARY);
    // The catalog is asked by a connection of the agent's own, with the same login.
    assert_eq!(client.ask("SELECT count(*) FROM customers"), "3");
    nowhere_in(&client, &[PASSWORD, ROLE]);
    // The session goes on; the password is not needed any more.
    forgotten(&world, PASSWORD, "shop-password");
    client.end();
    ended(&world);
    nowhere_outside(&world, &[PASSWORD, ROLE]);
}

#[test]
fn what_a_program_printed_is_forgotten_when_its_session_ends() {
    const PRINTED: &str = "printed-password-and-a-long-one-93ae";
    const EXEC_ROLE: &str = "printed_role_93ae";
    let mut world = World::start(ALLOW_ALL).unwrap();
    world
        .server
        .admin(
            DATABASE,
            &format!(
                "CREATE ROLE {EXEC_ROLE} LOGIN PASSWORD '{PRINTED}'; GRANT SELECT ON customers TO {EXEC_ROLE}"
            ),
        )
        .unwrap();
    let program = world.agent.dir().join("print-secret");
    let text = format!("#!/bin/sh\necho '{{\"user\": \"{EXEC_ROLE}\", \"password\": \"{PRINTED}\"}}'\n");
    std::fs::write(&program, text).unwrap();
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o700)).unwrap();
    credential(
        &mut world,
        &format!("source = \"exec\"\ncommand = [\"{}\"]\n", program.display()),
    );
    trace(&mut world);
    let mut client = Client::start(&world);
    assert_eq!(client.ask(&format!("SELECT '{CANARY}'")), CANARY);
    assert_eq!(client.ask("SELECT count(*) FROM customers"), "3");
    nowhere_in(&client, &[PRINTED, EXEC_ROLE]);
    assert!(
        held(&world, PRINTED),
        "the session's own connections log in with it"
    );
    for _ in 0..SESSIONS {
        Client::start(&world).end();
    }
    client.end();
    ended(&world);
    forgotten(&world, PRINTED, "print-secret");
    nowhere_outside(&world, &[PRINTED, EXEC_ROLE]);
}

#[test]
fn the_password_of_a_role_that_was_made_is_with_the_agent_for_as_long_as_the_role_and_nowhere_else() {
    const KEEPER: &str = "tollgate_keeper";
    const KEEPER_PASSWORD: &str = "keeper-throw-away-41c7";
    let mut world = World::start(ALLOW_ALL).unwrap();
    world
        .server
        .admin(
            DATABASE,
            &format!(
                "CREATE ROLE {KEEPER} LOGIN CREATEROLE PASSWORD '{KEEPER_PASSWORD}'; CREATE ROLE report_reader;
                 GRANT SELECT ON customers, orders TO report_reader"
            ),
        )
        .unwrap();
    let secret = world.agent.secret("keeper-password", KEEPER_PASSWORD).unwrap();
    credential(
        &mut world,
        &format!(
            "source = \"postgres-role\"\nadmin = {{ user = \"{KEEPER}\", password = {{ file = \"{}\" }} }}\n\
             grant = [\"report_reader\"]\nttl = \"30m\"\n",
            secret.display()
        ),
    );
    trace(&mut world);
    let mut client = Client::start(&world);
    assert_eq!(client.ask(&format!("SELECT '{CANARY}'")), CANARY);
    let role = client.ask("SELECT session_user");
    assert!(role.starts_with("tollgate_"), "{role}");
    // Whatever looks like a password in the agent's memory is tried at the server: one of them is it.
    let letters = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    let candidates = runs(world.agent.pid(), 43, letters).unwrap();
    let opens = |candidate: &String| {
        let mut psql = world.server.psql(&role, candidate, DATABASE);
        psql.args(["-qAtX", "-c", "SELECT 1"])
            .output()
            .is_ok_and(|output| output.status.success())
    };
    let candidates = candidates
        .into_iter()
        .filter_map(|candidate| String::from_utf8(candidate).ok());
    let minted = candidates.into_iter().find(opens).unwrap();
    nowhere_in(&client, &[&minted, KEEPER_PASSWORD]);
    assert!(held(&world, &minted));
    for _ in 0..SESSIONS {
        Client::start(&world).end();
    }
    client.end();
    ended(&world);
    for secret in [minted.as_str(), KEEPER_PASSWORD] {
        forgotten(&world, secret, "keeper-password");
    }
    nowhere_outside(&world, &[&minted, KEEPER_PASSWORD]);
}

#[test]
fn a_secret_that_a_job_sends_is_forgotten_when_it_was_noted() {
    const OWN: &str = "own-password-and-a-long-one-77e2";
    let mut world = World::start(&format!(
        "{ALLOW_ALL}\n[findings]\nprobe = \"password\"\nenvironment = true\n"
    ))
    .unwrap();
    trace(&mut world);
    let output = world
        .psql(&["-qAt", "-c", &format!("SELECT '{CANARY}'")])
        .env("PGPASSWORD", OWN)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    ended(&world);
    let found = world.agent.cli("findings", &["list"]).unwrap();
    assert_eq!(found.matches(" password ").count(), 2, "{found}");
    forgotten(&world, OWN, "shop-password");
    nowhere_outside(&world, &[OWN, PASSWORD]);
}

#[test]
fn no_image_of_the_agents_memory_is_written_also_after_another_version_took_over() {
    let world = World::start(ALLOW_ALL).unwrap();
    let pid = world.agent.pid();
    let guarded = || {
        let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let core = limits
            .lines()
            .find(|line| line.starts_with("Max core file size"))
            .unwrap()
            .to_owned();
        let words: Vec<&str> = core.split_whitespace().collect();
        // A handler behind a pipe is kept away by 1, and not by 0.
        assert_eq!(&words[4..6], ["1", "1"], "{core}");
    };
    guarded();
    let before = world.agent.log();
    world.agent.cli("upgrade", &[]).unwrap();
    let ready = |log: &str| log.matches(" ready").count();
    eventually("the other version to be ready", LIMIT, || {
        (ready(&world.agent.log()) > ready(&before)).then_some(())
    })
    .unwrap();
    guarded();
}
