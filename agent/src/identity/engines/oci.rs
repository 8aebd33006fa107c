//! What a runtime's state says of a container (OCI runtime specification, "State"): its annotations.
//!
//! Docker and Podman put no labels there, and Podman puts the annotations of the image there, which its author wrote: those
//! two are asked themselves. CRI-O and containerd write theirs under keys of their own, over whatever the image or the pod
//! has under these keys.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::config::ContainerName;
use crate::model::{Container, ContainerEngine};

/// The state of a container that is being made, as its runtime gives it to a hook.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OciState {
    /// Its id.
    pub id: String,
    /// Its annotations: those of the state, and of the `config.json` of its bundle.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

impl OciState {
    /// Leaves out what is no engine's, if all together would be too much to tell, and says whether it did.
    pub fn shorten(&mut self) -> bool {
        let size: usize = self
            .annotations
            .iter()
            .map(|(key, value)| key.len() + value.len())
            .sum();
        if size <= LARGEST {
            return false;
        }
        let of_engine = |key: &str| {
            key.starts_with(CRI) || [CRIO_ID, CRIO_LABELS, CRIO_IMAGE, CRIO_NAME, MANAGER].contains(&key)
        };
        self.annotations
            .retain(|key, value| of_engine(key) && value.len() <= LARGEST / 4);
        true
    }
}

/// What a state says; `None`: nothing, so that an engine has to be asked. `name`: what the cgroup is called.
pub fn container_of_state(name: Option<&ContainerName>, state: &OciState) -> Option<Container> {
    let said = |key: &str| state.annotations.get(key);
    let by_name = name.and_then(|name| name.engine);
    let container = |image: Option<&String>, name: Option<&String>, labels| Container {
        engine: ContainerEngine::Oci,
        id: state.id.clone(),
        name: name.cloned(),
        image: image.cloned(),
        labels,
    };
    if matches!(by_name, Some(ContainerEngine::Docker | ContainerEngine::Podman)) {
        return None;
    }
    if said(MANAGER).is_some_and(|manager| manager == "libpod") {
        return None;
    }
    if said(CRIO_ID).is_some_and(|id| *id == state.id) {
        let labels = said(CRIO_LABELS).and_then(|json| serde_json::from_str(json).ok());
        return Some(container(
            said(CRIO_IMAGE),
            said(CRIO_NAME),
            labels.unwrap_or_default(),
        ));
    }
    if said(CRI_KIND).is_some() {
        let own = state.annotations.iter().filter(|(key, _)| key.starts_with(CRI));
        let labels = own.map(|(key, value)| (key.clone(), value.clone())).collect();
        return Some(container(said(CRI_IMAGE), said(CRI_NAME), labels));
    }
    // An id alone may be Docker's, whose containers have no annotations.
    if name.is_some() {
        return None;
    }
    Some(container(None, None, state.annotations.clone()))
}

/// Set by libpod.
const MANAGER: &str = "io.container.manager";
/// Set by CRI-O (cri-o, `internal/annotations`).
const CRIO_ID: &str = "io.kubernetes.cri-o.ContainerID";
const CRIO_LABELS: &str = "io.kubernetes.cri-o.Labels";
const CRIO_IMAGE: &str = "io.kubernetes.cri-o.ImageName";
const CRIO_NAME: &str = "io.kubernetes.cri-o.Name";
/// Set by containerd's CRI plug-in (containerd, `internal/cri/annotations`).
const CRI: &str = "io.kubernetes.cri.";
const CRI_KIND: &str = "io.kubernetes.cri.container-type";
const CRI_IMAGE: &str = "io.kubernetes.cri.image-name";
const CRI_NAME: &str = "io.kubernetes.cri.container-name";

/// Most bytes of annotations that are told the agent, whose requests are no longer than that.
const LARGEST: usize = 40 * 1024;
