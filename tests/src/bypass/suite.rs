//! Runs every vector: without an agent, where it has to get through, and with one.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

use super::attack::{Attack, Said};
use super::counters::Counters;
use super::stage::Stage;
use super::vector::{Outcome, Tier, Under, User, Vector, When};
use super::{report::Row, table};

/// What was seen of one vector and one user.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Nonces that arrived at a server; for an attack that no server can tell of, 1 if it succeeded.
    pub arrivals: usize,
    /// Whether the attacker's own word counts.
    pub own_word: bool,
    /// Programs that counted something meanwhile.
    pub programs: Vec<&'static str>,
    /// What the attacker said.
    pub said: String,
}

/// One vector as one user.
#[derive(Clone, Debug)]
pub struct Case {
    /// The vector.
    pub vector: &'static Vector,
    /// The user.
    pub user: User,
    /// What this host lacks for it.
    pub unavailable: Option<String>,
    /// Without an agent.
    pub off: Option<Seen>,
    /// With one.
    pub on: Option<Seen>,
}

impl Case {
    fn nonce(&self, phase: &str) -> String {
        let name = self.vector.name.replace(['/', '_'], "-");
        format!("nonce-{name}-{}-{phase}", self.user.name())
    }
}

/// Runs the suite, all of it or the vectors whose name contains `filter`.
pub fn run(filter: &str) -> Result<Vec<Row>> {
    let mut stage = Stage::build()?;
    for missing in stage.missing() {
        tell(&format!("this kernel cannot serve {missing}"));
    }
    let mut cases: Vec<Case> = table::all()
        .filter(|vector| vector.name.contains(filter))
        .flat_map(|vector| {
            User::ALL.map(|user| Case {
                vector,
                user,
                unavailable: None,
                off: None,
                on: None,
            })
        })
        .collect();
    ensure!(!cases.is_empty(), "no vector's name contains {filter:?}");

    let mut clock = Instant::now();
    for case in &mut cases {
        let (seen, unavailable) = attack(&mut stage, case, "off")?;
        case.unavailable = unavailable;
        case.off = Some(seen);
    }
    tell_time("without an agent", &mut clock);

    let mut held = Vec::new();
    for (index, case) in cases.iter().enumerate() {
        if case.vector.when == When::Across && case.unavailable.is_none() {
            let mut attack = start(&stage, case, "on")?;
            attack.held()?;
            held.push((index, attack));
        }
    }
    // What is held may be ended as soon as the agent is there.
    let before = Counters::read(&stage.pins())?;
    stage.agent.resume()?;
    stage.describe(true)?;
    for (index, attack) in held {
        let said = attack.finish()?;
        if let Some(case) = cases.get_mut(index) {
            case.on = Some(judge(&mut stage, case, "on", &said, &before)?);
        }
    }
    let tier = tier(&stage)?;
    for case in &mut cases {
        if case.vector.when == When::Running && case.unavailable.is_none() {
            case.on = Some(attack(&mut stage, case, "on")?.0);
        }
    }
    agrees_with_status(&stage)?;
    tell_time("with an agent", &mut clock);
    for case in &mut cases {
        let down = match case.vector.when {
            When::Last => false,
            When::Down => true,
            When::Running | When::Across => continue,
        };
        if case.unavailable.is_some() {
            continue;
        }
        if down {
            stage.agent.kill()?;
        }
        case.on = Some(attack(&mut stage, case, "on")?.0);
        // Whatever was done to it: the next one finds it whole.
        stage.agent.kill()?;
        stage.agent.resume()?;
        stage.describe(true)?;
    }
    tell_time("with an agent that is harmed, and started anew", &mut clock);
    let recorded = recorded(&stage)?;
    let kernel = kernel()?;
    Ok(cases
        .into_iter()
        .map(|case| {
            let nonce = case.nonce("on");
            Row::new(case, tier, kernel, recorded.get(&nonce).copied().unwrap_or(0))
        })
        .collect())
}

fn start(stage: &Stage, case: &Case, phase: &str) -> Result<Attack> {
    let under = if phase == "off" {
        Under::Allow
    } else {
        case.vector.under
    };
    Attack::start(
        case.vector,
        case.user,
        stage.cgroup(under),
        &stage.world(),
        &case.nonce(phase),
    )
}

