//! `tollgate doctor` beside an agent: running, killed, sabotaged; and what it says of jobs and files.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tollgate_tests::agent::Agent;
use tollgate_tests::cgroup::{Cgroup, mount_point};
use tollgate_tests::job;
use tollgate_tests::policy::Policy;
use tollgate_tests::process::eventually;
use tollgate_tests::world::ALLOW_ALL;

/// An agent with one policy for `job`, and nothing behind it.
fn agent(job: &Cgroup) -> Agent {
    let mut agent = Agent::prepare(&[]).unwrap();
    let secret = agent.secret("password", "of nobody").unwrap();
    let policy = format!(
        "[workload]\nname = \"doctored\"\ncgroup = [\"{}\"]\n\n[[service]]\nname = \"db\"\nprotocol = \"postgres\"\n\
         address = [\"192.0.2.1:5432\"]\n\n[service.credential]\nsource = \"file\"\nuser = \"nobody\"\n\
         password = \"{}\"\n{ALLOW_ALL}",
        job.path(),
        secret.display(),
    );
    agent.policy("doctored", &Policy::from_text(&policy)).unwrap();
    agent.resume().unwrap();
    agent
}

fn doctor(agent: &Agent) -> (Option<i32>, Value) {
    let output = agent.tollgate("doctor").arg("--json").output().unwrap();
    let report = serde_json::from_slice(&output.stdout);
    let report = report.unwrap_or_else(|_| panic!("{output:?}\n{}", agent.log()));
    (output.status.code(), report)
}

/// Title and what was found, of checks in `state`.
fn checks<'a>(report: &'a Value, state: &str) -> Vec<(&'a str, &'a str)> {
    let checks = report["checks"].as_array().unwrap().iter();
    checks
        .filter(|check| check["state"] == state)
        .map(|check| (check["title"].as_str().unwrap(), check["found"].as_str().unwrap()))
        .collect()
}

/// What an examination makes that is still there.
fn left() -> Vec<String> {
    let root = mount_point().unwrap();
    std::fs::read_dir(root)
        .unwrap()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with("tollgate-doctor-"))
        .collect()
}

#[test]
fn the_programs_of_an_agent_are_tried_while_it_runs_and_when_it_is_gone() {
    let job = Cgroup::create(&format!("/tollgate-doctored-{}", std::process::id())).unwrap();
    let mut agent = agent(&job);
    let (code, report) = doctor(&agent);
    assert_eq!(report["tried"], "running-agent");
    assert_eq!(checks(&report, "bad"), [], "{}", agent.log());
    assert_eq!(code, Some(0));
    let held = checks(&report, "good");
    for promise in [
        "the agent listens in a new network namespace",
        "the agent takes connections of this host",
    ] {
        assert!(
            held.iter().any(|(title, _)| title.starts_with(promise)),
            "{held:?}"
        );
    }

    agent.kill().unwrap();
    let (code, report) = doctor(&agent);
    assert_eq!(report["tried"], "stopped-agent");
    assert_eq!(checks(&report, "bad"), []);
    assert_eq!(code, Some(0));

    // The agent that comes back finds nothing of the doctor's.
    agent.resume().unwrap();
    assert_eq!(doctor(&agent).0, Some(0), "{}", agent.log());

    agent.uninstall().unwrap();
    let (code, report) = doctor(&agent);
    assert_eq!(report["tried"], "own-programs");
    assert_eq!((code, checks(&report, "bad")), (Some(0), vec![]));
    assert_eq!(left(), Vec::<String>::new());
}

#[test]
fn a_program_that_somebody_detached_is_named_and_so_is_what_it_leaves_open() {
    let job = Cgroup::create(&format!("/tollgate-sabotaged-{}", std::process::id())).unwrap();
    let mut agent = agent(&job);
    // An agent that runs might put it back.
    agent.kill().unwrap();
    let pins = agent.dir().join("pins");
    let generation = std::fs::read_dir(pins).unwrap().flatten().next().unwrap().path();
    std::fs::remove_file(generation.join("link_tollgate_connect4")).unwrap();
    let report = eventually("the program to be gone", Duration::from_secs(10), || {
        let (code, report) = doctor(&agent);
        let bad = checks(&report, "bad");
        let named = bad.contains(&("tollgate_connect4", "NOT ATTACHED"));
        let open = bad
            .iter()
            .any(|(title, _)| *title == "a connection over IPv4 goes to the proxy");
        (code == Some(1) && named && open).then_some(report)
    })
    .unwrap();
    let ipv6 = checks(&report, "good");
    assert!(
        ipv6.iter()
            .any(|(title, _)| *title == "a connection over IPv6 goes to the proxy")
    );
    let told = agent.tollgate("doctor").arg("--quiet").output().unwrap();
    let told = String::from_utf8(told.stdout).unwrap();
    assert!(told.contains("✗ BAD   tollgate_connect4"), "{told}");
    assert!(told.contains("systemctl restart tollgate"), "{told}");
}

