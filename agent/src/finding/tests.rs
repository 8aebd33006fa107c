//! What is found, what is kept of it, and what is not.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::process::sightings;
use super::{
    FindingError, FindingId, Findings, MOST_OF_WORKLOAD, Question, SecretKind, SeenAt, Sighting, Witness,
};
use crate::config::{Glob, Probe};
use crate::identity::Interior;
use crate::model::{CgroupPath, Secret, SessionId};

const KEY: [u8; 32] = [7; 32];

fn witness(workload: &str) -> Witness {
    Witness {
        workload: workload.into(),
        service: Some("orders-db".into()),
        protocol: "postgres",
        session: Some(SessionId::new()),
        cgroup: CgroupPath("/backup.slice/1".into()),
        identity: "uid 1000".into(),
        executable: Some("/usr/bin/psql".into()),
        uid: 1000,
    }
}

fn password(secret: &str) -> Sighting {
    Sighting {
        kind: SecretKind::Password,
        at: SeenAt::Login { user: "app".into() },
        secret: Secret::new(secret.as_bytes().to_vec()),
    }
}

fn open(dir: &Path) -> Findings {
    Findings::open(&dir.join("findings.json"), &KEY).unwrap()
}

#[test]
fn the_same_secret_of_the_same_workload_in_the_same_place_is_one_finding() {
    let dir = tempfile::tempdir().unwrap();
    let findings = open(dir.path());
    let first = findings.note(password("hunter2"), &witness("backup"));
    let again = findings.note(password("hunter2"), &witness("backup"));
    assert_eq!((first.count, again.count), (1, 2));
    assert_eq!(first.id, again.id);
    assert_eq!(first.first, again.first);
    let elsewhere = Sighting {
        at: SeenAt::Variable {
            name: "PGPASSWORD".into(),
        },
        ..password("hunter2")
    };
    let elsewhere = findings.note(elsewhere, &witness("backup"));
    let other = findings.note(password("hunter2"), &witness("report"));
    let changed = findings.note(password("hunter3"), &witness("backup"));
    assert_eq!(findings.count(), 4);
    // Whoever reads the list sees that it is the same secret, wherever it is.
    assert_eq!(first.fingerprint, elsewhere.fingerprint);
    assert_eq!(first.fingerprint, other.fingerprint);
    assert_ne!(first.fingerprint, changed.fingerprint);
    assert_eq!(elsewhere.service, None);
    assert_eq!(findings.list(Some(&"report".into())), [other]);
}

#[test]
fn a_fingerprint_takes_the_hosts_key_and_a_proof_has_one_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let here = open(dir.path()).note(password("hunter2"), &witness("backup"));
    let other = Findings::open(&dir.path().join("other.json"), &[8; 32]).unwrap();
    assert_ne!(
        here.fingerprint,
        other.note(password("hunter2"), &witness("backup")).fingerprint
    );
    let proof = Sighting {
        kind: SecretKind::PasswordProof,
        ..password("hunter2")
    };
    assert_ne!(
        here.fingerprint,
        open(dir.path()).note(proof, &witness("backup")).fingerprint
    );
    assert_ne!(
        here.fingerprint.to_string(),
        blake3::hash(b"hunter2").to_hex()[..32]
    );
}

#[test]
fn what_is_kept_is_there_after_a_restart_and_has_nothing_of_the_secret() {
    let dir = tempfile::tempdir().unwrap();
    let findings = open(dir.path());
    let noted = findings.note(password("hunter2"), &witness("backup"));
    findings.flush();
    let path = dir.path().join("findings.json");
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(!text.contains("hunter2") && text.contains("orders-db"), "{text}");
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let again = open(dir.path());
    assert_eq!(again.list(None), std::slice::from_ref(&noted));
    assert_eq!(again.note(password("hunter2"), &witness("backup")).count, 2);
    again.forget(&noted.id).unwrap();
    assert!(matches!(again.forget(&noted.id), Err(FindingError::Unknown(_))));
    assert_eq!(open(dir.path()).count(), 0);
}

