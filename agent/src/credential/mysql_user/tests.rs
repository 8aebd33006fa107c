//! Users on a real server, made by an admin who is no superuser, and used by the real client.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Stdio};
use std::time::{Duration, SystemTime};

use super::revoke::UserHandle;
use super::{UserError, maker};
use crate::config::{AdminSpec, CredentialKind, MysqlUserSpec, Share, SourceSpec, TlsMode, TlsSpec};
use crate::credential::maker::{Ask, Left, Made, MakeError};
use crate::credential::on_server::{ReachError, Sweeper, expiry_of, host_id};
use crate::credential::tests::{PLAIN, ask};
use crate::credential::{CredentialError, Found, Handle};
use crate::model::{Place, SocketPath};
use crate::protocol::mysql::testing::MariaDb;
use crate::protocol::postgres::login::testing::Authority;

mod crash;
mod leases;

/// What docs/credentials.md has an operator run, and a table.
const SETUP: &str = "\
    CREATE USER keeper IDENTIFIED BY 'keeper-secret'; \
    GRANT CREATE USER, PROCESS, CONNECTION ADMIN, SHOW VIEW, TRIGGER ON *.* TO keeper; \
    GRANT SELECT (User, Host) ON mysql.user TO keeper; \
    GRANT SELECT ON mysql.proc TO keeper; GRANT SELECT ON mysql.event TO keeper; \
    CREATE ROLE reader; GRANT SELECT ON app.* TO reader; GRANT reader TO keeper WITH ADMIN OPTION; \
    CREATE ROLE owner; GRANT ALL ON app.* TO owner; GRANT owner TO keeper WITH ADMIN OPTION; \
    CREATE USER weak IDENTIFIED BY 'weak-secret'; CREATE ROLE stranger; \
    CREATE DATABASE app; CREATE TABLE app.t (id int); INSERT INTO app.t VALUES (42)";

struct World {
    server: MariaDb,
    authority: Authority,
}

impl World {
    fn start() -> Self {
        let authority = Authority::new();
        let server = MariaDb::start(&authority, SETUP);
        Self { server, authority }
    }

    fn spec(&self, user: &str, password: &str) -> MysqlUserSpec {
        let path = self.server.dir().join(password);
        if !path.exists() {
            std::fs::write(&path, password).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).unwrap();
        }
        MysqlUserSpec {
            admin: AdminSpec {
                user: SourceSpec::Literal(user.to_owned()),
                password: SourceSpec::File(path),
                database: None,
            },
            grant: "reader".into(),
            ttl: Duration::from_mins(10),
            connections: 3,
            share: Share::Session,
        }
    }

    fn keeper(&self) -> MysqlUserSpec {
        self.spec("keeper", "keeper-secret")
    }

    fn ask(&self) -> Ask {
        ask_over(Place::Network(self.server.address()), &PLAIN)
    }

    fn unix(&self) -> Place {
        Place::Unix(SocketPath::parse(self.server.socket().to_str().unwrap()).unwrap())
    }

    async fn make(&self, spec: &MysqlUserSpec) -> Result<(UserHandle, Made), MakeError> {
        make_over(spec, &PLAIN, &self.ask()).await
    }

    /// What the real client says as the user that was made.
    fn client(&self, made: &Made, way: &[&str], sql: &str) -> Result<String, String> {
        let (user, password) = login(made);
        let output = self.server.client(&user, &password, way, sql);
        if output.status.success() {
            Ok(String::from_utf8(output.stdout).unwrap().trim().to_owned())
        } else {
            Err(String::from_utf8(output.stderr).unwrap())
        }
    }

    fn users(&self) -> String {
        self.server
            .run("SELECT COUNT(*) FROM mysql.user WHERE User LIKE 'tollgate\\_%'")
    }
}

fn ask_over(place: Place, tls: &TlsSpec) -> Ask {
    let mut ask = ask(Share::Session);
    ask.target = MariaDb::target(place, tls);
    ask
}