#[test]
fn jobs_with_powers_and_files_that_others_change_are_told() {
    let job = Cgroup::create(&format!("/tollgate-powers-{}", std::process::id())).unwrap();
    let mut agent = agent(&job);
    let mut root = job::command(&job, "root", "sleep").arg("60").spawn().unwrap();
    let procs = job.dir().join("cgroup.procs");
    let inside = || std::fs::read_to_string(&procs).unwrap().lines().count() == 1;
    eventually("the job to be inside", Duration::from_secs(10), || {
        inside().then_some(())
    })
    .unwrap();
    let policy = agent.dir().join("policies.d/doctored.toml");
    std::fs::set_permissions(&policy, std::fs::Permissions::from_mode(0o666)).unwrap();
    let (code, report) = doctor(&agent);
    root.kill().unwrap();
    root.wait().unwrap();
    let warned = checks(&report, "warning");
    let pid = root.id().to_string();
    for way in [
        "holds CAP_BPF",
        "holds CAP_SYS_PTRACE",
        "can write to the cgroup tree",
    ] {
        let title = format!("doctored: {way}");
        assert!(
            warned
                .iter()
                .any(|(told, found)| *told == title && found.starts_with(&pid)),
            "{way}: {warned:?}"
        );
    }
    let bad = checks(&report, "bad");
    assert_eq!(bad.len(), 1, "{bad:?}");
    assert!(
        bad[0].0.contains("doctored") && bad[0].1.starts_with("0666"),
        "{bad:?}"
    );
    assert_eq!(code, Some(1));
    agent.stop().unwrap();
}

#[test]
fn ctrl_c_takes_down_what_was_set_up() {
    let job = Cgroup::create(&format!("/tollgate-stopped-{}", std::process::id())).unwrap();
    let agent = agent(&job);
    let mut doctor = agent
        .tollgate("doctor")
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mine = format!("tollgate-doctor-{}-", doctor.id());
    eventually("the examination to begin", Duration::from_secs(10), || {
        left().iter().any(|name| name.starts_with(&mine)).then_some(())
    })
    .unwrap();
    kill(Pid::from_raw(i32::try_from(doctor.id()).unwrap()), Signal::SIGINT).unwrap();
    // It may have been through by then.
    assert!(matches!(doctor.wait().unwrap().code(), Some(0 | 2)));
    assert!(!left().iter().any(|name| name.starts_with(&mine)), "{:?}", left());
}

#[test]
fn a_workload_cannot_have_it_taken_for_an_unmanaged_process() {
    let job = Cgroup::create(&format!("/tollgate-inside-{}", std::process::id())).unwrap();
    let agent = agent(&job);
    let mut inside = job::command(
        &job,
        "root",
        &tollgate_tests::agent::binary().display().to_string(),
    );
    let ended = job::run(inside.arg("doctor").arg("--config").arg(agent.config())).unwrap();
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(
        ended.stderr.contains("a cgroup of the workload doctored"),
        "{ended:?}"
    );
}

#[test]
fn without_root_it_says_so() {
    let mut nobody = Command::new("setpriv");
    nobody.args(["--reuid", "nobody", "--regid", "nogroup", "--clear-groups", "--"]);
    let copy = std::env::temp_dir().join(format!("tollgate-doctor-test-{}", std::process::id()));
    std::fs::copy(tollgate_tests::agent::binary(), &copy).unwrap();
    let output = nobody.arg(&copy).args(["doctor"]).output();
    std::fs::remove_file(&copy).unwrap();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("has to be root"),
        "{output:?}"
    );
}
