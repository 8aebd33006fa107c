//! The API of Docker Engine, which Podman has as well, over its unix socket (docs.docker.com/reference/api/engine): events,
//! containers and images are asked for, and nothing is changed.

use std::collections::BTreeMap;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reqwest::redirect::Policy;
use reqwest::{StatusCode, Url};
use serde::Deserialize;

use super::EngineError;
use crate::model::{Container, ContainerEngine};

/// One engine's socket.
pub(super) struct Client {
    engine: ContainerEngine,
    socket: PathBuf,
    http: reqwest::Client,
}

/// `GET /events`: one of its objects.
#[derive(Deserialize)]
pub(super) struct Event {
    #[serde(rename = "Type", default)]
    kind: String,
    #[serde(rename = "Action", default)]
    action: String,
    #[serde(rename = "Actor", default)]
    actor: Actor,
}

#[derive(Default, Deserialize)]
struct Actor {
    #[serde(rename = "ID", default)]
    id: String,
    #[serde(rename = "Attributes", default)]
    attributes: Option<BTreeMap<String, String>>,
}

/// `GET /containers/ID/json`, as far as it matters.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Inspected {
    id: String,
    #[serde(default)]
    name: String,
    /// Id of the image.
    #[serde(default)]
    image: String,
    config: Config,
}

/// `GET /images/NAME/json`, as far as it matters.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Image {
    config: Option<Config>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Config {
    #[serde(default)]
    image: Option<String>,
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
}

impl Client {
    /// Whoever may replace the socket could answer instead of the engine, so it has to be root's.
    pub(super) fn open(engine: ContainerEngine, socket: &Path) -> Result<Self, EngineError> {
        let path = || socket.to_owned();
        let Ok(found) = std::fs::metadata(socket) else {
            return Err(EngineError::NoSocket { engine, path: path() });
        };
        if !found.file_type().is_socket() || found.uid() != 0 {
            return Err(EngineError::NotRoots { path: path() });
        }
        let http = reqwest::Client::builder()
            .unix_socket(socket)
            .redirect(Policy::none())
            .no_proxy()
            .timeout(PATIENCE)
            .user_agent(concat!("tollgate/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| EngineError::Unreachable {
                engine,
                path: path(),
                reason: error.to_string(),
            })?;
        Ok(Self {
            engine,
            socket: path(),
            http,
        })
    }

    /// What the engine noted when it made the container; `None`: it has no such event (any more).
    pub(super) async fn made(&self, id: &str) -> Result<Option<Container>, EngineError> {
        let filters = serde_json::json!({"type": ["container"], "event": ["create"], "container": [id]});
        let mut query = vec![("since", "0".to_owned()), ("filters", filters.to_string())];
        match self.engine {
            ContainerEngine::Podman => query.push(("stream", "false".to_owned())),
            // Until now: else it would go on for ever.
            _ => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                query.push(("until", format!("{}.{:09}", now.as_secs(), now.subsec_nanos())));
            }
        }
        let Some(body) = self.get("/events", &query).await? else {
            return Ok(None);
        };
        match self.container_of_events(id, &body)? {
            Some(container) => self.without_labels_of_image(container, None).await.map(Some),
            None => Ok(None),
        }
    }

    /// What the engine says now.
    pub(super) async fn inspect(&self, id: &str) -> Result<Container, EngineError> {
        let Some(body) = self.get(&format!("/containers/{id}/json"), &[]).await? else {
            return Err(EngineError::NoSuch {
                engine: self.engine,
                id: id.to_owned(),
            });
        };
        let found: Inspected = serde_json::from_slice(&body).map_err(|_| self.unreadable("container"))?;
        // It takes names for ids, and shortened ids.
        if found.id != id {
            return Err(EngineError::NoSuch {
                engine: self.engine,
                id: id.to_owned(),
            });
        }
        let image_id = Some(found.image.clone()).filter(|image| !image.is_empty());
        let container = Container {
            engine: self.engine,
            id: found.id,
            name: named(found.name.trim_start_matches('/')),
            image: found.config.image.as_deref().and_then(named),
            labels: found.config.labels.unwrap_or_default(),
        };
        self.without_labels_of_image(container, image_id).await
    }

    fn container_of_events(&self, id: &str, body: &[u8]) -> Result<Option<Container>, EngineError> {
        let mut made = None;
        for event in serde_json::Deserializer::from_slice(body).into_iter::<Event>() {
            let event = event.map_err(|_| self.unreadable("list of events"))?;
            if event.kind == "container" && event.action == "create" && event.actor.id == id {
                made = Some(event.actor.attributes.unwrap_or_default());
            }
        }
        Ok(made.map(|mut attributes| {
            let image = attributes.remove("image").as_deref().and_then(named);
            let name = attributes.remove("name").as_deref().and_then(named);
            Container {
                engine: self.engine,
                id: id.to_owned(),
                name,
                image,
                labels: attributes,
            }
        }))
    }

    /// Takes the image's labels off those of the container. `image_id`: its id, where that is known.
    async fn without_labels_of_image(
        &self,
        mut container: Container,
        image_id: Option<String>,
    ) -> Result<Container, EngineError> {
        let Some(image) = image_id.or_else(|| container.image.clone()) else {
            return Ok(container);
        };
        let Some(body) = self.get(&format!("/images/{image}/json"), &[]).await? else {
            return Err(EngineError::NoImage {
                engine: self.engine,
                image,
            });
        };
        let found: Image = serde_json::from_slice(&body).map_err(|_| self.unreadable("image"))?;
        let of_image = found.config.and_then(|config| config.labels).unwrap_or_default();
        container
            .labels
            .retain(|label, value| of_image.get(label) != Some(value));
        Ok(container)
    }

    /// The answer; `None`: there is no such thing.
    async fn get(&self, path: &str, query: &[(&str, String)]) -> Result<Option<Vec<u8>>, EngineError> {
        let unreachable = |reason: String| EngineError::Unreachable {
            engine: self.engine,
            path: self.socket.clone(),
            reason,
        };
        // The host is what HTTP wants to have; it means nothing here.
        let mut url = Url::parse("http://engine/").map_err(|error| unreachable(error.to_string()))?;
        url.set_path(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let failed = |error: reqwest::Error| {
            let mut cause: &dyn std::error::Error = &error;
            while let Some(deeper) = cause.source() {
                cause = deeper;
            }
            unreachable(cause.to_string())
        };
        let mut response = self.http.get(url).send().await.map_err(failed)?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Ok(None),
            other => return Err(unreachable(format!("it answered {other}"))),
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > LARGEST {
                return Err(unreachable(format!("it answered with more than {LARGEST} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Some(body))
    }

    fn unreadable(&self, expected: &'static str) -> EngineError {
        EngineError::Unreadable {
            engine: self.engine,
            expected,
        }
    }
}

fn named(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

/// Longest time for one question.
const PATIENCE: Duration = Duration::from_secs(3);
/// Largest answer that is read: labels are at most some kilobytes.
const LARGEST: usize = 4 * 1024 * 1024;