#[test]
fn a_list_that_cannot_be_understood_is_set_aside_and_told() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("findings.json"), "[{").unwrap();
    let findings = open(dir.path());
    assert!(
        findings.warnings()[0].contains("findings.json.unreadable"),
        "{:?}",
        findings.warnings()
    );
    assert!(dir.path().join("findings.json.unreadable").exists());
    findings.note(password("hunter2"), &witness("backup"));
    findings.flush();
    assert_eq!(open(dir.path()).count(), 1);
}

#[test]
fn a_list_that_cannot_be_written_is_told_and_written_later() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("state");
    let findings = Findings::open(&folder.join("findings.json"), &KEY).unwrap();
    findings.note(password("hunter2"), &witness("backup"));
    findings.flush();
    assert!(
        findings.warnings()[0].contains("not kept"),
        "{:?}",
        findings.warnings()
    );
    std::fs::create_dir(&folder).unwrap();
    findings.flush();
    assert!(findings.warnings().is_empty());
    assert_eq!(open(&folder).count(), 1);
}

#[test]
fn a_workload_that_changes_its_secret_all_the_time_crowds_out_its_own_findings_alone() {
    let dir = tempfile::tempdir().unwrap();
    let findings = open(dir.path());
    let other = findings.note(password("hunter2"), &witness("report"));
    for number in 0..2 * MOST_OF_WORKLOAD {
        findings.note(password(&format!("secret {number}")), &witness("backup"));
    }
    assert_eq!(findings.count(), MOST_OF_WORKLOAD + 1);
    assert!(findings.list(None).contains(&other));
    let last = findings.note(
        password(&format!("secret {}", 2 * MOST_OF_WORKLOAD - 1)),
        &witness("backup"),
    );
    assert_eq!(last.count, 2);
}

#[test]
fn long_texts_of_a_workload_are_cut() {
    let dir = tempfile::tempdir().unwrap();
    let long = Sighting {
        at: SeenAt::Login {
            user: "ü".repeat(5000),
        },
        ..password("hunter2")
    };
    let noted = open(dir.path()).note(long, &witness("backup"));
    assert!(noted.at.to_string().len() < 300, "{}", noted.at);
}

#[test]
fn a_login_without_a_password_is_not_asked_again() {
    let dir = tempfile::tempdir().unwrap();
    let findings = open(dir.path());
    let (workload, service) = ("backup".into(), "orders-db".into());
    let ask = |probe, user| findings.question(probe, &workload, &service, user);
    assert_eq!(ask(None, "app"), None);
    assert_eq!(ask(Some(Probe::Password), "app"), Some(Question::Password));
    let salt = ask(Some(Probe::Proof), "app").unwrap();
    assert!(matches!(salt, Question::Proof { .. }));
    assert_eq!(ask(Some(Probe::Proof), "other"), Some(salt));
    findings.has_no_password(&workload, &service, "app");
    assert_eq!(ask(Some(Probe::Password), "app"), None);
    assert_eq!(ask(Some(Probe::Password), "other"), Some(Question::Password));
}

/// Kind, place and secret of what is seen in a process.
fn seen(arguments: &[&str], variables: &[&str]) -> Vec<(SecretKind, String, String)> {
    let interior = Interior::of(arguments.join("\0").as_bytes(), variables.join("\0").as_bytes());
    let ignored = [Glob::name("CI_*").unwrap()];
    sightings(&interior, &ignored)
        .into_iter()
        .map(|seen| {
            let secret = String::from_utf8(seen.secret.expose().to_vec()).unwrap();
            (seen.kind, seen.at.to_string(), secret)
        })
        .collect()
}

