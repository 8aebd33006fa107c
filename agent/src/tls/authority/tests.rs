use std::fs::{self, Permissions};
use std::net::IpAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::super::{LeafNames, LocalCa, TlsError, provider};

const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));

/// Whether a client that trusts `ca` and dials `name` accepts what the agent shows for `names`.
async fn accepted(ca: &LocalCa, names: &LeafNames, name: &str) -> bool {
    let mut roots = RootCertStore::empty();
    roots.add(ca.certificate().clone()).unwrap();
    let client = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let (near, far) = tokio::io::duplex(16 * 1024);
    let server = TlsAcceptor::from(ca.server_config(names).unwrap());
    let serving = tokio::spawn(async move { server.accept(far).await.map(drop) });
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let seen = TlsConnector::from(Arc::new(client)).connect(name, near).await;
    let verdict = seen.is_ok();
    drop(seen);
    let _ = serving.await.unwrap();
    verdict
}

#[tokio::test]
async fn a_client_that_trusts_the_authority_accepts_the_name_it_asked_for_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let ca = LocalCa::open_or_create(dir.path()).unwrap();
    let by_name = LeafNames::asked(Some("DB.acme.test"), &[], ADDRESS);
    assert!(accepted(&ca, &by_name, "db.acme.test").await);
    assert!(!accepted(&ca, &by_name, "other.acme.test").await);
    let by_address = LeafNames::asked(None, &["db.acme.test".to_owned()], ADDRESS);
    assert!(accepted(&ca, &by_address, "192.0.2.7").await);
    assert!(accepted(&ca, &by_address, "db.acme.test").await);
    assert!(!accepted(&ca, &by_address, "192.0.2.8").await);
}

#[tokio::test]
async fn a_second_start_opens_the_same_authority() {
    let dir = tempfile::tempdir().unwrap();
    let first = LocalCa::open_or_create(dir.path()).unwrap();
    let second = LocalCa::open_or_create(dir.path()).unwrap();
    assert_eq!(first.certificate(), second.certificate());
    let names = LeafNames::asked(Some("db.acme.test"), &[], ADDRESS);
    assert!(accepted(&second, &names, "db.acme.test").await);
}

#[test]
fn the_key_is_for_one_user_and_the_certificate_for_all_and_nothing_else_is_left() {
    let dir = tempfile::tempdir().unwrap();
    LocalCa::open_or_create(dir.path()).unwrap();
    let mut found: Vec<(String, u32)> = fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            (
                entry.file_name().into_string().unwrap(),
                entry.metadata().unwrap().mode() & 0o777,
            )
        })
        .collect();
    found.sort();
    assert_eq!(
        found,
        [("ca.key".to_owned(), 0o600), ("ca.pem".to_owned(), 0o644)]
    );
}

#[test]
fn agents_that_start_at_once_end_with_one_authority() {
    let dir = tempfile::tempdir().unwrap();
    let seen: Vec<_> = std::thread::scope(|scope| {
        let starts: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| LocalCa::open_or_create(dir.path()).unwrap().certificate().clone()))
            .collect();
        starts.into_iter().map(|start| start.join().unwrap()).collect()
    });
    assert!(seen.windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn a_start_cut_off_between_key_and_certificate_is_finished() {
    let dir = tempfile::tempdir().unwrap();
    LocalCa::open_or_create(dir.path()).unwrap();
    fs::remove_file(dir.path().join("ca.pem")).unwrap();
    LocalCa::open_or_create(dir.path()).unwrap();
}

#[test]
fn a_key_that_others_can_read_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    LocalCa::open_or_create(dir.path()).unwrap();
    fs::set_permissions(dir.path().join("ca.key"), Permissions::from_mode(0o640)).unwrap();
    let error = LocalCa::open_or_create(dir.path()).unwrap_err();
    assert!(matches!(error, TlsError::LooseKey { mode: 0o640, .. }), "{error}");
}

#[test]
fn a_lost_key_is_said_and_not_replaced() {
    let dir = tempfile::tempdir().unwrap();
    LocalCa::open_or_create(dir.path()).unwrap();
    fs::remove_file(dir.path().join("ca.key")).unwrap();
    let error = LocalCa::open_or_create(dir.path()).unwrap_err();
    assert!(matches!(error, TlsError::KeyMissing { .. }), "{error}");
    assert!(!dir.path().join("ca.key").exists());
}

#[test]
fn the_certificate_of_another_authority_is_refused() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    LocalCa::open_or_create(dir.path()).unwrap();
    LocalCa::open_or_create(other.path()).unwrap();
    fs::copy(other.path().join("ca.pem"), dir.path().join("ca.pem")).unwrap();
    let error = LocalCa::open_or_create(dir.path()).unwrap_err();
    assert!(matches!(error, TlsError::NotAnAuthority { .. }), "{error}");
}

#[test]
fn a_name_asked_for_twice_gets_one_leaf_and_many_names_do_not_fill_memory() {
    let dir = tempfile::tempdir().unwrap();
    let ca = LocalCa::open_or_create(dir.path()).unwrap();
    let names = LeafNames::asked(Some("db.acme.test"), &[], ADDRESS);
    let (first, again) = (
        ca.server_config(&names).unwrap(),
        ca.server_config(&names).unwrap(),
    );
    assert!(Arc::ptr_eq(&first, &again));
    for number in 0..1100 {
        ca.server_config(&LeafNames::asked(Some(&format!("n{number}.test")), &[], ADDRESS))
            .unwrap();
    }
    assert!(ca.leaves.len() <= 1024);
}
