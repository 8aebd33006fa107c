//! `[service.credential]`: what each source takes, and what it is told where it does not.

use super::strict::errors;
use super::{GOOD, parse};
use crate::config::{CredentialKind, PolicyDoc, SourceSpec};

/// The good policy with another credential.
pub(super) fn with_credential(lines: &str) -> String {
    let start = GOOD.find("[service.credential]").unwrap();
    let end = GOOD.find("[[service.rule]]").unwrap();
    format!(
        "{}[service.credential]\n{lines}\n{}",
        &GOOD[..start],
        &GOOD[end..]
    )
}

/// The credential of a service whose protocol is none of this version: what is said of the protocol is taken away.
fn of_another_protocol(protocol: &str, lines: &str) -> Vec<String> {
    let text =
        with_credential(lines).replace("protocol = \"postgres\"", &format!("protocol = \"{protocol}\""));
    let mut told = errors(&text);
    let before = told.len();
    told.retain(|line| {
        !line.contains(&format!(
            "protocol \"{protocol}\" is not supported in this version"
        ))
    });
    assert_eq!(
        told.len() + 1,
        before,
        "the protocol itself is refused, at its line: {told:?}"
    );
    told
}

fn good(lines: &str) -> CredentialKind {
    let doc: PolicyDoc = parse(&with_credential(lines)).unwrap();
    doc.services[0].credential.clone().unwrap().kind
}

#[test]
fn an_age_file_is_a_source_of_its_own_and_of_any_single_value() {
    let age = |identity: SourceSpec| SourceSpec::Age {
        file: "/etc/x.age".into(),
        identity: Box::new(identity),
    };
    let kind = good(
        "source = \"age\"\nuser = \"report\"\npassword = \"/etc/x.age\"\nidentity = { systemd = \"age-identity\" }",
    );
    assert_eq!(kind.name(), "age");
    assert_eq!(
        kind.sources()[1],
        ("password", &age(SourceSpec::Systemd("age-identity".into())))
    );
    let kind = good(
        "source = \"postgres-role\"\ngrant = [\"r\"]\n\
         admin = { user = \"a\", password = { age = \"/etc/x.age\", identity = { file = \"/etc/identity\" } } }",
    );
    let spec = age(SourceSpec::File("/etc/identity".into()));
    assert_eq!(kind.sources()[1], ("admin/password", &spec));
    assert_eq!(spec.secret_file(), Some(std::path::Path::new("/etc/identity")));
}

#[test]
fn what_an_age_file_lacks_or_cannot_have_is_told_with_its_place() {
    let age = "source = \"age\"\nuser = \"report\"\n";
    for (lines, parts) in [
        (
            format!("{age}password = \"/etc/x.age\""),
            &["[service.credential] has no \"identity\""][..],
        ),
        (
            format!("{age}password = \"x.age\"\nidentity = {{ systemd = \"i\" }}"),
            &["\"password\" is not an absolute path"],
        ),
        (
            format!("{age}password = \"/etc/x.age\"\nidentity = {{ env = \"I\" }}"),
            &["in a file or in a credential"],
        ),
        (
            format!("{age}password = \"/etc/x.age\"\nidentity = \"AGE-SECRET-KEY-1QQ\""),
            &["is a secret and cannot be written here"],
        ),
        (
            "source = \"file\"\nuser = \"a\"\npassword = \"/x\"\nidentity = { systemd = \"i\" }".to_owned(),
            &["\"identity\" belongs to source = \"age\""],
        ),
        (
            "source = \"file\"\nuser = { file = \"/x\", identity = { systemd = \"i\" } }\npassword = \"/x\""
                .to_owned(),
            &["\"identity\" opens an age file, and has no effect here"],
        ),
        (
            "source = \"file\"\nuser = { file = \"/x\", age = \"/y\" }\npassword = \"/x\"".to_owned(),
            &["has to have one source"],
        ),
    ] {
        let told = errors(&with_credential(&lines)).join("\n");
        for part in parts {
            assert!(told.contains(part) && told.contains("p.toml:"), "{lines}: {told}");
        }
        assert!(!told.contains("AGE-SECRET"), "{told}");
    }
}

const SSH: &str = "source = \"ssh-ca\"\nca = { systemd = \"ssh-ca\" }\nprincipals = [\"backup\", \"{workload}-{service}\"]\n";

#[test]
fn a_certificate_is_for_ssh_and_for_no_service_of_another_protocol() {
    let told = errors(&with_credential(SSH));
    assert!(
        matches!(told.as_slice(), [one] if one.contains("no postgres service takes these") && one.starts_with("p.toml:")),
        "{told:?}"
    );
    let whole = format!(
        "{SSH}ttl = \"3m\"\nforce_command = \"rsync --server . /srv\"\nsource_address = [\"10.0.4.0/24\", \"2001:db8::7\"]\nextensions = [\"permit-pty\"]"
    );
    assert_eq!(of_another_protocol("ssh", &whole), [""; 0]);
}

