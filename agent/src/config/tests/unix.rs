//! Which unix sockets a service protects.

use super::{GOOD, parse, with};

fn sockets(text: &str) -> Vec<String> {
    let policy = parse(text).unwrap();
    let service = policy.services.first().unwrap();
    service.unix.iter().map(|path| path.as_str().to_owned()).collect()
}

#[test]
fn a_local_postgres_brings_its_customary_sockets_and_a_remote_one_none() {
    let customary = ["/run/postgresql/.s.PGSQL.5433", "/tmp/.s.PGSQL.5433"];
    for address in [
        "127.0.0.1:5433",
        "localhost:5433",
        "db.localhost:5433",
        "[::1]:5433",
        "0.0.0.0:5433",
        "127.0.0.0/8:5433",
    ] {
        assert_eq!(
            sockets(&with("address", &format!("address = [\"{address}\"]"))),
            customary,
            "{address}"
        );
    }
    let both = with(
        "address",
        "address = [\"127.0.0.1:5433\", \"[::1]:5433\", \"10.0.4.7:5432\"]",
    );
    assert_eq!(sockets(&both), customary);
    assert!(sockets(GOOD).is_empty());
    assert!(sockets(&with("address", "address = [\"127.0.0.1:5433\"]\nunix = []")).is_empty());
}

#[test]
fn a_service_may_be_a_unix_socket_alone() {
    let text = with("address", "unix = [\"/srv/pg/.s.PGSQL.5432\"]");
    assert_eq!(sockets(&text), ["/srv/pg/.s.PGSQL.5432"]);
    assert!(
        parse(&text)
            .unwrap()
            .services
            .first()
            .unwrap()
            .addresses
            .is_empty()
    );
}

#[test]
fn one_socket_is_one_services() {
    let second = "\n[[service]]\nname = \"copy\"\nprotocol = \"opaque\"\naddress = [\"127.0.0.1:5432\"]\n";
    let first = with("address", "address = [\"127.0.0.1:1\"]\nunix = [\"/run/a\"]");
    let error = parse(&format!("{first}{second}unix = [\"/run/a\"]"))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("an address that \"orders-db\" has as well"),
        "{error}"
    );
    parse(&format!("{first}{second}unix = [\"/run/b\"]")).unwrap();
}
