use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::super::{
    Alert, ClientIdentity, Hello, LeafNames, LocalCa, NotIntercepted, Opening, Terms, TlsError, Upstream,
    Why, provider,
};
use super::{Intercepted, intercept};
use crate::config::{EndpointHost, TlsMode, TlsSpec};

const NAME: &str = "api.acme.test";
const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));
const SPOKEN: &[&[u8]] = &[b"h2", b"http/1.1"];

/// A target with its authority, and an agent with its own.
struct Scene {
    dir: tempfile::TempDir,
    authority: CertificateParams,
    authority_key: KeyPair,
    ca: LocalCa,
}

impl Scene {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let authority_key = KeyPair::generate().unwrap();
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = authority.self_signed(&authority_key).unwrap().pem();
        std::fs::write(dir.path().join("target-ca.pem"), pem).unwrap();
        let ca = LocalCa::open_or_create(&dir.path().join("ca")).unwrap();
        Self {
            dir,
            authority,
            authority_key,
            ca,
        }
    }

    /// A certificate of the target's authority, as PEM with its key.
    fn issued(&self, name: &str) -> String {
        let key = KeyPair::generate().unwrap();
        let issuer = Issuer::from_params(&self.authority, &self.authority_key);
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &issuer).unwrap();
        format!("{}{}", certificate.pem(), key.serialize_pem())
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots
            .add(
                self.authority
                    .self_signed(&self.authority_key)
                    .unwrap()
                    .der()
                    .clone(),
            )
            .unwrap();
        roots
    }

    fn upstream(&self, ca: Option<&Path>) -> Upstream {
        let own = self.dir.path().join("target-ca.pem");
        Upstream::from_spec(&TlsSpec {
            upstream: TlsMode::VerifyFull,
            ca: Some(ca.unwrap_or(&own).to_owned()),
            ..TlsSpec::default()
        })
        .unwrap()
    }

    fn target(
        &self,
        name: &str,
        alpn: &[&str],
        asks: bool,
        version: &'static SupportedProtocolVersion,
    ) -> ServerConfig {
        let pem = self.issued(name);
        let (chain, key) = parts(&pem);
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[version])
            .unwrap();
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(self.roots()), provider())
            .build()
            .unwrap();
        let builder = if asks {
            builder.with_client_cert_verifier(verifier)
        } else {
            builder.with_no_client_auth()
        };
        let mut config = builder.with_single_cert(chain, key).unwrap();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        config
    }

    fn terms<'a>(&'a self, upstream: &'a Upstream, identity: Option<&'a ClientIdentity>) -> Terms<'a> {
        Terms {
            authority: &self.ca,
            upstream,
            server: upstream
                .asked(&EndpointHost::Name(NAME.to_owned()), ADDRESS, Some(NAME))
                .unwrap(),
            names: LeafNames::asked(Some(NAME), &[], ADDRESS),
            spoken: SPOKEN,
            identity,
        }
    }
}

fn parts(
    pem: &str,
) -> (
    Vec<rustls::pki_types::CertificateDer<'static>>,
    PrivateKeyDer<'static>,
) {
    use rustls::pki_types::pem::PemObject;
    let chain = rustls::pki_types::CertificateDer::pem_slice_iter(pem.as_bytes())
        .map(Result::unwrap)
        .collect();
    let key = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).unwrap();
    (chain, PrivateKeyDer::Pkcs8(key))
}

/// Serves one connection: sends back what it reads. What the handshake came to, and the protocol.
fn serve(config: ServerConfig) -> (DuplexStream, tokio::task::JoinHandle<io::Result<Option<Vec<u8>>>>) {
    let (near, far) = duplex(64 * 1024);
    let serving = tokio::spawn(async move {
        let mut stream = TlsAcceptor::from(Arc::new(config)).accept(far).await?;
        let protocol = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
        let mut word = [0; 4];
        stream.read_exact(&mut word).await?;
        stream.write_all(&word).await?;
        stream.flush().await?;
        Ok(protocol)
    });
    (near, serving)
}

