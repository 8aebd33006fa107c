//! Tokens of an OAuth 2.0 server: a database that takes them for passwords lets sessions in, and nobody else ever sees one.

use std::time::Duration;

use tollgate_tests::authorization::{Authorization, CLIENT_SECRET};
use tollgate_tests::job;
use tollgate_tests::postgres::Options;
use tollgate_tests::process::{eventually, run};
use tollgate_tests::psql::Psql;
use tollgate_tests::scratch::file_with;
use tollgate_tests::world::{ALLOW_ALL, DATABASE, World};

const USER: &str = "report_by_token";
const LIMIT: Duration = Duration::from_secs(20);

struct Setting {
    world: World,
    authorization: Authorization,
}

/// A world whose agent has tokens for [`USER`], as `credential` says; `{issuer}` and `{secret}` in it are filled in.
fn start(credential: &str, identity: &str) -> Setting {
    let authorization = Authorization::start().unwrap();
    let options = Options {
        tls: true,
        ..Options::default()
    };
    let tls = "{ upstream = \"verify-full\", ca = \"{ca}\", server_name = \"db.acme.test\" }";
    let mut world = World::with(ALLOW_ALL, options, tls).unwrap();
    let grants = format!("CREATE ROLE {USER} LOGIN; GRANT SELECT ON customers TO {USER}");
    world.server.admin(DATABASE, &grants).unwrap();
    authorization.guards(&world.server, USER).unwrap();
    let secret = world.agent.secret("client-secret", CLIENT_SECRET).unwrap();
    let fill = |text: &str| {
        text.replace("{issuer}", authorization.issuer())
            .replace("{secret}", &secret.display().to_string())
    };
    let credential = format!(
        "[service.credential]\nsource = \"oauth2\"\nuser = \"{USER}\"\nendpoint = \"{}/token\"\n{}\n",
        authorization.issuer(),
        fill(credential)
    );
    world
        .change_policy(|policy| {
            let start = policy.find("[service.credential]").unwrap();
            let end = policy.find("[[service.rule]]").unwrap();
            let policy = format!("{}{credential}{}", &policy[..start], &policy[end..]);
            policy.replacen("[[service]]", &format!("{}\n[[service]]", fill(identity)), 1)
        })
        .unwrap();
    Setting { world, authorization }
}

impl Setting {
    /// The one token that was used.
    fn token(&self) -> String {
        let tokens = self.authorization.tokens();
        assert_eq!(tokens.len(), 1, "{tokens:?}");
        tokens.into_iter().next().unwrap()
    }

    /// Looks for `token` where the agent writes.
    fn is_kept_nowhere(&self, token: &str) {
        assert_eq!(file_with(self.world.agent.dir(), token.as_bytes()), None);
        assert!(!self.world.agent.log().contains(token));
        let session = self.world.last_session().unwrap();
        let id = session["session"].as_str().unwrap();
        let replay = run(self.world.agent.tollgate("replay").arg(id)).unwrap();
        assert!(!replay.contains(token), "{replay}");
    }
}

#[test]
fn a_session_logs_in_with_a_token_that_is_void_when_it_has_ended() {
    let setting = start(
        "revocation_endpoint = \"{issuer}/token/revocation\"\ngrant_type = \"client_credentials\"\n\
         client_id = \"basic\"\nclient_secret = { file = \"{secret}\" }\nscope = [\"orders.read\"]",
        "",
    );
    let mut psql = Psql::start(setting.world.psql(&[])).unwrap();
    assert_eq!(psql.ask("SELECT current_user").unwrap(), USER);
    let token = setting.token();
    assert!(setting.authorization.is_active(&token).unwrap());
    psql.end().unwrap();
    eventually("the token to be void", LIMIT, || {
        (!setting.authorization.is_active(&token).ok()?).then_some(())
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", setting.world.agent.log()));
    setting.is_kept_nowhere(&token);
}

#[test]
fn the_token_of_a_job_is_exchanged_for_one_that_the_database_takes() {
    let setting = start(
        "grant_type = \"token_exchange\"\nclient_id = \"tollgate\"\nclient_auth = \"none\"",
        "[identity.oidc]\nissuer = \"{issuer}\"\naudience = \"tollgate\"\ntoken = { env = \"TOLLGATE_ID_TOKEN\" }\n",
    );
    let job_token = setting.authorization.job_token().unwrap();
    let mut psql = setting.world.psql(&["-qAt", "-c", "SELECT current_user"]);
    psql.env("TOLLGATE_ID_TOKEN", &job_token);
    let ended = job::run_within(&mut psql, LIMIT).unwrap();
    let said = ended.success();
    let said = said.unwrap_or_else(|error| panic!("{error:#}\n{}", setting.authorization.log()));
    assert_eq!(said.trim(), USER);
    setting.is_kept_nowhere(&setting.token());
    setting.is_kept_nowhere(&job_token);
}

#[test]
fn without_the_authorization_server_no_session_begins_and_the_record_says_why() {
    let mut setting = start(
        "grant_type = \"client_credentials\"\nclient_id = \"basic\"\nclient_secret = { file = \"{secret}\" }",
        "",
    );
    setting.authorization = Authorization::start().unwrap();
    let refused = setting.world.sql("SELECT 1").unwrap();
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    assert!(refused.stderr.contains("tollgate"), "{}", refused.stderr);
    let session = setting.world.last_session().unwrap();
    let id = session["session"].as_str().unwrap();
    let replay = run(setting.world.agent.tollgate("replay").arg(id)).unwrap();
    assert!(replay.contains("/token"), "{replay}");
    assert!(!replay.contains(CLIENT_SECRET), "{replay}");
}
