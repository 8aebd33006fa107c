//! Containers: by what name engines make their cgroups, and what a policy asks of them.
//!
//! Rootless podman is not among them: its engine is the user's own, so what it says is what the user wants to be believed.

use std::fmt;

use super::{CgroupPlace, PlaceLevel};
use crate::config::claim::ClaimValue;
use crate::config::glob::Glob;
use crate::model::{Container, ContainerEngine};

/// `[workload.container]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerSpec {
    /// `engine`; `None`: any.
    pub engine: Option<ContainerEngine>,
    /// `image`: patterns, of which one has to match the image's name as the engine was given it. Empty: not asked.
    pub image: Vec<ClaimValue>,
    /// `labels`: each has to be there with one of its values.
    pub labels: Vec<LabelRule>,
}

/// One entry of `labels`, or of `environment`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelRule {
    /// The label, or the variable.
    pub name: String,
    /// Its values, of which one has to match. Never empty.
    pub any_of: Vec<ClaimValue>,
}

/// What the name of a cgroup says of the container that it is made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerName {
    /// Who made it; `None`: the name does not say so.
    pub engine: Option<ContainerEngine>,
    /// The container's id.
    pub id: String,
}

impl ContainerSpec {
    /// Whether a container is such a one.
    pub fn matches(&self, container: &Container) -> bool {
        self.engine.is_none_or(|engine| engine == container.engine)
            && (self.image.is_empty()
                || container
                    .image
                    .as_deref()
                    .is_some_and(|image| has(&self.image, image)))
            && self.labels.iter().all(|rule| {
                let value = container.labels.get(&rule.name);
                value.is_some_and(|value| has(&rule.any_of, value))
            })
    }

    /// Where containers are, if a policy does not say so.
    pub fn usual_places(&self) -> Vec<CgroupPlace> {
        let mut places = Vec::new();
        let mut place = |levels: &[PlaceLevel], name: String| {
            let levels = levels.iter().cloned().chain([PlaceLevel::Name(name)]);
            places.push(CgroupPlace(levels.collect()));
        };
        let named = |name: &str| PlaceLevel::Name(name.to_owned());
        let concerns = |engine| self.engine.is_none_or(|wanted| wanted == engine);
        let id = "[0-9a-f]".repeat(ID);
        if concerns(ContainerEngine::Docker) {
            place(&[PlaceLevel::Slices], format!("docker-{id}.scope"));
            place(&[named("docker")], id.clone());
        }
        if concerns(ContainerEngine::Podman) {
            place(&[PlaceLevel::Slices], format!("libpod-{id}.scope"));
            place(&[named("libpod_parent")], format!("libpod-{id}"));
        }
        if concerns(ContainerEngine::Oci) {
            place(&[PlaceLevel::Slices], format!("crio-{id}.scope"));
            place(&[PlaceLevel::Slices], format!("cri-containerd-{id}.scope"));
            place(&[named("kubepods"), PlaceLevel::AnyNumber], id.clone());
            place(&[named("kubepods"), PlaceLevel::AnyNumber], format!("crio-{id}"));
        }
        places
    }

    /// Whether some container might be both. May say yes where none can be; never no where one can.
    pub fn meets(&self, other: &Self) -> bool {
        let engines = match (self.engine, other.engine) {
            (Some(mine), Some(theirs)) => mine == theirs,
            _ => true,
        };
        let images = self.image.is_empty() || other.image.is_empty() || meet(&self.image, &other.image);
        let labels = self.labels.iter().all(|mine| {
            let theirs = other.labels.iter().find(|theirs| theirs.name == mine.name);
            theirs.is_none_or(|theirs| meet(&mine.any_of, &theirs.any_of))
        });
        engines && images && labels
    }
}

/// As a policy would write it on one line.
impl fmt::Display for ContainerSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("container")?;
        if let Some(engine) = self.engine {
            write!(f, " of {engine}")?;
        }
        let mut parts = Vec::new();
        if !self.image.is_empty() {
            parts.push(format!("image {}", listed(&self.image)));
        }
        parts.extend(
            self.labels
                .iter()
                .map(|rule| format!("label {} = {}", rule.name, listed(&rule.any_of))),
        );
        if !parts.is_empty() {
            write!(f, " with {}", parts.join(", "))?;
        }
        Ok(())
    }
}

impl LabelRule {
    /// Whether it may have this value.
    pub fn matches(&self, value: &str) -> bool {
        has(&self.any_of, value)
    }

    /// Its values, for a message: `"main" or "release/*"`.
    pub fn values(&self) -> String {
        listed(&self.any_of)
    }
}

fn listed(values: &[ClaimValue]) -> String {
    let values: Vec<String> = values
        .iter()
        .map(|value| format!("{:?}", value.as_str()))
        .collect();
    values.join(" or ")
}

fn has(values: &[ClaimValue], text: &str) -> bool {
    values.iter().any(|value| value.matches(text))
}

fn meet(mine: &[ClaimValue], theirs: &[ClaimValue]) -> bool {
    mine.iter().any(|mine| {
        theirs.iter().any(|theirs| match (mine, theirs) {
            (ClaimValue::Like { glob, .. }, ClaimValue::Like { glob: other, .. }) => {
                Glob::intersects(glob, other)
            }
            (ClaimValue::Equals(text), value) | (value, ClaimValue::Equals(text)) => value.matches(text),
        })
    })
}

/// The container whose own cgroup this is, by its name.
pub fn container_at(path: &str) -> Option<ContainerName> {
    let (above, name) = path.rsplit_once('/')?;
    let mut found = named(name)?;
    if found.engine.is_none() {
        found.engine = match above.split('/').nth(1) {
            Some("docker") => Some(ContainerEngine::Docker),
            Some("kubepods") => Some(ContainerEngine::Oci),
            _ => None,
        };
    }
    Some(found)
}

/// The outermost container that a cgroup lies in: names further in are the container's own to choose.
pub fn container_in(path: &str) -> Option<ContainerName> {
    let ends = path.match_indices('/').map(|(at, _)| at).skip(1);
    ends.chain([path.len()])
        .filter_map(|end| path.get(..end))
        .find_map(container_at)
}

fn named(name: &str) -> Option<ContainerName> {
    let name = name.strip_suffix(".scope").unwrap_or(name);
    let found = |engine, id: &str| {
        let hex = id.len() == ID && id.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
        hex.then(|| ContainerName {
            engine,
            id: id.to_owned(),
        })
    };
    for (prefix, engine) in PREFIXES {
        if let Some(id) = name.strip_prefix(prefix) {
            return found(Some(*engine), id);
        }
    }
    // containerd with slices of systemd's and without systemd.
    if let Some((_, id)) = name.split_once(":cri-containerd:") {
        return found(Some(ContainerEngine::Oci), id);
    }
    found(None, name)
}

const PREFIXES: &[(&str, ContainerEngine)] = &[
    ("docker-", ContainerEngine::Docker),
    ("libpod-", ContainerEngine::Podman),
    ("crio-", ContainerEngine::Oci),
    ("cri-containerd-", ContainerEngine::Oci),
];

/// Hexadecimal digits of an id.
const ID: usize = 64;