#[test]
fn what_would_make_a_certificate_good_for_more_is_refused() {
    let without = |key: &str| {
        let lines: Vec<&str> = SSH.lines().filter(|line| !line.starts_with(key)).collect();
        lines.join("\n")
    };
    for (lines, part) in [
        (without("principals"), "has no \"principals\""),
        (
            format!("{}\nprincipals = []", without("principals")),
            "good for every user",
        ),
        (
            format!("{}\nprincipals = [\"a,root\"]", without("principals")),
            "is no principal",
        ),
        (
            format!("{}\nprincipals = [\"*\"]", without("principals")),
            "is no principal",
        ),
        (
            format!("{}\nprincipals = [\"{{identity}}\"]", without("principals")),
            "in braces than {workload} or {service}",
        ),
        (format!("{SSH}ttl = \"2h\""), "\"2h\""),
        (format!("{SSH}source_address = []"), "empty list"),
        (
            format!("{SSH}source_address = [\"10.0.4.7/24\"]"),
            "nothing set behind the prefix",
        ),
        (
            format!("{SSH}source_address = [\"*.acme.test\"]"),
            "no address and no network",
        ),
        (format!("{SSH}force_command = \"a\\nb\""), "line break"),
        (
            format!("{SSH}extensions = [\"permit-everything\"]"),
            "permit-port-forwarding",
        ),
        (format!("{SSH}database = \"x\""), "no meaning for SSH"),
        (format!("{SSH}share = \"workload\""), "has no effect here"),
        (
            format!("{}\nca = {{ env = \"CA\" }}", without("ca")),
            "is no variable",
        ),
    ] {
        let told = of_another_protocol("ssh", &lines);
        assert!(
            matches!(told.as_slice(), [one] if one.contains(part) && one.starts_with("p.toml:")),
            "{lines}: {told:?}"
        );
    }
}

const MYSQL: &str =
    "source = \"mysql-user\"\nadmin = { user = \"keeper\", password = { systemd = \"orders-admin\" } }\n";

#[test]
fn a_user_of_mariadb_is_for_no_service_that_this_version_speaks_to_and_its_keys_are_checked_all_the_same() {
    let told = errors(&with_credential(&format!("{MYSQL}grant = [\"reader\"]")));
    assert!(
        matches!(told.as_slice(), [one] if one.contains("has to be a MariaDB one") && one.starts_with("p.toml:")),
        "{told:?}"
    );
    for protocol in ["mysql", "mariadb"] {
        let whole =
            format!("{MYSQL}grant = [\"reader\"]\nttl = \"30m\"\nconnections = 5\nshare = \"workload\"");
        assert_eq!(of_another_protocol(protocol, &whole), [""; 0]);
    }
    for (lines, part) in [
        (MYSQL.to_owned(), "has no \"grant\""),
        (
            format!("{MYSQL}grant = [\"a\", \"b\"]"),
            "one role active at a time",
        ),
        (format!("{MYSQL}grant = []"), "empty list"),
        (
            format!("{MYSQL}grant = [\"reader\"]\nset_role = \"reader\""),
            "has no effect here",
        ),
        (
            format!("{MYSQL}grant = [\"reader\"]\nreassign_to = \"owner\""),
            "has no effect here",
        ),
        (format!("{MYSQL}grant = [\"reader\"]\nttl = \"30d\""), "\"30d\""),
        (
            MYSQL.replace("\"keeper\",", "\"keeper\", database = \"mysql\",") + "grant = [\"reader\"]",
            "users belong to the whole server",
        ),
    ] {
        let told = of_another_protocol("mysql", &lines);
        assert!(
            matches!(told.as_slice(), [one] if one.contains(part) && one.starts_with("p.toml:")),
            "{lines}: {told:?}"
        );
    }
}

#[test]
fn processes_are_looked_at_as_often_as_the_policy_says_if_anything_of_them_is() {
    let with = |lines: &str| format!("{GOOD}\n[findings]\n{lines}\n");
    let spec = parse(&with("environment = true\ninterval = \"10s\""))
        .unwrap()
        .findings;
    assert_eq!(spec.interval, Some(std::time::Duration::from_secs(10)));
    assert_eq!(
        parse(&with("command_line = true")).unwrap().findings.interval,
        None
    );
    for (lines, said) in [
        ("interval = \"10s\"", "nothing of them is"),
        ("environment = false\ninterval = \"10s\"", "nothing of them is"),
        ("command_line = true\ninterval = \"500ms\"", "500ms"),
        ("command_line = true\ninterval = \"2h\"", "2h"),
    ] {
        let told = errors(&with(lines)).join("\n");
        assert!(told.contains(said) && told.contains("p.toml:"), "{lines}: {told}");
    }
}
