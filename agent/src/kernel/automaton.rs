//! Every policy's patterns as one automaton over the bytes of a cgroup's path, for the kernel side.
//!
//! What does not fit into the table is said so: a pattern is then cut after its leading levels without a wildcard, and
//! cgroups below those are left to the agent.

use std::collections::{BTreeMap, BTreeSet};

use agent_common::{Outcome, PatternTable};
use regex_automata::dfa::{Automaton as _, StartKind, dense};
use regex_automata::util::primitives::StateID;
use regex_automata::util::{start, syntax};
use regex_automata::{Anchored, nfa::thompson};

use super::pattern::{CgroupPattern, Level};
use crate::model::PolicyId;

/// Bytes that the automaton of one level, and the making of it, may take.
const LEVEL_LIMIT: usize = 1 << 20;

/// Steps that the making of a table may take.
const MAX_WORK: usize = 2_000_000;

/// The automaton, and what it does not know.
pub(super) struct Compiled {
    /// For the kernel side.
    pub(super) table: Box<PatternTable>,
    /// Patterns for which there was no room.
    pub(super) undecided: Vec<String>,
}

/// Compiles `patterns`, of which the first that matches counts. Without a policy it has to be asked whether there is one.
pub(super) fn compile(patterns: &[(CgroupPattern, Option<PolicyId>)]) -> Compiled {
    let whole: Vec<Track> = patterns.iter().map(Track::whole).collect();
    // As many as fit, from the first one on: more of them never have fewer states.
    let mut fitting = 0;
    let mut best = None;
    let mut beyond = patterns.len() + 1;
    while fitting < beyond {
        let tried = if best.is_none() && beyond > patterns.len() {
            patterns.len()
        } else {
            fitting.midpoint(beyond)
        };
        let tracks: Vec<Track> = whole
            .iter()
            .zip(patterns)
            .enumerate()
            .map(|(number, (track, pattern))| {
                if number < tried {
                    track.clone()
                } else {
                    Track::cut(pattern)
                }
            })
            .collect();
        match build(&tracks) {
            Some(table) => {
                let undecided = tracks.iter().zip(patterns).filter(|(track, _)| track.is_cut);
                let undecided = undecided.map(|(_, (pattern, _))| pattern.to_string()).collect();
                best = Some(Compiled { table, undecided });
                fitting = tried + 1;
            }
            None => beyond = tried,
        }
    }
    best.unwrap_or_else(|| Compiled {
        table: blank(Outcome::UNDECIDED),
        undecided: patterns.iter().map(|(pattern, _)| pattern.to_string()).collect(),
    })
}

/// One pattern on its way into the table.
#[derive(Clone)]
struct Track {
    levels: Vec<Step>,
    /// `None`: what it matches may be under a policy or not.
    policy: Option<PolicyId>,
    /// The table has no room for all of it.
    is_cut: bool,
}

#[derive(Clone)]
enum Step {
    Name(Box<dense::DFA<Vec<u32>>>),
    /// Any number of names that match.
    Names(Box<dense::DFA<Vec<u32>>>),
    AnyName,
    AnyNumber,
}

impl Track {
    fn whole(of: &(CgroupPattern, Option<PolicyId>)) -> Self {
        let (pattern, policy) = of;
        let levels: Option<Vec<Step>> = pattern
            .levels()
            .iter()
            .map(|level| match level {
                Level::One(glob) => level_automaton(glob.glob().regex()).map(Step::Name),
                Level::AnyNumberOf(glob) => level_automaton(glob.glob().regex()).map(Step::Names),
                Level::AnyNumber => Some(Step::AnyNumber),
            })
            .collect();
        match levels {
            Some(levels) => Self {
                levels,
                policy: *policy,
                is_cut: false,
            },
            None => Self::cut(of),
        }
    }

    fn cut((pattern, policy): &(CgroupPattern, Option<PolicyId>)) -> Self {
        let mut levels = Vec::new();
        for level in pattern.levels() {
            let literal = match level {
                Level::One(glob) if is_literal(glob.glob().glob()) => level_automaton(glob.glob().regex()),
                Level::One(_) | Level::AnyNumber | Level::AnyNumberOf(_) => None,
            };
            let Some(name) = literal else {
                levels.extend([Step::AnyName, Step::AnyNumber]);
                return Self {
                    levels,
                    policy: None,
                    is_cut: true,
                };
            };
            levels.push(Step::Name(name));
        }
        Self {
            levels,
            policy: *policy,
            is_cut: false,
        }
    }
}

