//! What a cgroup's path says: the systemd unit and the container it belongs to.
//!
//! Both are read from the outside in. A workload that may make cgroups below its own can give them any name, so
//! the outermost match is the one that it did not choose.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use crate::config::{unit_of, user_unit_of};
use crate::model::{CgroupId, CgroupPath, Container, ContainerEngine};

/// The cgroup of a flow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CgroupIdentity {
    /// Id of the cgroup at the time of the connect.
    pub id: CgroupId,
    /// Its path below the cgroup2 mount.
    pub path: CgroupPath,
    /// systemd unit that the path is in: the first component after the slices.
    pub unit: Option<String>,
    /// Unit of a user's manager, in `user@UID.service`. The user may have named it as he liked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_unit: Option<String>,
    /// Container id, where a component looks like one (Docker, containerd, CRI-O, Podman, ECS).
    pub container: Option<String>,
    /// What the container's engine says of it, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub says_engine: Option<SaysEngine>,
    /// The selector of the policy that the cgroup, or one above it, was found by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selected_by: Option<Arc<str>>,
}

/// What an engine says of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SaysEngine {
    /// Who says it.
    pub engine: ContainerEngine,
    /// The container's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its image, as the engine was given it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Labels that the policy asks for, and those of CI runners. Others may hold anything.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

impl SaysEngine {
    /// Of `container`, with the labels that `asked` names besides.
    pub fn of(container: &Container, asked: impl Fn(&str) -> bool) -> Self {
        let labels = container.labels.iter();
        Self {
            engine: container.engine,
            name: container.name.clone(),
            image: container.image.clone(),
            labels: labels
                .filter(|(label, _)| label.starts_with(RUNNER) || asked(label))
                .map(|(label, value)| (label.clone(), value.clone()))
                .collect(),
        }
    }
}

impl CgroupIdentity {
    /// Derives unit and container from the path.
    pub fn new(id: CgroupId, path: CgroupPath) -> Self {
        let unit = unit_of(path.as_str()).map(|(unit, _)| unit);
        let user_unit = user_unit_of(path.as_str()).map(|(unit, _)| unit);
        let container = path.as_str().split('/').find_map(container_id);
        Self {
            id,
            path,
            unit,
            user_unit,
            container,
            says_engine: None,
            selected_by: None,
        }
    }
}

/// The id in one component: bare, or between a runtime's prefix and `.scope`.
fn container_id(component: &str) -> Option<String> {
    let inner = component.strip_suffix(".scope").unwrap_or(component);
    let after_prefix = inner.rsplit_once(['-', ':']).map_or(inner, |(_, id)| id);
    let is_hex = |id: &str, length: usize| {
        id.len() == length && id.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
    };
    if is_hex(after_prefix, OCI_ID) {
        return Some(after_prefix.to_owned());
    }
    // ECS: task id, dash, number of the container.
    let (task, number) = inner.split_once('-')?;
    let is_ecs =
        is_hex(task, ECS_TASK_ID) && !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit());
    is_ecs.then(|| inner.to_owned())
}

/// Labels that GitLab's runner gives to the containers of its jobs.
const RUNNER: &str = "com.gitlab.gitlab-runner.";
const OCI_ID: usize = 64;
const ECS_TASK_ID: usize = 32;

#[cfg(test)]
mod tests {
    use super::{CgroupIdentity, container_id};
    use crate::model::{CgroupId, CgroupPath};

    #[test]
    fn the_unit_is_the_first_component_after_the_slices() {
        for (path, expected) in [
            ("/actions.slice/report-1.service", Some("report-1.service")),
            (
                "/system.slice/system-getty.slice/getty@tty1.service",
                Some("getty@tty1.service"),
            ),
            (
                "/user.slice/user-1000.slice/session-3.scope",
                Some("session-3.scope"),
            ),
            (
                "/user.slice/user-1000.slice/user@1000.service/app.slice/x.service",
                Some("user@1000.service"),
            ),
            (
                "/system.slice/job.service/sub/nightly-backup.service",
                Some("job.service"),
            ),
            ("/system.slice/_cpu.service", Some("cpu.service")),
            ("/system.slice", None),
            ("/init.scope", Some("init.scope")),
            ("/docker/0123", None),
            ("/a b.service", None),
            ("/.service", None),
            ("/", None),
        ] {
            let identity = CgroupIdentity::new(CgroupId(1), CgroupPath(path.into()));
            assert_eq!(identity.unit.as_deref(), expected, "{path}");
        }
    }

    #[test]
    fn containers_are_known_by_the_names_that_runtimes_give() {
        let id = "0123456789abcdef".repeat(4);
        let task = "0123456789abcdef".repeat(2);
        for (component, expected) in [
            (format!("docker-{id}.scope"), Some(id.clone())),
            (format!("cri-containerd-{id}.scope"), Some(id.clone())),
            (format!("crio-{id}.scope"), Some(id.clone())),
            (format!("libpod-{id}.scope"), Some(id.clone())),
            (
                format!("kubepods-burstable-pod1.slice:cri-containerd:{id}"),
                Some(id.clone()),
            ),
            (id.clone(), Some(id.clone())),
            (format!("{task}-3051"), Some(format!("{task}-3051"))),
            (task.clone(), None),
            (id.to_uppercase(), None),
            (id[..63].to_owned(), None),
            ("report-1.service".to_owned(), None),
        ] {
            assert_eq!(container_id(&component), expected, "{component}");
        }
    }
}
