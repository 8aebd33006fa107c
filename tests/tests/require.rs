//! A policy that demands programs on security hooks, on a host that has them and on one that has not: refused at the start,
//! at a reload and by `tollgate agent --check`, or taken.

use serde_json::Value;
use tollgate_tests::agent::Agent;
use tollgate_tests::cgroup::Cgroup;
use tollgate_tests::job;
use tollgate_tests::policy::Policy;
use tollgate_tests::world::ALLOW_ALL;

/// A policy for `job`; nothing is behind its service.
fn policy(agent: &Agent, job: &Cgroup, require: &str) -> Policy {
    let secret = agent.secret("password", "of nobody").unwrap();
    Policy::from_text(&format!(
        "[workload]\nname = \"demanding\"\ncgroup = [\"{}\"]\n{require}\n\n[[service]]\nname = \"db\"\n\
         protocol = \"postgres\"\naddress = [\"192.0.2.1:5432\"]\n\n[service.credential]\nsource = \"file\"\n\
         user = \"nobody\"\npassword = \"{}\"\n{ALLOW_ALL}",
        job.path(),
        secret.display(),
    ))
}

const DEMAND: &str = "require = [\"lsm\"]";

/// Which programs on security hooks this host's kernel refuses.
fn refused(agent: &Agent) -> Vec<String> {
    let output = agent.tollgate("doctor").arg("--json").output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let checks = report["checks"].as_array().unwrap().iter();
    checks
        .filter(|check| check["group"] == "programs" && check["state"] != "good")
        .filter(|check| check["title"].as_str().unwrap().contains("on the security hook"))
        .map(|check| check["programs"][0].as_str().unwrap().to_owned())
        .collect()
}

/// Says where the demand stands, what is missing, and how to get it.
fn explains(said: &str, refused: &[String]) -> bool {
    said.contains("demanding.toml:4:")
        && said.contains("the workload \"demanding\" demands")
        && refused.iter().any(|program| said.contains(program))
        && said.contains("lsm=")
        && said.contains("or remove the demand")
}

#[test]
fn a_demand_that_the_host_does_not_meet_is_refused_wherever_a_policy_begins_to_count() {
    let job = Cgroup::create(&format!("/tollgate-demanding-{}", std::process::id())).unwrap();
    let mut agent = Agent::prepare(&[]).unwrap();
    let refused = refused(&agent);
    let demanding = policy(&agent, &job, DEMAND);
    let modest = policy(&agent, &job, "egress = \"deny\"");
    agent.policy("demanding", &demanding).unwrap();

    // Before an agent runs, and without one.
    let check = |agent: &Agent| {
        let checked = job::run(agent.tollgate("agent").arg("--check")).unwrap();
        assert_eq!(checked.code == Some(0), refused.is_empty(), "{checked:?}");
        assert!(
            refused.is_empty() || (checked.code == Some(2) && explains(&checked.stderr, &refused)),
            "{checked:?}"
        );
    };
    check(&agent);
    if refused.is_empty() {
        agent.resume().unwrap();
        agent.stop().unwrap();
    } else {
        let ended = agent.resume().unwrap_err().to_string();
        assert!(explains(&ended, &refused), "{ended}");
        // It pretends nothing: a start that was refused leaves no program behind.
        assert!(!agent.dir().join("pins").exists());
    }

    // At a reload the policy from before goes on, and the status says why.
    agent.policy("demanding", &modest).unwrap();
    agent.resume().unwrap();
    agent.policy("demanding", &demanding).unwrap();
    let reloaded = job::run(agent.tollgate("reload").arg("--json")).unwrap();
    let report: Value = serde_json::from_str(&reloaded.stdout).unwrap();
    let faults = report["faults"].to_string();
    assert_eq!(reloaded.code == Some(0), refused.is_empty(), "{reloaded:?}");
    check(&agent);
    if !refused.is_empty() {
        assert!(explains(&faults.replace("\\\"", "\""), &refused), "{faults}");
        let status = agent.cli("status", &[]).unwrap();
        assert!(status.contains("demanding.toml:4:"), "{status}");
    }
    // Of the two policies, one alone lets the job reach what no service names.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let connect = format!("import socket; socket.create_connection(('127.0.0.1', {port}), 5)");
    let tried = job::run(job::command(&job, "root", "python3").args(["-c", &connect])).unwrap();
    assert_eq!(tried.code == Some(0), refused.is_empty(), "{tried:?}");

    agent.policy("demanding", &modest).unwrap();
    let reloaded = job::run(agent.tollgate("reload").arg("--json")).unwrap();
    assert_eq!(reloaded.code, Some(0), "{reloaded:?}");
    agent.uninstall().unwrap();
}
