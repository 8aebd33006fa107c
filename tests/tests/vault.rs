//! Credentials from a Vault: sessions have them, they are renewed while that is so, and gone after it, whatever happens.

use std::time::Duration;

use serde_json::{Value, json};
use tollgate_tests::oidc::Provider;
use tollgate_tests::postgres::Postgres;
use tollgate_tests::process::eventually;
use tollgate_tests::psql::Psql;
use tollgate_tests::scratch::file_with;
use tollgate_tests::vault::{ROLE_ID, SECRET_ID, Vault};
use tollgate_tests::world::{ALLOW_ALL, PASSWORD, ROLE, World};

const LIMIT: Duration = Duration::from_secs(40);
const MADE: &str = "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'v-report-%'";
const DYNAMIC: &str = "{ database = \"report\" }";

struct Setting {
    world: World,
    vault: Vault,
}

/// A world whose agent asks a Vault for `engine`, and logs in to it by `AppRole`.
fn start(engine: &str, ttl: u32, change: impl FnOnce(&mut Value)) -> Setting {
    let mut world = World::start(ALLOW_ALL).unwrap();
    world
        .server
        .admin(
            "shop",
            "CREATE ROLE report_reader; GRANT SELECT ON customers, orders TO report_reader",
        )
        .unwrap();
    let vault = Vault::start(&world.server, ttl, change).unwrap();
    let secret = world.agent.secret("secret-id", SECRET_ID).unwrap();
    let auth = format!(
        "{{ role_id = \"{ROLE_ID}\", secret_id = {{ file = \"{}\" }} }}",
        secret.display()
    );
    credential(&mut world, &vault, engine, &auth, |policy| policy);
    Setting { world, vault }
}

fn credential(
    world: &mut World,
    vault: &Vault,
    engine: &str,
    auth: &str,
    change: impl FnOnce(String) -> String,
) {
    let text = format!(
        "[service.credential]\nsource = \"vault\"\nengine = {engine}\n\
         vault = {{ address = \"{}\", auth = {auth} }}\n",
        vault.address()
    );
    world
        .change_policy(|policy| {
            let start = policy.find("[service.credential]").unwrap();
            let end = policy.find("[[service.rule]]").unwrap();
            change(format!("{}{text}{}", &policy[..start], &policy[end..]))
        })
        .unwrap();
}

impl Setting {
    fn made(&self) -> u32 {
        made(&self.world.server)
    }

    fn entries(&self) -> usize {
        let dir = std::fs::read_dir(self.world.agent.dir().join("state/leases")).unwrap();
        let paths = dir.map(|entry| entry.unwrap().path());
        paths
            .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
            .count()
    }

    fn session(&self) -> Psql {
        let mut psql = Psql::start(self.world.psql(&[])).unwrap();
        assert_eq!(psql.ask("SELECT 42").unwrap(), "42");
        psql
    }

    /// Waits until server, Vault and journal have nothing left.
    fn clean(&self, after: &str) {
        eventually(&format!("nothing to be left after {after}"), LIMIT, || {
            let state = self.vault.state().ok()?;
            let leases = state["leases"].as_array()?.len();
            (self.made() == 0 && self.entries() == 0 && leases == 0).then_some(())
        })
        .unwrap_or_else(|error| panic!("{error:#}\n{}", self.world.agent.log()));
    }

    fn asked(&self, path: &str) -> usize {
        let state = self.vault.state().unwrap();
        let questions = state["questions"].as_array().unwrap();
        questions
            .iter()
            .filter(|question| question["path"].as_str().unwrap().starts_with(path))
            .count()
    }

    /// Waits until Vault is asked there once more than `before`.
    fn wait_for_question(&self, path: &str, before: usize) {
        eventually(&format!("Vault to be asked for {path}"), LIMIT, || {
            (self.asked(path) > before).then_some(())
        })
        .unwrap_or_else(|error| panic!("{error:#}\n{}", self.world.agent.log()));
    }

    fn replay(&self) -> String {
        let session = self.world.last_session().unwrap();
        let id = session["session"].as_str().unwrap();
        self.world.agent.cli("replay", &[id]).unwrap()
    }
}

fn made(server: &Postgres) -> u32 {
    server.admin("postgres", MADE).unwrap().trim().parse().unwrap()
}

