use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use clap::Parser;

use super::{CheckArgs, PolicyArgs, PolicyCommand};

#[derive(Debug, Parser)]
struct Cli {
    #[command(flatten)]
    args: PolicyArgs,
}

const GOOD: &str = r#"[workload]
name = "w"
cgroup = ["/w.slice"]
egress = "deny"
[[service]]
name = "db"
protocol = "postgres"
address = ["db.acme.test:5432"]
[service.credential]
source = "file"
user = "u"
password = "PASSWORD"
[[service.rule]]
name = "reads"
effects = ["read"]
verdict = "allow"
"#;

fn check(args: &[&str]) -> (bool, String) {
    let cli = Cli::try_parse_from(["policy", "check"].iter().chain(args)).unwrap();
    let PolicyCommand::Check(check) = &cli.args.command;
    let mut out = Vec::new();
    let checked = CheckArgs::check(check);
    CheckArgs::print(check, &checked, &mut out, false).unwrap();
    (checked.errors == 0, String::from_utf8(out).unwrap())
}

fn write(dir: &tempfile::TempDir, name: &str, text: &str) -> PathBuf {
    let path = dir.path().join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    path
}

#[test]
fn a_clean_file_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let path = write(&dir, "w.toml", &GOOD.replace("PASSWORD", "/nonexistent/secret"));
    let (usable, out) = check(&[path.to_str().unwrap()]);
    assert!(usable);
    assert_eq!(out, "1 policy file checked: 0 errors, 0 warnings\n");
}

#[test]
fn errors_are_drawn_and_decide() {
    let dir = tempfile::tempdir().unwrap();
    let path = write(&dir, "w.toml", &GOOD.replace("\"read\"", "\"reed\""));
    let (usable, out) = check(&[path.to_str().unwrap()]);
    assert!(!usable);
    for part in [
        "w.toml:15:13",
        "effects = [\"reed\"]",
        "did you mean \"read\"?",
        "2 errors",
    ] {
        assert!(out.contains(part), "{out}");
    }
}

#[test]
fn secrets_and_policies_open_to_others_are_warned_of() {
    let dir = tempfile::tempdir().unwrap();
    let secret = write(&dir, "secret", "hunter2");
    let policy = write(
        &dir,
        "w.toml",
        &GOOD.replace("PASSWORD", secret.to_str().unwrap()),
    );
    let (usable, out) = check(&[policy.to_str().unwrap()]);
    assert!(usable);
    assert!(
        out.contains("is open to others than its owner (mode 0644)"),
        "{out}"
    );
    assert!(!out.contains("hunter2"));
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(&policy, fs::Permissions::from_mode(0o666)).unwrap();
    let (_, out) = check(&[policy.to_str().unwrap()]);
    assert!(
        out.contains("others than the file's owner may change the policy"),
        "{out}"
    );
    assert!(!out.contains("mode 0"), "{out}");
}

#[test]
fn json_gives_places() {
    let dir = tempfile::tempdir().unwrap();
    write(
        &dir,
        "a.toml",
        &GOOD.replace("egress = \"deny\"\n", "").replace("PASSWORD", "/x"),
    );
    write(&dir, "b.toml", "[workload]\nname = 1\ncgroup = [\"/b\"]");
    let (usable, out) = check(&["--json", dir.path().to_str().unwrap()]);
    assert!(!usable);
    let list: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(list[0]["severity"], "warning");
    assert_eq!(list[0]["line"], 1);
    assert_eq!(list[1]["severity"], "error");
    assert_eq!((&list[1]["line"], &list[1]["column"]), (&2.into(), &8.into()));
    assert!(list[1]["file"].as_str().unwrap().ends_with("b.toml"));
    assert!(list[1]["message"].as_str().unwrap().contains("has to be a text"));
}

#[test]
fn files_are_checked_against_one_another() {
    let dir = tempfile::tempdir().unwrap();
    let text = GOOD.replace("PASSWORD", "/x");
    write(&dir, "a.toml", &text);
    write(&dir, "b.toml", &text);
    let (usable, out) = check(&[dir.path().to_str().unwrap()]);
    assert!(!usable);
    assert!(out.contains("the workload \"w\" is in"), "{out}");
}

#[test]
fn a_file_that_is_named_twice_does_not_clash_with_itself() {
    let dir = tempfile::tempdir().unwrap();
    let path = write(&dir, "a.toml", &GOOD.replace("PASSWORD", "/x"));
    let (usable, out) = check(&[dir.path().to_str().unwrap(), path.to_str().unwrap()]);
    assert!(usable, "{out}");
}

#[test]
fn a_directory_without_policies_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let (usable, out) = check(&[dir.path().to_str().unwrap()]);
    assert!(!usable);
    assert!(out.contains("no policy file is in the directory"), "{out}");
}

#[test]
fn no_file_is_a_usage_error() {
    let error = Cli::try_parse_from(["policy", "check"]).unwrap_err();
    assert_eq!(error.exit_code(), 2);
}
