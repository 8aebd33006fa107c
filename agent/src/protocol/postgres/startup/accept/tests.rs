use std::net::Ipv4Addr;

use rustls::pki_types::ServerName;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::Instant;

use super::{ClientTls, Opened, StartupError, accept, accept_until};
use crate::config::{TlsMode, TlsSpec};
use crate::protocol::postgres::startup::{Foreign, PacketError};
use crate::tls::{LocalCa, TlsError, Upstream};

const SSL: &[u8] = &[0, 0, 0, 8, 4, 210, 22, 47];
const GSS: &[u8] = &[0, 0, 0, 8, 4, 210, 22, 48];
const CANCEL: &[u8] = &[0, 0, 0, 16, 4, 210, 22, 46, 0, 0, 0, 7, 1, 2, 3, 4];
const START: &[u8] = b"\0\0\0\x10\0\x03\0\0user\0a\0\0";

struct Host {
    dir: TempDir,
    authority: LocalCa,
}

fn host() -> Host {
    let dir = TempDir::new().unwrap();
    let authority = LocalCa::open_or_create(dir.path()).unwrap();
    Host { dir, authority }
}

impl Host {
    /// What becomes of a client that does `talk`, and what `talk` saw.
    async fn meet<T>(&self, talk: impl AsyncFnOnce(TcpStream) -> T) -> (Result<Opened, StartupError>, T) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = async {
            let (stream, _) = listener.accept().await.unwrap();
            let tls = ClientTls {
                authority: &self.authority,
                names: &["db.acme.test".to_owned()],
                address: address.ip(),
            };
            accept(stream.into(), tls).await
        };
        let talking = async { talk(TcpSocket::new_v4().unwrap().connect(address).await.unwrap()).await };
        tokio::join!(serving, talking)
    }

    /// What becomes of a client that sends `bytes` and then only listens, and what it is told.
    async fn send(&self, bytes: &[u8]) -> (Result<Opened, StartupError>, Vec<u8>) {
        self.meet(async |mut stream: TcpStream| {
            stream.write_all(bytes).await.unwrap();
            stream.shutdown().await.unwrap();
            let mut told = Vec::new();
            stream.read_to_end(&mut told).await.unwrap();
            told
        })
        .await
    }

    fn trusting(&self) -> Upstream {
        Upstream::from_spec(&TlsSpec {
            upstream: TlsMode::VerifyFull,
            ca: Some(self.dir.path().join("ca.pem")),
            server_name: None,
        })
        .unwrap()
    }
}

fn is_fatal(told: &[u8], code: &str) -> bool {
    told.starts_with(b"E")
        && memchr::memmem::find(told, format!("SFATAL\0VFATAL\0C{code}\0M").as_bytes()).is_some()
}

#[tokio::test]
async fn a_session_in_clear_keeps_what_came_early() {
    let (opened, _) = host()
        .meet(async |mut stream: TcpStream| {
            stream.write_all(&[GSS, START, b"Q\0"].concat()).await.unwrap();
            let mut answer = [0];
            stream.read_exact(&mut answer).await.unwrap();
            assert_eq!(&answer, b"N");
            stream
        })
        .await;
    let Ok(Opened::Session {
        client,
        startup,
        early,
    }) = opened
    else {
        panic!("{opened:?}");
    };
    assert!(!client.is_tls());
    assert_eq!((startup.user.as_str(), &early[..]), ("a", &b"Q\0"[..]));
}

#[tokio::test]
async fn a_session_inside_tls_has_a_certificate_for_the_name_asked_for() {
    let host = host();
    let upstream = host.trusting();
    for name in ["db.elsewhere.test", "127.0.0.1"] {
        let (opened, seen) = host
            .meet(async |mut stream: TcpStream| {
                stream.write_all(SSL).await.unwrap();
                let mut answer = [0];
                stream.read_exact(&mut answer).await.unwrap();
                assert_eq!(&answer, b"S");
                let name = ServerName::try_from(name).unwrap();
                let mut stream = upstream.connect(name, stream).await?;
                stream.write_all(START).await.unwrap();
                stream.flush().await.unwrap();
                Ok::<_, TlsError>(stream)
            })
            .await;
        seen.unwrap();
        assert!(
            matches!(opened, Ok(Opened::Session { client, .. }) if client.is_tls()),
            "{name}"
        );
    }
}

#[tokio::test]
async fn a_second_ssl_request_inside_tls_is_refused_inside_tls() {
    let host = host();
    let upstream = host.trusting();
    let (opened, told) = host
        .meet(async |mut stream: TcpStream| {
            stream.write_all(SSL).await.unwrap();
            stream.read_exact(&mut [0]).await.unwrap();
            let mut stream = upstream
                .connect(ServerName::try_from("x.test").unwrap(), stream)
                .await
                .unwrap();
            stream.write_all(SSL).await.unwrap();
            stream.flush().await.unwrap();
            let mut told = Vec::new();
            stream.read_to_end(&mut told).await.unwrap();
            told
        })
        .await;
    assert!(matches!(opened, Err(StartupError::Order(_))), "{opened:?}");
    assert!(is_fatal(&told, "08P01"), "{told:?}");
}