/// A workload that trusts the agent's authority and offers `alpn`: what it got.
fn ask(ca: &LocalCa, alpn: &[&str]) -> (DuplexStream, tokio::task::JoinHandle<io::Result<Option<Vec<u8>>>>) {
    let mut roots = RootCertStore::empty();
    roots.add(ca.certificate()).unwrap();
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let (near, far) = duplex(64 * 1024);
    let asking = tokio::spawn(async move {
        let name = ServerName::try_from(NAME).unwrap();
        let mut stream = TlsConnector::from(Arc::new(config)).connect(name, far).await?;
        stream.write_all(b"ping").await?;
        stream.flush().await?;
        let mut word = [0; 4];
        stream.read_exact(&mut word).await?;
        assert_eq!(&word, b"ping");
        Ok(stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec))
    });
    (near, asking)
}

async fn hello(stream: DuplexStream) -> Box<Hello<DuplexStream>> {
    match Opening::read_from(stream).await.unwrap() {
        Opening::Tls(hello) => hello,
        Opening::Clear(_) => panic!("in clear"),
    }
}

async fn copy(intercepted: Intercepted<DuplexStream>) {
    let (mut client, mut target) = (intercepted.client, intercepted.target);
    let _ = tokio::io::copy_bidirectional(&mut client, &mut target).await;
}

#[tokio::test]
async fn both_sides_speak_what_the_target_chose_of_what_the_client_offered() {
    let scene = Scene::new();
    let upstream = scene.upstream(None);
    let (h2, h1) = (Some(b"h2".to_vec()), Some(b"http/1.1".to_vec()));
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        for (offered, known, chosen) in [
            (&["h2", "http/1.1"][..], &["h2", "http/1.1"][..], &h2),
            (&["h2", "http/1.1"], &["http/1.1"], &h1),
            (&["http/1.1"], &["h2", "http/1.1"], &h1),
            // What is not spoken here is not offered, though the target would like it best.
            (&["spdy/3", "http/1.1"], &["spdy/3", "http/1.1"], &h1),
            (&[], &["h2"], &None),
            (&["h2", "http/1.1"], &[], &None),
        ] {
            let (near, asking) = ask(&scene.ca, offered);
            let (dialled, serving) = serve(scene.target(NAME, known, false, version));
            let intercepted = intercept(hello(near).await, scene.terms(&upstream, None), async {
                Ok::<_, io::Error>(dialled)
            })
            .await
            .unwrap();
            assert_eq!(&intercepted.alpn, chosen);
            assert_eq!(intercepted.name.as_deref(), Some(NAME));
            copy(intercepted).await;
            assert_eq!(&asking.await.unwrap().unwrap(), chosen);
            assert_eq!(&serving.await.unwrap().unwrap(), chosen);
        }
    }
}

