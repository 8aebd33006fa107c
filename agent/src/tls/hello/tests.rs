use std::sync::Arc;

use proptest::prelude::*;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use super::super::provider;
use super::{ClientHello, HelloError, HelloReader};

/// What rustls's own client begins with.
pub(crate) fn from_rustls(name: &str, alpn: &[&str]) -> Vec<u8> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

/// `content` behind its length in two bytes.
fn vector16(content: &[u8]) -> Vec<u8> {
    let mut bytes = u16::try_from(content.len()).unwrap().to_be_bytes().to_vec();
    bytes.extend_from_slice(content);
    bytes
}

fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
    let mut bytes = kind.to_be_bytes().to_vec();
    bytes.extend(vector16(content));
    bytes
}

fn server_name(name: &[u8]) -> Vec<u8> {
    let mut entry = vec![0];
    entry.extend(vector16(name));
    extension(0, &vector16(&entry))
}

/// The handshake message with these extensions.
fn message(extensions: &[u8]) -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.push(0);
    body.extend(vector16(&[0x13, 0x01]));
    body.extend([1, 0]);
    if !extensions.is_empty() {
        body.extend(vector16(extensions));
    }
    let mut message = vec![1, 0];
    message.extend(vector16(&body));
    message
}

/// The message in records of at most `size` bytes.
fn records(message: &[u8], size: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for fragment in message.chunks(size) {
        bytes.extend([22, 3, 1]);
        bytes.extend(vector16(fragment));
    }
    bytes
}

fn read(bytes: &[u8]) -> Result<Option<ClientHello>, HelloError> {
    HelloReader::default().push(bytes)
}

fn read_message(extensions: &[u8]) -> Result<Option<ClientHello>, HelloError> {
    read(&records(&message(extensions), 16_384))
}

#[test]
fn the_hello_of_a_real_client_says_what_it_was_told_to_ask_for() {
    let hello = read(&from_rustls("API.acme.test", &["h2", "http/1.1"]))
        .unwrap()
        .unwrap();
    assert_eq!(hello.name.as_deref(), Some("api.acme.test"));
    assert_eq!(hello.alpn, [b"h2".to_vec(), b"http/1.1".to_vec()]);
    assert_eq!(hello.versions, [0x0304, 0x0303]);
    assert!(hello.signatures.contains(&0x0403), "{:?}", hello.signatures);
    assert!(!hello.encrypted);
    assert!(hello.is_modern());
}

#[test]
fn an_address_is_no_name() {
    let hello = read(&from_rustls("192.0.2.7", &[])).unwrap().unwrap();
    assert_eq!((hello.name, hello.alpn), (None, Vec::new()));
    // Not allowed by the RFC, and sent all the same.
    let hello = read_message(&server_name(b"192.0.2.7")).unwrap().unwrap();
    assert_eq!(hello.name, None);
}

#[test]
fn a_message_without_extensions_is_one_of_old_versions() {
    let hello = read_message(&[]).unwrap().unwrap();
    assert_eq!((hello.name, hello.versions), (None, vec![0x0303]));
}

#[test]
fn an_encrypted_hello_is_seen_and_what_it_says_in_clear_counts() {
    let mut extensions = server_name(b"public.acme.test");
    extensions.extend(extension(0xfe0d, &[0, 0, 1, 0, 1, 9, 0, 0, 0, 0]));
    let hello = read_message(&extensions).unwrap().unwrap();
    assert!(hello.encrypted);
    assert_eq!(hello.name.as_deref(), Some("public.acme.test"));
}

#[test]
fn what_is_no_beginning_of_tls_is_known_by_its_first_bytes() {
    for (bytes, error) in [
        (&b"GET / HTTP/1.1\r\n"[..], HelloError::NotTls),
        (&b"PRI * HTTP/2.0\r\n"[..], HelloError::NotTls),
        (&b"\x00\x00\x00\x08\x04\xd2\x16\x2f"[..], HelloError::NotTls),
        // SSL 2.
        (&b"\x80\x2e\x01\x03\x01"[..], HelloError::NotTls),
        // Its first byte alone could be the one of TLS.
        (&b"\x16\x16"[..], HelloError::NotTls),
        // An alert, and application data.
        (&b"\x15\x03\x03\x00\x02\x02\x28"[..], HelloError::NotTls),
        (&b"\x17\x03\x03\x00\x02\x02\x28"[..], HelloError::NotTls),
        // A server's hello.
        (
            &b"\x16\x03\x03\x00\x04\x02\x00\x00\x00"[..],
            HelloError::NotAHello,
        ),
        (&b"\x16\x03\x01\x00\x04\x01\x01\x00\x00"[..], HelloError::TooLong),
    ] {
        assert_eq!(read(bytes), Err(error), "{bytes:?}");
    }
}

