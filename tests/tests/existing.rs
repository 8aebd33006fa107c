//! Connections that were open before they had to go through the proxy.

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Stdio};
use std::time::Duration;

use tollgate_tests::cgroup::Cgroup;
use tollgate_tests::process::eventually;
use tollgate_tests::world::{ALLOW_ALL, PASSWORD, ROLE, World};

const LIMIT: Duration = Duration::from_secs(30);

fn wait_for(world: &World, name: &str) {
    let path = world.agent.dir().join(name);
    eventually(name, LIMIT, || path.exists().then_some(())).unwrap();
}

fn output(child: Child) -> String {
    let output = child.wait_with_output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// What the record says of sessions that are no conversation.
fn ended_around(world: &World) -> Vec<serde_json::Value> {
    let sessions = world.sessions().unwrap();
    let around = |session: &serde_json::Value| {
        let reason = session["counts"]["reason"].as_str().unwrap_or_default();
        reason.contains("went around the proxy")
    };
    sessions.into_iter().filter(around).collect()
}

#[test]
fn a_login_from_before_the_agent_started_is_cut_and_recorded_and_the_rest_goes_on() {
    let mut world = World::start(ALLOW_ALL).unwrap();
    let open = TcpListener::bind("127.0.0.1:0").unwrap();
    world.agent.uninstall().unwrap();
    let script = r#"
import os, socket, psycopg
other = socket.create_connection(("127.0.0.1", int(os.environ["OPEN"])))
# With the credential that a workload should not have: nothing judges this login.
db = psycopg.connect(host=os.environ["HOST"], port=os.environ["PORT"], dbname=os.environ["DB"],
                     user=os.environ["ROLE"], password=os.environ["SECRET"], sslmode="disable")
open(os.environ["DIR"] + "/connected", "w").close()
with socket.socket(fileno=os.dup(db.fileno())) as raw:
    raw.settimeout(20)
    try: print("got", raw.recv(1))
    except OSError as e: print("cut off:", e.strerror)
try: db.execute("SELECT 1"); print("the login still works")
except psycopg.OperationalError: print("the login is gone")
other.send(b"still here")
"#;
    let job = world
        .script(script)
        .env("OPEN", open.local_addr().unwrap().port().to_string())
        .env("DIR", world.agent.dir())
        .env("ROLE", ROLE)
        .env("SECRET", PASSWORD)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for(&world, "connected");
    let pid = job.id();
    world.agent.resume().unwrap();
    let said = output(job);
    assert!(
        said.contains("cut off") && said.contains("the login is gone"),
        "{said}"
    );
    assert!(!said.contains("Error"), "{said}");
    let mut received = String::new();
    std::io::Read::read_to_string(&mut open.accept().unwrap().0, &mut received).unwrap();
    assert_eq!(received, "still here");

    let last = world.last_session().unwrap();
    let around = ended_around(&world);
    assert_eq!(around.as_slice(), std::slice::from_ref(&last));
    assert_eq!(last["open"]["original_destination"], world.address.to_string());
    assert_eq!(
        (&last["open"]["workload"], &last["open"]["service"]),
        (&"test-job".into(), &"shop".into())
    );
    assert_eq!(last["open"]["identity"]["process"]["pid"], pid, "{last}");
    let id = last["open"]["session"].as_str().unwrap();
    let replay = world.agent.cli("replay", &[id]).unwrap();
    assert!(
        replay.contains("was open before the destination was protected"),
        "{replay}"
    );
    assert!(
        world.agent.log().contains("went around the proxy"),
        "{}",
        world.agent.log()
    );
    world.agent.cli("verify", &[]).unwrap();
    // The server was told: no session of the role is left behind with its locks.
    eventually("the server to end the session", LIMIT, || {
        let count = format!("SELECT count(*) FROM pg_stat_activity WHERE usename = '{ROLE}'");
        (world.server.admin("postgres", &count).unwrap().trim() == "0").then_some(())
    })
    .unwrap();
}

#[test]
fn a_connection_to_a_destination_that_a_reload_protects_is_cut_and_one_to_another_is_not() {
    let world = World::start(ALLOW_ALL).unwrap();
    let later = TcpListener::bind("127.0.0.1:0").unwrap();
    let never = TcpListener::bind("127.0.0.1:0").unwrap();
    let script = r#"
import os, socket
later, never = (socket.create_connection(("127.0.0.1", int(os.environ[name])), timeout=20) for name in ("LATER", "NEVER"))
open(os.environ["DIR"] + "/connected", "w").close()
try: print("got", later.recv(1))
except OSError as e: print("cut off:", e.strerror)
never.send(b"still here")
"#;
    let port = |listener: &TcpListener| listener.local_addr().unwrap().port().to_string();
    let job = world
        .script(script)
        .env("LATER", port(&later))
        .env("NEVER", port(&never))
        .env("DIR", world.agent.dir())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for(&world, "connected");
    let path = world.agent.dir().join("policies.d/test-job.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let more = format!(
        "{text}\n[[service]]\nname = \"later\"\nprotocol = \"opaque\"\naddress = [\"{}\"]\n",
        later.local_addr().unwrap()
    );
    std::fs::write(&path, more).unwrap();
    world.agent.cli("reload", &[]).unwrap();
    let said = output(job);
    assert!(said.contains("cut off"), "{said}");
    let mut received = String::new();
    std::io::Read::read_to_string(&mut never.accept().unwrap().0, &mut received).unwrap();
    assert_eq!(received, "still here");
    let around = ended_around(&world);
    let [session] = around.as_slice() else {
        panic!("{around:?}")
    };
    assert_eq!(session["open"]["service"], "later", "{session}");
}

#[test]
fn a_connection_that_is_inherited_from_outside_is_found_and_the_record_says_so() {
    let world = World::start(ALLOW_ALL).unwrap();
    let inherited = TcpStream::connect(world.address).unwrap();
    let job = world
        .script("import socket\nraw = socket.socket(fileno=0)\ntry: print('got', raw.recv(1))\nexcept OSError as e: print('cut off:', e.strerror)")
        .stdin(Stdio::from(std::os::fd::OwnedFd::from(inherited)))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let said = output(job);
    assert!(said.contains("cut off"), "{said}");
    let last = world.last_session().unwrap();
    let id = last["open"]["session"].as_str().unwrap();
    let replay = world.agent.cli("replay", &[id]).unwrap();
    assert!(replay.contains("was made outside and brought in"), "{replay}");
}

#[test]
fn a_session_through_the_proxy_is_not_taken_for_one_around_it() {
    let world = World::start(ALLOW_ALL).unwrap();
    let script = r#"
import os, time
from wire import *
c = Client()
c.until(b"Z")
open(os.environ["DIR"] + "/connected", "w").close()
while not os.path.exists(os.environ["DIR"] + "/go"): time.sleep(0.01)
c.send(query("SELECT 'still here'"))
print(c.until(b"Z"))
"#;
    let job = world
        .script(script)
        .env("DIR", world.agent.dir())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for(&world, "connected");
    // A stray that is found shows that the agent has looked.
    let below = Cgroup::create(&format!("{}/below", world.job.path())).unwrap();
    let stray = TcpStream::connect(world.address).unwrap();
    let mut witness = std::process::Command::new("/bin/sh")
        .args([
            "-c",
            "echo $$ > \"$0/cgroup.procs\" && exec cat",
            &below.dir().display().to_string(),
        ])
        .stdin(Stdio::from(std::os::fd::OwnedFd::from(stray)))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    witness.wait().unwrap();
    std::fs::write(world.agent.dir().join("go"), "").unwrap();
    let said = output(job);
    assert!(said.contains("still here"), "{said}");
    assert_eq!(ended_around(&world).len(), 1);
    drop(below);
}
