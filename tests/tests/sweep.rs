//! `tollgate leases sweep --file`: a server is swept without an agent, and for a protocol that this version does not speak.

use std::fs;
use std::process::{Command, Output};

use tollgate_tests::agent::binary;
use tollgate_tests::mariadb::MariaDb;

const DEAD: &str = "tollgate_dead-1a2b3c_3a4fc8800123456789ab";
const LIVING: &str = "tollgate_living-4d5e6f_ffffffff0123456789ab";
const ADMIN_PASSWORD: &str = "keeper-throw-away-51d2";

/// A server with what two hosts made there, and a policy for it.
fn world() -> MariaDb {
    let server = MariaDb::start().unwrap();
    server
        .admin(&format!(
            "CREATE USER keeper IDENTIFIED BY '{ADMIN_PASSWORD}'; \
             GRANT CREATE USER, PROCESS, CONNECTION ADMIN, SHOW VIEW, TRIGGER ON *.* TO keeper; \
             GRANT SELECT (User, Host) ON mysql.user TO keeper; GRANT SELECT ON mysql.proc TO keeper; \
             GRANT SELECT ON mysql.event TO keeper; CREATE USER `{DEAD}`; CREATE USER `{LIVING}`"
        ))
        .unwrap();
    let secret = server.secret("keeper", ADMIN_PASSWORD).unwrap();
    fs::write(
        server.dir().join("shop.toml"),
        format!(
            "[workload]\nname = \"shop\"\ncgroup = [\"/shop.slice\"]\n\n[[service]]\nname = \"orders\"\n\
             protocol = \"mysql\"\naddress = [\"127.0.0.1:{}\"]\ntls = {{ upstream = \"disable\" }}\n\n\
             [service.credential]\nsource = \"mysql-user\"\ngrant = [\"reader\"]\n\
             admin = {{ user = \"keeper\", password = {{ file = \"{}\" }} }}\n",
            server.port(),
            secret.display()
        ),
    )
    .unwrap();
    server
}

fn sweep(server: &MariaDb, arguments: &[&str]) -> Output {
    Command::new(binary())
        // Nobody listens there: no agent runs.
        .args(["leases", "--socket"])
        .arg(server.dir().join("control.sock"))
        .arg("sweep")
        .args(arguments)
        .arg("--file")
        .arg(server.dir().join("shop.toml"))
        .env("NO_COLOR", "1")
        .output()
        .unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.clone(), output.stderr.clone()].concat()).into_owned()
}

fn users(server: &MariaDb) -> String {
    server
        .admin("SELECT User FROM mysql.user WHERE User LIKE 'tollgate%' ORDER BY User")
        .unwrap()
}

#[test]
fn a_mariadb_server_is_swept_of_what_a_dead_host_left_and_of_nothing_else() {
    let server = world();
    let checked = Command::new(binary())
        .args(["policy", "check"])
        .arg(server.dir().join("shop.toml"))
        .output()
        .unwrap();
    assert_eq!(checked.status.code(), Some(1), "{}", text(&checked));
    assert!(text(&checked).contains("\"mysql\""), "{}", text(&checked));

    let listed = sweep(&server, &["orders"]);
    assert_eq!(listed.status.code(), Some(0), "{}", text(&listed));
    for part in [
        DEAD,
        "dead-1a2b3c",
        "2001-01-01T00:00:00Z (over)",
        LIVING,
        "living-4d5e6f",
        "Nothing was dropped",
    ] {
        assert!(text(&listed).contains(part), "{part}: {}", text(&listed));
    }
    assert!(!text(&listed).contains(ADMIN_PASSWORD));
    let swept = sweep(&server, &["orders", "--host", "dead-1a2b3c", "--json"]);
    assert_eq!(swept.status.code(), Some(0), "{}", text(&swept));
    let report: serde_json::Value = serde_json::from_slice(&swept.stdout).unwrap();
    assert_eq!(report["roles"][0]["state"], "dropped", "{report}");
    assert_eq!(report["roles"][1]["state"], "left", "{report}");
    assert_eq!(users(&server).trim(), LIVING);
}

#[test]
fn a_sweep_that_cannot_be_says_why_with_its_line() {
    let server = world();
    let unknown = sweep(&server, &["no-such-service"]);
    assert_eq!(unknown.status.code(), Some(1), "{}", text(&unknown));
    assert!(
        text(&unknown).contains("no service of this file has the name"),
        "{}",
        text(&unknown)
    );

    let file = server.dir().join("shop.toml");
    let policy = fs::read_to_string(&file).unwrap();
    fs::write(&file, policy.replace("grant = [\"reader\"]\n", "")).unwrap();
    let wrong = sweep(&server, &["orders"]);
    assert_eq!(wrong.status.code(), Some(1), "{}", text(&wrong));
    assert!(
        text(&wrong).contains("shop.toml:11:") && text(&wrong).contains("\"grant\""),
        "{}",
        text(&wrong)
    );

    fs::write(&file, policy.replace("user = \"keeper\"", "user = \"nobody\"")).unwrap();
    let refused = sweep(&server, &["orders"]);
    assert_eq!(refused.status.code(), Some(1), "{}", text(&refused));
    assert!(
        text(&refused).contains("the admin cannot log in"),
        "{}",
        text(&refused)
    );
    assert!(users(&server).contains(DEAD) && users(&server).contains(LIVING));
}
