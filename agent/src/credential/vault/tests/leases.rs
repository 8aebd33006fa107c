//! Logins that are made for a lease, as roles of a real PostgreSQL server: there while somebody has them, and gone after it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::double::Double;
use super::{ask, jwt, kind, maker, settings};
use crate::config::{Share, VaultAuth, VaultEngine, VaultSpec};
use crate::credential::{Ask, CredentialError, Lease, LeaseEnd, Leases, Maker};
use crate::protocol::postgres::login::testing::{Authority, Server};

const HBA: &str = "host all admin 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n";
const MADE: &str = "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'v-report-%'";

struct World {
    server: Server,
    double: Double,
    state: tempfile::TempDir,
    maker: Arc<dyn Maker>,
    spec: VaultSpec,
}

impl World {
    fn new(ttl: u32, change: impl FnOnce(&mut Value), auth: impl FnOnce(&Double) -> VaultAuth) -> Self {
        let server = Server::start(&Authority::new(), HBA, "CREATE ROLE readers");
        let mut settings = settings();
        settings["psql"] = json!({
            "PATH": std::env::var("PATH").unwrap(), "PGHOST": "127.0.0.1", "PGPORT": server.address().port().to_string(),
            "PGUSER": "admin", "PGDATABASE": "postgres",
        });
        settings["database"] = json!({ "database": { "report": {
            "creation_statements": "CREATE ROLE \"{{name}}\" LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}' IN ROLE readers",
            "revocation_statements": "DROP ROLE IF EXISTS \"{{name}}\"",
            "ttl": ttl, "max_ttl": 3600,
        } } });
        change(&mut settings);
        let double = Double::start(settings);
        let engine = VaultEngine::Database {
            mount: "database".into(),
            role: "report".into(),
        };
        let spec = double.spec(auth(&double), engine);
        Self {
            maker: maker(&spec),
            server,
            double,
            state: tempfile::tempdir().unwrap(),
            spec,
        }
    }

    fn usual() -> Self {
        Self::new(600, |_| {}, Double::app_role)
    }

    fn journal(&self) -> PathBuf {
        self.state.path().join("leases")
    }

    fn open(&self) -> Leases {
        Leases::open(&self.journal()).unwrap()
    }

    fn entries(&self) -> Vec<String> {
        let dir = std::fs::read_dir(self.journal()).unwrap();
        let files = dir.map(|entry| entry.unwrap().path());
        let written = files.filter(|path| path.extension().is_some_and(|extension| extension == "json"));
        written
            .map(|path| std::fs::read_to_string(path).unwrap())
            .collect()
    }

    fn roles(&self) -> String {
        self.server.run(MADE)
    }

    async fn take(&self, leases: &Leases) -> Result<Lease, CredentialError> {
        self.take_for(leases, ask()).await
    }

    async fn take_for(&self, leases: &Leases, ask: Ask) -> Result<Lease, CredentialError> {
        leases.take(&self.maker, &kind(&self.spec), ask).await
    }

    /// As SIGKILL leaves it: the journal is there, and nothing that an agent had in memory.
    fn kill(&self, leases: Leases, lease: Lease) {
        let entries = self.entries();
        std::mem::forget((leases, lease));
        assert_eq!(self.entries(), entries);
    }
}

#[tokio::test]
async fn a_login_is_there_while_somebody_has_it_and_its_token_with_it() {
    let world = World::usual();
    let leases = world.open();
    let lease = world.take(&leases).await.unwrap();
    assert_eq!(world.roles(), "1");
    let login = lease.login().unwrap();
    assert_eq!(
        world.double.leases().await,
        [String::from_utf8_lossy(login.user.expose())]
    );
    assert!(lease.expires().is_some());
    // The agent's own, and a child that says whose it is.
    let tokens = world.double.tokens().await;
    assert_eq!(tokens.len(), 2);
    let child = tokens.iter().find(|token| token["child"] == true).unwrap();
    assert_eq!(child["meta"]["workload"], "ci-report");
    let listed = leases.list().remove(0);
    assert_eq!(listed.source, "vault");
    assert!(listed.name.unwrap().starts_with("database/creds/report/"));
    let journal = world.entries().remove(0);
    assert!(journal.contains(child["accessor"].as_str().unwrap()), "{journal}");
    for secret in [
        "hvs.",
        "secret-id-2f9d",
        std::str::from_utf8(login.password.expose()).unwrap(),
    ] {
        assert!(!journal.contains(secret), "{journal}");
    }
    assert_eq!(lease.end(Duration::from_secs(10)).await, LeaseEnd::Revoked);
    assert_eq!((world.roles().as_str(), world.entries().len()), ("0", 0));
    assert_eq!(
        world.double.tokens().await.len(),
        1,
        "the agent's own stays for the next session"
    );
    leases.close(Duration::from_secs(5)).await;
    world.double.wait_until_clean().await;
}

