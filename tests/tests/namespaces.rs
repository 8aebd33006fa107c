//! Names, addresses and network namespaces: whichever way a job finds a service, it is the right one.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use tollgate_tests::agent::{binary, workspace};
use tollgate_tests::cgroup::Cgroup;
use tollgate_tests::driver;
use tollgate_tests::faulty::Faulty;
use tollgate_tests::job;
use tollgate_tests::netns::Netns;
use tollgate_tests::policy::Policy;
use tollgate_tests::process::{eventually, run};
use tollgate_tests::world::{ALLOW_ALL, PASSWORD, World};

const LIMIT: Duration = Duration::from_secs(30);

/// The second octet of this test process's own networks.
fn net() -> u8 {
    u8::try_from(100 + std::process::id() % 100).unwrap()
}

/// Starts the server anew, listening on several of the host's addresses.
fn listen_everywhere(world: &mut World) {
    world
        .server
        .admin(
            "postgres",
            "ALTER SYSTEM SET listen_addresses = '127.0.0.1, 127.0.0.2, ::1'",
        )
        .unwrap();
    world.server.crash().unwrap();
    world.server.resume().unwrap();
}

fn query_at(world: &World, host: &str) -> job::Ended {
    let script = r#"
import os
os.environ["HOST"] = os.environ["AT"]
from wire import *
c = Client()
got = c.until(b"Z")
if got[-1][0] == b"Z":
    c.send(query("SELECT session_user"))
    got = c.until(b"Z")
print([body for tag, body in got if tag == b"D"], told(got))
"#;
    job::run_within(world.script(script).env("AT", host), LIMIT).unwrap()
}

#[test]
fn a_service_on_the_host_is_found_under_every_address_of_the_host_and_by_name() {
    let mut world = World::start(ALLOW_ALL).unwrap();
    listen_everywhere(&mut world);
    let port = world.address.port();
    let everywhere = [
        ("127.0.0.1", format!("127.0.0.1:{port}")),
        ("::ffff:127.0.0.1", format!("[::ffff:127.0.0.1]:{port}")),
        ("127.0.0.2", format!("127.0.0.2:{port}")),
        ("0.0.0.0", format!("0.0.0.0:{port}")),
        ("::1", format!("[::1]:{port}")),
        ("::", format!("[::]:{port}")),
    ];
    for name in ["127.0.0.1", "localhost", "127.0.0.0/8", "[::1]"] {
        world
            .change_policy(|text| {
                let at = text.find("address  = [").unwrap();
                let end = at + text[at..].find('\n').unwrap();
                format!("{}address  = [\"{name}:{port}\"]{}", &text[..at], &text[end..])
            })
            .unwrap();
        for (host, original) in &everywhere {
            let ended = query_at(&world, host);
            assert!(
                ended.stdout.contains("injected_role"),
                "{name} by {host}: {ended:?}\n{}",
                world.agent.log()
            );
            let last = world.last_session().unwrap();
            assert_eq!(last["open"]["service"], "shop", "{last}");
            let recorded = last["open"]["original_destination"].as_str().unwrap();
            // A v4-mapped address is the address that it maps.
            let same = |text: &str| {
                text.parse::<SocketAddr>()
                    .map(|address| (address.ip().to_canonical(), address.port()))
                    .unwrap()
            };
            assert_eq!(same(recorded), same(original), "{last}");
        }
    }
}