#[test]
fn a_session_logs_in_with_what_vault_made_for_it_and_that_is_gone_afterwards() {
    let mut setting = start(DYNAMIC, 600, |_| {});
    let mut session = setting.session();
    let user = session.ask("SELECT session_user").unwrap();
    assert!(user.starts_with("v-report-"), "{user}");
    assert_eq!(session.ask("SELECT count(*) FROM customers").unwrap(), "3");
    assert_eq!((setting.made(), setting.entries()), (1, 1));
    let listed = setting.world.agent.cli("leases", &["list"]).unwrap();
    for part in ["vault", "database/creds/report/", "test-job/shop"] {
        assert!(listed.contains(part), "{part}: {listed}");
    }
    assert_eq!(session.end().unwrap(), "");
    setting.clean("the session");
    let shown = setting.replay();
    assert!(shown.contains("credential taken (vault), valid until"), "{shown}");
    assert!(shown.contains("credential revoked (vault)"), "{shown}");

    // On request as well; the client may connect again.
    let mut session = setting.session();
    let listed = setting.world.agent.cli("leases", &["list", "--json"]).unwrap();
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let id = listed[0]["id"].as_str().unwrap();
    setting.world.agent.cli("leases", &["revoke", id]).unwrap();
    setting.clean("the revocation");
    session.send("SELECT 1");
    let said = session.end().unwrap();
    assert!(
        said.contains("its credential is void: an operator revoked it"),
        "{said}"
    );
    setting.world.sql("SELECT 1").unwrap().success().unwrap();

    let session = setting.session();
    setting.world.agent.stop().unwrap();
    drop(session);
    setting.clean("a stop");
    let state = setting.vault.state().unwrap();
    assert_eq!(state["tokens"], json!([]), "the agent gave its own token up");
    for secret in [SECRET_ID, "hvs."] {
        assert_eq!(
            file_with(&setting.world.agent.dir().join("state"), secret.as_bytes()),
            None
        );
        assert!(!setting.world.agent.log().contains(secret));
    }
}

#[test]
fn killed_at_any_step_of_a_lease_the_agent_leaves_nothing_on_the_database() {
    let mut setting = start(DYNAMIC, 600, |_| {});

    // The token that it is to be under is made, and the agent does not know of it yet.
    setting.vault.fault("auth/token/create", "late", 1).unwrap();
    let asking = Psql::start(setting.world.psql(&["-c", "SELECT 1"])).unwrap();
    setting.wait_for_question("auth/token/create", 0);
    setting.world.agent.kill().unwrap();
    setting.vault.well().unwrap();
    asking.end().unwrap();
    setting.world.agent.resume().unwrap();
    assert_eq!((setting.made(), setting.entries()), (0, 0), "nothing is under it");

    // The login is made, and the journal does not know its lease yet.
    setting.vault.fault("database/creds", "late", 1).unwrap();
    let asking = Psql::start(setting.world.psql(&["-c", "SELECT 1"])).unwrap();
    eventually("the login to be made", LIMIT, || {
        (setting.made() == 1).then_some(())
    })
    .unwrap();
    assert_eq!(setting.entries(), 1);
    setting.world.agent.kill().unwrap();
    setting.vault.well().unwrap();
    asking.end().unwrap();
    assert_eq!(setting.made(), 1);
    setting.world.agent.resume().unwrap();
    setting.clean("a kill while the login was made");

    // In use.
    let session = setting.session();
    setting.world.agent.kill().unwrap();
    session.end().unwrap();
    assert_eq!((setting.made(), setting.entries()), (1, 1));
    setting.world.agent.resume().unwrap();
    setting.clean("a kill while the login was in use");

    // On its way out.
    let session = setting.session();
    let before = setting.asked("sys/leases/revoke");
    setting.vault.fault("sys/leases/revoke", "slow", 1).unwrap();
    session.end().unwrap();
    setting.wait_for_question("sys/leases/revoke", before);
    setting.world.agent.kill().unwrap();
    assert_eq!((setting.made(), setting.entries()), (1, 1));
    setting.world.agent.resume().unwrap();
    setting.clean("a kill while the login was revoked");

    // Revoked, and the journal does not know it yet.
    let session = setting.session();
    let before = setting.asked("auth/token/revoke-self");
    setting.vault.fault("auth/token/revoke-self", "late", 1).unwrap();
    session.end().unwrap();
    setting.wait_for_question("auth/token/revoke-self", before);
    setting.world.agent.kill().unwrap();
    setting.vault.well().unwrap();
    assert_eq!(setting.entries(), 1);
    setting.world.agent.resume().unwrap();
    setting.clean("a kill when the login was gone");
}

