use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use bytes::BytesMut;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::testing::{Authority, Proxy, Server, credential, dial_target, program};
use super::{Ask, LoggedIn, LoginError, Settings, greeting, login, message::next_frame};
use crate::config::{TlsMode, TlsSpec};
use crate::protocol::Login;
use crate::protocol::Target;
use crate::protocol::postgres::cancel::CancelMap;
use crate::protocol::postgres::startup::{CancelKey, Startup};
use crate::tls::{LocalCa, TlsError, Upstream};

const USERS: &str = "
SET password_encryption = 'scram-sha-256';
CREATE ROLE scram_app LOGIN PASSWORD 'scram-secret';
CREATE ROLE clear_app LOGIN PASSWORD 'clear-secret';
CREATE ROLE gss_app LOGIN;
SET password_encryption = 'md5';
CREATE ROLE md5_app LOGIN PASSWORD 'md5-secret';
CREATE DATABASE closed; REVOKE CONNECT ON DATABASE closed FROM PUBLIC;
";
const HBA: &str = "
host all scram_app 127.0.0.1/32 scram-sha-256
host all md5_app   127.0.0.1/32 md5
host all clear_app 127.0.0.1/32 password
host all gss_app   127.0.0.1/32 gss
";

async fn attempt(target: &Target, login_: &Login, database: &str) -> Result<LoggedIn, LoginError> {
    let settings = Settings::default();
    let ask = Ask {
        database,
        settings: &settings,
    };
    login(dial_target(target).await, target, login_, ask).await
}

fn startup(user: &str) -> Startup {
    Startup {
        user: user.to_owned(),
        database: None,
        options: None,
        settings: Vec::new(),
        minor: 0,
        extensions: Vec::new(),
    }
}

/// Neither the log nor the client is told a word of the login.
fn says_nothing(error: &LoginError, words: &[&str]) {
    let told = error.to_client(&"orders-db".into());
    for said in [error.to_string(), format!("{error:?}"), format!("{told:?}")] {
        for word in words {
            assert!(!said.contains(word), "{word} in {said}");
        }
    }
}

#[tokio::test]
async fn every_way_of_authentication_against_a_real_server() {
    let dir = TempDir::new().unwrap();
    let authority = Authority::new();
    let server = Server::start(&authority, HBA, USERS);
    let ca = authority.file(dir.path());
    gets_in_and_shows_nothing_of_it(&server, &ca).await;
    is_refused_cleanly(&server, &ca).await;
    verifies_names_and_authorities(&server, &ca, &Authority::new().file(dir.path())).await;
    notices_that_tls_is_off(&server, &ca).await;
}

async fn gets_in_and_shows_nothing_of_it(server: &Server, ca: &Path) {
    let plain = server.target(TlsMode::Disable, None, None);
    let require = server.target(TlsMode::Require, None, None);
    let verified = server.target(TlsMode::VerifyFull, Some(ca), Some("db.acme.test"));
    for (user, password) in [
        ("scram_app", "scram-secret"),
        ("md5_app", "md5-secret"),
        ("clear_app", "clear-secret"),
    ] {
        for target in [&plain, &require, &verified] {
            let started = attempt(target, &credential(user, password), "postgres").await;
            if user == "clear_app" && target.tls.mode() == TlsMode::Disable {
                let error = started.unwrap_err();
                assert!(matches!(error, LoginError::Cleartext), "{error}");
                says_nothing(&error, &[user, password]);
                continue;
            }
            let session = started.unwrap();
            assert_eq!(session.stream.is_tls(), target.tls.mode() != TlsMode::Disable);
            assert_eq!(session.status, b'I');
            assert!(session.key.is_some());
            assert!(
                session
                    .parameters
                    .contains(&("session_authorization".to_owned(), user.to_owned()))
            );

            let key = CancelKey {
                process: 7,
                secret: *b"fake",
            };
            let greeting = greeting(&session, &startup("job"), key);
            let mut rest = BytesMut::from(&greeting[..]);
            let mut tags = Vec::new();
            while let Some(frame) = next_frame(&mut rest).unwrap() {
                if frame.tag == b'S' && frame.body.starts_with(b"session_authorization") {
                    assert_eq!(&frame.body[..], b"session_authorization\0job\0");
                }
                if frame.tag == b'K' {
                    assert_eq!(&frame.body[..], b"\0\0\0\x07fake");
                }
                tags.push(frame.tag);
            }
            tags.dedup();
            assert_eq!(tags, b"RSKZ");
            for word in [user, password] {
                assert!(memchr::memmem::find(&greeting, word.as_bytes()).is_none());
                assert!(!format!("{session:?}").contains(word));
            }
        }
    }
}

