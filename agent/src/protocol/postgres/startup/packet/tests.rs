use proptest::prelude::*;

use super::{CancelKey, Foreign, Packet, PacketError, Startup, decode};

fn packet(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap();
    [&length.to_be_bytes(), body].concat()
}

fn start(parameters: &[u8]) -> Vec<u8> {
    packet(&[b"\0\x03\0\0", parameters].concat())
}

fn decoded(bytes: &[u8]) -> Startup {
    match decode(bytes) {
        Ok(Some((Packet::Startup(startup), length))) if length == bytes.len() => startup,
        other => panic!("{other:?}"),
    }
}

fn refused(bytes: &[u8]) -> PacketError {
    decode(bytes).unwrap_err()
}

#[test]
fn parameters_are_sorted_into_what_they_are_for() {
    let startup = decoded(&start(
        b"user\0ann\0database\0shop\0options\0-c x=y\0application_name\0job\0DateStyle\0ISO\0replication\0off\0\0",
    ));
    assert_eq!(startup.user, "ann");
    assert_eq!(startup.database(), "shop");
    assert_eq!(startup.options.as_deref(), Some("-c x=y"));
    let names: Vec<&str> = startup.settings.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["application_name", "DateStyle"]);
    assert!(!startup.asks_for_more());
}

#[test]
fn the_database_defaults_to_the_user() {
    assert_eq!(decoded(&start(b"user\0ann\0\0")).database(), "ann");
    assert_eq!(decoded(&start(b"user\0ann\0database\0\0\0")).database(), "ann");
}

#[test]
fn newer_minor_versions_and_unknown_protocol_options_are_noticed() {
    let newer = decoded(&packet(b"\0\x03\0\x02user\0ann\0_pq_.report\0on\0\0"));
    assert!(newer.asks_for_more());
    assert_eq!(
        (newer.minor, newer.extensions),
        (2, vec!["_pq_.report".to_owned()])
    );
    assert!(newer.settings.is_empty());
}

#[test]
fn other_protocols_are_told_apart() {
    for (bytes, protocol) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], Foreign::Http),
        (b"PRI * HTTP/2.0", Foreign::Http),
        (b"SSH-2.0-OpenSSH_9.2\r\n", Foreign::Ssh),
        (b"\x16\x03\x01\x02\x00\x01", Foreign::Tls),
    ] {
        assert_eq!(refused(bytes), PacketError::Foreign(protocol));
    }
}

#[test]
fn lengths_that_no_packet_has_are_refused_at_once() {
    for length in [0, 3, 4, 7, 10_005, i32::MAX, i32::MIN, -1] {
        assert_eq!(refused(&length.to_be_bytes()), PacketError::Length(length));
    }
    let fill = "x".repeat(10_004 - 8 - 5 - 2 - 2 - 1);
    let largest = start(format!("user\0a\0{fill}\0\0\0").as_bytes());
    assert_eq!(largest.len(), 10_004);
    assert_eq!(decoded(&largest).settings.len(), 1);
}

#[test]
fn bodies_that_break_the_layout_are_refused() {
    for parameters in [
        &b""[..],
        b"user\0ann\0",
        b"user\0ann",
        b"user\0",
        b"user\0ann\0\0\0",
        b"user\0ann\0\0x\0y\0\0",
    ] {
        assert!(
            matches!(refused(&start(parameters)), PacketError::Layout(_)),
            "{parameters:?}"
        );
    }
    assert_eq!(refused(&start(b"\0")), PacketError::NoUser);
    assert_eq!(refused(&start(b"user\0\0\0")), PacketError::NoUser);
    assert_eq!(refused(&start(b"user\0\xff\0\0")), PacketError::Encoding);
    for twice in [
        &b"user\0a\0user\0b\0\0"[..],
        b"user\0a\0TimeZone\0UTC\0timezone\0CET\0\0",
    ] {
        assert!(matches!(refused(&start(twice)), PacketError::Twice(_)));
    }
    for body in [
        &b"\x04\xd2\x16\x2f\0"[..],
        b"\x04\xd2\x16\x30\0",
        b"\x04\xd2\x16\x2e\0\0\0\x01abc",
    ] {
        assert!(
            matches!(refused(&packet(body)), PacketError::Layout(_)),
            "{body:?}"
        );
    }
}

#[test]
fn other_major_versions_are_refused() {
    for (code, major, minor) in [
        (b"\0\x02\0\0", 2, 0),
        (b"\0\x04\0\x01", 4, 1),
        (b"\0\0\0\0", 0, 0),
    ] {
        assert_eq!(refused(&packet(code)), PacketError::Version { major, minor });
    }
}

#[test]
fn replication_is_refused_however_it_is_spelled() {
    for value in ["true", "on", "1", "YES", "t", "database"] {
        let bytes = start(format!("user\0a\0replication\0{value}\0\0").as_bytes());
        let error = refused(&bytes);
        assert_eq!(error, PacketError::Replication, "{value}");
        let told = error.to_client().unwrap();
        assert_eq!(told.code, "0A000");
        assert!(
            told.message
                .starts_with("replication is not supported in this version")
        );
    }
    assert!(matches!(
        refused(&start(b"user\0a\0replication\0o\0\0")),
        PacketError::BadReplication(_)
    ));
}

#[test]
fn a_cancel_key_is_read_and_not_shown() {
    let bytes = packet(b"\x04\xd2\x16\x2e\0\0\x01\x02\xde\xad\xbe\xef");
    let key = CancelKey {
        process: 0x102,
        secret: [0xde, 0xad, 0xbe, 0xef],
    };
    assert_eq!(decode(&bytes), Ok(Some((Packet::Cancel(key), 16))));
    assert!(!format!("{key:?}").contains("222"), "{key:?}");
}

proptest! {
    #[test]
    fn any_bytes_end_in_a_packet_an_error_or_a_wait(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        if let Ok(Some((_, length))) = decode(&bytes) {
            prop_assert!((8..=bytes.len()).contains(&length));
        }
    }

    #[test]
    fn any_parameters_survive(pairs in proptest::collection::btree_map("[a-z][a-z_]{8,12}", "[^\0]{0,20}", 0..5)) {
        let mut body = b"user\0ann\0".to_vec();
        for (name, value) in &pairs {
            body.extend([name.as_bytes(), b"\0", value.as_bytes(), b"\0"].concat());
        }
        body.push(0);
        let bytes = start(&body);
        let settings: Vec<_> = pairs.into_iter().collect();
        prop_assert_eq!(decoded(&bytes).settings, settings);
        for length in 0..bytes.len() {
            prop_assert_eq!(decode(&bytes[..length]), Ok(None));
        }
    }
}
