//! How the client proves itself (RFC 6749 §2.3, RFC 7523 §2.2).

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::super::CredentialError;
use super::super::issuer::{Assertion, Form, IssuerError, read, signed, text};
use crate::config::{ClientAuth, Oauth2Spec};
use crate::web::{self, HeaderMap};

/// Adds what proves the client to a question. The audience of an assertion is the token end point, for every end point.
pub(super) async fn prove(
    spec: &Oauth2Spec,
    form: &mut Form,
    headers: &mut HeaderMap,
) -> Result<(), CredentialError> {
    let id = spec.client_id.as_str();
    match &spec.auth {
        ClientAuth::Basic(secret) => {
            let [secret] = read([secret]).await?;
            let login = Zeroizing::new(format!(
                "{}:{}",
                encoded(id).as_str(),
                encoded(text(&secret, "client secret")?).as_str()
            ));
            let header = Zeroizing::new(format!("Basic {}", STANDARD.encode(login.as_bytes())));
            let header = web::sensitive(header.as_bytes()).ok_or_else(|| IssuerError::Unfit {
                origin: secret.1.clone(),
                what: "client secret",
            })?;
            headers.insert("authorization", header);
        }
        ClientAuth::Post(secret) => {
            let [secret] = read([secret]).await?;
            form.add("client_id", id);
            form.add("client_secret", text(&secret, "client secret")?);
        }
        ClientAuth::PrivateKey(key) => {
            let [key] = read([key]).await?;
            let now = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default()
                .as_secs();
            let assertion = signed(
                &key,
                &Assertion {
                    iss: id,
                    sub: Some(id),
                    aud: Some(&spec.issuer.endpoint),
                    jti: Some(hex::encode(rand::random::<[u8; 16]>())),
                    iat: now,
                    exp: now + LIFE,
                },
            )?;
            form.add("client_id", id);
            form.add(
                "client_assertion_type",
                "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            );
            form.add("client_assertion", &assertion);
        }
        ClientAuth::None => form.add("client_id", id),
    }
    Ok(())
}

/// RFC 6749 §2.3.1: both parts of the login are form-encoded first.
fn encoded(text: &str) -> Zeroizing<String> {
    Zeroizing::new(form_urlencoded::byte_serialize(text.as_bytes()).collect())
}

/// Seconds for which an assertion is good.
const LIFE: u64 = 60;
