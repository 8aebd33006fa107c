//! Logins at a real server, and servers that are none.

use std::time::Duration;

use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use super::testing::MariaDb;
use super::{MysqlError, Session};
use crate::config::{TlsMode, TlsSpec};
use crate::flow::Stream;
use crate::model::{Place, SocketPath};
use crate::protocol::postgres::login::testing::{Authority, credential, dial_target};

const PATIENCE: Duration = Duration::from_secs(10);
const PLAIN: TlsSpec = TlsSpec {
    upstream: TlsMode::Disable,
    ca: None,
    server_name: None,
};

async fn log_in(
    server: &MariaDb,
    place: Place,
    tls: &TlsSpec,
    user: &str,
    password: &str,
) -> Result<Session, MysqlError> {
    let target = MariaDb::target(place, tls);
    let _ = server;
    let stream = dial_target(&target).await;
    Session::login(stream, &target, &credential(user, password), PATIENCE).await
}

#[tokio::test]
async fn users_of_each_method_log_in_over_tcp_tls_and_a_unix_socket_and_wrong_passwords_do_not() {
    let authority = Authority::new();
    let server = MariaDb::start(
        &authority,
        "INSTALL SONAME 'auth_ed25519'; CREATE USER native IDENTIFIED BY 'native-secret'; \
         CREATE USER ed IDENTIFIED VIA ed25519 USING PASSWORD('ed-secret'); \
         CREATE USER tls IDENTIFIED BY 'tls-secret' REQUIRE SSL",
    );
    let verified = TlsSpec {
        upstream: TlsMode::VerifyFull,
        ca: Some(authority.file(server.dir())),
        server_name: None,
    };
    let network = Place::Network(server.address());
    let socket = Place::Unix(SocketPath::parse(server.socket().to_str().unwrap()).unwrap());
    for (user, places) in [
        (
            "native",
            [(&network, &PLAIN), (&network, &verified), (&socket, &verified)].as_slice(),
        ),
        (
            "ed",
            &[(&network, &PLAIN), (&network, &verified), (&socket, &PLAIN)],
        ),
        ("tls", &[(&network, &verified)]),
    ] {
        for (place, tls) in places {
            let mut session = log_in(&server, (*place).clone(), tls, user, &format!("{user}-secret"))
                .await
                .unwrap();
            let rows = session
                .query("SELECT CURRENT_USER(), NULL, '', 'é'", PATIENCE)
                .await
                .unwrap();
            let expected = [
                Some(format!("{user}@%")),
                None,
                Some(String::new()),
                Some("é".to_owned()),
            ];
            assert_eq!(rows, [expected.to_vec()]);
            let error = session
                .query("SELECT * FROM nowhere.t", PATIENCE)
                .await
                .unwrap_err();
            assert!(matches!(error, MysqlError::Refused { code: 1142, .. }), "{error}");
            assert!(session.query("DO 1", PATIENCE).await.unwrap().is_empty());
            let error = session
                .query(
                    "LOAD DATA LOCAL INFILE '/etc/passwd' INTO TABLE nowhere.t",
                    PATIENCE,
                )
                .await
                .unwrap_err();
            assert!(
                matches!(error, MysqlError::Refused { .. } | MysqlError::Protocol(_)),
                "{error}"
            );

            let error = log_in(&server, (*place).clone(), tls, user, "wrong")
                .await
                .unwrap_err();
            assert!(matches!(error, MysqlError::Refused { code: 1045, .. }), "{error}");
        }
    }
    let error = log_in(&server, network.clone(), &PLAIN, "tls", "tls-secret")
        .await
        .unwrap_err();
    assert!(matches!(error, MysqlError::Refused { code: 1045, .. }), "{error}");
    let stranger = TlsSpec {
        ca: Some(Authority::new().file(server.dir())),
        ..verified
    };
    let error = log_in(&server, network, &stranger, "native", "native-secret")
        .await
        .unwrap_err();
    assert!(matches!(error, MysqlError::Tls(_)), "{error}");
}

#[tokio::test]
async fn an_answer_with_more_than_is_held_is_an_error_and_a_slow_one_too() {
    let server = MariaDb::start(
        &Authority::new(),
        "CREATE USER u IDENTIFIED BY 'u'; CREATE DATABASE app; GRANT SELECT ON app.* TO u",
    );
    let network = Place::Network(server.address());
    let mut session = log_in(&server, network.clone(), &PLAIN, "u", "u").await.unwrap();
    let error = session
        .query("SELECT seq FROM app.seq_1_to_200000", PATIENCE)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("too many rows"), "{error}");
    let mut session = log_in(&server, network.clone(), &PLAIN, "u", "u").await.unwrap();
    let error = session
        .query("SELECT REPEAT('x', 2000000)", PATIENCE)
        .await
        .unwrap_err();
    assert!(matches!(error, MysqlError::Protocol(_)), "{error}");
    let mut session = log_in(&server, network, &PLAIN, "u", "u").await.unwrap();
    let error = session
        .query("SELECT SLEEP(20)", Duration::from_millis(50))
        .await
        .unwrap_err();
    assert!(matches!(error, MysqlError::TooSlow(_)), "{error}");
}

