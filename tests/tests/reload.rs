//! Policies that are changed while the agent runs.

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tollgate_tests::cgroup::Cgroup;
use tollgate_tests::job::{self, Ended, NOBODY};
use tollgate_tests::policy::Policy;
use tollgate_tests::process::eventually;
use tollgate_tests::script::{ended, serves, started};
use tollgate_tests::world::{ALLOW_ALL, World};

const LIMIT: Duration = Duration::from_secs(30);

/// What `tollgate reload --json` says, and whether it was content.
fn reload(world: &World) -> (serde_json::Value, bool) {
    let ended = job::run(world.agent.tollgate("reload").arg("--json")).unwrap();
    assert!(matches!(ended.code, Some(0 | 1)), "{ended:?}");
    let report = serde_json::from_str(&ended.stdout).unwrap_or_else(|_| panic!("{ended:?}"));
    (report, ended.code == Some(0))
}

fn warnings(world: &World) -> String {
    let status = world.agent.cli("status", &["--json"]).unwrap();
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    status["warnings"].to_string()
}

/// A session that asks something each time that it is told to, until it is ended.
fn session(world: &World) -> std::process::Child {
    started(
        world,
        r#"
import sys
from wire import *
c = Client(timeout=50)
c.until(b"Z")
print("ready", flush=True)
for line in sys.stdin:
    c.send(query(line))
    got = c.until(b"Z")
    print(told(got), flush=True)
got = c.until()
print(told(got), flush=True)
"#,
    )
}

fn ask(session: &mut std::process::Child, sql: &str) -> String {
    use std::io::BufRead;
    writeln!(session.stdin.as_mut().unwrap(), "{sql}").unwrap();
    let mut answer = String::new();
    let mut output = std::io::BufReader::with_capacity(1, session.stdout.as_mut().unwrap());
    output.read_line(&mut answer).unwrap();
    answer.trim().to_owned()
}

const DENY_DELETES: &str =
    "\n[[service.rule]]\nname = \"no deletes\"\neffects = [\"delete\"]\nverdict = \"deny\"\n";

#[test]
fn a_session_whose_service_means_the_same_goes_on_and_another_is_told_to_connect_again() {
    let world = World::start(ALLOW_ALL).unwrap();
    let mut open = session(&world);
    assert_eq!(ask(&mut open, "SELECT 1"), "None");

    // A comment, another order of keys, another service, other cgroups, another egress: nothing of the session's service.
    world
        .edit_policy(|text| {
            let text = text.replace("egress = \"allow\"", "egress = \"observe\" # for a while");
            let text = text.replace("/job\"]", "/job\", \"/tollgate-test-another\"]");
            format!(
                "# A comment.\n{text}\n[[service]]\nname = \"another\"\nprotocol = \"opaque\"\naddress = [\"192.0.2.9:9\"]\n"
            )
        })
        .unwrap();
    let (report, content) = reload(&world);
    assert!(content, "{report}");
    assert_eq!(report["changed"], serde_json::json!([]), "{report}");
    assert_eq!(
        (&report["sessions_ended"], &report["newly_protected"]),
        (&0.into(), &1.into()),
        "{report}"
    );
    assert_eq!(ask(&mut open, "SELECT 2"), "None");
    assert_eq!(ask(&mut open, "DELETE FROM orders WHERE id = 0"), "None");

    world
        .edit_policy(|text| text.replacen(ALLOW_ALL, &format!("{ALLOW_ALL}{DENY_DELETES}"), 1))
        .unwrap();
    let (report, content) = reload(&world);
    assert!(content, "{report}");
    assert_eq!(
        report["changed"],
        serde_json::json!(["test-job/shop"]),
        "{report}"
    );
    assert_eq!(report["sessions_ended"], 1, "{report}");
    let last_words = ended(open);
    assert!(
        last_words.contains("57P01") && last_words.contains("policy of this workload has changed"),
        "{last_words}"
    );
    let refused = world.sql("DELETE FROM orders WHERE id = 0").unwrap();
    assert!(refused.stderr.contains("no deletes"), "{refused:?}");
    // Each session's record names the file that it was under.
    let sessions = world.sessions().unwrap();
    let reason = sessions[0]["counts"]["reason"].as_str().unwrap();
    assert!(reason.contains("policy of the workload was changed"), "{reason}");
    serves(&world);
}

#[test]
fn a_file_with_errors_keeps_its_last_good_policy_and_is_named_until_it_is_mended() {
    let world = World::start(ALLOW_ALL).unwrap();
    let good = std::fs::read_to_string(world.agent.dir().join("policies.d/test-job.toml")).unwrap();
    let mut open = session(&world);
    world
        .edit_policy(|text| text.replace("verdict = \"allow\"", "verdict = \"alow\""))
        .unwrap();
    let second = format!("{}\nnonsense", good.replace("test-job", "second"));
    world.agent.policy("second", &Policy::from_text(&second)).unwrap();
    let (report, content) = reload(&world);
    assert!(!content, "{report}");
    let faults = report["faults"].to_string();
    let wrong_line = good.lines().position(|line| line.contains("verdict")).unwrap() + 1;
    assert!(
        faults.contains(&format!("test-job.toml:{wrong_line}:")),
        "{faults}"
    );
    assert!(faults.contains("second.toml:"), "{faults}");
    assert_eq!(report["sessions_ended"], 0, "{report}");
    assert!(warnings(&world).contains("test-job.toml"), "{}", warnings(&world));
    assert_eq!(ask(&mut open, "SELECT 1"), "None");
    serves(&world);

    // A secret that cannot be read is told when the policy would begin to count, not in the night.
    std::fs::remove_file(world.agent.dir().join("policies.d/second.toml")).unwrap();
    world
        .agent
        .policy(
            "test-job",
            &Policy::from_text(&good.replace("shop-password", "no-such-password")),
        )
        .unwrap();
    let (report, content) = reload(&world);
    assert!(
        !content && report["faults"].to_string().contains("no-such-password"),
        "{report}"
    );
    assert_eq!(ask(&mut open, "SELECT 1"), "None");

    // All gone by mistake: nobody is left without a policy.
    std::fs::remove_file(world.agent.dir().join("policies.d/test-job.toml")).unwrap();
    let (report, content) = reload(&world);
    assert!(
        !content && report["faults"].to_string().contains("there is no policy"),
        "{report}"
    );
    serves(&world);

    world.agent.policy("test-job", &Policy::from_text(&good)).unwrap();
    let (report, content) = reload(&world);
    assert!(content, "{report}");
    assert!(!warnings(&world).contains("toml"), "{}", warnings(&world));
    assert_eq!(ask(&mut open, "SELECT 1"), "None");
    ended_by_client(open);
}

