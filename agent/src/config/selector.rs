//! Which cgroups are a workload's: by their path, by what systemd calls them, by the container that they are of.
//!
//! All but the container follows from the path alone, so the kernel side decides it when the cgroup is made. What a container
//! is only its engine knows; a path tells no more than that there may be one.

mod container;
mod systemd;

#[cfg(test)]
mod tests;

use std::fmt;

pub use container::{ContainerName, ContainerSpec, LabelRule, container_at, container_in};
pub(super) use systemd::{UNIT_KINDS, spells_a_unit};
pub use systemd::{unit_of, user_unit_of};

use super::glob::Glob;

/// One entry of `cgroup`, `unit`, `slice` or `user_unit`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    /// Which key it stands under.
    pub kind: SelectorKind,
    /// Its place in the list of that key, from 0.
    pub index: usize,
    /// As it is written.
    pub text: String,
    glob: Glob,
}

/// What a [`Selector`] goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SelectorKind {
    /// `cgroup`: the path.
    Cgroup,
    /// `unit`: a unit of the system's manager, slices excepted.
    Unit,
    /// `slice`: a slice of the system's manager, with all units and slices in it.
    Slice,
    /// `user_unit`: a unit of a user's manager.
    UserUnit,
}

/// Where a cgroup can be, level by level below the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CgroupPlace(pub Vec<PlaceLevel>);

/// One level of a [`CgroupPlace`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlaceLevel {
    /// A name, as a pattern.
    Name(String),
    /// Any number of names, none included.
    AnyNumber,
    /// Any number of systemd's slices, none included.
    Slices,
}

impl SelectorKind {
    /// The key of `[workload]`.
    pub fn key(self) -> &'static str {
        match self {
            Self::Cgroup => "cgroup",
            Self::Unit => "unit",
            Self::Slice => "slice",
            Self::UserUnit => "user_unit",
        }
    }
}

impl Selector {
    pub(super) fn new(kind: SelectorKind, index: usize, text: String, glob: Glob) -> Self {
        Self {
            kind,
            index,
            text,
            glob,
        }
    }

    /// Where it stands in its file, as [`super::locate`] takes it.
    pub fn pointer(&self) -> String {
        format!("/workload/{}/{}", self.kind.key(), self.index)
    }

    /// Whether it selects this very cgroup; its ancestors are not asked.
    pub fn matches(&self, path: &str) -> bool {
        let named = |name: Option<String>| name.is_some_and(|name| self.glob.matches(&name));
        match self.kind {
            SelectorKind::Cgroup => self.glob.matches(path),
            SelectorKind::Unit => named(systemd::unit_at(path)),
            SelectorKind::Slice => named(systemd::slice_at(path)),
            SelectorKind::UserUnit => named(systemd::user_unit_at(path)),
        }
    }

    /// A cgroup under it that nobody has yet, made with `word`: one that it selects, else one below that. `None`: its pattern
    /// is one of which no example can be told.
    pub fn example(&self, word: &str) -> Option<String> {
        let text = self.text.replace("**", "*");
        let filled = text.replace('*', word).replace('?', "x");
        let path = match self.kind {
            SelectorKind::Cgroup => filled,
            SelectorKind::Unit => format!("/system.slice/{filled}"),
            SelectorKind::Slice => {
                // `a-b.slice` is in `a.slice`.
                let name = filled.strip_suffix(".slice")?;
                let ends = name.match_indices('-').map(|(at, _)| at).chain([name.len()]);
                let levels = ends.filter_map(|end| name.get(..end));
                levels.fold(String::new(), |path, level| path + "/" + level + ".slice")
            }
            SelectorKind::UserUnit => return None,
        };
        if !self.matches(&path) {
            return None;
        }
        let own = self.kind != SelectorKind::Slice && text.contains('*');
        Some(if own { path } else { format!("{path}/{word}") })
    }

    /// Whether a unit or slice of this name is one of those that it names.
    pub fn matches_name(&self, name: &str) -> bool {
        self.glob.matches(name)
    }

    /// Every place of the cgroups that it selects, but for `cgroup`, whose pattern says it itself.
    pub fn places(&self) -> Vec<CgroupPlace> {
        match self.kind {
            SelectorKind::Cgroup => Vec::new(),
            SelectorKind::Unit | SelectorKind::Slice => systemd::places(&[], &self.text),
            SelectorKind::UserUnit => systemd::places(&systemd::USER_MANAGERS, &self.text),
        }
    }

    /// Whether some cgroup is selected by both. May say yes where none can be; never no where one can.
    pub(super) fn meets(&self, other: &Self) -> bool {
        match (self.kind, other.kind) {
            (SelectorKind::Cgroup, _) | (_, SelectorKind::Cgroup) => {
                let (mine, theirs) = (self.reach(), other.reach());
                mine.iter()
                    .any(|mine| theirs.iter().any(|theirs| mine.intersects(theirs)))
            }
            // A cgroup is a slice's, a unit's or a user's unit's own, and has one name.
            (mine, theirs) => mine == theirs && self.glob.intersects(&other.glob),
        }
    }

    /// Patterns over paths that match whatever it selects, and perhaps more: for the question whether two may meet.
    pub(super) fn reach(&self) -> Vec<Glob> {
        match self.kind {
            SelectorKind::Cgroup => vec![self.glob.clone()],
            _ => self.places().iter().flat_map(CgroupPlace::reach).collect(),
        }
    }
}

/// As a policy writes it: `unit "backup@*.service"`.
impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} \"{}\"", self.kind.key(), self.text)
    }
}

/// As a pattern, slices as `…`.
impl fmt::Display for CgroupPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for level in &self.0 {
            match level {
                PlaceLevel::Name(name) => write!(f, "/{name}")?,
                PlaceLevel::AnyNumber => f.write_str("/**")?,
                PlaceLevel::Slices => f.write_str("/…")?,
            }
        }
        Ok(())
    }
}

impl CgroupPlace {
    /// Patterns over paths that match what is there, and perhaps more.
    pub(super) fn reach(&self) -> Vec<Glob> {
        let mut texts = vec![String::new()];
        for level in &self.0 {
            let (levels, optional) = match level {
                PlaceLevel::Name(name) => (name.as_str(), false),
                PlaceLevel::AnyNumber => ("**", true),
                PlaceLevel::Slices => ("**.slice", true),
            };
            let longer: Vec<String> = texts.iter().map(|text| format!("{text}/{levels}")).collect();
            if !optional {
                texts.clear();
            }
            texts.extend(longer);
        }
        // A pattern of an id is longer than any that a person writes.
        let short = |text: &String| Glob::path(&text.replace("[0-9a-f]", "?"));
        texts
            .iter()
            .map(|text| short(text).unwrap_or_else(|_| Glob::any()))
            .collect()
    }
}
