use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixListener;

use super::{EngineError, Engines, OciState, container_of_state};
use crate::config::ContainerName;
use crate::model::{Container, ContainerEngine};

fn id() -> String {
    "0123456789abcdef".repeat(4)
}

fn name(engine: Option<ContainerEngine>) -> ContainerName {
    ContainerName { engine, id: id() }
}

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(label, value)| ((*label).to_owned(), (*value).to_owned()))
        .collect()
}

#[test]
fn a_state_says_what_its_runtime_wrote_and_no_image_author_could() {
    let crio = &[
        (
            "io.kubernetes.cri-o.Labels",
            r#"{"io.kubernetes.pod.namespace":"billing"}"#,
        ),
        ("io.kubernetes.cri-o.ImageName", "registry.acme.test/job:1"),
        ("from-the-image", "billing"),
    ];
    let own = id();
    let crio: Vec<_> = crio
        .iter()
        .copied()
        .chain([("io.kubernetes.cri-o.ContainerID", own.as_str())])
        .collect();
    let containerd = &[
        ("io.kubernetes.cri.container-type", "container"),
        ("io.kubernetes.cri.sandbox-namespace", "billing"),
        ("io.kubernetes.cri.image-name", "registry.acme.test/job:1"),
        ("team", "billing"),
    ];
    let image = Some("registry.acme.test/job:1");
    let podman = &[("io.container.manager", "libpod"), ("team", "billing")];
    let oci = Some(ContainerEngine::Oci);
    for (name, annotations, expected) in [
        (
            Some(name(oci)),
            &crio[..],
            Some((image, labels(&[("io.kubernetes.pod.namespace", "billing")]))),
        ),
        (
            Some(name(oci)),
            containerd,
            Some((image, labels(&containerd[..3]))),
        ),
        (
            None,
            &[("team", "billing")],
            Some((None, labels(&[("team", "billing")]))),
        ),
        // An image's author writes what he likes into the annotations that podman hands on.
        (None, podman, None),
        (Some(name(Some(ContainerEngine::Podman))), &crio[..], None),
        (
            Some(name(Some(ContainerEngine::Docker))),
            &[("team", "billing")],
            None,
        ),
        (Some(name(None)), &[("team", "billing")], None),
    ] {
        let state = OciState {
            id: id(),
            annotations: labels(annotations),
        };
        let found = container_of_state(name.as_ref(), &state);
        let found = found.map(|found| (found.image, found.labels));
        let expected = expected.map(|(image, labels)| (image.map(str::to_owned), labels));
        assert_eq!(found, expected, "{name:?} {annotations:?}");
    }
    // Another container's id in CRI-O's annotation makes nobody a container of CRI-O's.
    let state = OciState {
        id: "f".repeat(64),
        annotations: labels(&crio),
    };
    assert!(container_of_state(Some(&name(oci)), &state).is_none());
}

#[test]
fn a_state_of_many_annotations_keeps_those_of_its_engine() {
    let mut state = OciState {
        id: id(),
        annotations: labels(&[
            ("io.kubernetes.cri.container-type", "container"),
            ("a", &"x".repeat(50_000)),
        ]),
    };
    assert!(state.shorten());
    assert_eq!(
        state.annotations,
        labels(&[("io.kubernetes.cri.container-type", "container")])
    );
    assert!(!state.shorten());
}

/// An engine: the answers to paths, in the shapes of Docker's API reference and of Podman 4.3.
struct Engine {
    directory: tempfile::TempDir,
    server: tokio::task::JoinHandle<()>,
}

