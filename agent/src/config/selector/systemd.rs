//! What systemd calls the cgroups that it makes, and where it puts them.
//!
//! A unit's cgroup lies below its slices, each in its own (`ci-heavy.slice` in `ci.slice`), whichever they are. A user's
//! manager is a service of the system's, and does below its own cgroup as the system's does below the root. Names that the
//! kernel keeps for files of its own get a `_` in front (`cg_escape`, systemd's src/basic/cgroup-util.c). What a unit makes
//! below its own cgroup (`Delegate=`) it may name as it likes; so a unit is looked for from the outside in, and the first one
//! counts.

use super::{CgroupPlace, PlaceLevel};

/// Kinds of units that have processes (systemd.unit(5)).
pub(in crate::config) const UNIT_KINDS: [&str; 5] = ["service", "scope", "socket", "mount", "swap"];

/// Where the managers of users are.
pub(super) const USER_MANAGERS: [&str; 3] = ["user.slice", "user-*.slice", "user@*.service"];

/// What precedes the name of a unit in its template's instances for users' managers.
const USER_MANAGER: (&str, &str) = ("user@", ".service");

/// The unit of the system's manager that a cgroup belongs to, as systemd names it, and the rest of its path.
pub fn unit_of(path: &str) -> Option<(String, &str)> {
    let mut rest = path;
    loop {
        let (name, below) = first_level(rest)?;
        if slice(name).is_none() {
            return Some((unit(name)?, below));
        }
        rest = below;
    }
}

/// The unit of a user's manager that a cgroup belongs to, and the rest of its path.
pub fn user_unit_of(path: &str) -> Option<(String, &str)> {
    let (manager, below) = unit_of(path)?;
    let user = manager
        .strip_prefix(USER_MANAGER.0)?
        .strip_suffix(USER_MANAGER.1)?;
    let in_their_place = path.starts_with("/user.slice/user-") && !user.is_empty();
    if in_their_place { unit_of(below) } else { None }
}

/// The unit whose own cgroup this is.
pub(super) fn unit_at(path: &str) -> Option<String> {
    unit_of(path)
        .filter(|(_, below)| below.is_empty())
        .map(|(unit, _)| unit)
}

/// The unit of a user's manager whose own cgroup this is.
pub(super) fn user_unit_at(path: &str) -> Option<String> {
    user_unit_of(path)
        .filter(|(_, below)| below.is_empty())
        .map(|(unit, _)| unit)
}

/// The slice of the system's manager whose own cgroup this is.
pub(super) fn slice_at(path: &str) -> Option<String> {
    let mut rest = path;
    loop {
        let (name, below) = first_level(rest)?;
        let name = slice(name)?;
        if below.is_empty() {
            return Some(name);
        }
        rest = below;
    }
}

/// Where a unit or slice of that name, which may be a pattern, can be, if `above` is where its manager is.
pub(super) fn places(above: &[&str], name: &str) -> Vec<CgroupPlace> {
    let place = |name: String| {
        let manager = above.iter().map(|level| PlaceLevel::Name((*level).to_owned()));
        let own = [PlaceLevel::Slices, PlaceLevel::Name(name)];
        CgroupPlace(manager.chain(own).collect())
    };
    let escaped = place(format!("_{name}"));
    // A name that begins so itself is never without its mark.
    if name.starts_with('_') {
        vec![escaped]
    } else {
        vec![place(name.to_owned()), escaped]
    }
}

/// The first level of a path, and what is below it.
fn first_level(path: &str) -> Option<(&str, &str)> {
    let inner = path.strip_prefix('/')?;
    let end = inner.find('/').unwrap_or(inner.len());
    let (name, below) = inner.split_at_checked(end)?;
    (!name.is_empty()).then_some((name, below))
}

/// The slice of a cgroup of this name.
fn slice(name: &str) -> Option<String> {
    let name = unescaped(name);
    let (stem, kind) = name.rsplit_once('.')?;
    (kind == "slice" && !stem.is_empty()).then(|| name.to_owned())
}

/// The unit of a cgroup of this name.
fn unit(name: &str) -> Option<String> {
    let name = unescaped(name);
    let (stem, kind) = name.rsplit_once('.')?;
    let is_unit = !stem.is_empty() && UNIT_KINDS.contains(&kind) && stem.bytes().all(spells_a_unit);
    is_unit.then(|| name.to_owned())
}

/// Characters of units' names; all others are written `\xHH` (systemd-escape(1)), which stays as it is.
pub(in crate::config) fn spells_a_unit(letter: u8) -> bool {
    letter.is_ascii_alphanumeric() || b":_.\\@-".contains(&letter)
}

fn unescaped(name: &str) -> &str {
    name.strip_prefix('_').unwrap_or(name)
}
