//! Globs over cgroup paths, and what they say of a cgroup.
//!
//! Some say no more than that somebody else has to be asked: a cgroup that they match stays unclassified, and so is refused
//! what any policy protects, until there is an answer.

use std::sync::Arc;

use globset::{GlobBuilder, GlobMatcher};

use super::Standing;
use super::automaton::{self, Compiled};
use crate::config::{CgroupPlace, PlaceLevel};
use crate::model::{CgroupId, CgroupPath, PolicyId};

/// A glob over cgroup paths: `*`, `?`, `[…]` and `{…}` stay within one level, a level of `**` is any number of them.
#[derive(Clone, Debug)]
pub struct CgroupPattern {
    text: Box<str>,
    levels: Vec<Level>,
}

/// What one level of a pattern matches.
#[derive(Clone, Debug)]
pub(super) enum Level {
    /// One name.
    One(Box<GlobMatcher>),
    /// Any number of names, none included.
    AnyNumber,
    /// Any number of names that match, none included.
    AnyNumberOf(Box<GlobMatcher>),
}

/// Why a pattern cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PatternError {
    /// Not absolute.
    #[error(
        "the cgroup pattern {pattern:?} does not begin with `/`: write it as a path below the cgroup2 root"
    )]
    Relative {
        /// The pattern.
        pattern: String,
    },
    /// The root, or everything.
    #[error(
        "the cgroup pattern {pattern:?} matches the whole host, the agent included: name a slice or a service"
    )]
    WholeHost {
        /// The pattern.
        pattern: String,
    },
    /// Not a glob.
    #[error("the cgroup pattern {pattern:?} cannot be understood at {level:?}: {source}")]
    Syntax {
        /// The pattern.
        pattern: String,
        /// The level of it that is wrong; `{a/b}` is not possible, since a level ends at each `/`.
        level: String,
        /// What is wrong.
        source: globset::Error,
    },
}

impl CgroupPattern {
    /// Compiles `pattern`.
    pub fn new(pattern: &str) -> Result<Self, PatternError> {
        let Some(below) = pattern.strip_prefix('/') else {
            return Err(PatternError::Relative {
                pattern: pattern.to_owned(),
            });
        };
        let levels = below
            .split('/')
            .filter(|level| !level.is_empty())
            .map(|level| match level {
                "**" => Ok(Level::AnyNumber),
                level => name(pattern, level).map(Level::One),
            })
            .collect::<Result<Vec<_>, _>>()?;
        Self::of(pattern, levels)
    }

    /// Compiles a place, which messages call `text`.
    pub fn at(place: &CgroupPlace, text: &str) -> Result<Self, PatternError> {
        let levels = place
            .0
            .iter()
            .map(|level| match level {
                PlaceLevel::Name(level) => name(text, level).map(Level::One),
                PlaceLevel::AnyNumber => Ok(Level::AnyNumber),
                PlaceLevel::Slices => name(text, "?*.slice").map(Level::AnyNumberOf),
            })
            .collect::<Result<Vec<_>, _>>()?;
        Self::of(text, levels)
    }

    fn of(pattern: &str, levels: Vec<Level>) -> Result<Self, PatternError> {
        if levels.iter().all(|level| !matches!(level, Level::One(_))) {
            return Err(PatternError::WholeHost {
                pattern: pattern.to_owned(),
            });
        }
        Ok(Self {
            text: pattern.into(),
            levels,
        })
    }

    pub(super) fn levels(&self) -> &[Level] {
        &self.levels
    }

    fn matches(&self, path: &[&str]) -> bool {
        matches(&self.levels, path)
    }

    fn could_match_below(&self, path: &[&str]) -> bool {
        could_match_below(&self.levels, path)
    }
}

