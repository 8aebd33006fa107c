//! Credentials that the agent makes: there for as long as they are needed, and gone after it, whatever happens in between.

use std::time::Duration;

use tollgate_tests::postgres::{ADMIN, ADMIN_PASSWORD, Postgres};
use tollgate_tests::process::{eventually, run};
use tollgate_tests::psql::Psql;
use tollgate_tests::world::{ALLOW_ALL, DATABASE, World};

const LIMIT: Duration = Duration::from_secs(40);
const KEEPER: &str = "tollgate_keeper";
const KEEPER_PASSWORD: &str = "keeper-throw-away-41c7";
const MINTED: &str = "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'tollgate\\_%\\_%'";

/// A world whose agent makes roles, with these further lines under `[service.credential]`.
fn world(lines: &str) -> World {
    let mut world = World::start(ALLOW_ALL).unwrap();
    world
        .server
        .admin(
            DATABASE,
            &format!(
                "CREATE ROLE {KEEPER} LOGIN CREATEROLE PASSWORD '{KEEPER_PASSWORD}'; CREATE ROLE report_reader;
                 GRANT SELECT ON customers, orders TO report_reader; GRANT CREATE ON SCHEMA public TO report_reader"
            ),
        )
        .unwrap();
    // From 16 on CREATEROLE alone is not the right to grant what one has not made.
    if world.server.version().unwrap() >= 160_000 {
        let grant = format!("GRANT report_reader TO {KEEPER} WITH ADMIN OPTION");
        world.server.admin(DATABASE, &grant).unwrap();
    }
    let secret = world.agent.secret("keeper-password", KEEPER_PASSWORD).unwrap();
    let admin = format!(
        "{{ user = \"{KEEPER}\", password = {{ file = \"{}\" }} }}",
        secret.display()
    );
    credential(
        &mut world,
        &format!("source = \"postgres-role\"\nadmin = {admin}\ngrant = [\"report_reader\"]\n{lines}\n"),
    );
    world
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

fn minted(server: &Postgres) -> u32 {
    server.admin("postgres", MINTED).unwrap().trim().parse().unwrap()
}

fn entries(world: &World) -> usize {
    let dir = std::fs::read_dir(world.agent.dir().join("state/leases")).unwrap();
    // One that is being written does not count yet.
    let written = dir.filter(|entry| {
        let path = entry.as_ref().unwrap().path();
        path.extension().is_some_and(|extension| extension == "json")
    });
    written.count()
}

/// Waits until neither the server nor the journal has anything left.
fn clean(world: &World, after: &str) {
    eventually(&format!("nothing to be left after {after}"), LIMIT, || {
        (minted(&world.server) == 0 && entries(world) == 0).then_some(())
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", world.agent.log()));
}

/// A client that stays, and says what it is answered.
struct Client(Psql);

impl Client {
    fn start(psql: std::process::Command) -> Self {
        Self(Psql::start(psql).unwrap())
    }

    /// A session of the job, once it is there.
    fn session(world: &World) -> Self {
        let mut client = Self::start(world.psql(&[]));
        assert_eq!(client.ask("SELECT 42"), "42");
        client
    }

    /// Somebody at the server who holds this lock.
    fn lock(world: &World, mode: &str) -> Self {
        let mut client = Self::start(world.server.psql(ADMIN, ADMIN_PASSWORD, "postgres"));
        client.send(&format!("BEGIN; LOCK TABLE pg_catalog.pg_authid IN {mode} MODE"));
        assert_eq!(client.ask("SELECT 'locked'"), "locked");
        client
    }

    fn send(&mut self, sql: &str) {
        self.0.send(sql);
    }

    fn ask(&mut self, sql: &str) -> String {
        self.0.ask(sql).unwrap()
    }

    /// Closes its input, and gives what it wrote to standard error.
    fn end(self) -> String {
        self.0.end().unwrap()
    }
}

/// Waits until a statement that begins so waits for a lock.
fn waits(world: &World, statement: &str) {
    let sql = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '{statement}%'"
    );
    eventually(&format!("{statement} to wait"), LIMIT, || {
        (world.server.admin("postgres", &sql).ok()?.trim() == "1").then_some(())
    })
    .unwrap();
}

#[test]
fn a_session_has_a_role_of_its_own_from_its_beginning_to_its_end() {
    let world = world("ttl = \"30m\"");
    let mut one = Client::session(&world);
    let mut two = Client::session(&world);
    let name = one.ask("SELECT session_user");
    assert!(name.starts_with("tollgate_"), "{name}");
    assert_ne!(two.ask("SELECT session_user"), name);
    assert_eq!(one.ask("SELECT count(*) FROM customers"), "3");
    assert_eq!((minted(&world.server), entries(&world)), (2, 2));
    let listed = world.agent.cli("leases", &["list"]).unwrap();
    assert!(
        listed.contains(&name) && listed.contains("test-job/shop"),
        "{listed}"
    );

    assert_eq!(two.end(), "");
    eventually("one role to go", LIMIT, || {
        (minted(&world.server) == 1).then_some(())
    })
    .unwrap();
    assert_eq!(one.ask("SELECT 43"), "43", "the other one goes on");
    assert_eq!(one.end(), "");
    clean(&world, "the sessions");

    let session = world.last_session().unwrap();
    let shown = world
        .agent
        .cli("replay", &[session["session"].as_str().unwrap()])
        .unwrap();
    assert!(
        shown.contains("credential taken (postgres-role), valid until"),
        "{shown}"
    );
    assert!(shown.contains("credential revoked (postgres-role)"), "{shown}");
    let log = world.server.log();
    assert!(
        log.contains("CREATE ROLE \"tollgate_"),
        "the server logs what it is told"
    );
    for line in log
        .lines()
        .filter(|line| line.contains("CREATE ROLE \"tollgate_"))
    {
        assert!(line.contains("PASSWORD 'SCRAM-SHA-256$"), "{line}");
    }
}

#[test]
fn a_pool_of_connections_has_one_role_which_goes_with_the_job() {
    let world = world("share = \"workload\"\nconnections = 30");
    let mut pool: Vec<Client> = (0..8).map(|_| Client::start(world.psql(&[]))).collect();
    let mut names: Vec<String> = pool
        .iter_mut()
        .map(|client| client.ask("SELECT session_user"))
        .collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 1, "{names:?}");
    assert_eq!(minted(&world.server), 1);
    for client in pool {
        assert_eq!(client.end(), "");
    }
    world.sql("SELECT 1").unwrap().success().unwrap();
    assert_eq!(minted(&world.server), 1, "the next connection finds the same one");
    let World {
        agent, job, server, ..
    } = world;
    drop(job);
    eventually("the role to go with the cgroup", Duration::from_secs(20), || {
        (minted(&server) == 0).then_some(())
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", agent.log()));
}

#[test]
fn two_hundred_sessions_that_begin_at_once_have_one_role() {
    let mut world = world("share = \"workload\"\nconnections = 500\nttl = \"30m\"");
    world.server.takes(700).unwrap();
    let mut script = world.script(
        r#"
import sys, threading
from wire import *
together, users = threading.Barrier(200), []
def work():
    together.wait()
    client = Client(timeout=60)
    client.until(b"Z")
    client.send(query("SELECT session_user"))
    users.extend(body for tag, body in client.until(b"Z") if tag == b"D")
    together.wait()
threads = [threading.Thread(target=work) for _ in range(200)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(len(users), len(set(users)))
"#,
    );
    let begun = std::time::Instant::now();
    let ended = tollgate_tests::job::run_within(&mut script, Duration::from_mins(1)).unwrap();
    let said = ended.success();
    let said = said.unwrap_or_else(|error| panic!("{error:#}\n{}", world.agent.log()));
    println!("200 sessions with one role: {:.1?}", begun.elapsed());
    assert_eq!(said.trim(), "200 1");
    assert_eq!(minted(&world.server), 1);
    let made = world.server.log().matches("CREATE ROLE \"tollgate_").count();
    assert_eq!(made, 1, "roles were made that nobody had");
}

#[test]
fn killed_at_any_step_of_a_lease_the_agent_leaves_nothing_on_the_database() {
    let mut world = world("");

    // Planned: the admin cannot log in yet.
    let lock = Client::lock(&world, "ACCESS EXCLUSIVE");
    let asking = Client::start(world.psql(&["-c", "SELECT 1"]));
    eventually("the lease to be planned", LIMIT, || {
        (entries(&world) == 1).then_some(())
    })
    .unwrap();
    world.agent.kill().unwrap();
    lock.end();
    asking.end();
    world.agent.resume().unwrap();
    assert_eq!(minted(&world.server), 0);
    // It may come to be yet, as far as the next agent knows. Removed for the steps that follow.
    assert!(
        world
            .agent
            .cli("leases", &["list"])
            .unwrap()
            .contains("not seen made")
    );
    world.agent.kill().unwrap();
    for entry in std::fs::read_dir(world.agent.dir().join("state/leases")).unwrap() {
        std::fs::remove_file(entry.unwrap().path()).unwrap();
    }
    world.agent.resume().unwrap();

    // Asked for: the server makes it when the agent is dead, and another one has looked for it already.
    let lock = Client::lock(&world, "SHARE");
    let asking = Client::start(world.psql(&["-c", "SELECT 1"]));
    waits(&world, "CREATE ROLE");
    world.agent.kill().unwrap();
    world.agent.resume().unwrap();
    assert_eq!((minted(&world.server), entries(&world)), (0, 1));
    lock.end();
    asking.end();
    clean(&world, "a kill while the role was made");

    // Made: whether the session has begun to use it or not.
    let asking = Client::start(world.psql(&["-c", "SELECT pg_sleep(60)"]));
    eventually("the role to be there", LIMIT, || {
        (minted(&world.server) == 1).then_some(())
    })
    .unwrap();
    world.agent.kill().unwrap();
    asking.end();
    world.agent.resume().unwrap();
    clean(&world, "a kill when the role was made");

    // In use.
    let session = Client::session(&world);
    world.agent.kill().unwrap();
    session.end();
    assert_eq!((minted(&world.server), entries(&world)), (1, 1));
    world.agent.resume().unwrap();
    clean(&world, "a kill while the role was in use");

    // On its way out.
    let session = Client::session(&world);
    let lock = Client::lock(&world, "SHARE");
    session.end();
    waits(&world, "ALTER ROLE");
    world.agent.kill().unwrap();
    lock.end();
    world.agent.resume().unwrap();
    clean(&world, "a kill while the role was dropped");

    // Gone, and the journal does not know it yet.
    let session = Client::session(&world);
    world.agent.kill().unwrap();
    session.end();
    let role = world
        .server
        .admin("postgres", &MINTED.replace("count(*)", "rolname"))
        .unwrap();
    world
        .server
        .admin(
            "postgres",
            &format!(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{}'",
                role.trim()
            ),
        )
        .unwrap();
    world.server.wait_until_gone(role.trim()).unwrap();
    world
        .server
        .admin("postgres", &format!("DROP ROLE \"{}\"", role.trim()))
        .unwrap();
    world.agent.resume().unwrap();
    clean(&world, "a kill when the role was gone");
}

#[test]
fn a_server_that_is_down_at_the_end_of_a_session_gets_its_role_dropped_when_it_is_back() {
    let mut world = world("");
    let session = Client::session(&world);
    world.server.crash().unwrap();
    session.end();
    let warning = eventually("a warning", LIMIT, || {
        let status = world.agent.cli("status", &[]).ok()?;
        status
            .lines()
            .find(|line| line.contains("could not be revoked"))
            .map(str::to_owned)
    })
    .unwrap();
    assert!(warning.contains("the server cannot be reached"), "{warning}");
    let listed = world.agent.cli("leases", &["list", "--json"]).unwrap();
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    let id = listed[0]["id"].as_str().unwrap().to_owned();
    let refused = world
        .agent
        .tollgate("leases")
        .args(["revoke", &id])
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    world.server.resume().unwrap();
    assert_eq!(minted(&world.server), 1);
    // Sooner than by itself.
    world.agent.cli("leases", &["revoke", &id]).unwrap();
    clean(&world, "the server's return");
    assert!(
        !world
            .agent
            .cli("status", &[])
            .unwrap()
            .contains("could not be revoked")
    );
    let session = world.last_session().unwrap();
    let shown = world
        .agent
        .cli("replay", &[session["session"].as_str().unwrap()])
        .unwrap();
    assert!(shown.contains("credential not revoked yet"), "{shown}");
}

#[test]
fn a_lease_that_an_operator_revokes_ends_its_session_which_may_connect_again() {
    let world = world("");
    let mut session = Client::session(&world);
    let listed = world.agent.cli("leases", &["list", "--json"]).unwrap();
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    world
        .agent
        .cli("leases", &["revoke", listed[0]["id"].as_str().unwrap()])
        .unwrap();
    clean(&world, "the revocation");
    session.send("SELECT 1");
    let said = session.end();
    assert!(
        said.contains("its credential is void: an operator revoked it"),
        "{said}"
    );
    world.sql("SELECT 1").unwrap().success().unwrap();
    clean(&world, "the next session");
}

#[test]
fn what_a_dead_host_left_is_swept_from_another() {
    let world = world("");
    let dead = "tollgate_dead-1a2b3c_0123456789abcdef0123";
    run(world.server.psql(KEEPER, KEEPER_PASSWORD, "postgres").args([
        "-c",
        &format!("CREATE ROLE \"{dead}\" LOGIN VALID UNTIL '2001-01-01'"),
    ]))
    .unwrap();
    let mut session = Client::session(&world);
    let mine = session.ask("SELECT session_user");
    let listed = world.agent.cli("leases", &["sweep", "shop"]).unwrap();
    for part in [
        dead,
        "dead-1a2b3c",
        "left alone",
        &mine,
        "held by this host's agent",
        "Nothing was dropped",
    ] {
        assert!(listed.contains(part), "{part}: {listed}");
    }
    let swept = world
        .agent
        .cli("leases", &["sweep", "shop", "--host", "dead-1a2b3c"])
        .unwrap();
    assert!(swept.contains("dropped") && minted(&world.server) == 1, "{swept}");
    assert_eq!(session.ask("SELECT 1"), "1");
    session.end();
    let unknown = world
        .agent
        .tollgate("leases")
        .args(["sweep", "no-such-service"])
        .output()
        .unwrap();
    assert_eq!(unknown.status.code(), Some(1));
    clean(&world, "a sweep");
}

#[test]
fn an_agent_that_stops_or_is_replaced_leaves_no_role() {
    let mut world = world("share = \"workload\"");
    world.sql("SELECT 1").unwrap().success().unwrap();
    assert_eq!(minted(&world.server), 1);
    world.agent.cli("upgrade", &[]).unwrap();
    clean(&world, "an upgrade");
    world.sql("SELECT 1").unwrap().success().unwrap();
    assert_eq!(minted(&world.server), 1);
    world.agent.stop().unwrap();
    clean(&world, "a stop");
}

#[test]
fn a_client_is_told_in_its_protocol_that_there_is_no_credential() {
    let mut world = world("");
    // The admin may not any more.
    world
        .server
        .admin("postgres", &format!("ALTER ROLE {KEEPER} NOCREATEROLE"))
        .unwrap();
    let ended = world.sql("SELECT 1").unwrap();
    assert_eq!(ended.code, Some(2));
    assert!(
        ended.stderr.contains("no credential for the server could be had"),
        "{}",
        ended.stderr
    );
    assert!(!ended.stderr.contains(KEEPER), "{}", ended.stderr);
    clean(&world, "a refusal");
    let session = world.last_session().unwrap();
    let shown = world
        .agent
        .cli("replay", &[session["session"].as_str().unwrap()])
        .unwrap();
    assert!(
        shown.contains("no credential (postgres-role)") && shown.contains("42501"),
        "{shown}"
    );

    let program = world
        .agent
        .secret(
            "program",
            "#!/bin/sh\n[ -e /nonexistent ] || { echo injected-password-b81c >&2; exit 7; }\n",
        )
        .unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(&program, mode).unwrap();
    credential(
        &mut world,
        &format!("source = \"exec\"\ncommand = [\"{}\"]", program.display()),
    );
    let ended = world.sql("SELECT 1").unwrap();
    assert!(
        ended.stderr.contains("no credential for the server could be had"),
        "{}",
        ended.stderr
    );
    assert!(
        world.agent.log().contains("exit status: 7"),
        "{}",
        world.agent.log()
    );
    assert!(!world.agent.log().contains("injected-password"));
    std::fs::write(
        &program,
        "#!/bin/sh\necho '{\"user\": \"injected_role_5d1e\", \"password\": \"injected-password-b81c\", \"expires_in\": 60}'\n",
    )
    .unwrap();
    let said = world
        .sql("SELECT count(*) FROM customers")
        .unwrap()
        .success()
        .unwrap();
    assert_eq!(said.trim(), "3");
}
