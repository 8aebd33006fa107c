//! Many short connections of several workloads, while policies are reloaded and the agent is replaced under them.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::{Child, ChildStdout, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tollgate_tests::agent::{Agent, workspace};
use tollgate_tests::cgroup::Cgroup;
use tollgate_tests::job::{self, NOBODY};
use tollgate_tests::policy::Policy;
use tollgate_tests::process::eventually;

/// Connections of all processes.
const CONNECTIONS: usize = 20_000;
/// Processes of each workload.
const PROCESSES: usize = 4;
/// Connections of a process that are open at a time.
const THREADS: usize = 4;
const WORKLOADS: [&str; 2] = ["one", "two"];

/// A server that says at which port it heard what.
fn echo() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    for _ in 0..THREADS + 2 {
        let listener = listener.try_clone().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { continue };
                let mut said = Vec::new();
                // A session that is cut off ends the connection; its client tells.
                if stream.read_to_end(&mut said).is_ok() {
                    let mut answer = format!("{port} ").into_bytes();
                    answer.extend(said);
                    stream.write_all(&answer).ok();
                }
            }
        });
    }
    port
}

fn policy(workload: &str, cgroup: &str, ports: &[u16], round: usize) -> Policy {
    let addresses: Vec<_> = ports.iter().map(|port| format!("\"127.0.0.1:{port}\"")).collect();
    // What changes with each round has nothing to do with the service that is used.
    Policy::from_text(&format!(
        "# {round}\n[workload]\nname = \"{workload}\"\ncgroup = [\"{cgroup}\", \"{cgroup}-{round}\"]\n\n\
         [[service]]\nname = \"echo\"\nprotocol = \"opaque\"\naddress = [{}]\n\n\
         [[service]]\nname = \"other-{}\"\nprotocol = \"opaque\"\naddress = [\"192.0.2.1:{}\"]\n",
        addresses.join(", "),
        round % 3,
        1000 + round % 5,
    ))
}

struct Client {
    child: Child,
    output: BufReader<ChildStdout>,
    pid: u64,
    workload: &'static str,
    port: u16,
}

fn client(cgroup: &Cgroup, workload: &'static str, port: u16) -> Client {
    let count = CONNECTIONS / WORKLOADS.len() / PROCESSES;
    let script = workspace().join("tests/client/storm.py");
    let mut child = job::command(cgroup, NOBODY, "python3")
        .args(["-c", &std::fs::read_to_string(script).unwrap()])
        .args([port.to_string(), count.to_string(), THREADS.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut pid = String::new();
    output.read_line(&mut pid).unwrap();
    let pid = pid.trim().parse().unwrap();
    Client {
        child,
        output,
        pid,
        workload,
        port,
    }
}

#[test]
fn none_of_twenty_thousand_connections_is_lost_or_taken_for_anothers() {
    let slice = format!("/tollgate-test-storm-{}", std::process::id());
    let ports: Vec<u16> = (0..WORKLOADS.len() * PROCESSES).map(|_| echo()).collect();
    let cgroup = |workload: &str| format!("{slice}/{workload}");
    let policies = |round: usize| WORKLOADS.map(|name| (name, policy(name, &cgroup(name), &ports, round)));
    let agent = Agent::start(&policies(0)).unwrap();
    let cgroups = WORKLOADS.map(|name| Cgroup::create(&cgroup(name)).unwrap());
    let mut clients: Vec<Client> = Vec::new();
    for (cgroup, workload) in cgroups.iter().zip(WORKLOADS) {
        for _ in 0..PROCESSES {
            let port = ports[clients.len()];
            clients.push(client(cgroup, workload, port));
        }
    }
    let over = AtomicBool::new(false);
    let begun = Instant::now();
    let (reloads, upgrades) = std::thread::scope(|scope| {
        let reloads = scope.spawn(|| {
            let mut round = 0;
            while !over.load(Ordering::Relaxed) {
                round += 1;
                for (name, policy) in policies(round) {
                    agent.policy(name, &policy).unwrap();
                }
                // While it is replaced, nobody answers.
                let ended = job::run(&mut agent.tollgate("reload")).unwrap();
                assert!(matches!(ended.code, Some(0 | 2 | 3)), "{ended:?}");
                // The command costs more than the reload.
                std::thread::sleep(Duration::from_millis(100));
            }
            round
        });
        let upgrades = scope.spawn(|| {
            let mut upgrades = 0;
            while upgrades < 4 && !over.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_secs(2));
                if over.load(Ordering::Relaxed) {
                    break;
                }
                let ended = job::run(&mut agent.tollgate("upgrade")).unwrap();
                match ended.code {
                    Some(0) => upgrades += 1,
                    // A policy was being written at that very moment.
                    Some(1) if ended.stderr.contains("could not start") => {}
                    _ => panic!("{ended:?}\n{}", agent.log()),
                }
            }
            upgrades
        });
        for client in &mut clients {
            writeln!(client.child.stdin.as_mut().unwrap()).unwrap();
        }
        let mut wrong = Vec::new();
        for client in &mut clients {
            let mut said = String::new();
            client.output.read_line(&mut said).unwrap();
            if said != "right\n" {
                wrong.push(said);
            }
            client.child.wait().unwrap();
        }
        over.store(true, Ordering::Relaxed);
        assert!(wrong.is_empty(), "{wrong:?}\n{}", agent.log());
        (reloads.join().unwrap(), upgrades.join().unwrap())
    });
    let took = begun.elapsed();
    println!("{CONNECTIONS} connections in {took:.1?}, {reloads} reloads and {upgrades} upgrades under them");
    assert!(reloads > 5 && upgrades >= 2, "{reloads} {upgrades}");

    let sessions = eventually("every session to be closed", Duration::from_secs(30), || {
        let sessions = agent.sessions().ok()?;
        sessions
            .iter()
            .all(|session| session["state"] == "closed")
            .then_some(sessions)
    })
    .unwrap();
    assert_eq!(sessions.len(), CONNECTIONS);
    let mut counts: HashMap<(String, u64, String), usize> = HashMap::new();
    for session in &sessions {
        let open = &session["open"];
        let key = (
            open["workload"].as_str().unwrap().to_owned(),
            open["identity"]["process"]["pid"].as_u64().unwrap(),
            open["original_destination"].as_str().unwrap().to_owned(),
        );
        *counts.entry(key).or_default() += 1;
    }
    // Each process has a destination of its own: one that is taken for another's shows.
    let expected: HashMap<_, _> = clients
        .iter()
        .map(|client| {
            let key = (
                client.workload.to_owned(),
                client.pid,
                format!("127.0.0.1:{}", client.port),
            );
            (key, CONNECTIONS / clients.len())
        })
        .collect();
    assert_eq!(counts, expected);
    let log = agent.log();
    assert!(!log.contains("unknown origin"), "{log}");
}