#[test]
fn secrets_of_an_environment_are_found_by_their_names_and_by_their_looks() {
    use SecretKind::{AwsAccessKey, Other, Password, PrivateKey, Token};
    let jwt = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl";
    let pem = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f\n-----END PRIVATE KEY-----";
    for (variable, kind, secret) in [
        ("PGPASSWORD=hunter2", Password, "hunter2"),
        ("MYSQL_PWD=hunter2", Password, "hunter2"),
        ("GITHUB_TOKEN=abcdef", Token, "abcdef"),
        ("AWS_SECRET_ACCESS_KEY=abcdef/ghi", Other, "abcdef/ghi"),
        (
            "AWS_ACCESS_KEY_ID=AKIAQWERTYUIOPASDFGH",
            AwsAccessKey,
            "AKIAQWERTYUIOPASDFGH",
        ),
        (
            "DATABASE_URL=postgres://app:hunt%40er2@db/orders",
            Password,
            "hunt@er2",
        ),
        ("DSN=host=db password='hunter 2' user=app", Password, "hunter 2"),
        (
            "X=glpat-abcdefghijklmnopqrst",
            Token,
            "glpat-abcdefghijklmnopqrst",
        ),
        (&format!("JOB_SESSION={jwt}"), Token, jwt),
        (&format!("DEPLOY={pem}"), PrivateKey, pem),
    ] {
        let name = variable.split('=').next().unwrap();
        let expected = [(kind, format!("variable {name}"), secret.to_owned())];
        assert_eq!(
            seen(&[], &[variable, "PATH=/bin", "LANG=C"]),
            expected,
            "{variable}"
        );
    }
}

#[test]
fn what_is_no_secret_in_an_environment_is_none() {
    let harmless = [
        "PATH=/usr/bin",
        "PGPASSFILE=/run/secrets/pgpass",
        "TOKEN_FILE=/run/token",
        "GOOGLE_APPLICATION_CREDENTIALS=/etc/key.json",
        "PASSWORD=",
        "TOKENIZERS_PARALLELISM=false",
        "TOKEN_TTL=3600",
        "DATABASE_URL=postgres://app@db/orders",
        "NOTHING",
        "CI_JOB_TOKEN=glpat-abcdefghijklmnopqrst",
        "",
    ];
    assert_eq!(seen(&[], &harmless), []);
}

#[test]
fn secrets_of_a_command_line_are_found_with_their_place() {
    let password = |number: usize| {
        (
            SecretKind::Password,
            format!("argument {number}"),
            "hunter2".to_owned(),
        )
    };
    for (arguments, number) in [
        (&["psql", "host=db password=hunter2"][..], 1),
        (&["psql", "-c", "SELECT 1", "postgres://app:hunter2@db/orders"], 3),
        (&["tool", "--password", "hunter2"], 2),
        (&["tool", "--password=hunter2"], 1),
        (&["mysql", "-phunter2"], 1),
        (&["curl", "-u", "app:hunter2", "https://h"], 2),
        (&["sh", "-c", "PGPASSWORD=hunter2 psql"], 2),
    ] {
        assert_eq!(seen(arguments, &[]), [password(number)], "{arguments:?}");
    }
    assert_eq!(seen(&["psql", "-h", "db", "-c", "SELECT 1"], &[]), []);
}

#[test]
fn a_process_full_of_secrets_is_looked_at_in_bounded_room() {
    let many: Vec<String> = (0..1000)
        .map(|number| format!("P{number}_PASSWORD=secret{number}"))
        .collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(seen(&[], &many).len(), super::process::MOST);
    let long = format!("X={}", "a".repeat(super::process::MOST_BYTES));
    assert_eq!(seen(&[], &[&long, "PGPASSWORD=hunter2"]), []);
}

#[test]
fn nobody_can_name_a_file_by_an_id() {
    let dir = tempfile::tempdir().unwrap();
    let forgotten = open(dir.path()).forget(&FindingId("../../etc/passwd".into()));
    assert!(matches!(forgotten, Err(FindingError::Unknown(_))));
}

proptest::proptest! {
    #[test]
    fn nothing_in_a_process_stops_it(
        line in proptest::collection::vec(proptest::num::u8::ANY, 0..400),
        environment in proptest::collection::vec(proptest::num::u8::ANY, 0..400),
    ) {
        sightings(&Interior::of(&line, &environment), &[]);
    }
}