async fn make_over(spec: &MysqlUserSpec, tls: &TlsSpec, ask: &Ask) -> Result<(UserHandle, Made), MakeError> {
    let maker = maker(spec, tls);
    let planned = maker.plan(ask);
    let made = maker.make(ask, planned.as_ref()).await?;
    let Some(Handle::MysqlUser(handle)) = planned else {
        panic!("a user is planned")
    };
    Ok((*handle, made))
}

fn login(made: &Made) -> (String, String) {
    let login = crate::credential::material::login(&made.material, None).unwrap();
    let text = |secret: &crate::model::Secret| String::from_utf8(secret.expose().to_vec()).unwrap();
    (text(&login.user), text(&login.password))
}

/// A client that stays, and says what it is answered.
struct Client {
    child: Child,
    output: BufReader<std::process::ChildStdout>,
}

impl Client {
    fn start(world: &World, made: &Made) -> Self {
        let (user, password) = login(made);
        let mut child = world
            .server
            .start_client(&user, &password, &["--unbuffered", "--skip-reconnect"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut client = Self { child, output };
        assert_eq!(client.ask("SELECT 42"), "42");
        client
    }

    /// Empty: the session is gone.
    fn ask(&mut self, sql: &str) -> String {
        let _gone = writeln!(self.child.stdin.as_mut().unwrap(), "{sql};");
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

#[tokio::test]
async fn a_user_logs_in_may_what_its_role_may_and_is_dropped_with_its_sessions() {
    let world = World::start();
    let (handle, made) = world.make(&world.keeper()).await.unwrap();
    let who = world
        .client(&made, &[], "SELECT CURRENT_USER(), CURRENT_ROLE()")
        .unwrap();
    assert_eq!(who, format!("{}@%\treader", handle.name()));
    assert_eq!(world.client(&made, &[], "SELECT id FROM app.t").unwrap(), "42");
    let denied = world
        .client(&made, &[], "INSERT INTO app.t VALUES (7)")
        .unwrap_err();
    assert!(denied.contains("INSERT command denied"), "{denied}");
    let account = world.server.run(&format!("SHOW CREATE USER `{}`", handle.name()));
    for part in [
        "MAX_USER_CONNECTIONS 3",
        "PASSWORD EXPIRE INTERVAL 1 DAY",
        "IDENTIFIED BY PASSWORD '*",
    ] {
        assert!(account.contains(part), "{account}");
    }
    let expires = made.expires.unwrap();
    assert_eq!(expiry_of(handle.name()), Some(expires));
    let left = expires.duration_since(SystemTime::now()).unwrap();
    assert!(
        left > Duration::from_mins(9) && left <= Duration::from_mins(10),
        "{left:?}"
    );

    // A connection that was closed counts until the server has seen it.
    let count = format!(
        "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE USER = '{}'",
        handle.name()
    );
    while world.server.run(&count) != "0" {}
    let mut sessions: Vec<Client> = (0..3).map(|_| Client::start(&world, &made)).collect();
    let fourth = world.client(&made, &[], "SELECT 1").unwrap_err();
    assert!(fourth.contains("max_user_connections"), "{fourth}");
    assert_eq!(handle.revoke(None).await.unwrap(), Found::Voided);
    for session in &mut sessions {
        assert_eq!(session.ask("SELECT 1"), "");
    }
    assert!(
        world
            .client(&made, &[], "SELECT 1")
            .unwrap_err()
            .contains("Access denied")
    );
    assert_eq!(world.users(), "0");
    assert_eq!(handle.revoke(None).await.unwrap(), Found::Nothing);
}

#[tokio::test]
async fn a_user_that_something_runs_as_is_locked_kept_and_told_of_until_that_is_made_anew() {
    let world = World::start();
    let mut spec = world.keeper();
    spec.grant = "owner".into();
    let (handle, made) = world.make(&spec).await.unwrap();
    let sql = "CREATE SQL SECURITY INVOKER VIEW app.v AS SELECT id FROM app.t; CREATE PROCEDURE app.p() SELECT 1; \
               CREATE TRIGGER app.tr BEFORE INSERT ON app.t FOR EACH ROW SET NEW.id = 1; \
               CREATE EVENT app.e ON SCHEDULE EVERY 1 DAY DO SELECT 1; \
               CREATE DEFINER = CURRENT_ROLE VIEW app.of_the_role AS SELECT 1; CREATE TABLE app.mine AS SELECT 1 AS id";
    world.client(&made, &[], sql).unwrap();
    let mut session = Client::start(&world, &made);
    let error = handle.revoke(None).await.unwrap_err();
    assert!(
        matches!(&error, UserError::Definer { objects: 4, places } if places == "app"),
        "{error}"
    );
    assert!(error.to_string().contains("DEFINER = CURRENT_ROLE"), "{error}");
    assert!(!error.to_string().contains(handle.name()), "{error}");
    assert_eq!(session.ask("SELECT 1"), "");
    let denied = world.client(&made, &[], "SELECT 1").unwrap_err();
    assert!(denied.contains("account is locked"), "{denied}");
    assert_eq!(
        world.server.run("SELECT id FROM app.v"),
        "42",
        "nobody's view breaks"
    );
    world.server.run(
        "DROP VIEW app.v; DROP PROCEDURE app.p; DROP TRIGGER app.tr; ALTER DEFINER = root@localhost EVENT app.e \
         COMMENT 'kept'",
    );
    assert_eq!(handle.revoke(None).await.unwrap(), Found::Voided);
    assert_eq!(world.users(), "0");
    assert_eq!(
        world.server.run("SELECT id FROM app.mine"),
        "1",
        "nobody's table is dropped"
    );
}

#[tokio::test]
async fn what_the_server_refuses_leaves_nothing_and_names_nobody() {
    let world = World::start();
    world.server.run(
        "CREATE USER blind IDENTIFIED BY 'blind-secret'; \
         GRANT CREATE USER, PROCESS, CONNECTION ADMIN, SHOW VIEW, TRIGGER ON *.* TO blind",
    );
    let role = |grant: &str| MysqlUserSpec {
        grant: grant.into(),
        ..world.keeper()
    };
    for (spec, expected, left) in [
        (
            world.spec("weak", "weak-secret"),
            "lacks CREATE USER, PROCESS, CONNECTION ADMIN, SHOW VIEW, TRIGGER",
            Left::Nothing,
        ),
        (
            world.spec("blind", "blind-secret"),
            "docs/credentials.md grants it",
            Left::Nothing,
        ),
        (
            world.spec("keeper", "wrong-secret"),
            "the admin cannot log in",
            Left::Nothing,
        ),
        (role("nobody_knows"), "does not exist there", Left::Perhaps),
        (role("stranger"), "WITH ADMIN OPTION", Left::Perhaps),
        (role("a`b\\'"), "does not exist there", Left::Perhaps),
    ] {
        let maker = maker(&spec, &PLAIN);
        let ask = world.ask();
        let planned = maker.plan(&ask);
        let error = maker.make(&ask, planned.as_ref()).await.unwrap_err();
        let text = error.error.to_string();
        assert!(text.contains(expected), "{text}");
        for name in ["weak", "blind", "keeper", "secret", "tollgate_"] {
            assert!(!text.contains(name), "{text}");
        }
        assert_eq!(error.left, left, "{text}");
        // What the keeper of leases does where something may be left.
        if left == Left::Perhaps {
            planned.unwrap().revoke(None).await.unwrap();
        }
        assert_eq!(world.users(), "0", "{text}");
    }
}

#[tokio::test]
async fn servers_that_are_down_and_servers_that_are_none_are_the_servers_fault() {
    let world = World::start();
    let nonsense = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = nonsense.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in nonsense.incoming().flatten() {
            let _gone = stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n");
        }
    });
    // Nobody listens there, and nobody else gets the port while the test goes on.
    let silent = tokio::net::TcpSocket::new_v4().unwrap();
    silent.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    for address in [silent.local_addr().unwrap(), at] {
        let ask = ask_over(Place::Network(address), &PLAIN);
        let MakeError { error, left } = make_over(&world.keeper(), &PLAIN, &ask).await.unwrap_err();
        assert_eq!(left, Left::Nothing);
        assert!(
            matches!(&error, CredentialError::User(error) if error.is_targets()),
            "{error}"
        );
    }
}

#[tokio::test]
async fn over_tls_the_server_is_verified_first_and_the_user_cannot_log_in_without() {
    let world = World::start();
    let tls = TlsSpec {
        upstream: TlsMode::VerifyFull,
        ca: Some(world.authority.file(world.server.dir())),
        server_name: None,
    };
    let network = Place::Network(world.server.address());
    let (handle, made) = make_over(&world.keeper(), &tls, &ask_over(network.clone(), &tls))
        .await
        .unwrap();
    let denied = world.client(&made, &["--skip-ssl"], "SELECT 1").unwrap_err();
    assert!(denied.contains("Access denied"), "{denied}");
    assert_eq!(world.client(&made, &["--ssl"], "SELECT 1").unwrap(), "1");
    assert_eq!(handle.revoke(None).await.unwrap(), Found::Voided);

    let stranger = TlsSpec {
        ca: Some(Authority::new().file(world.server.dir())),
        ..tls.clone()
    };
    let MakeError { error, left } = make_over(&world.keeper(), &stranger, &ask_over(network, &stranger))
        .await
        .unwrap_err();
    assert_eq!(left, Left::Nothing);
    assert!(
        error.to_string().contains("authority that is not trusted"),
        "{error}"
    );

    // A unix socket has no TLS in any protocol.
    let (handle, made) = make_over(&world.keeper(), &tls, &ask_over(world.unix(), &tls))
        .await
        .unwrap();
    let socket = world.server.socket();
    let way = ["--socket", socket.to_str().unwrap()];
    assert_eq!(world.client(&made, &way, "SELECT id FROM app.t").unwrap(), "42");
    assert_eq!(handle.revoke(None).await.unwrap(), Found::Voided);
    assert_eq!(world.users(), "0");
}

#[tokio::test]
async fn a_sweep_finds_what_each_host_left_and_drops_what_it_is_told_to() {
    let world = World::start();
    let (mine, made) = world.make(&world.keeper()).await.unwrap();
    let session = Client::start(&world, &made);
    // Of another host, over in 2001; and one of somebody's own.
    let dead = "tollgate_dead-1a2b3c_3a4fc8800123456789ab";
    world.server.run(&format!(
        "CREATE USER `{dead}`; CREATE USER tollgate_team; CREATE USER `tollgate_x_y`"
    ));
    let kind = CredentialKind::MysqlUser(world.keeper());
    let target = world.ask().target;
    let sweeper = Sweeper::new(&kind, "orders-db".into(), &PLAIN, target.host, target.address).unwrap();
    let found = sweeper.find().await.unwrap();
    let seen: Vec<(&str, bool, u64)> = found
        .iter()
        .map(|found| (found.host.as_str(), found.expired, found.sessions))
        .collect();
    assert_eq!(seen.len(), 2, "{seen:?}");
    assert!(seen.contains(&("dead-1a2b3c", true, 0)), "{seen:?}");
    assert!(seen.contains(&(host_id(), false, 1)), "{seen:?}");
    let left = found.iter().find(|found| found.role == dead).unwrap();
    assert_eq!(left.valid_until.as_deref(), Some("2001-01-01T00:00:00Z"));
    sweeper.drop_role(left).await.unwrap();
    assert_eq!(sweeper.find().await.unwrap().len(), 1);
    drop(session);
    mine.revoke(None).await.unwrap();
    assert_eq!(sweeper.find().await.unwrap(), []);
}

#[tokio::test]
async fn a_user_of_a_namespace_that_is_gone_is_not_looked_for_on_another_server() {
    let world = World::start();
    let (handle, _made) = world.make(&world.keeper()).await.unwrap();
    let mut elsewhere = handle.clone();
    elsewhere.server.in_host = false;
    assert!(matches!(
        elsewhere.revoke(None).await,
        Err(UserError::Reach(ReachError::Elsewhere))
    ));
    assert_eq!(
        handle.revoke(Some(&world.ask().netns)).await.unwrap(),
        Found::Voided
    );
}