#[tokio::test]
async fn a_server_that_says_nothing_is_waited_for_no_longer_than_that() {
    let (near, _far) = UnixStream::pair().unwrap();
    let target = MariaDb::target(Place::Network("127.0.0.1:1".parse().unwrap()), &PLAIN);
    let login = credential("u", "hunter2");
    let error = Session::login(Stream::from(near), &target, &login, Duration::from_millis(20))
        .await
        .unwrap_err();
    assert!(
        matches!(error, MysqlError::TooSlow(_)) && error.is_targets(),
        "{error}"
    );
}

/// What a login says to a server that says `bytes`, and then nothing more; and what it sent.
async fn against(bytes: &[u8]) -> (MysqlError, Vec<u8>) {
    let (near, mut far) = UnixStream::pair().unwrap();
    far.write_all(bytes).await.unwrap();
    far.shutdown().await.unwrap();
    let target = MariaDb::target(Place::Network("127.0.0.1:1".parse().unwrap()), &PLAIN);
    let error = Session::login(Stream::from(near), &target, &credential("u", "hunter2"), PATIENCE)
        .await
        .unwrap_err();
    let mut sent = Vec::new();
    // A reset where the login ended with something unread.
    let _reset = far.read_to_end(&mut sent).await;
    (error, sent)
}

fn packet(sequence: u8, payload: &[u8]) -> Vec<u8> {
    let [a, b, c, _] = u32::try_from(payload.len()).unwrap().to_le_bytes();
    [&[a, b, c, sequence], payload].concat()
}

/// As MariaDB 10.11 says it.
fn greeting(method: &str) -> Vec<u8> {
    let mut payload = b"\x0a5.5.5-10.11.6-MariaDB\0".to_vec();
    payload.extend([7, 0, 0, 0]);
    payload.extend(b"abcdefgh\0");
    payload.extend([0xfe, 0xf7, 45, 2, 0, 0xff, 0x81, 21]);
    payload.extend([0; 10]);
    payload.extend(b"ijklmnopqrst\0");
    payload.extend(method.as_bytes());
    payload.push(0);
    packet(0, &payload)
}

#[tokio::test]
async fn a_server_that_asks_for_the_password_itself_does_not_get_it() {
    for method in [
        "mysql_clear_password",
        "dialog",
        "mysql_old_password",
        "sha256_password",
    ] {
        let switch = packet(
            2,
            &[b"\xfe", method.as_bytes(), b"\0abcdefghijklmnopqrst\0"].concat(),
        );
        let (error, sent) = against(&[greeting("mysql_native_password"), switch].concat()).await;
        assert!(matches!(error, MysqlError::Method(_)), "{method}: {error}");
        assert!(memchr::memmem::find(&sent, b"hunter2").is_none(), "{method}");
    }
    let (error, _) = against(&[greeting("mysql_native_password"), packet(2, b"\xfe")].concat()).await;
    assert!(matches!(error, MysqlError::Method(_)), "{error}");
}

#[tokio::test]
async fn a_challenge_whose_last_byte_is_zero_is_no_shorter_for_that() {
    let challenge = [&[7; 31][..], &[0]].concat();
    let switch = packet(2, &[&b"\xfeclient_ed25519\0"[..], &challenge].concat());
    let refused = packet(4, b"\xff\x15\x04#28000no");
    let (error, _) = against(&[greeting("mysql_native_password"), switch, refused].concat()).await;
    assert!(matches!(error, MysqlError::Refused { code: 1045, .. }), "{error}");
}

#[tokio::test]
async fn servers_that_are_none_are_refused() {
    for (bytes, part) in [
        (b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(), "protocol"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), "protocol"),
        (Vec::new(), "closed"),
        (packet(0, &[]), "greeting"),
        (packet(1, b"x"), "sequence"),
        (vec![0xff, 0xff, 0xff, 0], "too long"),
        (packet(0, b"\xff\x15\x04#28000Host is blocked"), "error 1045"),
        (
            [greeting("x"), packet(2, b"\x01\x04")].concat(),
            "does not belong",
        ),
        ([greeting("x"), packet(2, b"\xff")].concat(), "error that is none"),
    ] {
        let (error, _) = against(&bytes).await;
        assert!(error.to_string().contains(part), "{bytes:?}: {error}");
    }
    let whole = greeting("mysql_native_password");
    for length in 0..whole.len() {
        let (error, sent) = against(&whole[..length]).await;
        assert!(matches!(error, MysqlError::Closed), "{length}: {error}");
        assert!(sent.is_empty());
        let cut = packet(0, &whole[4..length.max(4)]);
        let (error, sent) = against(&cut).await;
        assert!(matches!(error, MysqlError::Protocol(_)), "{length}: {error}");
        assert!(sent.is_empty());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn nothing_that_a_server_says_breaks_the_agent(after in proptest::collection::vec(any::<u8>(), 0..64), greets: bool) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut bytes = if greets { greeting("mysql_native_password") } else { Vec::new() };
        bytes.extend(packet(if greets { 2 } else { 0 }, &after));
        // OK, which is no error, and needs nothing behind it.
        if after.first() != Some(&0) {
            let (_error, sent) = runtime.block_on(against(&bytes));
            prop_assert!(memchr::memmem::find(&sent, b"hunter2").is_none());
        }
    }
}
