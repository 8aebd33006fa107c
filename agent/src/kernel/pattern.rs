//! Globs over cgroup paths, and what they say of a cgroup.

use globset::{GlobBuilder, GlobMatcher};

use super::Standing;
use super::automaton::{self, Compiled};
use crate::model::PolicyId;

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
                level => GlobBuilder::new(level)
                    .backslash_escape(true)
                    .build()
                    .map(|glob| Level::One(Box::new(glob.compile_matcher())))
                    .map_err(|source| PatternError::Syntax {
                        pattern: pattern.to_owned(),
                        level: level.to_owned(),
                        source,
                    }),
            })
            .collect::<Result<Vec<_>, _>>()?;
        if levels.iter().all(|level| matches!(level, Level::AnyNumber)) {
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

impl std::fmt::Display for CgroupPattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

/// Every policy's patterns. Where several match, the one that was added first counts.
#[derive(Clone, Debug, Default)]
pub struct Patterns(Vec<(CgroupPattern, PolicyId)>);

impl Patterns {
    /// Adds a pattern of `policy`.
    pub fn add(&mut self, pattern: CgroupPattern, policy: PolicyId) {
        self.0.push((pattern, policy));
    }

    /// The same for the kernel side.
    pub(super) fn compile(&self) -> Compiled {
        automaton::compile(&self.0)
    }

    /// How the cgroup at `path` (its levels below the root) stands, if none above it is managed.
    pub(super) fn standing(&self, path: &[&str]) -> Standing {
        match self.0.iter().find(|(pattern, _)| pattern.matches(path)) {
            Some((_, policy)) => Standing::Managed(*policy),
            None => Standing::Unmanaged {
                watched: self.0.iter().any(|(pattern, _)| pattern.could_match_below(path)),
            },
        }
    }
}

fn matches(levels: &[Level], path: &[&str]) -> bool {
    match (levels.split_first(), path.split_first()) {
        (None, None) => true,
        (Some((Level::AnyNumber, rest)), None) => matches(rest, path),
        (Some((Level::AnyNumber, rest)), Some((_, below))) => matches(rest, path) || matches(levels, below),
        (Some((Level::One(glob), rest)), Some((name, below))) => glob.is_match(name) && matches(rest, below),
        (None, Some(_)) | (Some((Level::One(_), _)), None) => false,
    }
}

/// Whether some path that begins with `path`, and is longer, matches.
fn could_match_below(levels: &[Level], path: &[&str]) -> bool {
    match (levels.split_first(), path.split_first()) {
        (Some(_), None) | (Some((Level::AnyNumber, _)), Some(_)) => true,
        (Some((Level::One(glob), rest)), Some((name, below))) => {
            glob.is_match(name) && could_match_below(rest, below)
        }
        (None, _) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn patterns_that_cannot_be_meant_are_refused() {
        for pattern in ["", "actions.slice", "/", "/**", "/a/[", "/{a/b,c}"] {
            let message = CgroupPattern::new(pattern).unwrap_err().to_string();
            assert!(message.contains(&format!("{pattern:?}")), "{message}");
        }
    }
}