async fn is_refused_cleanly(server: &Server, ca: &Path) {
    let verified = server.target(TlsMode::VerifyFull, Some(ca), Some("db.acme.test"));
    for user in ["scram_app", "md5_app", "clear_app", "no_such_app"] {
        let error = attempt(&verified, &credential(user, "wrong-secret"), "postgres")
            .await
            .unwrap_err();
        assert!(
            matches!(&error, LoginError::Refused { sqlstate } if sqlstate.starts_with("28")),
            "{error}"
        );
        says_nothing(&error, &[user, "wrong-secret", "127.0.0.1", "db.acme.test"]);
        let told = error.to_client(&"orders-db".into());
        assert_eq!(told.code, "28000");
        assert_eq!(
            told.message,
            "tollgate: the login of service orders-db was refused by the server"
        );
    }
    let gss = attempt(&verified, &credential("gss_app", "x"), "postgres")
        .await
        .unwrap_err();
    assert!(matches!(gss, LoginError::Unsupported("GSSAPI")), "{gss}");

    let app = credential("scram_app", "scram-secret");
    for (database, code) in [("nowhere", "3D000"), ("closed", "42501")] {
        let error = attempt(&verified, &app, database).await.unwrap_err();
        assert_eq!(error.to_client(&"orders-db".into()).code, code);
        says_nothing(&error, &["scram_app", "nowhere", "closed"]);
    }
    let elsewhere = Login {
        database: Some("template1".to_owned()),
        ..app.clone()
    };
    attempt(&verified, &elsewhere, "nowhere").await.unwrap();
    let smuggled = credential("scram_app\0role\0admin", "scram-secret");
    assert!(matches!(
        attempt(&verified, &smuggled, "postgres").await,
        Err(LoginError::Credential)
    ));
}

async fn verifies_names_and_authorities(server: &Server, ca: &Path, stranger: &Path) {
    let app = credential("scram_app", "scram-secret");
    let wrong_name = server.target(TlsMode::VerifyFull, Some(ca), Some("other.acme.test"));
    let error = attempt(&wrong_name, &app, "postgres").await.unwrap_err();
    assert!(
        matches!(&error, LoginError::Tls(TlsError::WrongName { name }) if name == "other.acme.test"),
        "{error}"
    );
    says_nothing_to_client(&error, "other.acme.test");
    let unknown = server.target(TlsMode::VerifyFull, Some(stranger), Some("db.acme.test"));
    let error = attempt(&unknown, &app, "postgres").await.unwrap_err();
    assert!(
        matches!(error, LoginError::Tls(TlsError::UnknownAuthority { .. })),
        "{error}"
    );
    let by_address = server.target(TlsMode::VerifyFull, Some(ca), None);
    attempt(&by_address, &app, "postgres").await.unwrap();
    let named = Target {
        tls: Arc::new(
            Upstream::from_spec(&TlsSpec {
                upstream: TlsMode::VerifyFull,
                ca: Some(ca.to_owned()),
                server_name: Some("db.acme.test".to_owned()),
            })
            .unwrap(),
        ),
        ..by_address
    };
    attempt(&named, &app, "postgres").await.unwrap();
}

