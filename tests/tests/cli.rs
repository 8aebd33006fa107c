//! The command line as a person and a script meet it. Needs no root and no agent.

use std::path::Path;
use std::process::{Command, Output};

use tollgate_tests::agent::{binary, workspace};

const VERBS: &[&str] = &[
    "agent",
    "status",
    "doctor",
    "egress",
    "leases",
    "leases list",
    "leases revoke",
    "leases sweep",
    "approvals",
    "approve",
    "deny",
    "sessions",
    "replay",
    "export",
    "verify",
    "ca",
    "ca install",
    "ca uninstall",
    "ca bundle",
    "ca rotate",
    "run",
    "policy",
    "policy check",
    "uninstall",
];

/// Runs `tollgate` with its output in a pipe, as a script does.
fn tollgate(line: &[&str]) -> Output {
    Command::new(binary())
        .args(line)
        .env_remove("TOLLGATE_SOCKET")
        .env("COLUMNS", "100")
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

/// A configuration whose folders are empty, so that nothing of the host is looked at.
fn empty_host(dir: &Path) -> String {
    let config = dir.join("tollgate.toml");
    let folder = |name: &str| dir.join(name).display().to_string();
    let text = format!(
        "state_dir = \"{}\"\nrun_dir = \"{}\"\npolicy_dir = \"{}\"\n",
        folder("state"),
        folder("run"),
        folder("policies.d")
    );
    std::fs::write(&config, text).unwrap();
    config.display().to_string()
}

#[test]
fn every_verb_has_help_that_fits_a_terminal_and_is_listed() {
    let overview = tollgate(&["--help"]);
    for verb in VERBS {
        let first = verb.split(' ').next().unwrap();
        assert!(stdout(&overview).contains(&format!("\n  {first} ")), "{verb}");
        let line: Vec<&str> = verb.split(' ').chain(["--help"]).collect();
        let help = tollgate(&line);
        assert_eq!(help.status.code(), Some(0), "{verb}");
        let text = stdout(&help);
        assert!(
            text.contains(&format!("Usage: tollgate {verb}")),
            "{verb}:\n{text}"
        );
        for shown in text.lines() {
            assert!(
                shown.chars().count() <= 110,
                "tollgate {verb} --help has a line that wraps:\n{shown}"
            );
        }
    }
}

#[test]
fn the_overview_names_the_exit_codes() {
    let help = tollgate(&["--help"]);
    let text = stdout(&help);
    let codes = text.split_once("Exit codes:").unwrap().1;
    for code in 0..=3 {
        assert!(codes.contains(&format!("\n  {code}  ")), "{code}:\n{codes}");
    }
}

#[test]
fn every_listing_has_json() {
    for verb in [
        "status",
        "doctor",
        "egress",
        "approvals",
        "sessions",
        "replay",
        "verify",
        "policy check",
    ] {
        let line: Vec<&str> = verb.split(' ').chain(["--help"]).collect();
        assert!(stdout(&tollgate(&line)).contains("--json"), "{verb}");
    }
}

#[test]
fn a_wrong_command_line_is_2() {
    for line in [
        &[][..],
        &["frobnicate"],
        &["sessions", "--bogus"],
        &["approve"],
        &["deny", "abcdefgh"],
        &["verify", "--host", "no-key"],
        &["replay", "--speed", "fast", "0199"],
        &["policy", "check"],
    ] {
        let output = tollgate(line);
        assert_eq!(output.status.code(), Some(2), "{line:?}");
        assert!(
            stdout(&output).is_empty(),
            "{line:?}: errors go to standard error"
        );
        assert!(!stderr(&output).is_empty(), "{line:?}");
    }
}

#[test]
fn without_an_agent_the_verbs_that_ask_it_are_3_and_say_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let config = empty_host(dir.path());
    for line in [
        &["status"][..],
        &["approvals"],
        &["approve", "abcdefgh"],
        &["deny", "abcdefgh", "--reason", "no"],
    ] {
        let output = tollgate(&[line, &["--config", &config]].concat());
        assert_eq!(output.status.code(), Some(3), "{line:?}");
        assert!(stderr(&output).contains("systemctl start tollgate"), "{line:?}");
    }
}

