//! `[findings]`: where the agent looks for secrets that the workload still has.

use std::time::Duration;

use super::super::glob::Glob;
use super::super::policy::{FindingsSpec, Probe};
use super::super::reader::{Field, Table, Wrong};
use super::super::scalar;
use super::or_default;

const LEAST_INTERVAL: Duration = Duration::from_secs(1);
const MOST_INTERVAL: Duration = Duration::from_hours(1);
/// Longest pattern of a variable's name, in bytes.
const LONGEST: usize = 256;

pub(super) fn findings(table: &Table<'_>) -> Option<FindingsSpec> {
    let probe = or_default(table.optional("probe"), None, |field| {
        let choices = [("password", Probe::Password), ("proof", Probe::Proof)];
        field.one_of(&choices, &[]).map(Some)
    });
    let environment = or_default(table.optional("environment"), false, Field::boolean);
    let command_line = or_default(table.optional("command_line"), false, Field::boolean);
    if environment == Some(false) {
        table.refuse(
            "ignore",
            "\"ignore\" names variables, and the environment is not looked at",
            "remove it, or write environment = true",
        );
    }
    if environment == Some(false) && command_line == Some(false) {
        table.refuse(
            "interval",
            "\"interval\" is how often processes are looked at, and nothing of them is",
            "remove it, or write environment = true or command_line = true",
        );
    }
    let interval = or_default(table.optional("interval"), None, |field| {
        field
            .parsed(|text| scalar::duration(text, LEAST_INTERVAL, MOST_INTERVAL))
            .map(Some)
    });
    let cookies = or_default(table.optional("cookies"), false, Field::boolean);
    let ignore = or_default(table.optional("ignore"), Vec::new(), |field| {
        field.parsed_list("name at least one variable, or remove the key", variable)
    });
    Some(FindingsSpec {
        probe: probe?,
        environment: environment?,
        command_line: command_line?,
        interval: interval?,
        cookies: cookies?,
        ignore: ignore?,
    })
}

fn variable(text: &str) -> Result<String, Wrong> {
    let name = |byte: u8| byte.is_ascii_graphic() && byte != b'=' && byte != b'$';
    if text.is_empty() || text.len() > LONGEST || !text.bytes().all(name) {
        return Err(Wrong::new(
            format!("\"{text}\" is no name of an environment variable"),
            "write the variable's name, without \"$\"; * is any number of characters",
        ));
    }
    Glob::name(text).map(|_| text.to_owned()).map_err(|error| {
        Wrong::new(
            error.to_string(),
            "* and ? are patterns, other characters are themselves",
        )
    })
}
