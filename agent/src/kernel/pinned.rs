//! How a process stands, as the pins say it: the same answer whether an agent runs or not.

use std::path::Path;

use agent_common::{CgroupClass, Step};
use aya::maps::{HashMap, Map, MapData, MapError};

use super::cgroup2::Cgroup2;
use super::error::with_sources;
use super::generation::{self, Generation};
use super::{KernelError, ProcessStanding};
use crate::model::{CgroupPath, PolicyId};

/// How a process in the cgroup at `path` stands, by what is pinned below `pin_dir`; `None`: nothing is pinned there.
///
/// # Errors
/// The pins are another version's, whose maps mean something else, or may not be read.
pub fn standing_by_pins(pin_dir: &Path, path: &CgroupPath) -> Result<Option<ProcessStanding>, KernelError> {
    generation::check_layout(pin_dir)?;
    let Some(newest) = Generation::all(pin_dir).pop() else {
        return Ok(None);
    };
    if !newest.is_of_this_version() {
        return Err(KernelError::PinDirectory {
            path: pin_dir.to_owned(),
            reason: "what is pinned there is of an older version of Tollgate".to_owned(),
        });
    }
    let classes: HashMap<MapData, u64, CgroupClass> = MapData::from_pin(newest.map("CGROUPS"))
        .and_then(Map::from_map_data)
        .and_then(HashMap::try_from)
        .map_err(|error| KernelError::Map {
            map: "CGROUPS",
            operation: "an opening of its pin",
            reason: with_sources(&error),
        })?;
    walk(&Cgroup2::discover()?, path, &classes).map(Some)
}

/// How a process in the cgroup at `path` stands, by the same walk that the kernel side does at its `connect()`. A cgroup
/// that is gone stands like its parent.
pub(super) fn walk(
    cgroup2: &Cgroup2,
    path: &CgroupPath,
    classes: &HashMap<MapData, u64, CgroupClass>,
) -> Result<ProcessStanding, KernelError> {
    let mut watched = false;
    let names = path.as_str().split('/').filter(|name| !name.is_empty());
    let mut at = String::new();
    for name in std::iter::once("").chain(names) {
        if !name.is_empty() {
            at = format!("{at}/{name}");
        }
        let Some(id) = cgroup2.id_of(&CgroupPath(at.as_str().into())) else {
            // The root is never gone.
            if at.is_empty() {
                return Err(KernelError::NoCgroup2);
            }
            break;
        };
        let class = match classes.get(&id.0, 0) {
            Ok(class) => Some(class),
            Err(MapError::KeyNotFound) => None,
            Err(error) => return Err(KernelError::map("CGROUPS", "a look-up")(error)),
        };
        match agent_common::step(watched, id.0, class) {
            Step::Done(agent_common::Standing::Managed { policy, .. }) => {
                return Ok(ProcessStanding::Managed(PolicyId(policy)));
            }
            Step::Done(agent_common::Standing::Pending) => return Ok(ProcessStanding::Pending),
            Step::Done(agent_common::Standing::Free) => break,
            Step::Down { watched: below } => watched = below,
        }
    }
    Ok(ProcessStanding::Free)
}
