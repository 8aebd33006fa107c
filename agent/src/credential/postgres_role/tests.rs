//! Roles on a real server, made by an admin who is no superuser.

use std::sync::Arc;
use std::time::Duration;

use super::revoke::RoleHandle;
use super::{RoleError, maker};
use crate::config::{AdminSpec, CredentialKind, PostgresRoleSpec, Share, SourceSpec, TlsMode, TlsSpec};
use crate::credential::maker::{Ask, Left, Made, MakeError};
use crate::credential::on_server::{ReachError, Server as ServerAt, Sweeper, host_id};
use crate::credential::tests::{PLAIN, ask};
use crate::credential::{CredentialError, Found, Handle};
use crate::model::Place;
use crate::protocol::postgres::login::testing::{Authority, Server, dial_target};
use crate::protocol::postgres::login::{Ask as LoginAsk, LoggedIn, LoginError, Settings, login};
use crate::protocol::postgres::query::query;

const HBA: &str = "host all all 127.0.0.1/32 scram-sha-256\n";
/// PostgreSQL 13 hashes passwords with MD5 unless it is told.
const ROLES: &str = "\
    SET password_encryption = 'scram-sha-256';
    CREATE ROLE keeper LOGIN CREATEROLE PASSWORD 'keeper-secret';
    CREATE ROLE readers; CREATE ROLE app_owner; GRANT app_owner TO keeper;
    CREATE ROLE weak LOGIN PASSWORD 'weak-secret';
    CREATE TABLE public.t (id int); GRANT SELECT ON public.t TO readers;
    GRANT CREATE ON SCHEMA public TO readers, app_owner;
    CREATE DATABASE other;";

struct World {
    server: Server,
    dir: tempfile::TempDir,
    authority: Authority,
}

impl World {
    fn start() -> Self {
        let authority = Authority::new();
        let server = Server::start(&authority, HBA, ROLES);
        // PostgreSQL 16 and later ask for the right to grant, and to act, by role.
        let version: u32 = server.run("SHOW server_version_num").parse().unwrap();
        if version >= 160_000 {
            server.run("GRANT readers, app_owner TO keeper WITH ADMIN OPTION");
        }
        let dir = tempfile::tempdir().unwrap();
        Self {
            server,
            dir,
            authority,
        }
    }

    fn spec(&self, user: &str, password: &str) -> PostgresRoleSpec {
        use std::os::unix::fs::PermissionsExt;
        let path = self.dir.path().join(password);
        std::fs::write(&path, password).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).unwrap();
        PostgresRoleSpec {
            admin: AdminSpec {
                user: SourceSpec::Literal(user.to_owned()),
                password: SourceSpec::File(path),
                database: None,
            },
            grant: vec!["readers".into(), "app_owner".into()],
            set_role: None,
            reassign_to: None,
            ttl: Duration::from_mins(10),
            connections: 3,
            share: Share::Session,
        }
    }

    fn keeper(&self) -> PostgresRoleSpec {
        self.spec("keeper", "keeper-secret")
    }

    fn ask(&self) -> Ask {
        let mut ask = ask(Share::Session);
        ask.target = self.server.target(TlsMode::Disable, None, None);
        ask
    }

    async fn make(&self, spec: &PostgresRoleSpec) -> Result<(RoleHandle, Made), MakeError> {
        self.make_over(spec, &PLAIN, &self.ask()).await
    }

    async fn make_over(
        &self,
        spec: &PostgresRoleSpec,
        tls: &TlsSpec,
        ask: &Ask,
    ) -> Result<(RoleHandle, Made), MakeError> {
        let maker = maker(spec, tls);
        let planned = maker.plan(ask);
        let made = maker.make(ask, planned.as_ref()).await?;
        let Some(Handle::PostgresRole(handle)) = planned else {
            panic!("a role is planned")
        };
        Ok((*handle, made))
    }

    /// A session as the role that was made.
    async fn log_in(&self, made: &Made, database: &str) -> Result<LoggedIn, LoginError> {
        let target = self.server.target(TlsMode::Disable, None, None);
        let credential = crate::credential::material::login(&made.material, None).unwrap();
        let ask = LoginAsk {
            database,
            settings: &Settings::default(),
        };
        login(dial_target(&target).await, &target, &credential, ask).await
    }

    fn roles(&self) -> String {
        self.server
            .run("SELECT count(*) FROM pg_roles WHERE rolname LIKE 'tollgate\\_%'")
    }
}

async fn run(session: &mut LoggedIn, sql: &str) -> String {
    let rows = query(session, sql, Duration::from_secs(10)).await.unwrap();
    let first = rows.into_iter().next().and_then(|row| row.into_iter().next());
    first.flatten().unwrap_or_default()
}

