//! A password in a file that is encrypted with age: read by the agent at each session, and by nobody else.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use tollgate_tests::process::run;
use tollgate_tests::world::{ALLOW_ALL, DATABASE, PASSWORD, ROLE, World};

/// Encrypts `secret` into `file`, in its place at once.
fn encrypt(recipient: &str, secret: &str, file: &Path) {
    let new = file.with_extension("new");
    let mut age = Command::new("age")
        .args(["-r", recipient, "-o"])
        .arg(&new)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    age.stdin.take().unwrap().write_all(secret.as_bytes()).unwrap();
    assert!(age.wait().unwrap().success());
    std::fs::rename(new, file).unwrap();
}

#[test]
fn a_session_has_the_password_that_is_in_the_file_then_and_none_where_it_cannot_be_opened() {
    const OTHER: &str = "rotated-password-90ef";
    let mut world = World::start(ALLOW_ALL).unwrap();
    let identity = world.agent.dir().join("identity");
    run(Command::new("age-keygen").arg("-o").arg(&identity)).unwrap();
    let recipient = run(Command::new("age-keygen").arg("-y").arg(&identity)).unwrap();
    let file = world.agent.dir().join("shop.age");
    encrypt(recipient.trim(), PASSWORD, &file);
    let credential = format!(
        "source = \"age\"\nuser = \"{ROLE}\"\npassword = \"{}\"\nidentity = {{ file = \"{}\" }}\n",
        file.display(),
        identity.display()
    );
    world
        .change_policy(|policy| {
            let start = policy.find("source   = \"file\"").unwrap();
            let end = policy.find("[[service.rule]]").unwrap();
            format!("{}{credential}{}", &policy[..start], &policy[end..])
        })
        .unwrap();
    let whoami = |world: &World| world.sql("SELECT 'in'").unwrap();
    assert_eq!(whoami(&world).success().unwrap().trim(), "in");

    world
        .server
        .admin(DATABASE, &format!("ALTER ROLE {ROLE} PASSWORD '{OTHER}'"))
        .unwrap();
    encrypt(recipient.trim(), OTHER, &file);
    assert_eq!(whoami(&world).success().unwrap().trim(), "in");

    std::fs::write(&file, "hunter2").unwrap();
    let refused = whoami(&world);
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    assert!(
        refused
            .stderr
            .contains("no credential for the server could be had"),
        "{}",
        refused.stderr
    );
    let log = world.agent.log();
    assert!(log.contains("is no age file"), "{log}");
    for secret in [PASSWORD, OTHER, "AGE-SECRET-KEY-1"] {
        assert!(
            !log.contains(secret) && !refused.stderr.contains(secret),
            "{secret}: {log}"
        );
    }
}
