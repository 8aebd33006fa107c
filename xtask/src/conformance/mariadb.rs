//! Users for a session, on the versions of MariaDB that Debian has: the host's own, and that of the next release.
//!
//! A server of another release needs that release's libraries. So its root file system is made once, and its programs see its
//! `/usr` in the place of the host's (a mount of their own); everything else is the host's.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use tollgate_tests::agent::workspace;

use super::table::{Columns, Table, Tests, cargo_test};
use crate::build;
use crate::setup::{self, run as run_quietly, say};

/// Releases of Debian, besides the host's.
const RELEASES: &[&str] = &["trixie"];

/// What the tests start by these names.
const PROGRAMS: [&str; 2] = ["mariadbd", "mariadb-install-db"];

const COLUMNS: Columns = &[
    (
        "make",
        &[
            "credential::mysql_user::tests::a_user_logs_in_may_what_its_role_may_and_is_dropped_with_its_sessions",
            "credential::mysql_user::tests::what_the_server_refuses_leaves_nothing_and_names_nobody",
        ],
    ),
    (
        "tls",
        &[
            "credential::mysql_user::tests::over_tls_the_server_is_verified_first_and_the_user_cannot_log_in_without",
        ],
    ),
    (
        "share",
        &[
            "credential::mysql_user::tests::leases::a_user_of_a_session_goes_with_it_and_one_of_a_workload_with_the_last",
        ],
    ),
    (
        "definers",
        &[
            "credential::mysql_user::tests::a_user_that_something_runs_as_is_locked_kept_and_told_of_until_that_is_made_anew",
        ],
    ),
    (
        "revoke",
        &[
            "credential::mysql_user::tests::leases::a_server_that_is_down_when_a_user_is_revoked_is_asked_again_also_after_a_restart",
        ],
    ),
    (
        "sweep",
        &[
            "credential::mysql_user::tests::a_sweep_finds_what_each_host_left_and_drops_what_it_is_told_to",
            "a_mariadb_server_is_swept_of_what_a_dead_host_left_and_of_nothing_else",
        ],
    ),
    (
        "kill -9",
        &["credential::mysql_user::tests::crash::sigkill_after_any_step_leaves_nothing_after_the_next_start"],
    ),
];

/// Runs them. `only`: on this release of Debian alone.
pub(super) fn run(only: Option<&str>) -> Result<()> {
    setup::everything()?;
    let object = build::ebpf()?;
    let agent = build::agent(false)?;
    let path = std::env::var("PATH").context("there is no PATH")?;
    let mut servers = Vec::new();
    if only.is_none() {
        servers.push(path.clone());
    }
    for release in RELEASES {
        if only.is_none_or(|only| only == *release) {
            servers.push(format!("{}:{path}", programs(release)?.display()));
        }
    }
    ensure!(!servers.is_empty(), "there is no such release here: {only:?}");
    let mut table = Table::new(COLUMNS);
    for path in servers {
        let version = version(&path)?;
        let suites: [&[&str]; 2] = [
            &["--package", "tollgate", "--lib", "--", "credential::mysql_user"],
            &[
                "--package",
                "tollgate-tests",
                "--test",
                "sweep",
                "--",
                "--test-threads=1",
            ],
        ];
        let mut tests = Tests::default();
        for suite in suites {
            tests.run(cargo_test(suite, &object, &agent).env("PATH", &path))?;
        }
        table.add(version, tests);
    }
    table.told()
}

/// What the server that `path` leads to says of itself: `MariaDB 11.8.3`.
fn version(path: &str) -> Result<String> {
    let output = Command::new("mariadbd")
        .arg("--version")
        .env("PATH", path)
        .output()
        .context("start mariadbd")?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "mariadbd does not start: {said}");
    let number = said
        .split_whitespace()
        .nth(2)
        .and_then(|word| word.split('-').next());
    Ok(format!("MariaDB {}", number.context("mariadbd says no version")?))
}

/// A directory with the programs of a release, which is made where it is missing.
fn programs(release: &str) -> Result<PathBuf> {
    let home = workspace().join("target/mariadb").join(release);
    let root = home.join("root");
    if !root.exists() {
        make_root(release, &root)?;
    }
    let programs = home.join("programs");
    fs::create_dir_all(&programs)?;
    for name in PROGRAMS {
        let file = programs.join(name);
        fs::write(&file, starter(&root, name))?;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755))?;
    }
    Ok(programs)
}

/// What starts a program of the root in its place. The path is another one there, or it would find itself.
fn starter(root: &Path, name: &str) -> String {
    format!(
        "#!/bin/sh\nexec unshare --mount sh -c 'mount --bind \"$0/usr\" /usr && PATH=/usr/sbin:/usr/bin exec \"$@\"' '{}' {name} \"$@\"\n",
        root.display()
    )
}

fn make_root(release: &str, root: &Path) -> Result<()> {
    say(&format!("Debian {release} with MariaDB ({})", root.display()));
    let making = root.with_extension("making");
    if making.exists() {
        fs::remove_dir_all(&making)?;
    }
    fs::create_dir_all(&making)?;
    run_quietly(
        Command::new("debootstrap")
            .args([
                "--variant=minbase",
                "--include=mariadb-server-core,mariadb-client-core",
                release,
            ])
            .arg(&making),
    )?;
    fs::rename(&making, root)?;
    Ok(())
}