#[tokio::test]
async fn a_role_logs_in_may_what_was_granted_and_is_dropped_with_its_sessions() {
    let world = World::start();
    let mut spec = world.keeper();
    spec.set_role = Some("app_owner".into());
    let (handle, made) = world.make(&spec).await.unwrap();
    let mut session = world.log_in(&made, "postgres").await.unwrap();
    assert_eq!(run(&mut session, "SELECT session_user").await, handle.name());
    assert_eq!(run(&mut session, "SELECT current_user").await, "app_owner");
    run(&mut session, "CREATE TABLE public.migrated (id int)").await;
    let row = world.server.run(&format!(
        "SELECT rolcanlogin, rolcreaterole, rolcreatedb, rolsuper, rolconnlimit, \
         rolvaliduntil BETWEEN now() + interval '9 min' AND now() + interval '10 min', \
         rolpassword LIKE 'SCRAM-SHA-256$%' FROM pg_authid WHERE rolname = '{}'",
        handle.name()
    ));
    assert_eq!(row, "t|f|f|f|3|t|t");

    assert_eq!(handle.revoke(None).await.unwrap(), Found::Voided);
    assert!(
        query(&mut session, "SELECT 1", Duration::from_secs(10))
            .await
            .is_err()
    );
    assert!(world.log_in(&made, "postgres").await.is_err());
    assert_eq!(world.roles(), "0");
    let owner = "SELECT tableowner FROM pg_tables WHERE tablename = 'migrated'";
    assert_eq!(world.server.run(owner), "app_owner");
    assert_eq!(handle.revoke(None).await.unwrap(), Found::Nothing);
}

#[tokio::test]
async fn what_a_role_owns_in_any_database_goes_to_its_heir() {
    let world = World::start();
    world
        .server
        .run("\\c other\nGRANT CREATE ON SCHEMA public TO readers, app_owner");
    let mut spec = world.keeper();
    spec.reassign_to = Some("app_owner".into());
    let (handle, made) = world.make(&spec).await.unwrap();
    let mut here = world.log_in(&made, "postgres").await.unwrap();
    let mut there = world.log_in(&made, "other").await.unwrap();
    run(
        &mut here,
        "CREATE TABLE public.mine (id int); CREATE TEMP TABLE passing (id int)",
    )
    .await;
    run(
        &mut here,
        "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO readers; SELECT lo_create(0)",
    )
    .await;
    run(&mut there, "CREATE TABLE public.mine (id int); CREATE FUNCTION public.f() RETURNS int LANGUAGE sql AS 'SELECT 1'").await;
    assert_eq!(handle.revoke(None).await.unwrap(), Found::Voided);
    assert_eq!(world.roles(), "0");
    let owner = "SELECT tableowner FROM pg_tables WHERE tablename = 'mine'";
    assert_eq!(world.server.run(owner), "app_owner");
    assert_eq!(world.server.run(&format!("\\c other\n{owner}")), "app_owner");
    assert_eq!(
        world
            .server
            .run("SELECT r.rolname FROM pg_largeobject_metadata l JOIN pg_roles r ON r.oid = l.lomowner"),
        "app_owner"
    );
}

#[tokio::test]
async fn without_an_heir_a_role_that_owns_something_is_locked_kept_and_told_of() {
    let world = World::start();
    let (handle, made) = world.make(&world.keeper()).await.unwrap();
    let mut session = world.log_in(&made, "postgres").await.unwrap();
    run(&mut session, "CREATE TABLE public.mine AS SELECT 1 AS id").await;
    let error = handle.revoke(None).await.unwrap_err();
    assert!(matches!(error, RoleError::Owns { objects: 1, .. }), "{error}");
    assert!(error.to_string().contains("reassign_to"), "{error}");
    assert!(!error.to_string().contains(handle.name()), "{error}");
    assert_eq!(
        world.server.run("SELECT id FROM public.mine"),
        "1",
        "nobody's data is deleted"
    );
    assert!(world.log_in(&made, "postgres").await.is_err());
    assert!(
        query(&mut session, "SELECT 1", Duration::from_secs(10))
            .await
            .is_err()
    );
    world.server.run("DROP TABLE public.mine");
    // Nor is what somebody else has allowed to it: that is not the admin's to take back.
    let grant = format!("GRANT SELECT ON public.t TO \"{}\"", handle.name());
    world.server.run(&grant);
    let error = handle.revoke(None).await.unwrap_err().to_string();
    assert!(error.contains("2BP01") && error.contains("REVOKE"), "{error}");
    world
        .server
        .run(&grant.replace("GRANT", "REVOKE").replace(" TO ", " FROM "));
    assert_eq!(handle.revoke(None).await.unwrap(), Found::Voided);
    assert_eq!(world.roles(), "0");
}