fn ended_by_client(mut session: std::process::Child) {
    session.kill().unwrap();
    session.wait().unwrap();
}

/// Whether `cgroup` gets through to `address`, or how not.
fn connect(cgroup: &Cgroup, address: SocketAddr) -> Ended {
    let script = format!(
        "import socket; s = socket.create_connection(('{}', {}), 20); print(s.recv(9))",
        address.ip(),
        address.port()
    );
    job::run(job::command(cgroup, NOBODY, "python3").args(["-c", &script])).unwrap()
}

#[test]
fn cgroups_and_destinations_count_from_the_moment_that_reload_returns() {
    let world = World::start(ALLOW_ALL).unwrap();
    let direct = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = direct.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in direct.incoming().flatten() {
            let mut stream = stream;
            stream.write_all(b"direct").ok();
        }
    });
    let slice = format!("/tollgate-test-reload-{}", std::process::id());
    let newcomer = Cgroup::create(&format!("{slice}/newcomer")).unwrap();
    let nested = Cgroup::create(&format!("{slice}/newcomer/nested")).unwrap();
    assert!(connect(&nested, address).stdout.contains("direct"));
    let policy = format!(
        "[workload]\nname = \"newcomer\"\ncgroup = [\"{slice}/new*\"]\n\n[[service]]\nname = \"mute\"\n\
         protocol = \"postgres\"\naddress = [\"{address}\"]\ntls = {{ upstream = \"disable\" }}\n\n\
         [service.credential]\nsource = \"file\"\nuser = \"u\"\npassword = \"{}\"\n{ALLOW_ALL}",
        world.agent.dir().join("shop-password").display()
    );
    world
        .agent
        .policy("newcomer", &Policy::from_text(&policy))
        .unwrap();
    let (report, content) = reload(&world);
    assert!(content, "{report}");
    assert_eq!(
        (&report["policies"], &report["newly_managed"]),
        (&2.into(), &1.into()),
        "{report}"
    );
    for cgroup in [&newcomer, &nested] {
        // The proxy waits for the client to begin, as PostgreSQL does: whatever comes, it is not the server's.
        let script = format!(
            "import socket; s = socket.create_connection(('{}', {}), 20); s.sendall(b'nonsense'); print(s.recv(99))",
            address.ip(),
            address.port()
        );
        let ended = job::run(job::command(cgroup, NOBODY, "python3").args(["-c", &script])).unwrap();
        assert!(!ended.stdout.contains("direct"), "{ended:?}");
    }
    assert!(
        connect(&world.job, address).stdout.contains("direct"),
        "it is not protected for others"
    );

    // The policy goes, and SIGHUP is as good as the verb.
    std::fs::remove_file(world.agent.dir().join("policies.d/newcomer.toml")).unwrap();
    kill(
        Pid::from_raw(i32::try_from(world.agent.pid()).unwrap()),
        Signal::SIGHUP,
    )
    .unwrap();
    eventually("the policy to be gone", LIMIT, || {
        connect(&nested, address).stdout.contains("direct").then_some(())
    })
    .unwrap();
    drop(nested);
    serves(&world);
}

#[test]
fn a_policy_that_would_manage_the_agent_itself_changes_nothing() {
    let mut world = World::start(ALLOW_ALL).unwrap();
    let own = format!("/tollgate-test-agent-{}/agent", std::process::id());
    let home = Cgroup::create(&own).unwrap();
    let script = format!(
        "#!/bin/sh\necho $$ > {}/cgroup.procs && exec {} \"$@\"\n",
        home.dir().display(),
        tollgate_tests::agent::binary().display()
    );
    let starter = world.agent.dir().join("starter");
    std::fs::write(&starter, script).unwrap();
    std::fs::set_permissions(&starter, std::fs::Permissions::from_mode(0o755)).unwrap();
    world.agent.stop().unwrap();
    world.agent.run_by(starter);
    world.agent.resume().unwrap();
    let mut open = session(&world);
    world
        .edit_policy(|text| text.replace("/job\"]", &format!("/job\", \"{own}\"]")))
        .unwrap();
    let (report, content) = reload(&world);
    assert!(
        !content && report["faults"].to_string().contains("own cgroup"),
        "{report}"
    );
    assert_eq!(ask(&mut open, "SELECT 1"), "None");
    serves(&world);
    ended_by_client(open);
    // The agent before its cgroup.
    drop(world);
    drop(home);
}
