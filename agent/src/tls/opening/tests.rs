use std::net::IpAddr;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{AlertDescription, ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::super::{Alert, LeafNames, LocalCa, TerminateError, provider};
use super::{ClientFault, Hello, Opening};

const NAME: &str = "api.acme.test";
const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));

fn client(
    authority: Option<&LocalCa>,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    if let Some(authority) = authority {
        roots.add(authority.certificate()).unwrap();
    }
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config
}

async fn dialled(config: ClientConfig, far: DuplexStream) -> std::io::Result<TlsStream<DuplexStream>> {
    let name = ServerName::try_from(NAME).unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, far).await
}

async fn hello(stream: DuplexStream) -> Box<Hello<DuplexStream>> {
    match Opening::read_from(stream).await.unwrap() {
        Opening::Tls(hello) => hello,
        Opening::Clear(_) => panic!("in clear"),
    }
}

fn names() -> LeafNames {
    LeafNames::asked(Some(NAME), &[], ADDRESS)
}

#[tokio::test]
async fn a_client_gets_the_protocol_that_was_chosen_for_it_in_both_versions() {
    let dir = tempfile::tempdir().unwrap();
    let ca = LocalCa::open_or_create(dir.path()).unwrap();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        for chosen in [Some("http/1.1"), Some("h2"), None] {
            let (near, far) = duplex(64 * 1024);
            let client = tokio::spawn(dialled(client(Some(&ca), &[version]), far));
            let hello = hello(near).await;
            assert_eq!(hello.name(), Some(NAME));
            let mut server = hello
                .terminate(&ca, &names(), chosen.map(str::as_bytes))
                .await
                .unwrap();
            let mut client = client.await.unwrap().unwrap();
            assert_eq!(client.get_ref().1.alpn_protocol(), chosen.map(str::as_bytes));
            client.write_all(b"ping").await.unwrap();
            client.flush().await.unwrap();
            let mut word = [0; 4];
            server.read_exact(&mut word).await.unwrap();
            assert_eq!(&word, b"ping");
        }
    }
}

#[tokio::test]
async fn a_client_that_does_not_trust_the_authority_is_told_apart_and_the_sentence_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let ca = LocalCa::open_or_create(dir.path()).unwrap();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let (near, far) = duplex(64 * 1024);
        let client = tokio::spawn(dialled(client(None, &[version]), far));
        let error = hello(near)
            .await
            .terminate(&ca, &names(), None)
            .await
            .unwrap_err();
        assert!(
            matches!(error, TerminateError::Client(ClientFault::Distrust { .. })),
            "{error}"
        );
        let said = error.to_string();
        assert!(
            said.contains("tollgate run") && said.contains("protocol = \"opaque\""),
            "{said}"
        );
        client.await.unwrap().unwrap_err();
    }
}

#[tokio::test]
async fn a_client_that_hangs_up_at_the_sight_of_the_certificate_does_not_trust_it_either() {
    let dir = tempfile::tempdir().unwrap();
    let ca = LocalCa::open_or_create(dir.path()).unwrap();
    let (near, mut far) = duplex(64 * 1024);
    let client = tokio::spawn(async move {
        far.write_all(&super::super::hello::tests::from_rustls(NAME, &[]))
            .await
            .unwrap();
        let mut first = [0; 5];
        far.read_exact(&mut first).await.unwrap();
    });
    let error = hello(near)
        .await
        .terminate(&ca, &names(), None)
        .await
        .unwrap_err();
    client.await.unwrap();
    assert!(
        matches!(&error, TerminateError::Client(ClientFault::Distrust { what }) if what.contains("closed")),
        "{error}"
    );
}

#[tokio::test]
async fn a_refused_client_reads_the_alert() {
    for (alert, description) in [
        (Alert::UnknownName, AlertDescription::UnrecognisedName),
        (Alert::Refused, AlertDescription::AccessDenied),
        (Alert::NoProtocol, AlertDescription::NoApplicationProtocol),
        (Alert::OldVersion, AlertDescription::ProtocolVersion),
        (Alert::Malformed, AlertDescription::DecodeError),
        (Alert::Failed, AlertDescription::InternalError),
    ] {
        let (near, far) = duplex(64 * 1024);
        let client = tokio::spawn(dialled(client(None, rustls::ALL_VERSIONS), far));
        hello(near).await.refuse(alert).await;
        let error = client.await.unwrap().unwrap_err();
        let inner = error.get_ref().unwrap().downcast_ref::<rustls::Error>().unwrap();
        assert_eq!(*inner, rustls::Error::AlertReceived(description), "{alert:?}");
    }
}

#[tokio::test]
async fn what_is_passed_untouched_is_every_byte_that_the_client_sent() {
    let (near, mut far) = duplex(64 * 1024);
    let mut sent = super::super::hello::tests::from_rustls(NAME, &["acme-tls/1"]);
    sent.extend(b"\x17\x03\x03\x00\x03abc");
    far.write_all(&sent).await.unwrap();
    let hello = hello(near).await;
    assert!(hello.offers_nothing_of(&[b"h2", b"http/1.1"]));
    let mut untouched = hello.into_untouched();
    far.write_all(b"more").await.unwrap();
    drop(far);
    let mut read = Vec::new();
    untouched.read_to_end(&mut read).await.unwrap();
    sent.extend(b"more");
    assert_eq!(read, sent);
}

#[tokio::test]
async fn a_connection_in_clear_loses_nothing() {
    let (near, mut far) = duplex(1024);
    far.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    drop(far);
    let Opening::Clear(mut clear) = Opening::read_from(near).await.unwrap() else {
        panic!("it is not TLS");
    };
    let mut read = Vec::new();
    clear.read_to_end(&mut read).await.unwrap();
    assert_eq!(read, b"GET / HTTP/1.1\r\n\r\n");
}

#[tokio::test]
async fn a_client_without_a_beginning_is_told_apart_from_one_that_broke_off() {
    let (near, far) = duplex(1024);
    drop(far);
    let fault = Opening::read_from(near).await.unwrap_err();
    assert!(matches!(fault, ClientFault::Silent), "{fault}");
    let (near, mut far) = duplex(1024);
    far.write_all(b"\x16\x03\x01\x02").await.unwrap();
    drop(far);
    let fault = Opening::read_from(near).await.unwrap_err();
    assert!(matches!(fault, ClientFault::Truncated), "{fault}");
}

#[tokio::test]
async fn a_malformed_message_is_answered_by_an_alert() {
    let (near, mut far) = duplex(1024);
    let reading = tokio::spawn(async move { Opening::read_from(near).await.unwrap_err() });
    far.write_all(b"\x16\x03\x01\x00\x00").await.unwrap();
    let mut alert = [0; 7];
    far.read_exact(&mut alert).await.unwrap();
    assert_eq!(alert, Alert::Malformed.record());
    drop(far);
    assert!(matches!(reading.await.unwrap(), ClientFault::Hello(_)));
}

#[tokio::test]
async fn a_client_that_says_nothing_is_not_waited_for_without_end() {
    let (near, _far) = duplex(1024);
    let patience = std::time::Duration::from_millis(5);
    let fault = Opening::read_within(patience, near).await.unwrap_err();
    assert!(matches!(fault, ClientFault::TooSlow), "{fault}");
}
