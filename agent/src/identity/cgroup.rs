//! What a cgroup's path says: the systemd unit and the container it belongs to.
//!
//! Both are read from the outside in. A workload that may make cgroups below its own can give them any name, so
//! the outermost match is the one that it did not choose.

use serde::Serialize;

use crate::model::{CgroupId, CgroupPath};

/// The cgroup of a flow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CgroupIdentity {
    /// Id of the cgroup at the time of the connect.
    pub id: CgroupId,
    /// Its path below the cgroup2 mount.
    pub path: CgroupPath,
    /// systemd unit that the path is in: the first component after the slices.
    pub unit: Option<String>,
    /// Container id, where a component looks like one (Docker, containerd, CRI-O, Podman, ECS).
    pub container: Option<String>,
}

impl CgroupIdentity {
    /// Derives unit and container from the path.
    pub fn new(id: CgroupId, path: CgroupPath) -> Self {
        let unit = unit(path.as_str());
        let container = path.as_str().split('/').find_map(container_id);
        Self {
            id,
            path,
            unit,
            container,
        }
    }
}

/// The unit by systemd's own rule: skip slices, then the first component has to be a unit.
fn unit(path: &str) -> Option<String> {
    let first = path
        .split('/')
        .filter(|part| !part.is_empty())
        .find(|part| part.rsplit_once('.').is_none_or(|(_, kind)| kind != "slice"))?;
    // systemd puts `_` before names that the kernel keeps for itself.
    let name = first.strip_prefix('_').unwrap_or(first);
    let (stem, kind) = name.rsplit_once('.')?;
    let spelled = |letter: u8| letter.is_ascii_alphanumeric() || b":_.\\@-".contains(&letter);
    let is_unit = !stem.is_empty() && UNIT_KINDS.contains(&kind) && stem.bytes().all(spelled);
    is_unit.then(|| name.to_owned())
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

const UNIT_KINDS: &[&str] = &["service", "scope", "socket", "mount", "swap"];
const OCI_ID: usize = 64;
const ECS_TASK_ID: usize = 32;

#[cfg(test)]
mod tests {
    use super::{container_id, unit};

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
            assert_eq!(unit(path).as_deref(), expected, "{path}");
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
