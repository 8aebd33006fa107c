//! A command is started under a policy, and its clients trust this host's authority.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use tollgate_tests::cgroup;
use tollgate_tests::job;
use tollgate_tests::process::{Service, eventually, free_port};
use tollgate_tests::world::{ALLOW_ALL, World};

const LIMIT: Duration = Duration::from_mins(1);

/// A world whose policy selects more cgroups than the one of its job: those that `tollgate run` makes.
fn world() -> World {
    let mut world = World::start(ALLOW_ALL).unwrap();
    let slice = world.job.path().rsplit_once('/').unwrap().0.to_owned();
    let also = format!("[\"{slice}/job\", \"{slice}/cmd-*\"]");
    world
        .change_policy(|text| text.replace(&format!("[\"{slice}/job\"]"), &also))
        .unwrap();
    world
}

fn run(world: &World, command: &[&str]) -> Command {
    let mut run = world.agent.tollgate("run");
    run.args(["--policy", "test-job", "--"]).args(command);
    run
}

#[test]
fn a_command_runs_in_a_cgroup_of_the_policy_which_is_gone_afterwards_with_what_was_left_in_it() {
    let world = world();
    let script = "grep '^0::' /proc/self/cgroup; sleep 600 & echo $! >&2; exit 7";
    let ended = job::run_within(&mut run(&world, &["sh", "-c", script]), LIMIT).unwrap();
    assert_eq!(ended.code, Some(7), "{}", ended.stderr);
    let path = ended.stdout.trim().strip_prefix("0::").unwrap();
    // The first selector of the policy has no wildcard: the command's cgroup is below it.
    assert!(path.starts_with(&format!("{}/run-", world.job.path())), "{path}");
    let directory = cgroup::mount_point().unwrap().join(path.trim_start_matches('/'));
    assert!(!directory.exists(), "{path} is left");
    // Ended, though perhaps nobody has taken note of it yet.
    let state = fs::read_to_string(format!("/proc/{}/stat", ended.stderr.trim())).unwrap_or_default();
    assert!(
        state.is_empty() || state.contains(") Z "),
        "a process is left: {state}"
    );
    let folders = fs::read_dir(world.agent.dir().join("run")).unwrap();
    let files = folders.filter(|entry| {
        let name = entry.as_ref().unwrap().file_name();
        name.to_str().unwrap().starts_with("run-")
    });
    assert_eq!(files.count(), 0);
}

#[test]
fn what_the_command_asks_the_service_is_judged_and_recorded() {
    let world = world();
    let port = world.server.port().to_string();
    let asked = [
        "psql",
        "-h",
        "127.0.0.1",
        "-p",
        &port,
        "-d",
        "shop",
        "-U",
        "nobody",
        "-qAtc",
        "SELECT 42",
    ];
    let ended = job::run_within(&mut run(&world, &asked), LIMIT).unwrap();
    assert_eq!(ended.success().unwrap(), "42\n");
    assert_eq!(world.agent.sessions().unwrap().len(), 1);
}

#[test]
fn signals_reach_the_command_and_its_end_by_one_is_told_as_shells_tell_it() {
    let world = world();
    let log = world.agent.dir().join("signals");
    let script = "trap 'echo heard; exit 5' TERM; echo ready; while :; do sleep 0.01; done";
    let mut command = run(&world, &["sh", "-c", script]);
    command.stdin(Stdio::null());
    let mut running = Service::start("run", &mut command, &log).unwrap();
    running
        .wait_for("ready", LIMIT, |output| output.contains("ready"))
        .unwrap();
    running.signal(Signal::SIGTERM).unwrap();
    assert_eq!(running.wait(LIMIT).unwrap().code(), Some(5));
    assert!(running.output().contains("heard"));

    let ended = job::run_within(&mut run(&world, &["sh", "-c", "kill -KILL $$"]), LIMIT).unwrap();
    assert_eq!(ended.code, Some(128 + 9));
    let ended = job::run_within(&mut run(&world, &["/nonexistent/program"]), LIMIT).unwrap();
    assert_eq!(ended.code, Some(127));
}

#[test]
fn nothing_is_started_for_a_policy_that_is_not_there_or_beside_a_stopped_agent() {
    let mut world = world();
    let marker = world.agent.dir().join("started");
    let touch = ["touch", marker.to_str().unwrap()];
    let mut other = world.agent.tollgate("run");
    other.args(["--policy", "another", "--"]).args(touch);
    let ended = job::run_within(&mut other, LIMIT).unwrap();
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("test-job"), "{}", ended.stderr);
    world.agent.stop().unwrap();
    let ended = job::run_within(&mut run(&world, &touch), LIMIT).unwrap();
    assert_eq!(ended.code, Some(3), "{}", ended.stderr);
    assert!(!marker.exists());
}

