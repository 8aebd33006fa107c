//! Against a provider that was not written here: npm `oidc-provider`, over HTTP on loopback.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use super::test_issuer::{HOUR, like};
use super::{TokenError, TokenVerifier};
use crate::config::{IdentitySpec, Proof, TokenSource};
use crate::model::Secret;

struct Provider {
    child: Child,
    /// Kept open: the provider goes on printing notices.
    _output: BufReader<ChildStdout>,
    issuer: String,
}

impl Provider {
    /// Installs the provider's packages where that was not done yet, and starts it.
    fn start() -> Result<Self, String> {
        let home = install()?;
        let mut child = Command::new("node")
            .arg("provider.mjs")
            .current_dir(&home)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("node cannot be started: {error}"))?;
        let mut line = String::new();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        output.read_line(&mut line).unwrap();
        if let Ok(port) = line.trim().parse::<u16>() {
            return Ok(Self {
                child,
                _output: output,
                issuer: format!("http://127.0.0.1:{port}"),
            });
        }
        let _already_gone = child.kill();
        child.wait().unwrap();
        Err(format!("the provider printed {line:?} and no port"))
    }

    /// Asks the token end point as `client`, with the form's further fields.
    async fn token(&self, client: &str, form: &str, field: &str) -> Secret {
        let answer = reqwest::Client::new()
            .post(format!("{}/token", self.issuer))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(format!("client_id={client}&client_secret=job-secret&{form}"))
            .send()
            .await
            .unwrap()
            .text()
            .await
            .unwrap();
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
        let token = answer[field].as_str().unwrap_or_else(|| panic!("{answer}"));
        Secret::new(token.as_bytes().to_vec())
    }

    fn spec(&self, claims: &[(&str, &str)]) -> IdentitySpec {
        IdentitySpec {
            proof: Proof::Oidc,
            issuer: self.issuer.clone(),
            audience: "tollgate".into(),
            token: TokenSource::Env("TOLLGATE_ID_TOKEN".into()),
            claims: claims.iter().map(|(name, pattern)| like(name, pattern)).collect(),
            ca: None,
            leeway: Duration::from_secs(5),
            offline: HOUR,
        }
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        let _already_gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Copies the provider under `target/` and runs `npm ci` there, once for each lock file.
fn install() -> Result<PathBuf, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let source = root.join("tests/oidc");
    let home = root.join("target/oidc");
    fs::create_dir_all(&home).unwrap();
    for file in ["package.json", "provider.mjs"] {
        fs::copy(source.join(file), home.join(file)).unwrap();
    }
    let lock = fs::read(source.join("package-lock.json")).unwrap();
    let installed = home.join("installed-lock.json");
    if fs::read(&installed).is_ok_and(|of_last_time| of_last_time == lock) {
        return Ok(home);
    }
    fs::write(home.join("package-lock.json"), &lock).unwrap();
    let npm = Command::new("npm")
        .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
        .current_dir(&home)
        .output()
        .map_err(|error| format!("npm cannot be started: {error}"))?;
    if !npm.status.success() {
        return Err(format!("npm ci failed: {}", npm.stderr.escape_ascii()));
    }
    fs::write(installed, lock).unwrap();
    Ok(home)
}

#[tokio::test]
async fn tokens_of_a_real_provider_are_verified() {
    let provider = match Provider::start() {
        Ok(provider) => provider,
        Err(why) => {
            assert!(std::env::var_os("CI").is_none(), "{why}");
            eprintln!("NOT TESTED: {why}");
            return;
        }
    };
    let verifier = TokenVerifier::new();
    let good = provider.spec(&[("project_path", "acme/*"), ("ref_protected", "true")]);

    // ID tokens, one client for each algorithm.
    for client in ["tollgate", "tollgate-ps256", "tollgate-es256", "tollgate-eddsa"] {
        let token = provider
            .token(client, "grant_type=urn:tollgate:test:job", "id_token")
            .await;
        let spec = IdentitySpec {
            audience: client.into(),
            ..good.clone()
        };
        let claims = verifier
            .verify(&token, &spec)
            .await
            .unwrap_or_else(|error| panic!("{client}: {error}"));
        assert_eq!(claims.subject, "job-4711");
        assert_eq!(claims.claims["project_path"], "acme/report");
        assert!(claims.valid_until > std::time::SystemTime::now());
    }

    // An access token in JWT form, addressed by a resource indicator.
    let resource = "grant_type=client_credentials&resource=urn:tollgate";
    let access = provider.token("tollgate", resource, "access_token").await;
    let claims = verifier.verify(&access, &good).await.unwrap();
    assert_eq!(claims.claims["ref_protected"], "true");

    let other = provider
        .token("vault", "grant_type=urn:tollgate:test:job", "id_token")
        .await;
    assert!(matches!(
        verifier.verify(&other, &good).await,
        Err(TokenError::Audience { .. })
    ));

    let symmetric = provider
        .token("tollgate-hs256", "grant_type=urn:tollgate:test:job", "id_token")
        .await;
    let spec = IdentitySpec {
        audience: "tollgate-hs256".into(),
        ..good.clone()
    };
    assert_eq!(
        verifier.verify(&symmetric, &spec).await,
        Err(TokenError::Algorithm)
    );

    let payroll = provider.spec(&[("project_path", "acme/payroll")]);
    let token = provider
        .token("tollgate", "grant_type=urn:tollgate:test:job", "id_token")
        .await;
    assert!(matches!(
        verifier.verify(&token, &payroll).await,
        Err(TokenError::Claim { .. })
    ));
}