#[test]
fn where_nothing_was_recorded_the_verbs_that_read_records_are_2_and_say_where_they_looked() {
    let dir = tempfile::tempdir().unwrap();
    let config = empty_host(dir.path());
    for line in [&["sessions"][..], &["replay", "0199f3a2"], &["verify"]] {
        let output = tollgate(&[line, &["--config", &config]].concat());
        assert_eq!(output.status.code(), Some(2), "{line:?}");
        let said = stderr(&output);
        assert!(said.starts_with("tollgate: "), "{line:?}: {said}");
        assert!(said.contains("state/records"), "{line:?}: {said}");
    }
}

#[test]
fn the_shipped_policies_can_be_used_and_a_wrong_one_is_1_with_its_place() {
    let policies = workspace().join("policies");
    let good = tollgate(&["policy", "check", policies.to_str().unwrap()]);
    assert_eq!(good.status.code(), Some(0), "{}", stdout(&good));

    let dir = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(policies.join("ci-report.toml")).unwrap();
    let wrong = dir.path().join("wrong.toml");
    std::fs::write(
        &wrong,
        text.replace("effects = [\"read\", ", "effects = [\"reed\", "),
    )
    .unwrap();
    let bad = tollgate(&["policy", "check", wrong.to_str().unwrap()]);
    assert_eq!(bad.status.code(), Some(1));
    let drawn = stdout(&bad);
    assert!(drawn.contains("did you mean \"read\"?"), "{drawn}");
    let json = tollgate(&["policy", "check", "--json", wrong.to_str().unwrap()]);
    assert_eq!(json.status.code(), Some(1));
    let problems: serde_json::Value = serde_json::from_str(stdout(&json)).unwrap();
    assert_eq!(problems[0]["severity"], "error");
    assert!(problems[0]["line"].as_u64().is_some_and(|line| line > 1));
}

#[test]
fn a_broken_file_of_the_agent_is_told_with_its_place_and_does_not_keep_policies_from_being_checked() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("tollgate.toml");
    std::fs::write(&config, "state_dri = \"/x\"\n").unwrap();
    let config = config.to_str().unwrap();
    let broken = tollgate(&["sessions", "--config", config]);
    assert_eq!(broken.status.code(), Some(2));
    assert!(stderr(&broken).contains("state_dir"), "{}", stderr(&broken));
    let policies = workspace().join("policies");
    let checked = tollgate(&["policy", "check", "--config", config, policies.to_str().unwrap()]);
    assert_eq!(checked.status.code(), Some(0), "{}", stderr(&checked));
}

#[test]
fn nothing_is_coloured_in_a_pipe_and_no_color_is_heeded_on_a_terminal() {
    let policies = workspace().join("policies");
    let lines: [&[&str]; 4] = [
        &["--help"],
        &["--bogus"],
        &["sessions", "--help"],
        &["policy", "check", policies.to_str().unwrap()],
    ];
    for line in lines {
        let output = tollgate(line);
        assert!(
            !output.stdout.contains(&0x1b) && !output.stderr.contains(&0x1b),
            "{line:?}"
        );
    }
    // script(1) gives the command a terminal.
    let on_terminal = |setting: &str| {
        let command = format!("{} --help", binary().display());
        Command::new("script")
            .args(["--quiet", "--return", "--command", &command, "/dev/null"])
            .env("TERM", "xterm-256color")
            .env("NO_COLOR", setting)
            .output()
            .unwrap()
            .stdout
    };
    assert!(on_terminal("").contains(&0x1b), "colours on a terminal");
    assert!(!on_terminal("1").contains(&0x1b), "NO_COLOR");
}