async fn notices_that_tls_is_off(server: &Server, ca: &Path) {
    let verified = server.target(TlsMode::VerifyFull, Some(ca), Some("db.acme.test"));
    let app = credential("scram_app", "scram-secret");
    server.run("ALTER SYSTEM SET ssl = off; SELECT pg_reload_conf();");
    // The postmaster takes the change up when it gets to it.
    let refused = async {
        loop {
            if let Err(error) = attempt(&verified, &app, "postgres").await {
                return error;
            }
        }
    };
    let error = tokio::time::timeout(std::time::Duration::from_secs(20), refused)
        .await
        .unwrap();
    assert!(matches!(error, LoginError::NoTls), "{error}");
}

fn says_nothing_to_client(error: &LoginError, word: &str) {
    assert!(!format!("{:?}", error.to_client(&"orders-db".into())).contains(word));
}

fn proxy(server: &Server, dir: &TempDir, password: &str) -> Proxy {
    Proxy {
        authority: LocalCa::open_or_create(dir.path()).unwrap(),
        target: server.target(TlsMode::Require, None, None),
        credential: credential("scram_app", password),
        cancels: Arc::new(CancelMap::default()),
    }
}

async fn psql(connection: &str, sql: &str) -> (bool, String) {
    let output = tokio::process::Command::new(program("psql"))
        .args(["-X", "-A", "-t", "-d", connection, "-c", sql])
        .env_clear()
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8(said).unwrap().trim().to_owned(),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_psql_without_a_password_gets_in_and_a_real_driver_can_cancel() {
    let dir = TempDir::new().unwrap();
    let server = Server::start(&Authority::new(), HBA, USERS);
    let good = proxy(&server, &dir, "scram-secret").listen().await;
    let bad = proxy(&server, &dir, "wrong-secret").listen().await;
    let at = |port: u16, more: &str| {
        format!("host=localhost hostaddr=127.0.0.1 port={port} user=job dbname=postgres {more}")
    };
    let root = dir.path().join("ca.pem");

    for ssl in [
        "sslmode=require".to_owned(),
        "sslmode=disable".to_owned(),
        format!("sslmode=verify-full sslrootcert={}", root.display()),
    ] {
        let seen = psql(
            &at(good, &ssl),
            "SELECT 6 * 7, (SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid())",
        )
        .await;
        assert_eq!(seen, (true, "42|t".to_owned()), "{ssl}");
    }
    let seen = psql(
        &at(good, "sslmode=require options='-c statement_timeout=77s -c search_path=audit' application_name=nightly"),
        "SELECT current_setting('statement_timeout'), current_setting('search_path'), current_setting('application_name')",
    )
    .await;
    assert_eq!(seen, (true, "77s|audit|nightly".to_owned()));

    let (ok, said) = psql(&at(good, "options='-c role=admin'"), "SELECT 1").await;
    assert!(
        !ok && said.contains("the setting \"role\" may not be made"),
        "{said}"
    );
    let (ok, said) = psql(&at(good, "replication=database"), "SELECT 1").await;
    assert!(
        !ok && said.contains("replication is not supported in this version"),
        "{said}"
    );
    let (ok, said) = psql(&at(bad, "sslmode=require"), "SELECT 1").await;
    assert!(
        !ok && said.contains("the login of service orders-db was refused"),
        "{said}"
    );
    for word in ["scram_app", "wrong-secret"] {
        assert!(!said.contains(word), "{said}");
    }

    let (client, connection) = tokio_postgres::connect(&at(good, "sslmode=disable"), tokio_postgres::NoTls)
        .await
        .unwrap();
    let driving = tokio::spawn(connection);
    let cancel = client.cancel_token();
    let sleeping = client.batch_execute("SELECT pg_sleep(600)");
    let cancelling = async {
        while server.run("SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(600)'") != "1"
        {
        }
        cancel.cancel_query(tokio_postgres::NoTls).await.unwrap();
    };
    let (slept, ()) = tokio::join!(sleeping, cancelling);
    assert_eq!(
        slept.unwrap_err().code(),
        Some(&tokio_postgres::error::SqlState::QUERY_CANCELED)
    );
    assert_eq!(
        client.query_one("SELECT 1", &[]).await.unwrap().get::<_, i32>(0),
        1
    );
    drop(client);
    driving.await.unwrap().unwrap();
}

/// What a target says, and whether the error is the right one.
type Expected = (&'static [u8], fn(&LoginError) -> bool);

/// What a login makes of a target that answers `answers` and then closes.
async fn against(answers: &'static [u8], upstream: TlsMode) -> LoginError {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let target = Target {
        service: "orders-db".into(),
        host: crate::config::EndpointHost::Net(address.ip().into()),
        address: crate::model::Place::Network(address),
        tls: Arc::new(
            Upstream::from_spec(&TlsSpec {
                upstream,
                ca: None,
                server_name: None,
            })
            .unwrap(),
        ),
    };
    let serving = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut asked = [0; 8];
        stream.read_exact(&mut asked).await.unwrap();
        stream.write_all(answers).await.unwrap();
        stream.shutdown().await.unwrap();
        while stream.read(&mut asked).await.unwrap_or(0) > 0 {}
    };
    let app = credential("app", "app-secret");
    let (result, ()) = tokio::join!(attempt(&target, &app, "postgres"), serving);
    let error = result.unwrap_err();
    says_nothing(&error, &["app-secret"]);
    error
}

