//! Assertions that a client or an app signs with its RSA key: RS256 (RFC 7515, RFC 7518 §3.3).

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeyPair;
use aws_lc_rs::signature::RSA_PKCS1_SHA256;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde::Serialize;
use zeroize::Zeroizing;

use super::IssuerError;
use crate::model::Secret;

/// What is signed.
#[derive(Debug, Serialize)]
pub(in crate::credential) struct Assertion<'a> {
    pub(in crate::credential) iss: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::credential) sub: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::credential) aud: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::credential) jti: Option<String>,
    pub(in crate::credential) iat: u64,
    pub(in crate::credential) exp: u64,
}

/// `assertion`, signed with the key in `key`, which was found in the place that goes with it.
pub(in crate::credential) fn signed(
    (key, origin): &(Secret, String),
    assertion: &Assertion<'_>,
) -> Result<Zeroizing<String>, IssuerError> {
    let unfit = || IssuerError::Key {
        origin: origin.clone(),
    };
    // Exposed to sign with it.
    let key = match PrivateKeyDer::from_pem_slice(key.expose()).map_err(|_| unfit())? {
        PrivateKeyDer::Pkcs1(key) => KeyPair::from_der(key.secret_pkcs1_der()),
        PrivateKeyDer::Pkcs8(key) => KeyPair::from_pkcs8(key.secret_pkcs8_der()),
        _ => return Err(unfit()),
    };
    let key = key.map_err(|_| unfit())?;
    let claims = serde_json::to_vec(assertion).map_err(|_| unfit())?;
    let mut token = Zeroizing::new(format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(br#"{"alg":"RS256","typ":"JWT"}"#),
        URL_SAFE_NO_PAD.encode(claims)
    ));
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(
        &RSA_PKCS1_SHA256,
        &SystemRandom::new(),
        token.as_bytes(),
        &mut signature,
    )
    .map_err(|_| unfit())?;
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, &mut token);
    Ok(token)
}
