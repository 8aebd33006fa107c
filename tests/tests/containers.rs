//! Containers of podman, crun and runc, and `ip netns exec`: their jobs are judged and recorded from their first connection
//! on, and their namespaces end with them.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tollgate_tests::agent::Agent;
use tollgate_tests::container::{Bundle, Podman, Runtime, root};
use tollgate_tests::faulty::Faulty;
use tollgate_tests::job::{self, Ended, NOBODY};
use tollgate_tests::netns::Netns;
use tollgate_tests::process::{eventually, run};
use tollgate_tests::world::{DATABASE, ROLE, World};

const LIMIT: Duration = Duration::from_mins(1);

const READS: &str = r#"
[[service.rule]]
name    = "reads"
effects = ["read", "transaction", "session"]
verdict = "allow"
"#;

/// The second octet of this test process's own networks.
fn net() -> u8 {
    u8::try_from(100 + std::process::id() % 100).unwrap()
}

/// A world whose service is at every address of the test's networks. Besides, the slice of its managed cgroup, with which
/// cgroups begin that no policy knows.
fn world() -> (World, Faulty, String) {
    let (mut world, relay) = World::behind_a_relay(READS).unwrap();
    let network = format!("address  = [\"10.{}.0.0/16:{}\"]", net(), relay.address().port());
    let address = format!("address  = [\"{}\"]", world.address);
    world
        .change_policy(|text| text.replace(&address, &network))
        .unwrap();
    let slice = world.job.path().trim_end_matches("/job").to_owned();
    (world, relay, slice)
}

/// What a namespace reaches the server by, at the host's end of its cable.
fn door(world: &World, relay: &Faulty, host: &str) -> Faulty {
    let server = SocketAddr::from(([127, 0, 0, 1], world.server.port()));
    Faulty::start(
        format!("{host}:{}", relay.address().port()).parse().unwrap(),
        server,
    )
    .unwrap()
}

/// Arguments of a `psql` without any secret.
fn psql(host: &str, port: u16, sql: &str) -> Vec<String> {
    let port = port.to_string();
    let arguments = [
        "psql", "-X", "-qAt", "-h", host, "-p", &port, "-U", "nobody", "-d", DATABASE,
    ];
    arguments
        .into_iter()
        .chain(["-c", sql])
        .map(str::to_owned)
        .collect()
}

/// How often the kernel side has counted `kind`.
fn count(agent: &Agent, kind: &str) -> u64 {
    let status: serde_json::Value = serde_json::from_str(&agent.cli("status", &["--json"]).unwrap()).unwrap();
    let events = status["kernel"]["events"].as_array().unwrap();
    let event = events.iter().find(|event| event["kind"] == kind).unwrap();
    event["count"].as_u64().unwrap()
}

/// Whether a job has read as the agent's role, and been refused what it may not do, which the server has not seen.
fn is_judged(world: &World, read: &Ended, removed: &Ended) {
    let log = world.agent.log();
    assert_eq!(read.stdout.trim(), ROLE, "{read:?}\n{log}");
    assert!(removed.stderr.contains("no rule allows"), "{removed:?}\n{log}");
    assert!(!world.server.log().contains("DELETE FROM orders"));
}

const WHO: &str = "SELECT session_user";
const REMOVES: &str = "DELETE FROM orders";

#[test]
fn a_podman_container_is_served_from_its_first_connection_on() {
    let (world, relay, slice) = world();
    let podman = Podman::new(&world.agent, &slice).unwrap();
    let port = relay.address().port();
    for (number, runtime) in [(1, Runtime::Crun), (2, Runtime::Runc)] {
        let namespace = Netns::create(net(), number).unwrap();
        let _door = door(&world, &relay, namespace.host());
        let ran = |sql: &str, parent: &str| {
            let mut command = podman.run(runtime, namespace.pid());
            command.args(["--cgroup-parent", parent, "--rootfs"]).arg(root());
            job::run_within(command.args(psql(namespace.host(), port, sql)), LIMIT).unwrap()
        };
        let awaited = count(&world.agent, "listener-awaited");
        let (read, removed) = (ran(WHO, world.job.path()), ran(REMOVES, world.job.path()));
        is_judged(&world, &read, &removed);
        assert_eq!(
            count(&world.agent, "listener-awaited"),
            awaited,
            "the agent was there before"
        );
        let last = world.last_session().unwrap();
        let original = format!("{}:{port}", namespace.host());
        assert_eq!(last["open"]["original_destination"], original, "{last}");
        let cgroup = format!("{}/libpod-", world.job.path());
        assert!(last["open"]["identity"].to_string().contains(&cgroup), "{last}");

        // There is a way around the agent, for those that no policy concerns: there a job needs a password of its own.
        let free = ran(WHO, &format!("{slice}/free"));
        assert!(free.stderr.contains("no password supplied"), "{free:?}");
    }
}

