//! An issuer for tests: discovery and keys over HTTP on loopback, and tokens of any shape.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signer, SigningKey};
use parking_lot::Mutex;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

use crate::config::{ClaimName, ClaimRule, ClaimValue, Glob};
use crate::model::Secret;

pub(super) struct TestIssuer {
    pub(super) url: String,
    address: SocketAddr,
    shared: Arc<Shared>,
    server: Option<JoinHandle<()>>,
}

struct Shared {
    url: String,
    keys: Mutex<Vec<Value>>,
    questions: Mutex<u32>,
    /// Answers instead of the real ones: (status line, body).
    instead: Mutex<Option<(&'static str, String)>>,
    stop: Mutex<bool>,
}

/// A claim that has to match a pattern.
pub(super) fn like(name: &str, pattern: &str) -> ClaimRule {
    let claim = if name.starts_with('/') {
        ClaimName::Pointer(name.to_owned())
    } else {
        ClaimName::Top(name.to_owned())
    };
    ClaimRule {
        claim,
        any_of: vec![ClaimValue::Like {
            pattern: pattern.to_owned(),
            glob: Glob::path(pattern).unwrap(),
        }],
    }
}

/// The term for which tests use keys of an issuer that is down.
pub(super) const HOUR: Duration = Duration::from_hours(1);

pub(super) fn key(number: u8) -> SigningKey {
    SigningKey::from_bytes(&[number; 32])
}

fn jwk(kid: &str, key: &SigningKey) -> Value {
    let public = URL_SAFE_NO_PAD.encode(key.verifying_key().as_bytes());
    json!({"kty": "OKP", "crv": "Ed25519", "x": public, "kid": kid, "alg": "EdDSA", "use": "sig"})
}

impl TestIssuer {
    /// Over plain HTTP.
    pub(super) fn start() -> Self {
        Self::start_with(None)
    }

    /// Over HTTPS, and the PEM certificate that vouches for it.
    pub(super) fn start_tls() -> (Self, String) {
        let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
        let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let config =
            ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(vec![made.cert.der().clone()], key.into())
                .unwrap();
        (Self::start_with(Some(Arc::new(config))), made.cert.pem())
    }

    fn start_with(tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{address}");
        let shared = Arc::new(Shared {
            url: url.clone(),
            keys: Mutex::new(vec![jwk("one", &key(1))]),
            questions: Mutex::new(0),
            instead: Mutex::new(None),
            stop: Mutex::new(false),
        });
        let of_server = Arc::clone(&shared);
        let server = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if *of_server.stop.lock() {
                    return;
                }
                let mut stream = stream.unwrap();
                match &tls {
                    None => of_server.answer(&mut stream),
                    Some(tls) => {
                        let connection = ServerConnection::new(Arc::clone(tls)).unwrap();
                        of_server.answer(&mut StreamOwned::new(connection, stream));
                    }
                }
            }
        });
        Self {
            url,
            address,
            shared,
            server: Some(server),
        }
    }

    pub(super) fn publish(&self, kid: &str, key: &SigningKey) {
        self.shared.keys.lock().push(jwk(kid, key));
    }

    pub(super) fn withdraw_all(&self) {
        self.shared.keys.lock().clear();
    }

    pub(super) fn answer_instead(&self, status: &'static str, body: String) {
        *self.shared.instead.lock() = Some((status, body));
    }

    /// How often the keys were asked for.
    pub(super) fn questions(&self) -> u32 {
        *self.shared.questions.lock()
    }

    /// Stops listening: connections are refused from here on.
    pub(super) fn go_down(&mut self) {
        *self.shared.stop.lock() = true;
        let _wakes_the_server = TcpStream::connect(self.address);
        if let Some(server) = self.server.take() {
            server.join().unwrap();
        }
    }

    /// Claims of a token that everything is right with, at `now` seconds since 1970.
    pub(super) fn claims(&self, now: u64) -> Value {
        json!({
            "iss": self.url, "sub": "project_path:acme/report:ref_type:branch:ref:main", "aud": "tollgate",
            "iat": now, "nbf": now, "exp": now + 300,
            "project_path": "acme/report", "ref_protected": "true", "job_id": "4711",
        })
    }
}

impl Drop for TestIssuer {
    fn drop(&mut self) {
        self.go_down();
    }
}

impl Shared {
    fn answer(&self, stream: &mut (impl Read + Write)) {
        // A client that does not trust the certificate ends it here, with nothing to answer.
        let Some(Ok(request)) = BufReader::new(&mut *stream).lines().next() else {
            return;
        };
        let (status, body) = match self.instead.lock().clone() {
            Some(instead) => instead,
            None if request.starts_with("GET /.well-known/openid-configuration ") => {
                let document = json!({"issuer": self.url, "jwks_uri": format!("{}/jwks", self.url)});
                ("200 OK", document.to_string())
            }
            None if request.starts_with("GET /jwks ") => {
                *self.questions.lock() += 1;
                ("200 OK", json!({"keys": *self.keys.lock()}).to_string())
            }
            None => ("404 Not Found", String::new()),
        };
        let head = format!(
            "HTTP/1.1 {status}\r\nlocation: {}/jwks\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            self.url,
            body.len()
        );
        // A client that had enough may have closed already.
        let _closed = stream
            .write_all(head.as_bytes())
            .and_then(|()| stream.write_all(body.as_bytes()));
    }
}

/// `header.payload` in the form that is signed.
pub(super) fn signing_input(header: &Value, claims: &Value) -> String {
    let encode = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
    format!("{}.{}", encode(header), encode(claims))
}

pub(super) fn with_signature(input: &str, signature: &[u8]) -> Secret {
    Secret::new(format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature)).into_bytes())
}

pub(super) fn token(kid: &str, key: &SigningKey, claims: &Value) -> Secret {
    let input = signing_input(&json!({"alg": "EdDSA", "typ": "JWT", "kid": kid}), claims);
    with_signature(&input, &key.sign(input.as_bytes()).to_bytes())
}