#[test]
fn a_name_is_followed_to_its_new_address_and_the_old_one_is_given_up() {
    let (mut world, _relay) = World::behind_a_relay(ALLOW_ALL).unwrap();
    let (first, second) = (Netns::create(net(), 1).unwrap(), Netns::create(net(), 2).unwrap());
    // Addresses inside of the namespaces, where nobody listens: whether the agent answers is what counts.
    let inside = [format!("10.{}.1.2", net()), format!("10.{}.2.2", net())];
    let hosts = world.agent.dir().join("hosts");
    let name = "db.acme.test";
    std::fs::write(&hosts, format!("127.0.0.1 localhost\n{} {name}\n", inside[0])).unwrap();
    let wrapper = world.agent.dir().join("tollgate-with-hosts");
    let script = format!(
        "#!/bin/sh\nexec unshare --mount --propagation private sh -c 'mount --bind {} /etc/hosts && exec {} \"$@\"' sh \"$@\"\n",
        hosts.display(),
        binary().display()
    );
    std::fs::write(&wrapper, script).unwrap();
    std::fs::set_permissions(&wrapper, std::fs::Permissions::from_mode(0o755)).unwrap();
    let pins = world.agent.dir().join("pins-of-the-host");
    std::fs::create_dir(&pins).unwrap();
    run(Command::new("mount").args(["-t", "bpf", "bpf"]).arg(&pins)).unwrap();
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        world.agent.uninstall().unwrap();
        let config = std::fs::read_to_string(world.agent.config()).unwrap();
        std::fs::write(
            world.agent.config(),
            config.replace("/pins\"", "/pins-of-the-host\""),
        )
        .unwrap();
        world.agent.configure("[resolve]\ninterval = \"1s\"").unwrap();
        world.agent.run_by(wrapper);
        let (port, address) = (world.address.port(), world.address);
        world
            .change_policy(|text| text.replace(&format!("\"{address}\""), &format!("\"{name}:{port}\"")))
            .unwrap();

        let answered = |at: &str| query_at(&world, at).stdout.contains("tollgate");
        assert!(answered(&inside[0]), "{}", world.agent.log());
        assert!(!answered(&inside[1]));
        // Written in place, as the agent sees this very file.
        std::fs::write(&hosts, format!("127.0.0.1 localhost\n{} {name}\n", inside[1])).unwrap();
        eventually("the new address to be protected", LIMIT, || {
            answered(&inside[1]).then_some(())
        })
        .unwrap();
        assert!(
            !answered(&inside[0]),
            "the old address is still taken for the service"
        );
        // A name that does not resolve any more keeps what it had.
        std::fs::write(&hosts, "127.0.0.1 localhost\n").unwrap();
        eventually("the agent to notice", LIMIT, || {
            world.agent.log().contains("does not resolve").then_some(())
        })
        .unwrap();
        assert!(answered(&inside[1]));
        let last = world.last_session().unwrap();
        assert_eq!(
            last["open"]["original_destination"],
            format!("{}:{port}", inside[1]),
            "{last}"
        );
        world.agent.uninstall().ok();
        world.agent.run_by(binary());
    }));
    Command::new("umount").arg(&pins).output().unwrap();
    drop((first, second));
    outcome.unwrap();
}

/// A job that connects from one and the same port again and again, and tells as whom it was logged in each time.
const FROM_ONE_PORT: &str = r#"
import os, socket, struct, sys, time
from wire import *
users, refused = [], 0
until = time.time() + 25
while len(users) < 40 and time.time() < until:
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(("0.0.0.0", 40404))
    try:
        s.connect((HOST, PORT))
    except ConnectionRefusedError:
        # Nobody listens in this namespace yet.
        refused += 1
        s.close()
        time.sleep(0.05)
        continue
    s.settimeout(20)
    c = Client.__new__(Client)
    c.socket, c.left = s, b""
    c.send(startup() + query("SELECT session_user"))
    got = c.until(b"Z") + c.until(b"Z")
    users += [body[6:].decode() for tag, body in got if tag == b"D"] or [str(told(got))]
    c.reset()
print(sorted(set(users)), len(users))
"#;