fn is_literal(glob: &str) -> bool {
    !glob.contains(['*', '?', '[', ']', '{', '}', '\\'])
}

/// The automaton of a level's regular expression, built as globset builds its own; `None`: too large.
fn level_automaton(regex: &str) -> Option<Box<dense::DFA<Vec<u32>>>> {
    let config = dense::Config::new()
        .start_kind(StartKind::Anchored)
        .dfa_size_limit(Some(LEVEL_LIMIT))
        .determinize_size_limit(Some(LEVEL_LIMIT));
    dense::Builder::new()
        .configure(config)
        .syntax(syntax::Config::new().utf8(false).dot_matches_new_line(true))
        .thompson(
            thompson::Config::new()
                .utf8(false)
                .nfa_size_limit(Some(LEVEL_LIMIT)),
        )
        .build(regex)
        .ok()
        .map(Box::new)
}

/// Where a pattern may be: its number, the level whose name is being read, and how far that is. The last is missing at
/// levels that any name matches.
type Position = (usize, usize, Option<StateID>);

/// Every place where a pattern may be, after the same bytes: a state of the table.
type State = BTreeSet<Position>;

/// The table of `tracks`; `None`: it has no room for them.
fn build(tracks: &[Track]) -> Option<Box<PatternTable>> {
    let alphabet = Alphabet::of(tracks);
    let mut table = blank(if tracks.is_empty() {
        Outcome::UNMANAGED
    } else {
        Outcome::WATCHED
    });
    let mut work = 0;
    table.classes = alphabet.classes;
    table.stride = u32::try_from(alphabet.bytes.len()).ok()?;
    // State 0 stands for the root, of whose path nothing has been read: it has no positions.
    let mut states = vec![State::new()];
    let mut numbers = BTreeMap::new();
    let mut transitions = table.transitions.iter_mut();
    let mut at = 0;
    while let Some(state) = states.get(at) {
        work += (state.len() + 1) * alphabet.bytes.len();
        if work > MAX_WORK {
            return None;
        }
        let next: Vec<State> = alphabet
            .bytes
            .iter()
            .map(|byte| match (at, byte) {
                (0, b'/') => enter(tracks, (0..tracks.len()).map(|pattern| (pattern, 0))),
                (_, b'/') => enter(tracks, ended(tracks, state)),
                (_, byte) => advance(tracks, state, *byte),
            })
            .collect();
        for state in next {
            let number = match numbers.get(&state) {
                Some(number) => *number,
                None => {
                    let number = u16::try_from(states.len()).ok()?;
                    let outcome = outcome(tracks, &state);
                    *table.outcomes.get_mut(states.len())? = outcome;
                    numbers.insert(state.clone(), number);
                    states.push(state);
                    number
                }
            };
            *transitions.next()? = number;
        }
        at += 1;
    }
    Some(table)
}

/// Bytes that lead to the same states everywhere are one class.
struct Alphabet {
    classes: [u8; 256],
    /// One byte of each class.
    bytes: Vec<u8>,
}

impl Alphabet {
    fn of(tracks: &[Track]) -> Self {
        let names: Vec<_> = tracks
            .iter()
            .flat_map(|track| &track.levels)
            .filter_map(|level| match level {
                Step::Name(name) | Step::Names(name) => Some(name.byte_classes()),
                Step::AnyName | Step::AnyNumber => None,
            })
            .collect();
        let mut known = BTreeMap::new();
        let mut bytes = Vec::new();
        let mut classes = [0; 256];
        for (byte, class) in (0..=u8::MAX).zip(&mut classes) {
            let sort: Vec<_> = names.iter().map(|name| name.get(byte)).collect();
            // There are at most as many classes as bytes, so each has a number in one.
            *class = *known.entry((byte == b'/', sort)).or_insert_with(|| {
                bytes.push(byte);
                u8::try_from(bytes.len() - 1).unwrap_or(u8::MAX)
            });
        }
        Self { classes, bytes }
    }
}

