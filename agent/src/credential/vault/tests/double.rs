//! The double: a process of its own.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::config::SourceSpec;

/// A running double; stopped and removed when dropped.
pub(super) struct Double {
    dir: TempDir,
    child: Child,
    address: String,
}

impl Double {
    pub(super) fn start(settings: Value) -> Self {
        Self::at("http", tempfile::tempdir().unwrap(), settings)
    }

    /// One in `dir`, where `settings` may name files.
    pub(super) fn at(scheme: &str, dir: TempDir, mut settings: Value) -> Self {
        settings["directory"] = json!(dir.path());
        let file = dir.path().join("settings.json");
        std::fs::write(&file, settings.to_string()).unwrap();
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vault/double.py");
        let mut child = Command::new("python3")
            .arg(program)
            .arg(&file)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let port: u16 = line.trim().parse().expect("the double says its port");
        Self {
            dir,
            child,
            address: format!("{scheme}://127.0.0.1:{port}"),
        }
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// A file with a secret of the agent's.
    pub(super) fn secret(&self, name: &str, text: &str) -> SourceSpec {
        let path = self.dir.path().join(name);
        if path.exists() {
            std::fs::remove_file(&path).unwrap();
        }
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).unwrap();
        SourceSpec::File(path)
    }

    pub(super) async fn test(&self, what: &str, body: Value) -> Value {
        let client = reqwest::Client::new();
        let url = format!("{}/_test/{what}", self.address);
        let request = match body {
            Value::Null => client.get(url),
            body => client.post(url).json(&body),
        };
        let answer = request.send().await.unwrap();
        assert!(answer.status().is_success(), "{what}: {}", answer.status());
        answer.json().await.unwrap_or_default()
    }

    /// What the next questions below a path come to.
    pub(super) async fn fault(&self, path: &str, fault: &str, times: u32) {
        let body = json!({ "path": path, "fault": fault, "times": times });
        self.test("fault", body).await;
    }

    /// Accessors of the tokens that the agent made or got.
    pub(super) async fn tokens(&self) -> Vec<Value> {
        let state = self.test("state", Value::Null).await;
        let all = state["tokens"].as_array().unwrap().clone();
        // The first is the one that stands in its settings.
        all.into_iter().skip(1).collect()
    }

    pub(super) async fn leases(&self) -> Vec<String> {
        let state = self.test("state", Value::Null).await;
        let all = state["leases"].as_array().unwrap();
        all.iter()
            .map(|lease| lease["user"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Paths that were asked for, in order.
    pub(super) async fn asked(&self) -> Vec<String> {
        let state = self.test("state", Value::Null).await;
        let all = state["questions"].as_array().unwrap();
        all.iter()
            .map(|question| question["path"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Waits until it has no lease, and no token but the agent's own.
    pub(super) async fn wait_until_clean_but_own(&self) {
        for _ in 0..400 {
            let children = self
                .tokens()
                .await
                .into_iter()
                .filter(|token| token["child"] == true);
            if children.count() == 0 && self.leases().await.is_empty() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("left: {:?} {:?}", self.tokens().await, self.leases().await);
    }

    /// Waits until it has no tokens and leases of the agent's.
    pub(super) async fn wait_until_clean(&self) {
        for _ in 0..400 {
            if self.tokens().await.is_empty() && self.leases().await.is_empty() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("left: {:?} {:?}", self.tokens().await, self.leases().await);
    }
}

impl Drop for Double {
    fn drop(&mut self) {
        // It ends with its standard input.
        drop(self.child.stdin.take());
        self.child.wait().unwrap();
    }
}
