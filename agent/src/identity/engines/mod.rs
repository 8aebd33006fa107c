//! What engines say of their containers: Docker and Podman when they are asked, CRI-O, containerd and runc by the state that
//! they give to `tollgate oci-hook`.
//!
//! Nothing that a container can say itself is heard: not its environment, its host name or its command line. Labels that its
//! image has with the same value do not count either: whoever builds an image can write any label into it, and whether
//! the engine was asked for it besides cannot be told. Whoever may speak to the engine can be root, and can label as he likes.
//!
//! Known limits: of a container that another one of the same id came before, on another engine of the same host, nothing is
//! known to tell the two apart. The image of one that is being made is looked up by its name, so a tag that somebody
//! moves within that moment is taken for the image.

mod api;
mod oci;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Duration;

use crate::config::ContainerName;
use crate::model::{Container, ContainerEngine};

pub use oci::{OciState, container_of_state};

/// The engines of this host.
#[derive(Clone, Debug)]
pub struct Engines {
    docker: PathBuf,
    podman: PathBuf,
}

/// Why it cannot be known what a container is. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Nobody can be asked by this name.
    #[error(
        "its cgroup's name is that of no container, so that only its runtime can tell: have it run `tollgate oci-hook` \
         (docs/containers.md)"
    )]
    Nameless,
    /// Neither CRI-O nor containerd are asked.
    #[error(
        "what CRI-O, containerd and runc run only their hook tells, when the container starts: have them run `tollgate oci-hook` \
         (docs/containers.md), and start it anew"
    )]
    HookOnly,
    /// The hook named another container.
    #[error("its runtime calls it {state:?}, and its cgroup is that of container {cgroup}")]
    Another {
        /// By the state.
        state: String,
        /// By the cgroup.
        cgroup: String,
    },
    /// No socket.
    #[error(
        "{engine} cannot be asked: there is no socket {}; start it (`systemctl enable --now {engine}.socket`), or name its socket \
         under [containers] in tollgate.toml", .path.display()
    )]
    NoSocket {
        /// Whose.
        engine: ContainerEngine,
        /// Where it should be.
        path: PathBuf,
    },
    /// Somebody else could answer.
    #[error("{} is no socket of root's, so what answers there does not count", .path.display())]
    NotRoots {
        /// Where.
        path: PathBuf,
    },
    /// It does not answer.
    #[error("{engine} does not answer at {}: {reason}; see `systemctl status {engine}`", .path.display())]
    Unreachable {
        /// Who.
        engine: ContainerEngine,
        /// Where.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// It keeps the container to itself.
    #[error(
        "{engine} keeps the container to itself while it starts it, and has no event of its making: set \
         events_logger = \"file\" or \"journald\" in containers.conf"
    )]
    Busy {
        /// Who.
        engine: ContainerEngine,
    },
    /// It has no such container.
    #[error("{engine} knows of no container {id}")]
    NoSuch {
        /// Who.
        engine: ContainerEngine,
        /// The id.
        id: String,
    },
    /// The image cannot be looked at.
    #[error(
        "{engine} does not have its image {image:?} any more, so that which labels are the image's is not known"
    )]
    NoImage {
        /// Who.
        engine: ContainerEngine,
        /// The image.
        image: String,
    },
    /// Not what the engine's documentation says.
    #[error("{engine} answered with something that is no {expected}")]
    Unreadable {
        /// Who.
        engine: ContainerEngine,
        /// What was asked for.
        expected: &'static str,
    },
}

impl Engines {
    /// Those with their sockets there.
    pub fn new(docker: PathBuf, podman: PathBuf) -> Self {
        Self { docker, podman }
    }

    /// Asks for the container of a cgroup of this name. Takes at most some seconds.
    pub async fn ask(&self, name: &ContainerName) -> Result<Container, EngineError> {
        match name.engine {
            Some(ContainerEngine::Oci) => Err(EngineError::HookOnly),
            Some(engine) => self.ask_engine(engine, &name.id).await,
            // Docker's, as a rule: it names cgroups by the id alone where it makes them itself.
            None => match self.ask_engine(ContainerEngine::Docker, &name.id).await {
                Err(EngineError::NoSocket { .. } | EngineError::NoSuch { .. }) if self.podman.exists() => {
                    self.ask_engine(ContainerEngine::Podman, &name.id).await
                }
                answered => answered,
            },
        }
    }

    async fn ask_engine(&self, engine: ContainerEngine, id: &str) -> Result<Container, EngineError> {
        let socket = match engine {
            ContainerEngine::Docker => &self.docker,
            ContainerEngine::Podman => &self.podman,
            ContainerEngine::Oci => return Err(EngineError::HookOnly),
        };
        let client = api::Client::open(engine, socket)?;
        // First, since it waits for nobody: while a container is being started, engines keep it to themselves.
        if let Some(made) = client.made(id).await? {
            return Ok(made);
        }
        match tokio::time::timeout(PATIENCE, client.inspect(id)).await {
            Ok(answered) => answered,
            Err(_) => Err(EngineError::Busy { engine }),
        }
    }
}

/// How long an engine may take to say what a container is.
const PATIENCE: Duration = Duration::from_secs(1);
