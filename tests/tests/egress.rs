//! What a workload reaches besides its services is listed, whether it passes or not.

use std::net::{SocketAddr, TcpListener};

use serde_json::Value;
use tollgate_tests::world::{ALLOW_ALL, World};

/// Entries for `address`, as `tollgate egress --json` has them.
fn listed(world: &World, address: SocketAddr) -> Vec<Value> {
    let listing: Value = serde_json::from_str(&world.agent.cli("egress", &["--json"]).unwrap()).unwrap();
    assert_eq!(
        (&listing["unlisted"], &listing["forgotten"]),
        (&0.into(), &0.into())
    );
    let all = listing["destinations"].as_array().unwrap().iter();
    all.filter(|entry| entry["port"] == address.port() && entry["address"] == address.ip().to_string())
        .cloned()
        .collect()
}

fn connect(world: &World, address: SocketAddr, times: usize) -> String {
    let script = format!(
        "import socket, sys\nfor n in range({times}):\n    try: socket.create_connection(('{}', {})); print('in', flush=True)\n    except OSError as e: print(e, flush=True)\nsys.stdin.read()",
        address.ip(),
        address.port()
    );
    // It waits until what it did is looked at, as its executable is found only while it is there.
    let mut job = world
        .script(&script)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    let mut lines = std::io::BufReader::new(job.stdout.take().unwrap());
    for _ in 0..times {
        std::io::BufRead::read_line(&mut lines, &mut said).unwrap();
    }
    let executable = std::fs::read_link(format!("/proc/{}/exe", job.id())).unwrap();
    tollgate_tests::process::eventually("the executable", std::time::Duration::from_secs(20), || {
        let found = listed(world, address);
        found
            .iter()
            .any(|entry| {
                entry["process"]["pid"] == job.id()
                    && entry["process"]["executable"] == executable.display().to_string()
            })
            .then_some(())
    })
    .unwrap();
    drop(job.stdin.take());
    job.wait().unwrap();
    said
}

#[test]
fn what_passes_and_what_is_refused_is_listed_and_outlives_the_agent() {
    let mut world = World::start(ALLOW_ALL).unwrap();
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = server.local_addr().unwrap();
    world
        .change_policy(|text| text.replace("egress = \"allow\"", "egress = \"observe\""))
        .unwrap();
    assert_eq!(connect(&world, address, 3), "in\nin\nin\n");
    let [observed] = listed(&world, address).try_into().unwrap();
    assert_eq!(
        (&observed["workload"], &observed["verdict"]),
        (&"test-job".into(), &"observed".into())
    );
    assert_eq!(
        (&observed["count"], &observed["transport"]),
        (&3.into(), &"tcp".into())
    );
    assert_eq!(
        (&observed["guess"], &observed["process"]["uid"]),
        (&Value::Null, &0.into())
    );
    assert_eq!(observed["process"]["cgroup"], world.job.path());
    let first_seen = observed["first_seen"].as_str().unwrap()[..19].to_owned();

    world.agent.kill().unwrap();
    world
        .change_policy(|text| text.replace("egress = \"observe\"", "egress = \"deny\""))
        .unwrap();
    assert!(connect(&world, address, 1).contains("not permitted"));
    let entries = listed(&world, address);
    let of = |verdict: &str| entries.iter().find(|entry| entry["verdict"] == verdict).unwrap();
    assert_eq!(
        (&of("observed")["count"], &of("refused")["count"]),
        (&3.into(), &1.into())
    );
    let after = of("observed")["first_seen"].as_str().unwrap()[..16].to_owned();
    assert!(first_seen.starts_with(&after), "{first_seen} became {after}");

    let table = world
        .agent
        .cli("egress", &["--workload", "test-job", "--since", "1h"])
        .unwrap();
    let line = table.lines().find(|line| line.contains("refused")).unwrap();
    assert!(
        line.contains(&address.to_string()) && line.contains("test-job"),
        "{table}"
    );
    for nothing in [["--workload", "another"], ["--since", "0s"]] {
        let none = world.agent.cli("egress", &nothing).unwrap();
        assert!(none.starts_with("Nothing was reached"), "{none}");
    }
}