#[test]
fn what_the_rfc_does_not_allow_is_refused() {
    let twice = [server_name(b"a.test"), server_name(b"b.test")].concat();
    let two_names = [&[0, 0, 1, b'a'][..], &[0, 0, 1, b'b']].concat();
    let mut trailing = message(&server_name(b"a.test"));
    trailing.push(0);
    for (what, extensions) in [
        ("an extension twice", twice),
        ("two names", extension(0, &vector16(&two_names))),
        (
            "a name of another kind",
            extension(0, &vector16(&[1, 0, 1, b'a'])),
        ),
        ("no name", server_name(b"")),
        ("an empty label", server_name(b"a..test")),
        ("a dot at the end", server_name(b"a.test.")),
        ("a name with NUL", server_name(b"a.test\0.b.test")),
        ("a wildcard", server_name(b"*.test")),
        ("a name that is not ASCII", server_name("ä.test".as_bytes())),
        ("a label of 64", server_name(&[b'a'; 64])),
        ("protocols without an end", extension(16, &[0, 3, 5, b'h'])),
        ("no protocol", extension(16, &[0, 0])),
        ("a protocol without a name", extension(16, &[0, 1, 0])),
        (
            "something behind its protocols",
            extension(16, &[0, 3, 2, b'h', b'2', 0]),
        ),
        ("half a version", extension(43, &[1, 3])),
        ("no version", extension(43, &[0])),
        ("an extension that is cut off", vec![0, 16, 0, 9, 0]),
    ] {
        let read = read_message(&extensions);
        assert!(matches!(read, Err(HelloError::Malformed(_))), "{what}: {read:?}");
    }
    // What follows inside of the same record is not part of it, and nobody reads it the same way.
    let read = read(&records(&trailing, 16_384));
    assert!(matches!(read, Err(HelloError::Malformed(_))), "{read:?}");
}

#[test]
fn records_in_between_and_of_impossible_lengths_are_refused() {
    let message = message(&server_name(b"a.test"));
    let whole = records(&message, 20);
    let mut mixed = whole.get(..25).unwrap().to_vec();
    mixed.extend(b"\x15\x03\x03\x00\x02\x01\x00");
    assert!(matches!(read(&mixed), Err(HelloError::Malformed(_))));
    assert!(matches!(
        read(b"\x16\x03\x01\x00\x00"),
        Err(HelloError::Malformed(_))
    ));
    assert!(matches!(
        read(b"\x16\x03\x01\x40\x01"),
        Err(HelloError::Malformed(_))
    ));
}

#[test]
fn what_came_after_the_hello_is_kept_and_told_apart() {
    let hello = from_rustls("a.test", &[]);
    let mut bytes = hello.clone();
    bytes.extend(b"\x17\x03\x03\x00\x01x");
    let mut reader = HelloReader::default();
    assert!(reader.push(&bytes).unwrap().is_some());
    assert_eq!(reader.into_raw(), (bytes, hello.len()));
}

proptest! {
    #[test]
    fn it_is_read_alike_however_it_is_cut(size in 1_usize..600, step in 1_usize..600) {
        let mut extensions = server_name(b"api.acme.test");
        extensions.extend(extension(16, &[0, 3, 2, b'h', b'2']));
        let bytes = records(&message(&extensions), size);
        let mut reader = HelloReader::default();
        let mut read = None;
        for part in bytes.chunks(step) {
            prop_assert!(read.is_none());
            read = reader.push(part).unwrap();
        }
        let read = read.expect("all of it was pushed");
        prop_assert_eq!(read.name.as_deref(), Some("api.acme.test"));
        prop_assert_eq!(read.alpn, vec![b"h2".to_vec()]);
        prop_assert_eq!(reader.into_raw(), (bytes.clone(), bytes.len()));
    }

    #[test]
    fn bytes_of_any_kind_are_refused_or_wait(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = read(&bytes);
        let _ = read(&records(&bytes, 100));
        let mut body = vec![1, 0];
        body.extend(vector16(&bytes));
        let _ = read(&records(&body, 16_384));
        let _ = read_message(&bytes);
    }

    /// Where rustls reads a message too, both read the same name and the same protocols: [`super::super::Hello`] relies on it.
    #[test]
    fn a_message_that_was_damaged_is_not_read_otherwise_than_rustls_does(at in 0_usize..600, with in any::<u8>()) {
        let mut bytes = from_rustls("api.acme.test", &["h2", "http/1.1"]);
        if let Some(byte) = bytes.get_mut(at) {
            *byte = with;
        }
        let Ok(Some(ours)) = read(&bytes) else { return Ok(()) };
        let mut acceptor = rustls::server::Acceptor::default();
        let mut rest = bytes.as_slice();
        acceptor.read_tls(&mut rest).unwrap();
        let Ok(Some(accepted)) = acceptor.accept() else { return Ok(()) };
        let hello = accepted.client_hello();
        prop_assert_eq!(hello.server_name().map(str::to_ascii_lowercase), ours.name);
        let theirs: Vec<Vec<u8>> = hello.alpn().into_iter().flatten().map(<[u8]>::to_vec).collect();
        prop_assert_eq!(theirs, ours.alpn);
    }
}
