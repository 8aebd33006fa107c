//! Against a server that was not written here: npm `oidc-provider`, over HTTP on loopback.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::KeyPair as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;
use crate::credential::Found;

const SECRET: &str = "s3cret: &+%";

struct Server {
    child: Child,
    /// Kept open: the server goes on printing notices.
    _output: BufReader<ChildStdout>,
    url: String,
    key: KeyPair,
    place: Place,
}

impl Server {
    /// `None`: it is not installed. Fails where `CI` is set.
    fn start() -> Option<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let home = root.join("target/oidc");
        if !home.join("node_modules/oidc-provider").exists() {
            let why = "oidc-provider is missing: run `cargo xtask setup`";
            assert!(std::env::var_os("CI").is_none(), "{why}");
            eprintln!("NOT RUN: {why}");
            return None;
        }
        let name = "authorization.mjs";
        fs::copy(root.join("tests/oidc").join(name), home.join(name)).unwrap();
        let key = KeyPair::generate(KeySize::Rsa2048).unwrap();
        let mut child = Command::new("node")
            .arg(name)
            .current_dir(&home)
            .env("TOLLGATE_TEST_KEY", STANDARD.encode(key.public_key().as_ref()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let port = (&mut output)
            .lines()
            .map_while(Result::ok)
            .find_map(|line| line.parse::<u16>().ok());
        Some(Self {
            child,
            _output: output,
            url: format!("http://127.0.0.1:{}", port.expect("the server says its port")),
            key,
            place: Place::new(),
        })
    }

    fn spec(&self, client: &str, auth: ClientAuth, grant: Oauth2Grant) -> Oauth2Spec {
        let issuer = IssuerSpec {
            endpoint: format!("{}/token", self.url),
            ca: None,
            timeout: Duration::from_secs(10),
        };
        Oauth2Spec {
            client_id: client.into(),
            revocation: Some(format!("{}/token/revocation", self.url)),
            ..spec(issuer, auth, grant)
        }
    }

    fn pem(&self) -> String {
        let key = AsDer::<Pkcs8V1Der<'_>>::as_der(&self.key).unwrap();
        format!(
            "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
            STANDARD.encode(key.as_ref())
        )
    }

    async fn asked(&self, path: &str, form: &str) -> serde_json::Value {
        let answer = reqwest::Client::new()
            .post(format!("{}{path}", self.url))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form.to_owned())
            .send()
            .await
            .unwrap();
        serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap()
    }

    /// Whether the server takes the token.
    async fn takes(&self, made: &Made) -> bool {
        let token = std::str::from_utf8(token(made)).unwrap();
        let form = format!("client_id=none&token={token}");
        self.asked("/token/introspection", &form).await["active"] == true
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _already_gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

#[tokio::test]
async fn a_real_server_takes_every_way_of_proof_and_voids_what_it_issued() {
    let Some(server) = Server::start() else { return };
    let secret = || server.place.secret("secret", SECRET);
    for (client, auth) in [
        ("basic", ClientAuth::Basic(secret())),
        ("post", ClientAuth::Post(secret())),
        (
            "key",
            ClientAuth::PrivateKey(server.place.secret("key", &server.pem())),
        ),
    ] {
        let mut spec = server.spec(client, auth, Oauth2Grant::ClientCredentials);
        spec.scope = vec!["orders.read".into()];
        let made = make(&spec, &server.place.tokens())
            .await
            .unwrap_or_else(|error| panic!("{client}: {}", error.error));
        let left = made.expires.unwrap().duration_since(SystemTime::now()).unwrap();
        assert!(
            left > Duration::from_secs(500) && left <= Duration::from_secs(570),
            "{left:?}"
        );
        let handle = made.handle.as_ref().unwrap();
        assert_eq!(handle.revoke(None).await.unwrap(), Found::Voided);
    }
    let wrong = ClientAuth::Basic(server.place.secret("wrong", "hunter2"));
    let spec = server.spec("basic", wrong, Oauth2Grant::ClientCredentials);
    let why = make(&spec, &server.place.tokens())
        .await
        .unwrap_err()
        .error
        .to_string();
    assert!(
        why.contains("401 Unauthorized (invalid_client)") && !why.contains("hunter2"),
        "{why}"
    );
}

#[tokio::test]
async fn a_real_server_exchanges_a_jobs_token_and_refuses_a_forged_one() {
    let Some(server) = Server::start() else { return };
    let job = server
        .asked("/token", "grant_type=urn:tollgate:test:job&client_id=tollgate")
        .await;
    let job = job["id_token"].as_str().unwrap();
    let spec = server.spec(
        "none",
        ClientAuth::None,
        Oauth2Grant::TokenExchange(SubjectToken::Jwt),
    );
    let maker = maker(&spec, &server.place.tokens());
    let with = |token: &str| {
        let mut ask = ask(Share::Session);
        ask.token = Some(JobToken {
            kind: TokenKind::Oidc,
            secret: Secret::new(token.as_bytes().to_vec()),
        });
        ask
    };
    let made = maker.make(&with(job), None).await.unwrap();
    assert!(server.takes(&made).await);
    let handle = made.handle.as_ref().unwrap();
    assert_eq!(handle.revoke(None).await.unwrap(), Found::Voided);
    assert!(!server.takes(&made).await, "it is void, and taken");
    // Void already: RFC 7009 has that answered as if it had not been.
    assert_eq!(handle.revoke(None).await.unwrap(), Found::Voided);

    let (signed, _) = job.rsplit_once('.').unwrap();
    let forged = with(&format!("{signed}.{}", "A".repeat(342)));
    let why = maker.make(&forged, None).await.unwrap_err().error.to_string();
    assert!(why.contains("invalid_grant") && !why.contains(signed), "{why}");
}

#[tokio::test]
async fn a_real_servers_rotating_refresh_token_is_followed_over_restarts() {
    let Some(server) = Server::start() else { return };
    let seed = server
        .asked("/token", "grant_type=urn:tollgate:test:seed&client_id=none")
        .await;
    let first = server
        .place
        .secret("refresh", seed["refresh_token"].as_str().unwrap());
    let spec = server.spec("none", ClientAuth::None, Oauth2Grant::RefreshToken(first));
    // Each with a maker of its own, as after a restart. The server voids everything when it sees an old one.
    let mut before = Vec::new();
    for _ in 0..4 {
        let made = make(&spec, &server.place.tokens())
            .await
            .unwrap_or_else(|error| panic!("{}", error.error));
        assert!(!before.contains(&token(&made).to_vec()));
        before.push(token(&made).to_vec());
    }
    fs::remove_dir_all(server.place.tokens()).unwrap();
    let why = make(&spec, &server.place.tokens())
        .await
        .unwrap_err()
        .error
        .to_string();
    assert!(why.contains("invalid_grant"), "{why}");
}
