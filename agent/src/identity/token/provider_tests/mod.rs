//! Against a provider that was not written here: npm `oidc-provider`, over HTTP on loopback.

mod algorithms;
mod answers;
mod clocks;
mod forged;
mod rotation;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;
use serde_json::{Value, json};

use super::test_issuer::{HOUR, like};
use super::{Now, TokenClaims, TokenError, TokenVerifier};
use crate::config::{IdentitySpec, Proof, TokenSource};
use crate::model::Secret;

/// The real provider, a verifier that has not asked it yet, and a policy for it.
struct Provider {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    issuer: String,
    verifier: TokenVerifier,
    spec: IdentitySpec,
    /// Times of tests are counted from here.
    start: Instant,
}

impl Provider {
    /// Starts it. Where there is no node or no network, that is said loudly; in CI it is a failure.
    fn start() -> Option<Self> {
        match Self::try_start() {
            Ok(provider) => Some(provider),
            Err(why) => {
                assert!(std::env::var_os("CI").is_none(), "{why}");
                eprintln!("NOT TESTED: {why}");
                None
            }
        }
    }

    /// Installs the provider's packages where that was not done yet.
    fn try_start() -> Result<Self, String> {
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
        let Ok(port) = line.trim().parse::<u16>() else {
            let _already_gone = child.kill();
            child.wait().unwrap();
            return Err(format!("the provider printed {line:?} and no port"));
        };
        let issuer = format!("http://127.0.0.1:{port}");
        let spec = IdentitySpec {
            proof: Proof::Oidc,
            issuer: issuer.clone(),
            audience: "tollgate".into(),
            token: TokenSource::Env("TOLLGATE_ID_TOKEN".into()),
            claims: vec![like("project_path", "acme/*"), like("ref_protected", "true")],
            ca: None,
            leeway: Duration::from_secs(30),
            offline: HOUR,
        };
        Ok(Self {
            input: child.stdin.take().unwrap(),
            output,
            issuer,
            verifier: TokenVerifier::new(),
            spec,
            start: Instant::now(),
            child,
        })
    }

    /// Tells it what happens to it: `tests/oidc/provider.mjs` lists what there is.
    fn tell(&mut self, command: &Value) -> Value {
        writeln!(self.input, "{command}").unwrap();
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{command}: {line:?}: {error}"))
    }

    /// How often its keys were asked for.
    fn asked(&mut self) -> u64 {
        self.tell(&json!({"asked": JWKS})).as_u64().unwrap()
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
        let answer: Value = serde_json::from_str(&answer).unwrap();
        let token = answer[field].as_str().unwrap_or_else(|| panic!("{answer}"));
        Secret::new(token.as_bytes().to_vec())
    }

    /// A job's token for `audience`, with the form's further fields.
    async fn job(&self, audience: &str, form: &str) -> Secret {
        let form = format!("grant_type=urn:tollgate:test:job{form}");
        self.token(audience, &form, "id_token").await
    }

    /// What the verifier says of it so long after the start. Only its waiting is for that long: tokens are judged by the clock
    /// of now.
    async fn verify_after(&self, passed: Duration, token: &Secret) -> Result<TokenClaims, TokenError> {
        self.verify_by(&self.verifier, passed, token).await
    }

    async fn verify_by(
        &self,
        verifier: &TokenVerifier,
        passed: Duration,
        token: &Secret,
    ) -> Result<TokenClaims, TokenError> {
        let now = Now {
            wall: SystemTime::now(),
            steady: self.start + passed,
        };
        verifier.verify_at(token, &self.spec, now).await
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
    static ONCE: Mutex<()> = Mutex::new(());
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let source = root.join("tests/oidc");
    let home = root.join("target/oidc");
    fs::create_dir_all(&home).unwrap();
    let _one_at_a_time = ONCE.lock();
    for file in ["package.json", "provider.mjs"] {
        // Put in its place whole: another test may be reading it.
        let new = home.join(format!("{file}.new"));
        fs::copy(source.join(file), &new).unwrap();
        fs::rename(new, home.join(file)).unwrap();
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

const JWKS: &str = "/jwks";
const DISCOVERY: &str = "/.well-known/openid-configuration";
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);