#[test]
fn jobs_in_namespaces_of_their_own_on_the_same_port_are_not_taken_for_one_another() {
    let (mut world, relay) = World::behind_a_relay(ALLOW_ALL).unwrap();
    let server = SocketAddr::from(([127, 0, 0, 1], world.server.port()));
    let namespaces = [Netns::create(net(), 3).unwrap(), Netns::create(net(), 4).unwrap()];
    let port = relay.address().port();
    let _doors: Vec<Faulty> = namespaces
        .iter()
        .map(|namespace| {
            Faulty::start(format!("{}:{port}", namespace.host()).parse().unwrap(), server).unwrap()
        })
        .collect();
    world
        .server
        .admin(
            "shop",
            &format!("CREATE ROLE other_role_77ab LOGIN PASSWORD '{PASSWORD}'"),
        )
        .unwrap();
    // A second workload with another login; for each, one address is a service of its own beside the network's.
    let first = world.job.path().to_owned();
    let other = Cgroup::create(&format!("{first}-other")).unwrap();
    let text = std::fs::read_to_string(world.agent.dir().join("policies.d/test-job.toml")).unwrap();
    let network = format!("address  = [\"10.{}.0.0/16:{port}\"]", net());
    let text = text.replace(&format!("address  = [\"{}\"]", world.address), &network);
    assert!(text.contains(&network), "{text}");
    let narrow = format!(
        "\n[[service]]\nname = \"narrow\"\nprotocol = \"postgres\"\naddress = [\"{}:{port}\"]\ntls = {{ upstream = \"disable\" }}\n\
         [service.credential]\nsource = \"file\"\nuser = \"other_role_77ab\"\npassword = \"{}\"\n{ALLOW_ALL}",
        namespaces[1].host(),
        world.agent.dir().join("shop-password").display(),
    );
    let second = text
        .replace("test-job", "other-job")
        .replace(&format!("\"{first}\""), &format!("\"{}\"", other.path()))
        .replace("injected_role_5d1e", "other_role_77ab");
    world
        .agent
        .policy("other-job", &Policy::from_text(&second))
        .unwrap();
    world.change_policy(|_| text + &narrow).unwrap();

    let spawn = |cgroup: &Cgroup, namespace: &Netns, host: &str| {
        let mut command = job::command(cgroup, "root", "nsenter");
        command
            .args(["--net", "--target", &namespace.pid().to_string()])
            .arg(driver::python())
            .args(["-c", FROM_ONE_PORT])
            .env("HOST", host)
            .env("PORT", port.to_string())
            .env("DB", "shop")
            .env("PYTHONPATH", workspace().join("tests/client"));
        command
    };
    let both = [
        (
            spawn(&world.job, &namespaces[0], namespaces[0].host()),
            "['injected_role_5d1e'] 40",
        ),
        (
            spawn(&other, &namespaces[1], namespaces[1].host()),
            "['other_role_77ab'] 40",
        ),
    ];
    let running = both.map(|(mut command, expected)| {
        (
            std::thread::spawn(move || job::run_within(&mut command, LIMIT).unwrap()),
            expected,
        )
    });
    for (running, expected) in running {
        let ended = running.join().unwrap();
        assert_eq!(ended.stdout.trim(), expected, "{ended:?}\n{}", world.agent.log());
    }
    world.last_session().unwrap();
    for session in world.sessions().unwrap() {
        let open = &session["open"];
        let (workload, original) = (
            open["workload"].as_str().unwrap(),
            open["original_destination"].as_str().unwrap(),
        );
        let (host, cgroup) = match workload {
            "test-job" => (namespaces[0].host(), world.job.path()),
            _ => (namespaces[1].host(), other.path()),
        };
        assert_eq!(original, format!("{host}:{port}"), "{session}");
        assert!(
            open["identity"].to_string().contains(&format!("\"{cgroup}\"")),
            "{session}"
        );
        assert_eq!(open["service"], "shop", "{session}");
    }
    // Of two services on one port, the narrower is meant.
    let mut narrower = spawn(&world.job, &namespaces[0], namespaces[1].host());
    let ended = job::run_within(&mut narrower, LIMIT).unwrap();
    assert_eq!(ended.stdout.trim(), "['other_role_77ab'] 40", "{ended:?}");
    assert_eq!(world.last_session().unwrap()["open"]["service"], "narrow");
}