/// The state at the beginning of a name: each pattern, of which so many levels are matched, begins its next.
fn enter(tracks: &[Track], matched: impl IntoIterator<Item = (usize, usize)>) -> State {
    let mut state = State::new();
    for (pattern, mut level) in matched {
        let Some(track) = tracks.get(pattern) else {
            continue;
        };
        // Any number of levels can be none, so what comes after may begin as well.
        while let Some(step) = track.levels.get(level) {
            let progress = match step {
                Step::Name(name) | Step::Names(name) => name
                    .start_state(&start::Config::new().anchored(Anchored::Yes))
                    .ok(),
                Step::AnyName | Step::AnyNumber => None,
            };
            state.insert((pattern, level, progress));
            if !matches!(step, Step::AnyNumber | Step::Names(_)) {
                break;
            }
            level += 1;
        }
    }
    state
}

/// The state after one more byte of a name.
fn advance(tracks: &[Track], state: &State, byte: u8) -> State {
    let step = |(pattern, level, progress): &Position| {
        let progress = match (tracks.get(*pattern)?.levels.get(*level)?, progress) {
            (Step::Name(name) | Step::Names(name), Some(at)) => {
                let next = name.next_state(*at, byte);
                Some((!name.is_dead_state(next)).then_some(next)?)
            }
            (Step::Name(_) | Step::Names(_), None) => return None,
            (Step::AnyName | Step::AnyNumber, _) => None,
        };
        Some((*pattern, *level, progress))
    };
    state.iter().filter_map(step).collect()
}

/// The patterns that match the path when the name ends here, each with the number of its levels that are matched.
fn ended<'a>(tracks: &'a [Track], state: &'a State) -> impl Iterator<Item = (usize, usize)> + 'a {
    state.iter().filter_map(|(pattern, level, progress)| {
        let matched = match (tracks.get(*pattern)?.levels.get(*level)?, progress) {
            (Step::Name(name), Some(at)) => name
                .is_match_state(name.next_eoi_state(*at))
                .then_some(level + 1)?,
            (Step::Names(name), Some(at)) => {
                name.is_match_state(name.next_eoi_state(*at)).then_some(*level)?
            }
            (Step::Name(_) | Step::Names(_), None) => return None,
            (Step::AnyName, _) => level + 1,
            (Step::AnyNumber, _) => *level,
        };
        Some((*pattern, matched))
    })
}

/// What is known of a cgroup whose path ends in `state`.
fn outcome(tracks: &[Track], state: &State) -> Outcome {
    let mut first = None;
    let mut watched = false;
    for (pattern, matched) in ended(tracks, state) {
        let Some(track) = tracks.get(pattern) else {
            continue;
        };
        let rest = track.levels.get(matched..).unwrap_or_default();
        watched |= !rest.is_empty();
        if rest
            .iter()
            .all(|step| matches!(step, Step::AnyNumber | Step::Names(_)))
            && first.is_none_or(|(known, _)| pattern < known)
        {
            first = Some((pattern, track.policy));
        }
    }
    match first {
        Some((_, Some(policy))) => Outcome::managed(policy.0),
        Some((_, None)) => Outcome::UNDECIDED,
        None if watched => Outcome::WATCHED,
        None => Outcome::UNMANAGED,
    }
}