/// A server with a certificate of the host's authority, as a workload is shown one; what clients make of it with what
/// `tollgate run` gives them, and without.
#[test]
fn real_clients_trust_the_authority_under_run_and_not_without_it() {
    let world = world();
    let dir = world.agent.dir().join("server");
    fs::create_dir(&dir).unwrap();
    let authority = world.agent.dir().join("state/ca");
    let issue = format!(
        "openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost -keyout key -out request && \
         echo subjectAltName=DNS:localhost > names && \
         openssl x509 -req -in request -CA {ca}/ca.pem -CAkey {ca}/ca.key -CAcreateserial -CAserial serial -days 2 \
         -extfile names -out certificate",
        ca = authority.display()
    );
    tollgate_tests::process::run(Command::new("sh").args(["-ec", &issue]).current_dir(&dir)).unwrap();
    let port = free_port().unwrap();
    let mut serve = Command::new("openssl");
    serve
        .args([
            "s_server",
            "-quiet",
            "-www",
            "-cert",
            "certificate",
            "-key",
            "key",
            "-accept",
        ])
        .arg(format!("127.0.0.1:{port}"))
        .current_dir(&dir);
    let _server = Service::start("openssl", &mut serve, &world.agent.dir().join("openssl.log")).unwrap();
    eventually("the server", LIMIT, || {
        std::net::TcpStream::connect(("127.0.0.1", port)).ok()
    })
    .unwrap();

    let url = format!("https://localhost:{port}/");
    let python = format!(
        "import ssl, urllib.request; urllib.request.urlopen('{url}', context=ssl.create_default_context()).read()"
    );
    let node = format!(
        "require('https').get('{url}', answer => process.exit(answer.statusCode === 200 ? 0 : 1))\
         .on('error', error => {{ console.error(error.code); process.exit(3); }})"
    );
    let openssl = format!("openssl s_client -verify_return_error -connect localhost:{port} </dev/null");
    let mut clients = vec![
        ("curl", vec!["curl", "-sSf", &url]),
        ("Python", vec!["python3", "-c", &python]),
        ("Node", vec!["node", "-e", &node]),
        ("OpenSSL", vec!["sh", "-c", &openssl]),
    ];
    // What is no repository is told apart from what is not trusted.
    let git = format!("git ls-remote {url} 2>&1 | grep -v -i certificate | grep -q 'not found\\|not valid'");
    clients.push(("git", vec!["sh", "-c", &git]));
    for (name, client) in clients {
        let (program, rest) = client.split_first().unwrap();
        let without = job::run_within(Command::new(program).args(rest), LIMIT).unwrap();
        assert_ne!(without.code, Some(0), "{name} trusts without being told to");
        let with = job::run_within(&mut run(&world, &client), LIMIT).unwrap();
        assert_eq!(with.code, Some(0), "{name}: {}{}", with.stdout, with.stderr);
    }
}

#[test]
fn java_reads_the_trust_store() {
    let world = world();
    // The store is named in Java's options alone; keytool reads it as Java's TLS does.
    let script = "store=${JAVA_TOOL_OPTIONS#*trustStore=}; store=${store%% *}; \
                  keytool -list -rfc -storetype JKS -storepass changeit -keystore \"$store\" | grep -c -- \"$0\"";
    let own = world.agent.cli("ca", &["--pem"]).unwrap();
    let line = own.lines().nth(1).unwrap();
    let ended = job::run_within(&mut run(&world, &["sh", "-c", script, line]), LIMIT).unwrap();
    assert_eq!(
        ended.stdout.trim(),
        "1",
        "the authority is not in Java's store: {}",
        ended.stderr
    );
}

#[test]
fn the_authority_is_shown_bundled_and_renewed() {
    let world = world();
    let shown = world.agent.cli("ca", &["--json"]).unwrap();
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown.as_array().unwrap().len(), 1);
    assert_eq!(shown[0]["names"], serde_json::json!(["localhost"]));
    let first = world.agent.cli("ca", &["--pem"]).unwrap();
    let bundle = world.agent.cli("ca", &["bundle"]).unwrap();
    assert!(bundle.contains(first.trim()) && bundle.len() > first.len());
    world.agent.cli("ca", &["rotate"]).unwrap();
    let both = world.agent.cli("ca", &["--pem"]).unwrap();
    assert!(both.contains(first.trim()));
    assert_eq!(both.matches("BEGIN CERTIFICATE").count(), 2);
    let published = fs::read_to_string(world.agent.dir().join("run/ca.pem")).unwrap();
    assert_eq!(published, both);
}