#[tokio::test]
async fn what_a_crash_left_is_revoked_by_accessor_with_the_login_of_the_next_agent() {
    for made in [true, false] {
        let world = World::usual();
        let leases = world.open();
        let lease = if made {
            world.take(&leases).await.unwrap()
        } else {
            // Killed while the login is made: the journal has the token's name, and not the lease's.
            world.double.fault("database/creds", "lost", 1).await;
            world.take(&leases).await.unwrap_err();
            world.double.wait_until_clean_but_own().await;
            world.take(&leases).await.unwrap()
        };
        world.kill(leases, lease);
        assert_eq!(world.roles(), "1");
        let next = world.open();
        world.double.wait_until_clean().await;
        for _ in 0..400 {
            if next.list().is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        assert_eq!((world.roles().as_str(), world.entries().len()), ("0", 0));
    }
}

#[tokio::test]
async fn an_answer_that_is_lost_or_wrong_leaves_nothing() {
    let world = World::usual();
    let leases = world.open();
    for (path, fault) in [
        ("database/creds", "lost"),
        ("database/creds", "without lease_id"),
        ("database/creds", "without data.password"),
        ("database/creds", "403"),
        ("auth/token/renew-self", "500"),
        ("auth/token/create", "lost"),
        ("auth/token/create", "without auth.accessor"),
    ] {
        world.double.fault(path, fault, 1).await;
        let told = world.take(&leases).await.unwrap_err().to_string();
        assert!(told.starts_with("Vault "), "{fault}: {told}");
        if fault.starts_with("lost") && path == "auth/token/create" {
            // A child of which nobody knows ends within a minute, with nothing under it.
            assert!(world.double.leases().await.is_empty());
            let child = world
                .double
                .tokens()
                .await
                .into_iter()
                .find(|token| token["child"] == true)
                .unwrap();
            world
                .double
                .test("end", json!({ "accessor": child["accessor"] }))
                .await;
        }
        world.double.wait_until_clean_but_own().await;
        assert_eq!(world.roles(), "0", "{fault}");
        world.double.test("well", json!({})).await;
    }
}

#[tokio::test]
async fn a_lease_that_is_held_outlives_its_first_time() {
    let world = World::new(3, |_| {}, Double::app_role);
    let leases = world.open();
    let lease = world.take(&leases).await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(world.roles(), "1", "{:?}", world.double.asked().await);
    let asked = world.double.asked().await;
    assert!(asked.iter().any(|path| path == "sys/leases/renew"), "{asked:?}");
    assert_eq!(lease.end(Duration::from_secs(10)).await, LeaseEnd::Revoked);
    assert_eq!(world.roles(), "0");
}

#[tokio::test]
async fn a_lease_that_vault_does_not_renew_or_has_revoked_ends_its_session() {
    let world = World::new(
        3,
        |settings| settings["database"]["database"]["report"]["renewable"] = json!(false),
        Double::app_role,
    );
    let leases = world.open();
    let lease = world.take(&leases).await.unwrap();
    assert_eq!(lease.over().await, "its time is over");
    drop(lease);

    let world = World::new(3, |_| {}, Double::app_role);
    let leases = world.open();
    let lease = world.take(&leases).await.unwrap();
    let child = world
        .double
        .tokens()
        .await
        .into_iter()
        .find(|token| token["child"] == true)
        .unwrap();
    world
        .double
        .test("end", json!({ "accessor": child["accessor"] }))
        .await;
    assert_eq!(
        lease.over().await,
        "its source says that it is not there any more"
    );
    for _ in 0..400 {
        if leases.list().is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("{:?}", leases.list());
}

#[tokio::test]
async fn a_login_that_vault_cannot_drop_is_asked_for_until_it_can() {
    let world = World::usual();
    let leases = world.open();
    let lease = world.take(&leases).await.unwrap();
    let user = String::from_utf8(lease.login().unwrap().user.expose().to_vec()).unwrap();
    // What owns something is not dropped.
    world
        .server
        .run(&format!("CREATE SCHEMA held AUTHORIZATION \"{user}\""));
    let LeaseEnd::Pending(why) = lease.end(Duration::from_secs(5)).await else {
        panic!("it cannot be void")
    };
    assert!(
        why.contains("Vault refused to revoke a lease (status 500)"),
        "{why}"
    );
    assert!(leases.warnings()[0].contains("could not be revoked"));
    world.server.run("DROP SCHEMA held");
    leases.revoke_one(&leases.list()[0].id, "a test");
    world.double.wait_until_clean_but_own().await;
    assert_eq!(world.roles(), "0");
}

#[tokio::test]
async fn without_the_right_to_revoke_leases_the_token_s_end_is_waited_for() {
    let world = World::new(
        600,
        |settings| {
            let policy = settings["policies"]["agent"].as_object_mut().unwrap();
            policy.remove("sys/leases/revoke");
        },
        Double::app_role,
    );
    let leases = world.open();
    let lease = world.take(&leases).await.unwrap();
    assert_eq!(lease.end(Duration::from_secs(10)).await, LeaseEnd::Revoked);
    assert_eq!(world.roles(), "0");
    assert!(
        world
            .double
            .asked()
            .await
            .iter()
            .any(|path| path == "sys/leases/lookup")
    );
}

#[tokio::test]
async fn a_job_s_own_token_makes_a_login_and_cleanup_revokes_it_after_a_crash() {
    for cleanup in [true, false] {
        let world = World::new(
            600,
            |_| {},
            |double| match jwt() {
                VaultAuth::Jwt { mount, role, .. } if cleanup => VaultAuth::Jwt {
                    mount,
                    role,
                    cleanup: Some(double.secret("cleanup", "agent-token-0b1c")),
                },
                auth => auth,
            },
        );
        let leases = world.open();
        let mut job = ask();
        job.token = Some(world.double.job(json!({})).await);
        let lease = world.take_for(&leases, job.clone()).await.unwrap();
        assert_eq!(lease.end(Duration::from_secs(10)).await, LeaseEnd::Revoked);
        world.double.wait_until_clean().await;

        let lease = world.take_for(&leases, job).await.unwrap();
        world.kill(leases, lease);
        let next = world.open();
        if cleanup {
            world.double.wait_until_clean().await;
            assert_eq!(world.roles(), "0");
            continue;
        }
        // Nobody may: it is told, and not forgotten.
        let told = loop {
            if let Some(told) = next.list().remove(0).error {
                break told;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        assert!(told.contains("`cleanup` names none"), "{told}");
        assert_eq!(world.roles(), "1");
        let token = world.double.tokens().await.remove(0);
        world
            .double
            .test("end", json!({ "accessor": token["accessor"] }))
            .await;
    }
}

#[tokio::test]
async fn sessions_of_a_job_can_share_a_login() {
    let world = World::usual();
    let leases = world.open();
    let shared = || crate::credential::tests::ask(Share::Workload);
    let one = world.take_for(&leases, shared()).await.unwrap();
    let two = world.take_for(&leases, shared()).await.unwrap();
    assert_eq!(
        one.login().unwrap().user.expose(),
        two.login().unwrap().user.expose()
    );
    assert_eq!(world.roles(), "1");
    assert_eq!(leases.close(Duration::from_secs(10)).await, 0);
    world.double.wait_until_clean().await;
    assert_eq!(world.roles(), "0");
}

#[tokio::test]
async fn a_lease_that_vault_gives_for_longer_than_the_policy_ends_as_the_policy_says() {
    let mut world = World::usual();
    world.spec.max_ttl = Duration::from_secs(2);
    world.maker = maker(&world.spec);
    let leases = world.open();
    let lease = world.take(&leases).await.unwrap();
    assert_eq!(lease.over().await, "its time is over");
    world.double.wait_until_clean_but_own().await;
    assert_eq!(world.roles(), "0");
}
