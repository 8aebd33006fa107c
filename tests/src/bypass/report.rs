//! What the suite prints: one aligned table, and a JSON line for each row.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use anyhow::Result;
use serde_json::json;

use super::suite::{Case, Seen, outcome};
use super::vector::{Outcome, Tier, User, Vector};

/// One vector as one user, judged.
#[derive(Clone, Debug)]
pub struct Row {
    vector: &'static Vector,
    user: User,
    tier: Tier,
    /// What was seen, in one word: `proxied`, `stopped`, `open`, `impossible`, `unavailable`.
    outcome: &'static str,
    by: String,
    said: String,
    /// Why this is not what was expected.
    wrong: Option<String>,
}

impl Row {
    /// Judges a case; `recorded` is how often its nonce is in the record.
    pub(super) fn new(case: Case, tier: Tier, kernel: (u32, u32), recorded: usize) -> Self {
        let expected = case.vector.expected(case.user, tier, kernel);
        let mut row = Self {
            vector: case.vector,
            user: case.user,
            tier,
            outcome: "unavailable",
            by: String::new(),
            said: String::new(),
            wrong: None,
        };
        if let Some(lacks) = case.unavailable {
            row.by = lacks;
            if case.vector.needs.is_empty() {
                row.wrong = Some("it has to be possible on every host".to_owned());
            }
            return row;
        }
        row.judge_off(case.off.as_ref(), expected);
        if let Some(on) = &case.on {
            row.judge_on(on, recorded, expected);
        } else {
            row.wrong = Some("it was not tried against the agent".to_owned());
        }
        row
    }

    /// A way that does not get through where there is no Tollgate proves nothing.
    fn judge_off(&mut self, off: Option<&Seen>, expected: Outcome) {
        let impossible = matches!(expected, Outcome::Impossible(_));
        let (got_through, said) = off.map_or((false, ""), |seen| (seen.arrivals > 0, &seen.said));
        if got_through == impossible {
            let what = if impossible { "gets" } else { "does not get" };
            self.wrong = Some(format!("without an agent it {what} through: {said}"));
        }
    }

    fn judge_on(&mut self, on: &Seen, recorded: usize, expected: Outcome) {
        self.said.clone_from(&on.said);
        self.by = on.programs.join(", ");
        let seen = outcome(on, recorded);
        let by = |programs: &[&str]| on.programs.iter().any(|program| programs.contains(program));
        let as_expected = match (seen, expected) {
            (Outcome::Proxied, Outcome::Proxied | Outcome::Shut(_) | Outcome::Race)
            | (Outcome::Open, Outcome::Open | Outcome::Race) => true,
            (Outcome::Stopped(_), Outcome::Stopped(programs) | Outcome::Shut(programs)) => by(programs),
            (Outcome::Stopped(_), Outcome::Impossible(_) | Outcome::Race) => true,
            // The agent looks for such connections every few seconds, and may have been faster.
            (Outcome::Stopped(_), Outcome::Open) => by(&["sock_diag"]),
            _ => false,
        };
        self.outcome = match (seen, expected) {
            (Outcome::Proxied, _) => "proxied",
            (Outcome::Open, _) => "open",
            (_, Outcome::Impossible(_)) => "impossible",
            _ => "stopped",
        };
        match (seen, expected) {
            (Outcome::Proxied | Outcome::Open, _) => self.by.clear(),
            (_, Outcome::Impossible(lacks)) => self.by = format!("lacks {lacks}"),
            _ => {}
        }
        if !as_expected {
            let said = format!("{} by {:?}; {}", self.outcome, on.programs, on.said);
            self.wrong
                .get_or_insert_with(|| format!("expected {expected:?}, but it was {said}"));
        }
    }

    /// Why it is not as the table says.
    pub fn wrong(&self) -> Option<String> {
        let wrong = self.wrong.as_ref()?;
        Some(format!("{} as {}: {wrong}", self.vector.name, self.user.name()))
    }

    fn json(&self, kernel: &str) -> String {
        json!({
            "vector": self.vector.name, "title": self.vector.title, "user": self.user.name(), "tier": self.tier.name(),
            "kernel": kernel, "outcome": self.outcome, "by": self.by, "said": self.said, "wrong": self.wrong,
            "needs": self.vector.needs,
        })
        .to_string()
    }
}

/// The table, for people.
pub fn table(rows: &[Row]) -> String {
    let width = |text: fn(&Row) -> &str| rows.iter().map(|row| text(row).len()).max().unwrap_or(0);
    let (name, user) = (width(|row| row.vector.name), width(|row| row.user.name()));
    let mut out = String::new();
    for row in rows {
        let mark = if row.wrong.is_some() { "UNEXPECTED" } else { "" };
        // Writing to a String cannot fail.
        let _infallible = writeln!(
            out,
            "{:name$}  {:user$}  {:11}  {}  {mark}",
            row.vector.name,
            row.user.name(),
            row.outcome,
            row.by,
        );
    }
    let count = |outcome: &str| rows.iter().filter(|row| row.outcome == outcome).count();
    let _infallible = writeln!(
        out,
        "{} rows: {} through the proxy, {} stopped, {} open, {} impossible, {} not available here",
        rows.len(),
        count("proxied"),
        count("stopped"),
        count("open"),
        count("impossible"),
        count("unavailable"),
    );
    out
}

/// Appends a JSON line for each row to `file`.
pub fn write_json(rows: &[Row], file: &Path) -> Result<()> {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(file)?;
    for row in rows {
        writeln!(file, "{}", row.json(kernel.trim()))?;
    }
    Ok(())
}