/// A glob over one name. A backslash is a character like any other: systemd writes `\\x2d`.
fn name(pattern: &str, level: &str) -> Result<Box<GlobMatcher>, PatternError> {
    GlobBuilder::new(level)
        .backslash_escape(false)
        .build()
        .map(|glob| Box::new(glob.compile_matcher()))
        .map_err(|source| PatternError::Syntax {
            pattern: pattern.to_owned(),
            level: level.to_owned(),
            source,
        })
}

impl std::fmt::Display for CgroupPattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

/// Tells what a pattern alone does not: which policy a cgroup is under.
pub trait Decide: std::fmt::Debug + Send + Sync {
    /// Under which of `among` the cgroup is, by what is known now. Has to be quick: every cgroup waits for it.
    fn decide(&self, id: CgroupId, path: &CgroupPath, among: &[PolicyId]) -> Decided;
}

/// What a [`Decide`] says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decided {
    /// Under this policy; and by what, in words.
    Under(PolicyId, Arc<str>),
    /// Under none of them. What patterns say of its path counts.
    NoneOfThem,
    /// Not known yet.
    NotYet,
}

/// Every policy's patterns. Where several match, one that asks goes first, and of others the one that was added first.
#[derive(Clone, Debug, Default)]
pub struct Patterns {
    said: Vec<(CgroupPattern, PolicyId, Arc<str>)>,
    asked: Vec<(CgroupPattern, Vec<PolicyId>)>,
    decide: Option<Arc<dyn Decide>>,
}

/// What patterns say of a cgroup, if none above it is managed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Look {
    /// The policies that it may be under besides, which has to be asked first.
    pub(super) asked: Vec<PolicyId>,
    /// How it stands if it is under none of those.
    pub(super) standing: Standing,
    /// By what it is managed then, in words.
    pub(super) by: Option<Arc<str>>,
}

impl Patterns {
    /// Adds a pattern of `policy`.
    pub fn add(&mut self, pattern: CgroupPattern, policy: PolicyId) {
        let by = format!("cgroup \"{pattern}\"").into();
        self.add_by(pattern, policy, by);
    }

    /// Adds a pattern of `policy` that is called `by` in words.
    pub fn add_by(&mut self, pattern: CgroupPattern, policy: PolicyId, by: Arc<str>) {
        self.said.push((pattern, policy, by));
    }

    /// Adds a pattern whose cgroups may be under `policy`.
    pub fn ask(&mut self, pattern: CgroupPattern, policy: PolicyId) {
        match self
            .asked
            .iter_mut()
            .find(|(known, _)| known.text == pattern.text)
        {
            Some((_, policies)) => policies.push(policy),
            None => self.asked.push((pattern, vec![policy])),
        }
    }

    /// Has `decide` asked.
    pub fn ask_at(&mut self, decide: Arc<dyn Decide>) {
        self.decide = Some(decide);
    }

    /// The same for the kernel side.
    pub(super) fn compile(&self) -> Compiled {
        let asked = self.asked.iter().map(|(pattern, _)| (pattern.clone(), None));
        let said = self
            .said
            .iter()
            .map(|(pattern, policy, _)| (pattern.clone(), Some(*policy)));
        automaton::compile(&asked.chain(said).collect::<Vec<_>>())
    }

    /// What is said of the cgroup at `path` (its levels below the root), if none above it is managed.
    pub(super) fn look(&self, path: &[&str]) -> Look {
        let mut asked = Vec::new();
        for (pattern, policies) in &self.asked {
            if pattern.matches(path) {
                asked.extend(
                    policies
                        .iter()
                        .filter(|policy| !asked.contains(*policy))
                        .copied()
                        .collect::<Vec<_>>(),
                );
            }
        }
        let said = self.said.iter().find(|(pattern, ..)| pattern.matches(path));
        let (standing, by) = match said {
            Some((_, policy, by)) => (Standing::Managed(*policy), Some(Arc::clone(by))),
            None => {
                let patterns = self.said.iter().map(|(pattern, ..)| pattern);
                let mut patterns = patterns.chain(self.asked.iter().map(|(pattern, _)| pattern));
                let watched = patterns.any(|pattern| pattern.could_match_below(path));
                (Standing::Unmanaged { watched }, None)
            }
        };
        Look { asked, standing, by }
    }