impl Engine {
    fn start(answers: &[(&str, u16, String)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join("engine.sock")).unwrap();
        let answers: Vec<(String, u16, String)> = answers
            .iter()
            .map(|(path, status, body)| ((*path).to_owned(), *status, body.clone()))
            .collect();
        let answers = Arc::new(answers);
        let server = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let answers = Arc::clone(&answers);
                tokio::spawn(async move {
                    let mut asked = Vec::new();
                    while !asked.ends_with(b"\r\n\r\n") {
                        let Ok(byte) = stream.read_u8().await else { return };
                        asked.push(byte);
                    }
                    let asked = String::from_utf8(asked).unwrap();
                    let path = asked.split(' ').nth(1).unwrap();
                    let found = answers
                        .iter()
                        .find(|(known, ..)| path.split('?').next() == Some(known));
                    let (status, body) = match found {
                        // Never: as an engine that keeps the container to itself.
                        Some((_, 0, _)) => std::future::pending().await,
                        Some((_, status, body)) => (*status, body.clone()),
                        None => (404, "{\"message\":\"no such\"}".to_owned()),
                    };
                    let answer = format!(
                        "HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                        body.len()
                    );
                    stream.write_all(answer.as_bytes()).await.ok();
                });
            }
        });
        Self { directory, server }
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("engine.sock")
    }

    async fn ask(&self, engine: Option<ContainerEngine>) -> Result<Container, EngineError> {
        Engines::new(self.socket(), self.socket())
            .ask(&name(engine))
            .await
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Sockets that do not belong to root do not count, so that only root can try the others.
fn root() -> bool {
    nix::unistd::geteuid().is_root()
}

const DOCKER: Option<ContainerEngine> = Some(ContainerEngine::Docker);

fn created(id: &str) -> String {
    let event = |action: &str, id: &str, project: &str| {
        serde_json::json!({"Type": "container", "Action": action, "Actor": {"ID": id, "Attributes": {
            "image": "registry.acme.test/job:1", "name": "job", "project": project, "built-for": "billing", "both": "mine",
        }}, "time": 1})
        .to_string()
    };
    format!(
        "{}\n{}\n{}\n",
        event("create", &"f".repeat(64), "other"),
        event("create", id, "billing"),
        event("start", id, "later")
    )
}

fn inspected(id: &str) -> String {
    serde_json::json!({"Id": id, "Name": "/job", "Image": "sha256:abc", "State": {"Pid": 1}, "Config": {
        "Image": "registry.acme.test/job:1", "Env": ["project=lie"], "Hostname": "billing",
        "Labels": {"project": "billing", "built-for": "billing", "both": "mine"},
    }})
    .to_string()
}

fn image() -> String {
    serde_json::json!({"Id": "sha256:abc", "Config": {"Labels": {"built-for": "billing", "both": "image's"}}})
        .to_string()
}

#[tokio::test]
async fn labels_are_what_the_engine_was_asked_for_and_not_what_the_image_says() {
    if !root() {
        return assert!(matches!(
            Engine::start(&[]).ask(DOCKER).await,
            Err(EngineError::NotRoots { .. })
        ));
    }
    let id = id();
    let by_event = Engine::start(&[
        ("/events", 200, created(&id)),
        // While it is started it is kept back.
        (&format!("/containers/{id}/json"), 0, String::new()),
        ("/images/registry.acme.test/job:1/json", 200, image()),
    ]);
    let by_look = Engine::start(&[
        ("/events", 200, created(&"e".repeat(64))),
        (&format!("/containers/{id}/json"), 200, inspected(&id)),
        ("/images/sha256:abc/json", 200, image()),
    ]);
    for engine in [by_event, by_look] {
        let found = engine.ask(DOCKER).await.unwrap();
        assert_eq!(found.labels, labels(&[("project", "billing"), ("both", "mine")]));
        assert_eq!(found.image.as_deref(), Some("registry.acme.test/job:1"));
        assert_eq!(found.name.as_deref(), Some("job"));
        assert_eq!(found.id, id);
    }
}

#[tokio::test]
async fn what_an_engine_does_not_say_is_not_guessed() {
    if !root() {
        return;
    }
    let id = id();
    let container = format!("/containers/{id}/json");
    for (answers, expected) in [
        (vec![], "knows of no container"),
        (vec![("/events", 500, "oops".to_owned())], "answered 500"),
        (vec![("/events", 200, "nonsense".to_owned())], "no list of events"),
        (vec![(container.as_str(), 200, "{}".to_owned())], "no container"),
        // It takes names for ids.
        (
            vec![(container.as_str(), 200, inspected(&"f".repeat(64)))],
            "knows of no container",
        ),
        (
            vec![(container.as_str(), 200, inspected(&id))],
            "does not have its image",
        ),
        (
            vec![(container.as_str(), 0, String::new())],
            "keeps the container to itself",
        ),
    ] {
        let error = Engine::start(&answers).ask(DOCKER).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{answers:?}: {error}");
    }
    let huge = vec![("/events", 200, " ".repeat(5 << 20))];
    let error = Engine::start(&huge).ask(DOCKER).await.unwrap_err().to_string();
    assert!(error.contains("more than"), "{error}");
}

#[tokio::test]
async fn where_nobody_can_be_asked_it_is_said_what_to_do() {
    let nowhere = || Path::new("/nonexistent/engine.sock").to_owned();
    let engines = Engines::new(nowhere(), nowhere());
    for (engine, expected) in [
        (DOCKER, "systemctl enable --now docker.socket"),
        (
            Some(ContainerEngine::Podman),
            "systemctl enable --now podman.socket",
        ),
        (Some(ContainerEngine::Oci), "tollgate oci-hook"),
        (None, "docker cannot be asked"),
    ] {
        let error = engines.ask(&name(engine)).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = Engines::new(file.clone(), file)
        .ask(&name(DOCKER))
        .await
        .unwrap_err();
    assert!(matches!(error, EngineError::NotRoots { .. }), "{error}");
}