#[tokio::test]
async fn a_cancel_is_known_in_clear() {
    let (opened, _) = host()
        .meet(async |mut stream: TcpStream| {
            stream.write_all(CANCEL).await.unwrap();
            stream
        })
        .await;
    assert!(
        matches!(opened, Ok(Opened::Cancel { key, .. }) if key.process == 7 && key.secret == [1, 2, 3, 4])
    );
}

#[tokio::test]
async fn a_newer_client_is_told_that_it_gets_3_0() {
    let newer = b"\0\0\0\x1e\0\x03\0\x02user\0a\0_pq_.thing\0on\0\0";
    let (opened, told) = host()
        .meet(async |mut stream: TcpStream| {
            stream.write_all(newer).await.unwrap();
            let mut told = [0; 24];
            stream.read_exact(&mut told).await.unwrap();
            told
        })
        .await;
    assert!(matches!(opened, Ok(Opened::Session { .. })), "{opened:?}");
    assert_eq!(&told, b"v\0\0\0\x17\0\x03\0\0\0\0\0\x01_pq_.thing\0");
}

#[tokio::test]
async fn what_is_not_postgresql_is_refused_in_words_it_can_read_or_none() {
    let host = host();
    for (bytes, code) in [
        (&b"GET / HTTP/1.1\r\nHost: db\r\n\r\n"[..], Some("08P01")),
        (b"SSH-2.0-OpenSSH_9.2\r\n", Some("08P01")),
        (b"\x16\x03\x01\0\xa5\x01\0\0\xa1\x03\x03", None),
        (b"\x7f\xff\xff\xff", Some("08P01")),
        (b"\xff\xff\xff\xff", Some("08P01")),
        (b"\0\0\0\x03", Some("08P01")),
        (b"\0\0\0\x08\0\x02\0\0", Some("0A000")),
        (b"\0\0\0\x09\0\x03\0\0\0", Some("28000")),
        (b"\0\0\0\x1e\0\x03\0\0user\0a\0replication\0\x31\0\0", None),
    ] {
        let (opened, told) = host.send(bytes).await;
        assert!(opened.is_err(), "{bytes:?}");
        match code {
            Some(code) => assert!(is_fatal(&told, code), "{bytes:?}: {told:?}"),
            None => assert!(told.is_empty() || is_fatal(&told, "0A000"), "{bytes:?}: {told:?}"),
        }
    }
    let (opened, told) = host.send(b"\x16\x03\x01\0").await;
    assert!(matches!(
        opened,
        Err(StartupError::Packet(PacketError::Foreign(Foreign::Tls)))
    ));
    assert!(told.is_empty());
}

#[tokio::test]
async fn clear_bytes_behind_an_ssl_request_are_refused_however_they_arrive() {
    let host = host();
    let (opened, told) = host.send(&[SSL, START].concat()).await;
    assert!(matches!(opened, Err(StartupError::DataBeforeTls)), "{opened:?}");
    assert!(is_fatal(&told, "08P01"));
    // In a segment of its own, once `S` is on its way: not a handshake, and never a start-up packet.
    let (opened, _) = host
        .meet(async |mut stream: TcpStream| {
            stream.write_all(SSL).await.unwrap();
            stream.read_exact(&mut [0]).await.unwrap();
            stream.write_all(START).await.unwrap();
            stream
        })
        .await;
    assert!(matches!(opened, Err(StartupError::Handshake(_))), "{opened:?}");
}

#[tokio::test]
async fn a_client_that_closes_early_is_told_apart_from_one_that_never_spoke() {
    let host = host();
    assert!(matches!(host.send(b"").await.0, Err(StartupError::Silent)));
    for length in 1..START.len() {
        let (opened, told) = host.send(&START[..length]).await;
        assert!(
            matches!(opened, Err(StartupError::Truncated)),
            "{length}: {opened:?}"
        );
        assert!(told.is_empty());
    }
}

#[tokio::test]
async fn a_client_that_says_nothing_is_let_go() {
    let host = host();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let _silent = TcpSocket::new_v4().unwrap().connect(address).await.unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    let tls = ClientTls {
        authority: &host.authority,
        names: &[],
        address: address.ip(),
    };
    let opened = accept_until(Instant::now(), stream.into(), tls).await;
    assert!(matches!(opened, Err(StartupError::TooSlow)), "{opened:?}");
}