/// A job that runs containers itself, in its own cgroup: it may ask for no more than its first socket would have done.
#[test]
fn a_job_under_a_policy_runs_containers() {
    let (world, relay, slice) = world();
    let podman = Podman::new(&world.agent, &slice).unwrap();
    let namespace = Netns::create(net(), 3).unwrap();
    let _door = door(&world, &relay, namespace.host());
    let ran = |sql: &str| {
        let mut podman = podman.run(Runtime::Crun, namespace.pid());
        podman.args(["--cgroups=disabled", "--rootfs"]).arg(root());
        podman.args(psql(namespace.host(), relay.address().port(), sql));
        let mut command = job::command(&world.job, "root", &podman.get_program().to_string_lossy());
        command.args(podman.get_args());
        for (name, value) in podman.get_envs() {
            command.env(name, value.unwrap());
        }
        job::run_within(&mut command, LIMIT).unwrap()
    };
    let awaited = count(&world.agent, "listener-awaited");
    let (read, removed) = (ran(WHO), ran(REMOVES));
    is_judged(&world, &read, &removed);
    assert_eq!(count(&world.agent, "listener-awaited"), awaited);
}

#[test]
fn a_runc_container_is_served_with_the_hook_and_without_and_its_namespace_ends_with_it() {
    let (world, relay, slice) = world();
    let host = format!("10.{}.4.1", net());
    let outside = format!("tg{}x4h", net());
    let inside = format!("tg{}x4i", net());
    let cable = format!(
        "set -e\nip link add {outside} type veth peer name {inside}\n\
         ip address add {host}/30 dev {outside}\nip link set {outside} up"
    );
    let plumbing = format!(
        "ip link set {inside} netns $pid\n\
         nsenter --net --target $pid ip address add 10.{}.4.2/30 dev {inside}\n\
         nsenter --net --target $pid ip link set {inside} up",
        net()
    );
    let ran = |sql: &str, agent: Option<&Agent>, cgroup: &str| {
        let arguments = psql(&host, relay.address().port(), sql);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        run(Command::new("sh").args(["-c", &cable])).unwrap();
        let _door = door(&world, &relay, &host);
        let bundle = Bundle::new(&slice, cgroup, &arguments, &plumbing).unwrap();
        let ended = job::run_within(&mut bundle.run(agent).unwrap(), LIMIT);
        let gone = eventually("the namespace to end", Duration::from_secs(5), || {
            (!Path::new("/sys/class/net").join(&outside).exists()).then_some(())
        });
        Command::new("ip")
            .args(["link", "delete", &outside])
            .output()
            .unwrap();
        gone.unwrap();
        ended.unwrap()
    };
    let managed = format!("{}/runc", world.job.path());
    for agent in [Some(&world.agent), None] {
        let awaited = count(&world.agent, "listener-awaited");
        let (read, removed) = (ran(WHO, agent, &managed), ran(REMOVES, agent, &managed));
        is_judged(&world, &read, &removed);
        assert_eq!(
            count(&world.agent, "listener-awaited") == awaited,
            agent.is_some(),
            "without the hook the first connection waits"
        );
        let last = world.last_session().unwrap();
        assert!(last["open"]["identity"].to_string().contains(&managed), "{last}");
    }
    let free = ran(WHO, Some(&world.agent), &format!("{slice}/free"));
    assert!(free.stderr.contains("no password supplied"), "{free:?}");
}

