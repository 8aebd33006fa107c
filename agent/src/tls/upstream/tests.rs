use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tempfile::TempDir;
use tokio_rustls::TlsAcceptor;

use super::super::{TlsError, provider};
use super::Upstream;
use crate::config::{EndpointHost, TlsMode, TlsSpec};

const HOST: &str = "db.acme.test";
const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));

fn spec(upstream: TlsMode, ca: Option<&Path>, server_name: Option<&str>) -> TlsSpec {
    TlsSpec {
        upstream,
        ca: ca.map(Path::to_owned),
        server_name: server_name.map(str::to_owned),
    }
}

/// What `upstream` says of a server with a certificate that `shape` makes, issued by an authority whose certificate
/// is in `ca`; `None`: by itself.
async fn meet(
    upstream: TlsMode,
    own_authority: bool,
    shape: impl FnOnce(&mut CertificateParams),
) -> Result<(), TlsError> {
    let dir = TempDir::new().unwrap();
    let ca = dir.path().join("ca.pem");
    let (authority_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let mut params = CertificateParams::new(vec![HOST.to_owned()]).unwrap();
    shape(&mut params);
    let certificate = if own_authority {
        fs::write(&ca, authority.self_signed(&authority_key).unwrap().pem()).unwrap();
        params
            .signed_by(&key, &Issuer::new(authority, authority_key))
            .unwrap()
    } else {
        let certificate = params.self_signed(&key).unwrap();
        fs::write(&ca, certificate.pem()).unwrap();
        certificate
    };
    let server = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
        )
        .unwrap();
    let upstream = Upstream::from_spec(&spec(upstream, Some(&ca), None)).unwrap();
    let (near, far) = tokio::io::duplex(16 * 1024);
    let serving = tokio::spawn(async move {
        TlsAcceptor::from(std::sync::Arc::new(server))
            .accept(far)
            .await
            .map(drop)
    });
    let name = upstream
        .name(&EndpointHost::Name(HOST.to_owned()), ADDRESS)
        .unwrap();
    let met = upstream.connect(name, near).await.map(drop);
    let _ = serving.await.unwrap();
    met
}

fn expired(params: &mut CertificateParams) {
    params.not_after = rcgen::date_time_ymd(2001, 1, 1);
    params.not_before = rcgen::date_time_ymd(2000, 1, 1);
}

#[tokio::test]
async fn a_good_certificate_is_accepted_and_each_bad_one_is_named() {
    let verify = TlsMode::VerifyFull;
    meet(verify, true, |_| {}).await.unwrap();
    let error = meet(verify, true, expired).await.unwrap_err();
    assert!(
        matches!(&error, TlsError::Expired { name } if name == HOST),
        "{error}"
    );
    let error = meet(verify, true, |params| {
        params.not_before = rcgen::date_time_ymd(2200, 1, 1);
    })
    .await
    .unwrap_err();
    assert!(matches!(error, TlsError::Expired { .. }), "{error}");
    let error = meet(verify, true, |params| params.subject_alt_names.clear())
        .await
        .unwrap_err();
    assert!(matches!(error, TlsError::WrongName { .. }), "{error}");
    let ca = |params: &mut CertificateParams| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let error = meet(verify, true, ca).await.unwrap_err();
    assert!(matches!(error, TlsError::AuthorityAsServer { .. }), "{error}");
    // Self-signed, and itself named as the authority: what many small servers have.
    meet(verify, false, |params| params.is_ca = IsCa::ExplicitNoCa)
        .await
        .unwrap();
    let error = meet(verify, false, ca).await.unwrap_err();
    assert!(matches!(error, TlsError::AuthorityAsServer { .. }), "{error}");
}

#[tokio::test]
async fn require_takes_whatever_certificate_there_is() {
    meet(TlsMode::Require, true, expired).await.unwrap();
    meet(TlsMode::Require, false, |params| params.subject_alt_names.clear())
        .await
        .unwrap();
}

#[tokio::test]
async fn a_peer_that_speaks_no_tls_and_a_service_without_it_are_errors() {
    let upstream = Upstream::from_spec(&spec(TlsMode::Require, None, None)).unwrap();
    let (near, mut far) = tokio::io::duplex(1024);
    tokio::io::AsyncWriteExt::write_all(&mut far, b"HTTP/1.1 400 Bad Request\r\n\r\n")
        .await
        .unwrap();
    let name = upstream
        .name(&EndpointHost::Name(HOST.to_owned()), ADDRESS)
        .unwrap();
    let error = upstream.connect(name.clone(), near).await.unwrap_err();
    assert!(matches!(error, TlsError::Handshake(_)), "{error}");
    let disabled = Upstream::from_spec(&spec(TlsMode::Disable, None, None)).unwrap();
    let (near, _far) = tokio::io::duplex(1024);
    assert!(disabled.connect(name, near).await.unwrap_err().is_ours());
}

#[test]
fn the_name_to_verify_is_the_policys_then_the_endpoints_then_the_address() {
    let named = EndpointHost::Name(HOST.to_owned());
    let net = EndpointHost::Net("192.0.2.0/24".parse().unwrap());
    let plain = Upstream::from_spec(&spec(TlsMode::Require, None, None)).unwrap();
    let set = Upstream::from_spec(&spec(TlsMode::Require, None, Some("cluster.acme.test"))).unwrap();
    for (upstream, host, name) in [
        (&plain, &named, HOST),
        (&plain, &net, "192.0.2.7"),
        (&set, &named, "cluster.acme.test"),
        (&set, &net, "cluster.acme.test"),
    ] {
        assert_eq!(upstream.name(host, ADDRESS).unwrap().to_str(), name);
    }
}

#[test]
fn policies_whose_files_or_names_are_no_use_are_refused_when_they_are_read() {
    let dir = TempDir::new().unwrap();
    let missing = dir.path().join("missing.pem");
    let (empty, broken) = (dir.path().join("empty.pem"), dir.path().join("broken.pem"));
    fs::write(&empty, "no certificate\n").unwrap();
    fs::write(
        &broken,
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    )
    .unwrap();
    let read = |ca: &Path| Upstream::from_spec(&spec(TlsMode::VerifyFull, Some(ca), None)).unwrap_err();
    assert!(matches!(read(&missing), TlsError::File { .. }));
    for file in [&empty, &broken] {
        let error = read(file);
        assert!(matches!(error, TlsError::NotACa { .. }), "{error}");
        assert!(error.to_string().contains(&file.display().to_string()));
    }
    let error = Upstream::from_spec(&spec(TlsMode::Require, None, Some("not a name"))).unwrap_err();
    assert!(matches!(error, TlsError::BadName { .. }), "{error}");
}