#[tokio::test]
async fn what_the_server_refuses_leaves_nothing_and_names_nobody() {
    let world = World::start();
    for (spec, expected) in [
        (world.spec("weak", "weak-secret"), "CREATEROLE"),
        (
            PostgresRoleSpec {
                grant: vec!["nobody_knows".into()],
                ..world.keeper()
            },
            "does not exist there",
        ),
        (world.spec("keeper", "wrong-secret"), "the admin cannot log in"),
    ] {
        let MakeError { error, left } = world.make(&spec).await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains(expected), "{text}");
        assert!(
            !text.contains("weak") && !text.contains("keeper") && !text.contains("secret"),
            "{text}"
        );
        assert_eq!(left, Left::Nothing);
    }
    assert_eq!(world.roles(), "0");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_the_servers_fault() {
    let world = World::start();
    let mut ask = world.ask();
    // Nobody listens there, and nobody else gets the port while the test goes on.
    let silent = tokio::net::TcpSocket::new_v4().unwrap();
    silent.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    ask.target.address = Place::Network(silent.local_addr().unwrap());
    let MakeError { error, left } = world.make_over(&world.keeper(), &PLAIN, &ask).await.unwrap_err();
    assert_eq!(left, Left::Nothing);
    assert!(
        matches!(&error, CredentialError::Role(error) if error.is_targets()),
        "{error}"
    );
}

#[tokio::test]
async fn the_admin_is_sent_to_a_server_with_the_right_certificate_alone() {
    let world = World::start();
    let ca = world.authority.file(world.dir.path());
    let tls = TlsSpec {
        upstream: TlsMode::VerifyFull,
        ca: Some(ca),
        server_name: Some("db.acme.test".into()),
    };
    let (handle, _made) = world
        .make_over(&world.keeper(), &tls, &world.ask())
        .await
        .unwrap();
    let stranger = Authority::new().file(world.dir.path());
    let wrong = TlsSpec {
        ca: Some(stranger),
        ..tls
    };
    let MakeError { error, left } = world
        .make_over(&world.keeper(), &wrong, &world.ask())
        .await
        .unwrap_err();
    assert_eq!(left, Left::Nothing);
    assert!(error.to_string().contains("the admin cannot log in"), "{error}");
    assert_eq!(handle.revoke(None).await.unwrap(), Found::Voided);
}

#[tokio::test]
async fn a_sweep_finds_what_each_host_left_and_drops_what_it_is_told_to() {
    let world = World::start();
    let (mine, _made) = world.make(&world.keeper()).await.unwrap();
    let dead = "tollgate_dead-1a2b3c_0123456789abcdef0123";
    // As an agent makes it, by the same admin.
    let spec = world.keeper();
    let target = world.server.target(TlsMode::Disable, None, None);
    let mut admin = super::admin::Admin::open(
        &ServerAt::of(&target, &PLAIN, &world.ask().netns),
        None,
        &spec.admin,
        None,
    )
    .await
    .unwrap();
    let sql = format!("CREATE ROLE \"{dead}\" LOGIN VALID UNTIL '2001-01-01'; CREATE ROLE tollgate_team");
    admin.run("make roles", &sql).await.unwrap();

    let kind = CredentialKind::PostgresRole(spec);
    let sweeper = Sweeper::new(&kind, "orders-db".into(), &PLAIN, target.host, target.address).unwrap();
    let found = sweeper.find().await.unwrap();
    let hosts: Vec<(&str, bool)> = found
        .iter()
        .map(|found| (found.host.as_str(), found.expired))
        .collect();
    assert!(hosts.contains(&("dead-1a2b3c", true)), "{hosts:?}");
    assert!(hosts.contains(&(host_id(), false)), "{hosts:?}");
    assert_eq!(hosts.len(), 2, "tollgate_team is a role of somebody's own");
    let left = found.iter().find(|found| found.role == dead).unwrap();
    sweeper.drop_role(left).await.unwrap();
    assert_eq!(sweeper.find().await.unwrap().len(), 1);
    mine.revoke(None).await.unwrap();
}

#[tokio::test]
async fn a_role_of_a_namespace_that_is_gone_is_not_looked_for_on_another_server() {
    let world = World::start();
    let (handle, _made) = world.make(&world.keeper()).await.unwrap();
    let mut elsewhere = handle.clone();
    elsewhere.server.in_host = false;
    assert!(matches!(
        elsewhere.revoke(None).await,
        Err(RoleError::Reach(ReachError::Elsewhere))
    ));
    handle
        .revoke(Some(&Arc::clone(&world.ask().netns)))
        .await
        .unwrap();
}