/// A table without transitions, whose root stands as `root` says.
fn blank(root: Outcome) -> Box<PatternTable> {
    let mut table = Box::new(PatternTable::BLANK);
    table.outcomes[0] = root;
    table
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Patterns, Standing};
    use super::*;
    use crate::config::{CgroupPlace, ContainerSpec, PlaceLevel};

    fn patterns(globs: &[&str]) -> Patterns {
        let mut all = Patterns::default();
        for (number, glob) in (1..).zip(globs) {
            all.add(CgroupPattern::new(glob).unwrap(), PolicyId(number));
        }
        all
    }

    /// What the kernel side's walk says of the cgroup at `path`.
    fn walk(table: &PatternTable, path: &[&str]) -> Outcome {
        let mut state = 0;
        for byte in path.iter().flat_map(|name| ["/", name]).flat_map(str::bytes) {
            match table.next(state, byte) {
                Some(next) => state = next,
                // An ancestor has decided.
                None => {
                    return Outcome {
                        policy: 0,
                        standing: u32::MAX,
                    };
                }
            }
        }
        table.outcome(state)
    }

    /// What the agent says, by the patterns themselves.
    fn looked_up(patterns: &Patterns, path: &[&str]) -> Outcome {
        for length in 0..path.len() {
            if patterns.standing(&path[..length]) != (Standing::Unmanaged { watched: true }) {
                return Outcome {
                    policy: 0,
                    standing: u32::MAX,
                };
            }
        }
        match patterns.standing(path) {
            Standing::Managed(policy) => Outcome::managed(policy.0),
            Standing::Unmanaged { watched: true } => Outcome::WATCHED,
            Standing::Unmanaged { watched: false } => Outcome::UNMANAGED,
        }
    }

    #[test]
    fn ordinary_patterns_fit_and_say_what_they_mean() {
        let patterns = patterns(&[
            "/actions.slice/report-*.service",
            "/system.slice/{nightly,weekly}-backup@[0-9].service",
            "/machine.slice/**/payload",
            "/kubepods.slice/kubepods-*.slice/kubepods-*-pod????????_*.slice",
        ]);
        let compiled = patterns.compile();
        assert!(compiled.undecided.is_empty());
        for (path, expected) in [
            (&[][..], Outcome::WATCHED),
            (&["actions.slice"], Outcome::WATCHED),
            (&["actions.slice", "report-7.service"], Outcome::managed(1)),
            (&["actions.slice", "report-7.timer"], Outcome::UNMANAGED),
            (&["system.slice", "weekly-backup@7.service"], Outcome::managed(2)),
            (&["system.slice", "weekly-backup@77.service"], Outcome::UNMANAGED),
            (&["machine.slice", "a", "b", "payload"], Outcome::managed(3)),
            (&["machine.slice", "a", "b", "payloads"], Outcome::WATCHED),
            (&["user.slice"], Outcome::UNMANAGED),
        ] {
            assert_eq!(walk(&compiled.table, path), expected, "{path:?}");
        }
        assert_eq!(
            walk(&Patterns::default().compile().table, &[]),
            Outcome::UNMANAGED
        );
    }

    #[test]
    fn a_pattern_without_room_leaves_its_cgroups_to_the_agent_and_is_named() {
        // Which of twenty-four words a name contains are more states than any table has.
        let words: Vec<String> = (0..24).map(|word| format!("/jobs/*{word:02}x*")).collect();
        let mut globs = vec!["/first/*"];
        globs.extend(words.iter().map(String::as_str));
        globs.push("/last/a");
        let all = patterns(&globs);
        let compiled = all.compile();
        let fitting = words.len() - compiled.undecided.len();
        assert!((1..words.len()).contains(&fitting), "{fitting}");
        assert_eq!(compiled.undecided, words[fitting..]);
        for path in [
            &["first", "a"][..],
            &["jobs"],
            &["jobs", "00x"],
            &["last"],
            &["last", "a"],
            &["other"],
        ] {
            assert_eq!(walk(&compiled.table, path), looked_up(&all, path), "{path:?}");
        }
        for name in ["23x", "nothing"] {
            assert_eq!(walk(&compiled.table, &["jobs", name]), Outcome::UNDECIDED);
            assert_eq!(walk(&compiled.table, &["jobs", name, "below"]).class(), None);
        }
    }

    fn glob() -> impl Strategy<Value = String> {
        let level = prop::sample::select(vec![
            "a", "ab", "b", "*", "a*", "*b", "?", "a?b", "[ab]", "[!a]", "[!a]*", "{a,b}", "{a,ab}*", "é?",
            "**",
        ]);
        prop::collection::vec(level, 1..4).prop_map(|levels| format!("/{}", levels.join("/")))
    }

    /// Selectors of systemd's names, which lead through any number of slices, and a pattern that asks.
    #[test]
    fn units_and_those_that_are_asked_for_are_told_apart() {
        let place = |levels: &[PlaceLevel]| CgroupPattern::at(&CgroupPlace(levels.to_vec()), "it").unwrap();
        let name = |name: &str| PlaceLevel::Name(name.to_owned());
        let mut all = Patterns::default();
        all.add(
            place(&[PlaceLevel::Slices, name("backup@*.service")]),
            PolicyId(1),
        );
        all.add(place(&[PlaceLevel::Slices, name("ci-*.slice")]), PolicyId(2));
        all.ask(
            place(&[PlaceLevel::Slices, name("docker-[0-9a-f][0-9a-f].scope")]),
            PolicyId(3),
        );
        let compiled = all.compile();
        assert!(compiled.undecided.is_empty());
        for (path, expected) in [
            (&["backup@1.service"][..], Outcome::managed(1)),
            (&["system.slice"], Outcome::WATCHED),
            (
                &["system.slice", "system-backup.slice", "backup@1.service"],
                Outcome::managed(1),
            ),
            (&["system.slice", "other.service"], Outcome::UNMANAGED),
            (&["ci.slice"], Outcome::WATCHED),
            (&["ci.slice", "ci-heavy.slice"], Outcome::managed(2)),
            (&["system.slice", "docker-0f.scope"], Outcome::UNDECIDED),
            (&["system.slice", "docker-0g.scope"], Outcome::UNMANAGED),
            (&["docker"], Outcome::UNMANAGED),
        ] {
            assert_eq!(walk(&compiled.table, path), expected, "{path:?}");
        }
        assert_eq!(
            walk(&compiled.table, &["system.slice", "docker-0f.scope", "x"]).class(),
            None
        );
    }

    #[test]
    fn the_usual_places_of_containers_fit_beside_other_patterns() {
        let mut all = Patterns::default();
        let spec = ContainerSpec::default();
        for place in spec.usual_places() {
            all.ask(
                CgroupPattern::at(&place, &place.to_string()).unwrap(),
                PolicyId(1),
            );
        }
        for (number, unit) in (2..).zip([
            "docker-*.scope",
            "backup@*.service",
            "report-*.service",
            "ci-*.slice",
        ]) {
            let place = CgroupPlace(vec![PlaceLevel::Slices, PlaceLevel::Name(unit.to_owned())]);
            all.add(CgroupPattern::at(&place, unit).unwrap(), PolicyId(number));
        }
        let compiled = all.compile();
        assert_eq!(compiled.undecided, Vec::<String>::new());
        let id = "0123456789abcdef".repeat(4);
        let asked = Outcome::UNDECIDED;
        for (path, expected) in [
            (format!("system.slice/docker-{id}.scope"), asked),
            (format!("ci.slice/docker-{id}.scope"), asked),
            (format!("docker/{id}"), asked),
            (format!("machine.slice/libpod-{id}.scope"), asked),
            (format!("libpod_parent/libpod-{id}"), asked),
            (
                format!("kubepods.slice/kubepods-pod1.slice/crio-{id}.scope"),
                asked,
            ),
            (
                format!("kubepods.slice/kubepods-pod1.slice/cri-containerd-{id}.scope"),
                asked,
            ),
            (format!("kubepods/burstable/pod1/{id}"), asked),
            (
                format!("machine.slice/libpod-conmon-{id}.scope"),
                Outcome::UNMANAGED,
            ),
            ("system.slice/docker-mine.scope".to_owned(), Outcome::managed(2)),
            ("system.slice/backup@1.service".to_owned(), Outcome::managed(3)),
            ("system.slice/docker.service".to_owned(), Outcome::UNMANAGED),
            ("system.slice".to_owned(), Outcome::WATCHED),
            ("docker".to_owned(), Outcome::WATCHED),
            ("kubepods/burstable".to_owned(), Outcome::WATCHED),
        ] {
            let levels: Vec<&str> = path.split('/').collect();
            assert_eq!(walk(&compiled.table, &levels), expected, "{path}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_table_says_what_the_patterns_say(
            globs in prop::collection::vec(glob(), 1..5),
            paths in prop::collection::vec(prop::collection::vec("[abé.]{1,3}", 0..5), 16),
        ) {
            let globs: Vec<&str> = globs.iter().map(String::as_str).filter(|glob| CgroupPattern::new(glob).is_ok()).collect();
            let all = patterns(&globs);
            let compiled = all.compile();
            prop_assert!(compiled.undecided.is_empty());
            for path in &paths {
                let path: Vec<&str> = path.iter().map(String::as_str).collect();
                prop_assert_eq!(walk(&compiled.table, &path), looked_up(&all, &path), "{:?} {:?}", globs, path);
            }
        }
    }
}