#[test]
fn without_an_agent_containers_are_not_started_that_a_policy_concerns_and_others_are() {
    let (mut world, relay, slice) = world();
    let podman = Podman::new(&world.agent, &slice).unwrap();
    let namespace = Netns::create(net(), 5).unwrap();
    let _door = door(&world, &relay, namespace.host());
    let ran = |runtime, parent: &str| {
        let mut command = podman.run(runtime, namespace.pid());
        command.args(["--cgroup-parent", parent, "--rootfs"]).arg(root());
        job::run_within(command.args(["echo", "it ran"]), LIMIT).unwrap()
    };
    let free = format!("{slice}/free");
    world.agent.kill().unwrap();
    for runtime in [Runtime::Crun, Runtime::Runc] {
        let ended = ran(runtime, world.job.path());
        assert!(
            ended.code != Some(0) && !ended.stdout.contains("it ran"),
            "{ended:?}"
        );
        let said = match runtime {
            // It tells podman the exit code alone.
            Runtime::Crun => std::fs::read_to_string(podman.said()).unwrap(),
            Runtime::Runc => ended.stderr,
        };
        for part in ["is not started", world.job.path(), "systemctl start tollgate"] {
            assert!(said.contains(part), "{said}");
        }
        std::fs::remove_file(podman.said()).ok();
        let ended = ran(runtime, &free);
        assert_eq!(ended.stdout.trim(), "it ran", "{ended:?}");
        assert_eq!(std::fs::read_to_string(podman.said()).unwrap_or_default(), "");
    }
    world.agent.resume().unwrap();
    let ended = ran(Runtime::Crun, world.job.path());
    assert_eq!(ended.stdout.trim(), "it ran", "{ended:?}");
    // Nothing is known of containers where there is no Tollgate at all.
    world.agent.uninstall().unwrap();
    let ended = ran(Runtime::Runc, world.job.path());
    assert_eq!(ended.stdout.trim(), "it ran", "{ended:?}");
}

/// What a policy's author sees when the hook is set up in a wrong way.
#[test]
fn the_hook_says_what_it_is_for_and_heeds_no_broken_configuration() {
    let (world, _relay, _slice) = world();
    let hook = |state: &str, config: &Path| {
        let mut command = Command::new(tollgate_tests::agent::binary());
        command.arg("oci-hook").arg("--config").arg(config);
        let state_file = world.agent.dir().join("state.json");
        std::fs::write(&state_file, state).unwrap();
        let output = command
            .stdin(std::fs::File::open(state_file).unwrap())
            .output()
            .unwrap();
        (
            output.status.code().unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let (code, said) = hook("hello", &world.agent.config());
    assert!(code == 2 && said.contains("createRuntime"), "{code} {said}");
    let own = format!("{{\"id\": \"x\", \"pid\": {}}}", std::process::id());
    assert_eq!(hook(&own, &world.agent.config()), (0, String::new()));
    let broken = world.agent.dir().join("broken.toml");
    std::fs::write(&broken, "state_dir = 1\n").unwrap();
    let (code, said) = hook(&own, &broken);
    assert!(code == 0 && said.contains("in its usual place"), "{code} {said}");
}

/// A namespace that `ip netns` keeps: the agent is not what it lives on for.
#[test]
fn what_ip_netns_exec_runs_is_served_and_the_namespace_can_be_deleted() {
    let (world, relay, _slice) = world();
    let name = format!("tollgate-test-{}", std::process::id());
    let (host, outside) = (format!("10.{}.6.1", net()), format!("tg{}x6h", net()));
    let setup = format!(
        "set -e\nip netns add {name}\n\
         ip link add {outside} type veth peer name inside netns {name}\n\
         ip address add {host}/30 dev {outside}\nip link set {outside} up\n\
         ip -n {name} address add 10.{}.6.2/30 dev inside\nip -n {name} link set inside up\nip -n {name} link set lo up",
        net()
    );
    let cable = Path::new("/sys/class/net").join(&outside);
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        run(Command::new("sh").args(["-c", &setup])).unwrap();
        let _door = door(&world, &relay, &host);
        let ran = |sql: &str| {
            let mut command = job::command(&world.job, "root", "ip");
            command.args(["netns", "exec", &name, "setpriv", "--reuid", NOBODY]);
            job::run_within(command.args(psql(&host, relay.address().port(), sql)), LIMIT).unwrap()
        };
        // Entered again and again, whether the agent has left meanwhile or not.
        for _ in 0..3 {
            let (read, removed) = (ran(WHO), ran(REMOVES));
            is_judged(&world, &read, &removed);
        }
    }));
    run(Command::new("ip").args(["netns", "delete", &name])).unwrap();
    let gone = eventually("the namespace to end", Duration::from_secs(5), || {
        (!cable.exists()).then_some(())
    });
    Command::new("ip")
        .args(["link", "delete", &outside])
        .output()
        .unwrap();
    outcome.unwrap();
    gone.unwrap();
}
