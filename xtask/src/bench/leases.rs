//! What a credential of its own costs a session: the role that is made for it, and the journal that is written before.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use tollgate_tests::postgres::Postgres;
use tollgate_tests::process::run as output_of;
use tollgate_tests::world::{ALLOW_ALL, DATABASE, World};

use super::figures::{Figures, Quantity};
use super::kernel;
use crate::{build, setup};

/// Sessions of a round, one after the other.
const SESSIONS: usize = 60;
const ROUNDS: usize = 5;
const KEEPER: &str = "tollgate_keeper";
const KEEPER_PASSWORD: &str = "keeper-throw-away-41c7";

const BEGINNING: Quantity = Quantity {
    name: "connect to ready for a query",
    unit: "ms",
    digits: 1,
};

/// How a session gets its credential, and where the agent keeps its state.
const WAYS: &[(&str, bool, bool)] = &[
    ("a password from a file", false, false),
    ("a role, journal in memory (tmpfs)", true, true),
    ("a role, journal on the disk", true, false),
];

/// Prints the time in milliseconds that each session took to begin.
const SCRIPT: &str = r"
import os, time
from wire import *
for n in range(int(os.environ['SESSIONS'])):
    start = time.perf_counter()
    client = Client()
    client.until(b'Z')
    print((time.perf_counter() - start) * 1000)
    client.send(TERMINATE)
    client.until(b'')
";

/// Measures, and prints a table.
#[expect(clippy::print_stdout, reason = "a task tells its result")]
pub(super) fn run(no_build: bool) -> Result<()> {
    let binary = if no_build {
        kernel::built("tollgate")?
    } else {
        setup::everything()?;
        build::agent(true)?
    };
    let mut figures = Figures::default();
    let memory = tempfile::Builder::new()
        .prefix("tollgate-bench-")
        .tempdir_in("/dev/shm")?;
    let mut world = World::start_by(binary, ALLOW_ALL)?;
    world.agent.stop()?;
    prepare(&world.server)?;
    let disk = world.agent.dir().join("state");
    let password = world.agent.secret("keeper-password", KEEPER_PASSWORD)?;
    for _ in 0..ROUNDS {
        for (way, role, in_memory) in WAYS {
            let state = if *in_memory { memory.path() } else { disk.as_path() };
            keep_state_in(&world, state)?;
            world.edit_policy(|policy| credential(&policy, *role, &password))?;
            world.agent.resume()?;
            figures.add(BEGINNING, way, median(&world)?);
            world.agent.stop()?;
        }
    }
    let kind = output_of(Command::new("stat").args(["-f", "-c", "%T"]).arg(&disk))?;
    println!("{}", figures.tables());
    println!(
        "Medians of {SESSIONS} sessions, in {ROUNDS} rounds; the disk is of kind {}. PostgreSQL does not wait for its own disk.",
        kind.trim()
    );
    Ok(())
}

fn prepare(server: &Postgres) -> Result<()> {
    let sql = format!(
        "CREATE ROLE {KEEPER} LOGIN CREATEROLE PASSWORD '{KEEPER_PASSWORD}'; CREATE ROLE report_reader;
         GRANT SELECT ON customers TO report_reader"
    );
    server.admin(DATABASE, &sql)?;
    // From 16 on CREATEROLE alone is not the right to grant what one has not made.
    let grant = format!("GRANT report_reader TO {KEEPER} WITH ADMIN OPTION");
    server.admin(DATABASE, &grant)?;
    Ok(())
}

/// A start finds the lines of the last one.
fn keep_state_in(world: &World, state: &Path) -> Result<()> {
    let config = fs::read_to_string(world.agent.config())?;
    let lines = config.lines().map(|line| {
        if line.starts_with("state_dir") {
            format!("state_dir = \"{}\"", state.display())
        } else {
            line.to_owned()
        }
    });
    fs::write(world.agent.config(), lines.collect::<Vec<_>>().join("\n"))?;
    Ok(())
}

/// The policy with another `[service.credential]`.
fn credential(policy: &str, role: bool, password: &Path) -> String {
    let (before, rest) = policy.split_once("[service.credential]").unwrap_or((policy, ""));
    let after = rest
        .find("[[service.rule]]")
        .and_then(|at| rest.get(at..))
        .unwrap_or_default();
    let password = password.display();
    let text = if role {
        format!(
            "source = \"postgres-role\"\nadmin = {{ user = \"{KEEPER}\", password = {{ file = \"{password}\" }} }}\n\
             grant = [\"report_reader\"]"
        )
    } else {
        format!("source = \"file\"\nuser = \"{KEEPER}\"\npassword = \"{password}\"")
    };
    format!("{before}[service.credential]\n{text}\n\n{after}")
}

fn median(world: &World) -> Result<f64> {
    let mut script = world.script(SCRIPT);
    script.env("SESSIONS", SESSIONS.to_string());
    let mut times: Vec<f64> = output_of(&mut script)?
        .lines()
        .map(str::parse)
        .collect::<Result<_, _>>()?;
    times.sort_by(f64::total_cmp);
    times
        .get(times.len() / 2)
        .copied()
        .context("no session was measured")
}
