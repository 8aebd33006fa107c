//! One table of everything that ran: a row for each attempt to get around and for each test that did not pass, a column for each machine.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use anyhow::{Result, ensure};

use super::machine::Outcome;
use super::suite::VECTORS_STEP;

/// What a test says on standard error when the machine lacks what it tests.
const NOT_TESTED: &str = "*** NOT TESTED";

/// Rows by name, their cells by column.
#[derive(Default)]
pub(super) struct Table {
    columns: Vec<String>,
    rows: BTreeMap<String, BTreeMap<String, String>>,
    failed: BTreeSet<String>,
    /// Ways round, and whether any machine had what each needs.
    tried: BTreeMap<String, bool>,
}

impl Table {
    /// What the machine `column` said.
    pub(super) fn add(&mut self, column: &str, outcomes: &[Outcome]) {
        self.columns.push(column.to_owned());
        for outcome in outcomes {
            if outcome.step == VECTORS_STEP {
                self.vectors(column, &outcome.output);
            } else {
                self.suite(column, outcome);
            }
        }
    }

    /// The machine `column` did not get to an end.
    pub(super) fn lost(&mut self, column: &str) {
        self.columns.push(column.to_owned());
        self.cell("machine", column, "DIED".to_owned());
        self.failed.insert(format!("the machine {column}"));
    }

    /// Fails if anything did.
    pub(super) fn verdict(&self) -> Result<()> {
        let failed: Vec<&str> = self.failed.iter().map(String::as_str).collect();
        ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
        Ok(())
    }

    /// Fails if a way round was tried by none of the machines: nothing is known of it then, however green they are.
    pub(super) fn every_way_was_tried(&self) -> Result<()> {
        let never: Vec<&str> = self
            .tried
            .iter()
            .filter_map(|(way, tried)| (!tried).then_some(way.as_str()))
            .collect();
        ensure!(never.is_empty(), "no machine could try: {}", never.join(", "));
        Ok(())
    }

    fn cell(&mut self, row: &str, column: &str, text: String) {
        self.rows
            .entry(row.to_owned())
            .or_default()
            .insert(column.to_owned(), text);
    }

    fn suite(&mut self, column: &str, outcome: &Outcome) {
        let step = &outcome.step;
        let mut passed = 0;
        for line in outcome.output.lines() {
            let Some((name, result)) = line
                .strip_prefix("test ")
                .and_then(|rest| rest.rsplit_once(" ... "))
            else {
                continue;
            };
            match result {
                "ok" => passed += 1,
                "FAILED" => self.cell(&format!("{step}: {name}"), column, "FAILED".to_owned()),
                other => self.cell(&format!("{step}: {name}"), column, other.to_owned()),
            }
        }
        let untested = outcome
            .output
            .lines()
            .filter(|line| line.contains(NOT_TESTED))
            .count();
        let mut notes = vec![format!("{passed} passed")];
        if untested > 0 {
            notes.push(format!("{untested} of them NOT TESTED"));
        }
        // Killed, or not a test program's way to end: the lines above may not tell.
        if outcome.status != 0 || passed == 0 {
            notes.push(format!("FAILED ({})", outcome.status));
            self.failed.insert(format!("{step} on {column}"));
        }
        self.cell(&format!("{step} suite"), column, notes.join(", "));
    }

