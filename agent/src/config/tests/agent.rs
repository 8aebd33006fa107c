use std::path::Path;
use std::time::Duration;

use super::super::{AgentConfig, Durability, PolicyErrors, ShipTarget, SourceSpec};

fn parse(text: &str) -> Result<AgentConfig, PolicyErrors> {
    AgentConfig::parse(Path::new("tollgate.toml"), text)
}

#[test]
fn an_empty_file_is_the_defaults() {
    assert_eq!(parse("").unwrap(), AgentConfig::default());
    assert_eq!(
        AgentConfig::default().control_socket,
        Path::new("/run/tollgate/control.sock")
    );
}

#[test]
fn every_key_is_taken() {
    let config = parse(
        r#"
state_dir = "/s"
run_dir = "/r"
policy_dir = "/p"
pin_dir = "/b"
[record]
durability = "host"
[ship]
to = "s3://acme-audit/hosts/one/"
endpoint = "http://127.0.0.1:9000/"
region = "eu-central-1"
access_key = { env = "S3_ACCESS" }
secret_key = { systemd = "s3-secret" }
[listen]
port = 15432
[resolve]
interval = "30s"
[containers]
docker = "/run/docker-jobs.sock"
"#,
    )
    .unwrap();
    assert_eq!(config.durability, Durability::Host);
    assert_eq!(config.listen_port, Some(15432));
    assert_eq!(config.control_socket, Path::new("/r/control.sock"));
    assert_eq!(config.resolve_interval, Duration::from_secs(30));
    assert_eq!(config.docker_socket, Path::new("/run/docker-jobs.sock"));
    assert_eq!(config.podman_socket, Path::new("/run/podman/podman.sock"));
    let ship = config.ship.unwrap();
    assert_eq!(
        ship.to,
        ShipTarget::S3 {
            bucket: "acme-audit".into(),
            prefix: "hosts/one".into()
        }
    );
    assert_eq!(ship.endpoint.as_deref(), Some("http://127.0.0.1:9000"));
    assert_eq!(ship.secret_key, Some(SourceSpec::Systemd("s3-secret".into())));

    let config =
        parse("[ship]\nto = \"file:///var/audit\"\n[listen]\nport = 0\n[control]\nsocket = \"/c.sock\"")
            .unwrap();
    assert_eq!(
        config.ship.unwrap().to,
        ShipTarget::Directory("/var/audit".into())
    );
    assert_eq!(config.listen_port, None);
    assert_eq!(config.control_socket, Path::new("/c.sock"));
}

#[test]
fn mistakes_are_told() {
    for (text, wanted) in [
        ("stat_dir = \"/x\"", "did you mean \"state_dir\"?"),
        ("state_dir = \"x\"", "is not an absolute path"),
        ("record = 1", "has to be a table"),
        (
            "[record]\ndurability = \"disk\"",
            "it has to be one of agent, host",
        ),
        ("[ship]\n", "[ship] has no \"to\""),
        ("[ship]\nto = \"file://audit\"", "three slashes"),
        ("[ship]\nto = \"s3://A/b\"", "no name of a bucket"),
        ("[ship]\nto = \"gs://bucket\"", "not supported in this version"),
        ("[ship]\nto = \"/var\"", "is no target"),
        ("[ship]\nto = \"file:///a\"\nregion = \"x\"", "s3:// target alone"),
        (
            "[ship]\nto = \"s3://abc\"\naccess_key = { env = \"A\" }",
            "belong together",
        ),
        ("[listen]\nport = 70000", "from 0 to 65535"),
        ("[resolve]\ninterval = \"0s\"", "from 1s to 1h"),
    ] {
        let told = parse(text).unwrap_err().to_string();
        assert!(
            told.contains(wanted),
            "{text}\n  wanted: {wanted}\n  read: {told}"
        );
    }
}

#[test]
fn a_secret_key_cannot_stand_in_the_file() {
    let errors =
        parse("[ship]\nto = \"s3://abc\"\naccess_key = \"AKIA\"\nsecret_key = \"hunter2\"").unwrap_err();
    let told = format!("{errors}\n{errors:?}\n{}", errors.problems().draw(100, false));
    assert!(told.contains("cannot be written here"), "{told}");
    assert!(!told.contains("hunter2"), "{told}");
}
