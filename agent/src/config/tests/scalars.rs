use std::time::Duration;

use super::super::policy::EndpointHost;
use super::super::scalar::{duration, endpoint, size};

#[test]
fn durations() {
    let read = |text: &str| duration(text, Duration::from_secs(1), Duration::from_hours(240)).ok();
    for (text, seconds) in [
        ("10s", 10),
        ("30m", 1800),
        ("1h30m", 5400),
        ("1d1h1m1s", 90_061),
        ("90m", 5400),
    ] {
        assert_eq!(read(text), Some(Duration::from_secs(seconds)), "{text}");
    }
    for text in [
        "",
        "10",
        "s",
        "10 s",
        "10ms",
        "1.5h",
        "30m1h",
        "1h1h",
        "-1s",
        "0s",
        "11d",
        "99999999999999999999s",
        "1H",
        "213503982334602d",
    ] {
        assert_eq!(read(text), None, "{text}");
    }
}

#[test]
fn sizes() {
    for (text, bytes) in [
        ("1B", 1),
        ("500MB", 500_000_000),
        ("2GiB", 2 << 30),
        ("1_000 KiB", 1_024_000),
        ("3TiB", 3 << 40),
    ] {
        assert_eq!(size(text).ok(), Some(bytes), "{text}");
    }
    for text in [
        "",
        "10",
        "MB",
        "1.5GB",
        "-1MB",
        "0MB",
        "2gib",
        "99999999TiB",
        "1 M B",
    ] {
        assert!(size(text).is_err(), "{text}");
    }
}

#[test]
fn addresses() {
    for (text, host, port) in [
        ("db.acme.test:5432", "db.acme.test", 5432),
        ("DB.Acme.Test.:1", "db.acme.test", 1),
        ("localhost:65535", "localhost", 65535),
        ("10.0.4.0/24:5432", "10.0.4.0/24", 5432),
        ("10.0.4.7:5432", "10.0.4.7/32", 5432),
        ("0.0.0.0/0:5432", "0.0.0.0/0", 5432),
        ("[2001:db8::/32]:5432", "2001:db8::/32", 5432),
        ("[::1]:5432", "::1/128", 5432),
        // What the kernel sees of a v4-mapped socket is the v4 address.
        ("[::ffff:10.0.4.7]:5432", "10.0.4.7/32", 5432),
        ("[::ffff:10.0.4.0/120]:5432", "10.0.4.0/24", 5432),
    ] {
        let read = endpoint(text).unwrap_or_else(|wrong| panic!("{text}: {wrong:?}"));
        let shown = match read.host {
            EndpointHost::Name(name) => name,
            EndpointHost::Net(net) => net.to_string(),
        };
        assert_eq!((shown.as_str(), read.port), (host, port), "{text}");
    }
    for text in [
        "",
        ":5432",
        "db",
        "db:",
        "db:+5",
        "db:65536",
        "db:0",
        "db:5432 ",
        "2001:db8::1:5432",
        "[2001:db8::1]",
        "[2001:db8::1]5432",
        "[db.acme.test]:5432",
        "10.0.4.5/24:5432",
        "10.0.4.0/33:5432",
        "10.0.4:5432",
        "0x7f000001:5432",
        "127.1:5432",
        "*.acme.test:5432",
        "a..b:1",
        "-a.test:1",
        "a b:1",
        "ü.test:1",
    ] {
        assert!(endpoint(text).is_err(), "{text}");
    }
}