#[test]
fn a_long_session_keeps_its_login_and_ends_when_vault_does_not_renew_it() {
    let setting = start(DYNAMIC, 4, |_| {});
    let mut session = setting.session();
    let user = session.ask("SELECT session_user").unwrap();
    setting.wait_for_question("sys/leases/renew", 1);
    assert_eq!(session.ask("SELECT session_user").unwrap(), user);
    assert_eq!(setting.made(), 1);
    setting.vault.fault("sys/leases/renew", "403", 100).unwrap();
    eventually("the login to go", LIMIT, || (setting.made() == 0).then_some(())).unwrap();
    session.send("SELECT 1");
    let said = session.end().unwrap();
    assert!(
        said.contains(
            "its time is over, and it could not be renewed: Vault refused to renew a lease (status 403)"
        ),
        "{said}"
    );
    // Its record has both ends: until when it was taken, and the later one.
    let shown = setting.replay();
    let until = |what: &str| {
        let line = shown.lines().find(|line| line.contains(what));
        let line = line.unwrap_or_else(|| panic!("no {what}: {shown}"));
        let (_, until) = line.split_once("valid until ").unwrap();
        until.to_owned()
    };
    assert_ne!(
        until("credential taken (vault)"),
        until("credential renewed (vault)"),
        "{shown}"
    );
    setting.clean("its time");
}

#[test]
fn a_job_s_own_token_is_changed_for_a_login_and_seen_by_nobody_else() {
    let provider = Provider::start().unwrap();
    let jwks = format!("{}/jwks", provider.issuer());
    let mut setting = start(DYNAMIC, 600, |settings| {
        settings["jwt"] = json!({ "jwt": {
            "role": "ci-report", "audience": "tollgate", "jwks_url": jwks, "policies": ["agent"], "ttl": 600,
        } });
    });
    let identity = format!(
        "[identity.oidc]\nissuer = \"{}\"\naudience = \"tollgate\"\ntoken = {{ env = \"TOLLGATE_ID_TOKEN\" }}\n\n[[service]]",
        provider.issuer()
    );
    let (world, vault) = (&mut setting.world, &setting.vault);
    credential(world, vault, DYNAMIC, "{ jwt = \"ci-report\" }", |policy| {
        policy.replacen("[[service]]", &identity, 1)
    });
    let token = provider.token("tollgate").unwrap();
    let mut psql = setting.world.psql(&[]);
    psql.env("TOLLGATE_ID_TOKEN", &token);
    let mut session = Psql::start(psql).unwrap();
    assert!(
        session
            .ask("SELECT session_user")
            .unwrap()
            .starts_with("v-report-")
    );
    assert_eq!(setting.made(), 1);
    assert_eq!(session.end().unwrap(), "");
    setting.clean("the session");
    assert_eq!(setting.vault.state().unwrap()["tokens"], json!([]));
    let signature = token.rsplit('.').next().unwrap();
    assert_eq!(
        file_with(&setting.world.agent.dir().join("state"), signature.as_bytes()),
        None
    );
    assert!(!setting.world.agent.log().contains(signature));

    // Vault has the last word on it.
    // psql tries again, without TLS.
    setting.vault.fault("auth/jwt/login", "403", 9).unwrap();
    let mut psql = setting.world.psql(&["-c", "SELECT 1"]);
    psql.env("TOLLGATE_ID_TOKEN", &token);
    let said = Psql::start(psql).unwrap().end().unwrap();
    assert!(
        said.contains("no credential for the server could be had"),
        "{said}"
    );
    assert!(
        setting
            .replay()
            .contains("Vault refused to log in with the job's token (status 403)")
    );
}

#[test]
fn a_secret_that_somebody_put_there_is_read_at_each_session_and_a_vault_that_is_not_well_opens_none() {
    let setting = start("{ kv = \"apps/shop\" }", 600, |settings| {
        settings["kv"] = json!({ "secret": { "apps/shop": [{ "username": ROLE, "password": PASSWORD }] } });
    });
    let counted = setting.world.sql("SELECT count(*) FROM customers").unwrap();
    assert_eq!(counted.success().unwrap().trim(), "3");
    assert_eq!(setting.entries(), 0, "there is nothing to revoke");
    for (fault, why) in [
        ("sealed", "it is sealed"),
        ("404", "there is nothing at that path"),
        ("nonsense", "something that is no secret"),
        ("redirect http://127.0.0.1:9/", "sends elsewhere"),
        ("broken", "cannot be reached"),
    ] {
        setting.vault.fault("secret/", fault, 9).unwrap();
        let ended = setting.world.sql("SELECT 1").unwrap();
        assert_eq!(ended.code, Some(2));
        assert!(
            ended.stderr.contains("no credential for the server could be had"),
            "{fault}: {}",
            ended.stderr
        );
        let shown = setting.replay();
        assert!(
            shown.contains("no credential (vault)") && shown.contains(why),
            "{fault}: {shown}"
        );
        assert!(setting.world.agent.log().contains(why), "{fault}");
        setting.vault.well().unwrap();
    }
    assert!(!setting.world.agent.log().contains("echoed-secret"));
    setting.world.sql("SELECT 1").unwrap().success().unwrap();
}
