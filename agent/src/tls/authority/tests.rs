use std::fs::{self, Permissions};
use std::net::IpAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::super::{LeafNames, LocalCa, Permitted, TlsError, provider};

const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));

/// Whether a client that trusts `ca` and dials `name` accepts what the agent shows for `names`.
async fn accepted(ca: &LocalCa, names: &LeafNames, name: &str) -> bool {
    accepted_trusting(ca.certificate(), ca, names, name).await
}

async fn accepted_trusting(
    trusted: CertificateDer<'static>,
    ca: &LocalCa,
    names: &LeafNames,
    name: &str,
) -> bool {
    let mut roots = RootCertStore::empty();
    roots.add(trusted).unwrap();
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
    assert!(ca.leaves() <= 1024);
}

fn permitted(names: &[&str]) -> Permitted {
    Permitted::Names(names.iter().map(|name| (*name).to_owned()).collect())
}

/// Whether a client that trusts `trusted` alone and dials `name` accepts what `ca` shows for it.
async fn accepted_by(trusted: &CertificateDer<'static>, ca: &LocalCa, name: &str) -> bool {
    let names = LeafNames::asked(Some(name), &[], ADDRESS);
    accepted_trusting(trusted.clone(), ca, &names, name).await
}

#[tokio::test]
async fn an_authority_vouches_for_the_names_of_the_policies_and_clients_refuse_others() {
    let dir = tempfile::tempdir().unwrap();
    let ca = LocalCa::open_for(dir.path(), &permitted(&["api.acme.test"])).unwrap();
    let own = ca.certificate();
    assert!(accepted_by(&own, &ca, "api.acme.test").await);
    assert!(accepted_by(&own, &ca, "eu.api.acme.test").await);
    assert!(!accepted_by(&own, &ca, "bank.test").await);
    // Addresses are not constrained: names have other ones tomorrow.
    let by_address = LeafNames::asked(None, &[], ADDRESS);
    assert!(accepted(&ca, &by_address, "192.0.2.7").await);
    let none = tempfile::tempdir().unwrap();
    let ca = LocalCa::open_for(none.path(), &permitted(&[])).unwrap();
    assert!(!accepted_by(&ca.certificate(), &ca, "bank.test").await);
}

#[tokio::test]
async fn names_that_are_new_get_an_authority_of_their_own_and_those_from_before_keep_theirs() {
    let dir = tempfile::tempdir().unwrap();
    let ca = LocalCa::open_for(dir.path(), &permitted(&["a.test"])).unwrap();
    let first = ca.certificate();
    assert!(!ca.extend(&permitted(&["a.test"])).unwrap());
    assert!(ca.extend(&permitted(&["a.test", "b.test"])).unwrap());
    assert!(!ca.extend(&permitted(&["a.test", "b.test"])).unwrap());
    let views = ca.list();
    assert_eq!(views.len(), 2);
    let second = views[1].certificate.clone();
    assert!(accepted_by(&first, &ca, "a.test").await);
    assert!(!accepted_by(&first, &ca, "b.test").await);
    assert!(accepted_by(&second, &ca, "b.test").await);
    let trusted = ca.trusted_pem();
    let parsed: Vec<_> = CertificateDer::pem_slice_iter(trusted.as_bytes())
        .map(Result::unwrap)
        .collect();
    assert_eq!(parsed, [first, second]);
}

#[tokio::test]
async fn a_new_authority_is_trusted_before_it_signs_and_the_old_one_is_gone_afterwards() {
    let dir = tempfile::tempdir().unwrap();
    let ca = LocalCa::open_or_create(dir.path()).unwrap();
    let old = ca.certificate();
    // By another process: `tollgate ca rotate` beside the agent.
    let beside = LocalCa::open_or_create(dir.path()).unwrap();
    let hour = std::time::Duration::from_hours(1);
    let new = beside.rotate(&permitted(&["a.test"]), hour).unwrap();
    assert!(!new.signs);
    ca.forget_the_look();
    assert!(accepted_by(&old, &ca, "a.test").await);
    assert_eq!(ca.list().len(), 2);

    let at_once = beside
        .rotate(&permitted(&["a.test"]), std::time::Duration::ZERO)
        .unwrap();
    assert!(at_once.signs);
    ca.forget_the_look();
    assert!(!accepted_by(&old, &ca, "a.test").await);
    assert!(accepted_by(&at_once.certificate, &ca, "a.test").await);
    ca.extend(&Permitted::Names([].into())).unwrap();
    assert_eq!(ca.list().len(), 1);
    let mut left: Vec<String> = fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(left, ["ca-3.from", "ca-3.key", "ca-3.pem"]);
}

#[test]
fn what_clients_have_to_trust_is_published_for_everybody() {
    let dir = tempfile::tempdir().unwrap();
    let ca = LocalCa::open_or_create(&dir.path().join("ca")).unwrap();
    let path = dir.path().join("trusted.pem");
    ca.publish(&path).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), ca.trusted_pem());
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o644);
    ca.rotate(&Permitted::Any, std::time::Duration::from_hours(1))
        .unwrap();
    ca.publish(&path).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), ca.trusted_pem());
    assert_eq!(
        fs::read_to_string(&path)
            .unwrap()
            .matches("BEGIN CERTIFICATE")
            .count(),
        2
    );
    // What rcgen wrote itself is the same text but for its line ends.
    let own = fs::read_to_string(dir.path().join("ca/ca.pem")).unwrap();
    assert!(ca.trusted_pem().starts_with(&own.replace("\r\n", "\n")));
}
