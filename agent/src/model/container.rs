//! A container, as its engine or runtime says.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Who runs a container, and says what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ContainerEngine {
    /// Docker Engine.
    Docker,
    /// Podman.
    Podman,
    /// Whoever calls an OCI runtime otherwise: CRI-O, containerd for Kubernetes, runc by hand.
    Oci,
}

impl fmt::Display for ContainerEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Docker => "docker",
            Self::Podman => "podman",
            Self::Oci => "oci",
        })
    }
}

/// What its engine says of a container. Nothing in it comes from the container itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// Who says it.
    pub engine: ContainerEngine,
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: Option<String>,
    /// The name of its image, as the engine was given it; `None`: it has none.
    pub image: Option<String>,
    /// Labels that whoever made it gave it. Labels that its image has with the same value are not among them: the image's
    /// author is nobody to say whose container it is.
    pub labels: BTreeMap<String, String>,
}