#[tokio::test]
async fn targets_that_break_the_protocol_are_named_as_such() {
    let plain: &[Expected] = &[
        (b"", |error| matches!(error, LoginError::Closed)),
        (b"R\0\0\0\x08\0", |error| matches!(error, LoginError::Closed)),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", |error| {
            matches!(error, LoginError::Protocol(_))
        }),
        (b"SSH-2.0-OpenSSH_9.2\r\n", |error| {
            matches!(error, LoginError::Protocol(_))
        }),
        (b"R\x7f\xff\xff\xff", |error| {
            matches!(error, LoginError::Protocol(_))
        }),
        (b"R\xff\xff\xff\xff", |error| {
            matches!(error, LoginError::Protocol(_))
        }),
        (b"R\0\0\0\x05\0", |error| matches!(error, LoginError::Protocol(_))),
        // Ready before it has let anybody in.
        (b"Z\0\0\0\x05I", |error| matches!(error, LoginError::Protocol(_))),
        (b"R\0\0\0\x08\0\0\0\0D\0\0\0\x04", |error| {
            matches!(error, LoginError::Protocol(_))
        }),
        (b"R\0\0\0\x08\0\0\0\0R\0\0\0\x08\0\0\0\x03", |error| {
            matches!(error, LoginError::Protocol(_))
        }),
        (b"R\0\0\0\x08\0\0\0\x03", |error| {
            matches!(error, LoginError::Cleartext)
        }),
        (b"E\0\0\0\x0cC28P01\0\0", |error| {
            matches!(error, LoginError::Refused { .. })
        }),
        (b"E\0\0\0\x0cC53300\0\0", |error| {
            matches!(error, LoginError::NoSession { .. })
        }),
    ];
    for (answers, expected) in plain {
        let error = against(answers, TlsMode::Disable).await;
        assert!(expected(&error), "{answers:?}: {error:?}");
    }
    let tls: &[Expected] = &[
        (b"N", |error| matches!(error, LoginError::NoTls)),
        (b"E\0\0\0\x04", |error| matches!(error, LoginError::Protocol(_))),
        (b"H", |error| matches!(error, LoginError::Protocol(_))),
        (b"", |error| matches!(error, LoginError::Closed)),
        // Let in, in clear, before the handshake: not believed.
        (b"SR\0\0\0\x08\0\0\0\0Z\0\0\0\x05I", |error| {
            matches!(error, LoginError::Tls(TlsError::Handshake(_)))
        }),
    ];
    for (answers, expected) in tls {
        let error = against(answers, TlsMode::Require).await;
        assert!(expected(&error), "{answers:?}: {error:?}");
    }
}