    fn vectors(&mut self, column: &str, output: &str) {
        for line in output.lines() {
            let Ok(found) = serde_json::from_str::<serde_json::Value>(line) else {
                self.cell("vectors", column, "UNREADABLE".to_owned());
                self.failed.insert(format!("the table of vectors on {column}"));
                continue;
            };
            let text = |key: &str| {
                found
                    .get(key)
                    .and_then(serde_json::Value::as_str)
                    .unwrap_or_default()
            };
            let tried = self.tried.entry(text("vector").to_owned()).or_default();
            *tried |= text("outcome") != "unavailable";
            let mut cell = text("outcome").to_owned();
            if !text("by").is_empty() {
                cell = format!("{cell}: {}", text("by"));
            }
            if !text("wrong").is_empty() {
                cell = format!("UNEXPECTED {cell}");
            }
            self.cell(&format!("{} as {}", text("vector"), text("user")), column, cell);
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = self.rows.keys().map(|row| row.chars().count()).max().unwrap_or(0);
        let width = |column: &String| {
            self.rows
                .values()
                .filter_map(|cells| cells.get(column))
                .map(|cell| cell.chars().count())
                .chain([column.chars().count()])
                .max()
                .unwrap_or(0)
        };
        write!(f, "{:first$}", "")?;
        for column in &self.columns {
            write!(f, " | {column:width$}", width = width(column))?;
        }
        for (row, cells) in &self.rows {
            write!(f, "\n{row:first$}")?;
            for column in &self.columns {
                let cell = cells.get(column).map_or("", String::as_str);
                write!(f, " | {cell:width$}", width = width(column))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(step: &str, output: &str, status: i32) -> Outcome {
        Outcome {
            step: step.to_owned(),
            output: output.to_owned(),
            status,
        }
    }

    #[test]
    fn a_table_says_what_passed_where() {
        let mut table = Table::default();
        table.add(
            "6.1 -",
            &[
                outcome(
                    "kernel",
                    "test kernel::a ... ok\n*** NOT TESTED: b ***\ntest kernel::b ... ok\n",
                    0,
                ),
                outcome(
                    "vectors",
                    "{\"vector\":\"mptcp\",\"user\":\"root\",\"outcome\":\"stopped\",\"by\":\"sock_create\",\"wrong\":null}\n",
                    0,
                ),
            ],
        );
        table.verdict().unwrap();
        table.add(
            "6.1 lsm",
            &[outcome("kernel", "test kernel::a ... FAILED\n", 101)],
        );
        table.lost("6.12 -");
        let text = table.to_string();
        let rows: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split('|').map(str::trim).collect())
            .collect();
        assert_eq!(
            rows,
            [
                ["", "6.1 -", "6.1 lsm", "6.12 -"],
                [
                    "kernel suite",
                    "2 passed, 1 of them NOT TESTED",
                    "0 passed, FAILED (101)",
                    ""
                ],
                ["kernel: kernel::a", "", "FAILED", ""],
                ["machine", "", "", "DIED"],
                ["mptcp as root", "stopped: sock_create", "", ""],
            ]
        );
        let message = table.verdict().unwrap_err().to_string();
        assert!(
            message.contains("kernel on 6.1 lsm") && message.contains("the machine 6.12 -"),
            "{message}"
        );
    }

    #[test]
    fn a_way_that_no_machine_could_try_is_found_out() {
        let mut table = Table::default();
        let line = |vector, outcome| {
            format!(
                "{{\"vector\":\"{vector}\",\"user\":\"root\",\"outcome\":\"{outcome}\",\"by\":\"no module\",\"wrong\":null}}\n"
            )
        };
        let both = line("dccp", "unavailable") + &line("smc", "unavailable");
        table.add("6.1 -", &[outcome("vectors", &both, 0)]);
        table.add("6.12 -", &[outcome("vectors", &line("dccp", "stopped"), 0)]);
        let never = table.every_way_was_tried().unwrap_err().to_string();
        assert!(never.contains("smc") && !never.contains("dccp"), "{never}");
        table.verdict().unwrap();
    }

    #[test]
    fn a_suite_that_was_killed_has_failed_although_no_test_did() {
        let mut table = Table::default();
        table.add("6.1 -", &[outcome("kernel", "test kernel::a ... ok\n", 137)]);
        table.verdict().unwrap_err();
        let mut table = Table::default();
        table.add("6.1 -", &[outcome("kernel", "", 0)]);
        table.verdict().unwrap_err();
    }
}