    /// Which of the policies that have to be asked for the cgroup is under.
    pub(super) fn decide(&self, id: CgroupId, path: &CgroupPath, among: &[PolicyId]) -> Decided {
        let decide = self.decide.as_ref();
        decide.map_or(Decided::NotYet, |decide| decide.decide(id, path, among))
    }

    /// How the cgroup at `path` stands by patterns that ask nobody.
    #[cfg(test)]
    pub(super) fn standing(&self, path: &[&str]) -> Standing {
        self.look(path).standing
    }
}

fn matches(levels: &[Level], path: &[&str]) -> bool {
    match (levels.split_first(), path.split_first()) {
        (None, None) => true,
        (Some((Level::AnyNumber | Level::AnyNumberOf(_), rest)), None) => matches(rest, path),
        (Some((Level::AnyNumber, rest)), Some((_, below))) => matches(rest, path) || matches(levels, below),
        (Some((Level::AnyNumberOf(glob), rest)), Some((name, below))) => {
            matches(rest, path) || (glob.is_match(name) && matches(levels, below))
        }
        (Some((Level::One(glob), rest)), Some((name, below))) => glob.is_match(name) && matches(rest, below),
        (None, Some(_)) | (Some((Level::One(_), _)), None) => false,
    }
}

/// Whether some path that begins with `path`, and is longer, matches.
fn could_match_below(levels: &[Level], path: &[&str]) -> bool {
    match (levels.split_first(), path.split_first()) {
        (Some(_), None) | (Some((Level::AnyNumber, _)), Some(_)) => true,
        (Some((Level::AnyNumberOf(glob), rest)), Some((name, below))) => {
            could_match_below(rest, path) || (glob.is_match(name) && could_match_below(levels, below))
        }
        (Some((Level::One(glob), rest)), Some((name, below))) => {
            glob.is_match(name) && could_match_below(rest, below)
        }
        (None, _) => false,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;
    use crate::config::parse_policy;

    fn standing(patterns: &[&str], path: &str) -> Standing {
        let mut all = Patterns::default();
        for (number, pattern) in (1..).zip(patterns) {
            all.add(CgroupPattern::new(pattern).unwrap(), PolicyId(number));
        }
        let levels: Vec<&str> = path.split('/').filter(|level| !level.is_empty()).collect();
        all.standing(&levels)
    }

    const UNWATCHED: Standing = Standing::Unmanaged { watched: false };
    const WATCHED: Standing = Standing::Unmanaged { watched: true };
    const FIRST: Standing = Standing::Managed(PolicyId(1));

    #[test]
    fn globs_select_cgroups_and_watch_what_leads_to_them() {
        let reports = &["/actions.slice/report-*.service"][..];
        for (patterns, path, expected) in [
            (reports, "/", WATCHED),
            (reports, "/actions.slice", WATCHED),
            (reports, "/other.slice", UNWATCHED),
            (reports, "/actions.slice/report-1.service", FIRST),
            (reports, "/actions.slice/other.service", UNWATCHED),
            (reports, "/x/actions.slice/report-1.service", UNWATCHED),
            (&["/a/**/job"], "/a", WATCHED),
            (&["/a/**/job"], "/a/job", FIRST),
            (&["/a/**/job"], "/a/b/c/job", FIRST),
            (&["/a/**/job"], "/a/b/c", WATCHED),
            (&["/a/**/job"], "/b", UNWATCHED),
            (&["/a/*"], "/a/b", FIRST),
            (&["/{x,y}.slice"], "/y.slice", FIRST),
            (&["/a", "/a/b"], "/a", FIRST),
            (&[], "/", UNWATCHED),
        ] {
            assert_eq!(standing(patterns, path), expected, "{patterns:?} {path}");
        }
    }

    /// The kernel side took it for an escape, and `policy check` did not.
    #[test]
    fn a_backslash_is_a_character_of_a_name() {
        let pattern = &[r"/system.slice/system-a\x2db.slice"][..];
        assert_eq!(standing(pattern, r"/system.slice/system-a\x2db.slice"), FIRST);
        assert_eq!(standing(pattern, "/system.slice/system-ax2db.slice"), UNWATCHED);
    }

    #[test]
    fn who_has_to_be_asked_goes_before_what_a_path_says() {
        let mut all = Patterns::default();
        all.add(CgroupPattern::new("/jobs/*").unwrap(), PolicyId(1));
        all.ask(CgroupPattern::new("/jobs/c-*").unwrap(), PolicyId(2));
        all.ask(CgroupPattern::new("/jobs/c-*").unwrap(), PolicyId(3));
        let look = all.look(&["jobs", "c-1"]);
        assert_eq!(
            (look.asked, look.standing),
            (vec![PolicyId(2), PolicyId(3)], FIRST)
        );
        assert_eq!(all.look(&["jobs", "d"]).asked, []);
        assert_eq!(all.look(&["jobs"]).standing, WATCHED);
        assert_eq!(
            all.decide(CgroupId(1), &CgroupPath("/jobs/c-1".into()), &[PolicyId(2)]),
            Decided::NotYet
        );
        all.decide = Some(Arc::new(Second));
        assert_eq!(
            all.decide(CgroupId(1), &CgroupPath("/jobs/c-1".into()), &[PolicyId(2)]),
            Decided::Under(PolicyId(2), "".into())
        );
    }

    #[derive(Debug)]
    struct Second;

    impl Decide for Second {
        fn decide(&self, _id: CgroupId, _path: &CgroupPath, among: &[PolicyId]) -> Decided {
            Decided::Under(among[0], "".into())
        }
    }

    #[test]
    fn patterns_that_cannot_be_meant_are_refused() {
        for pattern in ["", "actions.slice", "/", "/**", "/a/[", "/{a/b,c}"] {
            let message = CgroupPattern::new(pattern).unwrap_err().to_string();
            assert!(message.contains(&format!("{pattern:?}")), "{message}");
        }
    }

    fn name() -> impl Strategy<Value = String> {
        prop::sample::select(vec![
            "ci.slice",
            "_ci.slice",
            "ci-a.slice",
            "system.slice",
            "a.service",
            "_a.service",
            "__a.service",
            "b@1.service",
            "b@.service",
            "x",
            "user.slice",
            "user-1.slice",
            "user@1.service",
            "app.slice",
        ])
        .prop_map(str::to_owned)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

        /// What `policy check` and the record make of a path, and what the kernel side makes of it, is the same.
        #[test]
        fn selectors_of_systemd_s_names_mean_the_same_everywhere(
            selects in prop::sample::select(vec![
                "unit = [\"a.service\"]", "unit = [\"*.service\"]", "unit = [\"_a.service\"]", "unit = [\"b@*.service\"]",
                "slice = [\"ci.slice\"]", "slice = [\"ci-*.slice\"]", "slice = [\"*.slice\"]",
                "user_unit = [\"a.service\"]", "user_unit = [\"*.service\"]",
            ]),
            names in prop::collection::vec(name(), 0..6),
        ) {
            let text = format!("[workload]\nname = \"w\"\n{selects}\n");
            let policy = parse_policy(Path::new("p.toml"), &text).unwrap();
            let mut all = Patterns::default();
            for selector in &policy.workload.selectors {
                for place in selector.places() {
                    all.add(CgroupPattern::at(&place, &selector.to_string()).unwrap(), PolicyId(1));
                }
            }
            let levels: Vec<&str> = names.iter().map(String::as_str).collect();
            let path = format!("/{}", names.join("/"));
            prop_assert_eq!(all.standing(&levels) == FIRST, policy.workload.matches(&path), "{} {}", selects, path);
        }
    }
}