fn attack(stage: &mut Stage, case: &Case, phase: &str) -> Result<(Seen, Option<String>)> {
    stage.arrivals()?;
    let before = counters(stage, phase)?;
    let said = start(stage, case, phase)?.finish()?;
    let unavailable = said.unavailable.clone();
    Ok((judge(stage, case, phase, &said, &before)?, unavailable))
}

/// Where there is no agent, nothing is counted.
fn counters(stage: &Stage, phase: &str) -> Result<Counters> {
    if phase == "off" {
        return Ok(Counters::default());
    }
    Counters::read(&stage.pins())
}

fn judge(stage: &mut Stage, case: &Case, phase: &str, said: &Said, before: &Counters) -> Result<Seen> {
    let nonce = case.nonce(phase);
    let arrived = stage
        .arrivals()?
        .iter()
        .filter(|arrival| arrival.nonce == nonce)
        .count();
    Ok(Seen {
        arrivals: said.reached.map_or(arrived, usize::from),
        own_word: said.reached.is_some(),
        programs: counters(stage, phase)?.programs_since(before),
        said: said.text.clone(),
    })
}

/// Version and patch level of the running kernel.
fn kernel() -> Result<(u32, u32)> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(version)), Some(Ok(level))) => Ok((version, level)),
        _ => bail!("the kernel calls itself {release:?}"),
    }
}

/// Whether the programs on security hooks are there, as the agent says.
fn tier(stage: &Stage) -> Result<Tier> {
    let status: serde_json::Value = serde_json::from_str(&stage.agent.cli("status", &["--json"])?)?;
    Ok(if status["kernel"]["lsm"] == true {
        Tier::Lsm
    } else {
        Tier::Without
    })
}

/// What `tollgate status` says has been counted is what the map holds.
fn agrees_with_status(stage: &Stage) -> Result<()> {
    let status: serde_json::Value = serde_json::from_str(&stage.agent.cli("status", &["--json"])?)?;
    let counters = Counters::read(&stage.pins())?;
    let kernel = &status["kernel"];
    ensure!(
        kernel["redirected"] == counters.count("redirected"),
        "status and map disagree: {kernel}, {counters:?}"
    );
    for event in kernel["events"].as_array().context("status has no events")? {
        let kind = event["kind"].as_str().unwrap_or_default();
        ensure!(
            event["count"] == counters.count(kind),
            "status and map disagree on {kind}: {kernel}, {counters:?}"
        );
    }
    Ok(())
}

/// How often each nonce is in the client's bytes of a recorded session.
fn recorded(stage: &Stage) -> Result<BTreeMap<String, usize>> {
    let mut found = BTreeMap::new();
    for session in stage.agent.sessions()? {
        let id = session["session"].as_str().context("a session without an id")?;
        let steps = stage.agent.cli("replay", &[id, "--json"])?;
        let mut nonces: Vec<String> = Vec::new();
        for line in steps.lines() {
            let step: serde_json::Value = serde_json::from_str(line)?;
            nonces.extend(nonces_of(&step));
        }
        nonces.sort_unstable();
        nonces.dedup();
        for nonce in nonces {
            *found.entry(nonce).or_default() += 1;
        }
    }
    Ok(found)
}

/// The nonces in what a step says that the client sent.
fn nonces_of(step: &serde_json::Value) -> Vec<String> {
    let text = step.to_string();
    text.match_indices("nonce-")
        .filter_map(|(at, _)| text.get(at..))
        .map(|rest| {
            rest.chars()
                .take_while(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '-')
                .collect()
        })
        .collect()
}

/// Whether what came of it is what was expected; see [`Row`].
pub(super) fn outcome(seen: &Seen, recorded: usize) -> Outcome {
    if seen.arrivals == 0 {
        Outcome::Stopped(&[])
    } else if seen.own_word || recorded < seen.arrivals {
        Outcome::Open
    } else {
        Outcome::Proxied
    }
}

/// Says how long one part took, and begins the next.
fn tell_time(part: &str, clock: &mut Instant) {
    tell(&format!("{part}: {:.0} s", clock.elapsed().as_secs_f32()));
    *clock = Instant::now();
}

#[expect(
    clippy::print_stderr,
    reason = "a suite tells what it cannot try, and how it gets on"
)]
fn tell(what: &str) {
    eprintln!("bypass: {what}");
}