#[tokio::test]
async fn a_target_that_is_not_verified_leaves_the_client_unanswered_and_the_reason_says_what_to_do() {
    let (scene, other) = (Scene::new(), Scene::new());
    let upstream = scene.upstream(Some(&other.dir.path().join("target-ca.pem")));
    let (near, asking) = ask(&scene.ca, &["h2"]);
    let (dialled, serving) = serve(scene.target(NAME, &["h2"], false, &rustls::version::TLS13));
    let failed = intercept(hello(near).await, scene.terms(&upstream, None), async {
        Ok::<_, io::Error>(dialled)
    })
    .await
    .unwrap_err();
    assert!(
        matches!(failed.why, Why::Target(TlsError::UnknownAuthority { .. })),
        "{}",
        failed.why
    );
    assert_eq!(failed.why.alert(), Alert::Failed);
    serving.await.unwrap().unwrap_err();
    // It can still be told, in its own protocol.
    let hello = failed.hello.unwrap();
    let names = LeafNames::asked(Some(NAME), &[], ADDRESS);
    let mut told = hello.terminate(&scene.ca, &names, Some(b"h2")).await.unwrap();
    let mut word = [0; 4];
    told.read_exact(&mut word).await.unwrap();
    told.write_all(&word).await.unwrap();
    told.flush().await.unwrap();
    asking.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_target_that_cannot_be_reached_and_protocols_that_nobody_speaks_leave_the_client_unanswered() {
    let scene = Scene::new();
    let upstream = scene.upstream(None);
    let (near, _asking) = ask(&scene.ca, &["h2"]);
    let failed = intercept(hello(near).await, scene.terms(&upstream, None), async {
        Err(io::Error::from(io::ErrorKind::ConnectionRefused))
    })
    .await
    .unwrap_err();
    assert!(matches!(failed.why, Why::Dial(_)));
    assert!(failed.hello.is_some());

    let (near, asking) = ask(&scene.ca, &["imap", "smtp"]);
    let failed: NotIntercepted<io::Error, DuplexStream> =
        intercept(hello(near).await, scene.terms(&upstream, None), async {
            panic!("nothing is dialled for a client that cannot be served")
        })
        .await
        .unwrap_err();
    let said = failed.why.to_string();
    assert!(said.contains("imap, smtp"), "{said}");
    failed.hello.unwrap().refuse(failed.why.alert()).await;
    let error = asking.await.unwrap().unwrap_err();
    assert!(error.to_string().contains("NoApplicationProtocol"), "{error}");
}

#[tokio::test]
async fn a_target_that_asks_for_a_certificate_gets_the_one_of_the_credential() {
    let scene = Scene::new();
    let upstream = scene.upstream(None);
    let identity = ClientIdentity::from_pem(scene.issued("job.acme.test").as_bytes()).unwrap();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let (near, asking) = ask(&scene.ca, &["http/1.1"]);
        let (dialled, serving) = serve(scene.target(NAME, &["http/1.1"], true, version));
        let intercepted = intercept(
            hello(near).await,
            scene.terms(&upstream, Some(&identity)),
            async { Ok::<_, io::Error>(dialled) },
        )
        .await
        .unwrap();
        assert!(!intercepted.without_certificate);
        copy(intercepted).await;
        asking.await.unwrap().unwrap();
        serving.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_target_that_gets_none_of_the_certificates_it_asks_for_is_put_into_words_in_both_versions() {
    let scene = Scene::new();
    let upstream = scene.upstream(None);
    // TLS 1.2 says so in the handshake.
    let (near, _asking) = ask(&scene.ca, &["http/1.1"]);
    let (dialled, _serving) = serve(scene.target(NAME, &["http/1.1"], true, &rustls::version::TLS12));
    let failed = intercept(hello(near).await, scene.terms(&upstream, None), async {
        Ok::<_, io::Error>(dialled)
    })
    .await
    .unwrap_err();
    assert!(
        matches!(
            failed.why,
            Why::Target(TlsError::ClientCertificate { shown: false, .. })
        ),
        "{}",
        failed.why
    );
    // TLS 1.3 says so when the handshake is over.
    let (near, _asking) = ask(&scene.ca, &["http/1.1"]);
    let (dialled, _serving) = serve(scene.target(NAME, &["http/1.1"], true, &rustls::version::TLS13));
    let mut intercepted = intercept(hello(near).await, scene.terms(&upstream, None), async {
        Ok::<_, io::Error>(dialled)
    })
    .await
    .unwrap();
    assert!(intercepted.without_certificate);
    let error = intercepted.target.read_u8().await.unwrap_err();
    let said = TlsError::of_target(&error, NAME, false).unwrap().to_string();
    assert!(said.contains("inject = \"tls\""), "{said}");
}

#[test]
fn a_key_that_is_not_the_certificates_is_no_identity() {
    let scene = Scene::new();
    let (one, other) = (scene.issued("a.test"), scene.issued("b.test"));
    assert!(ClientIdentity::from_parts(one.as_bytes(), one.as_bytes()).is_ok());
    for (certificate, key) in [
        (one.as_str(), other.as_str()),
        (one.as_str(), "none"),
        ("", one.as_str()),
    ] {
        let error = ClientIdentity::from_parts(certificate.as_bytes(), key.as_bytes()).unwrap_err();
        assert!(matches!(error, TlsError::NotAnIdentity), "{error}");
    }
}
