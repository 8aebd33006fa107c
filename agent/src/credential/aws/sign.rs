//! Signatures on requests to AWS: Signature Version 4, in headers.

use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign as sign_request};
use aws_sigv4::sign::v4::SigningParams;

use super::AwsKeys;
use crate::web::{HeaderMap, HeaderValue};

/// Why a request cannot be signed. Nothing of the keys is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// Keys that are no text.
    #[error("the keys of AWS are no text")]
    Keys,
    /// An address or a header that is no text.
    #[error("the request has an address or a header that cannot be signed")]
    Request,
}

/// A request as it is going to be sent.
#[derive(Clone, Copy, Debug)]
pub struct ToSign<'r> {
    /// The method.
    pub method: &'r str,
    /// The whole address, with its query; percent-encoded.
    pub url: &'r str,
    /// The headers, each of which is signed but those that proxies change. `Host` is added where it is missing.
    pub headers: &'r HeaderMap,
    /// The body.
    pub body: &'r [u8],
}

/// The headers that a request to `service` needs besides its own, at `now`.
pub fn sign(
    keys: &AwsKeys,
    service: &str,
    request: &ToSign<'_>,
    now: SystemTime,
) -> Result<HeaderMap, SignError> {
    // Exposed to sign with them. The library keeps them wiped.
    let text = |secret: &crate::model::Secret| {
        std::str::from_utf8(secret.expose())
            .map(str::to_owned)
            .map_err(|_| SignError::Keys)
    };
    let token = keys.token.as_ref().map(text).transpose()?;
    let identity = Credentials::new(text(&keys.id)?, text(&keys.secret)?, token, None, "tollgate").into();
    let params = SigningParams::builder()
        .identity(&identity)
        .region(&keys.region)
        .name(service)
        .time(now)
        .settings(SigningSettings::default())
        .build()
        .map_err(|_| SignError::Request)?
        .into();
    let mut headers = Vec::with_capacity(request.headers.len());
    for (name, value) in request.headers {
        headers.push((name.as_str(), value.to_str().map_err(|_| SignError::Request)?));
    }
    let signable = SignableRequest::new(
        request.method,
        request.url,
        headers.into_iter(),
        SignableBody::Bytes(request.body),
    )
    .map_err(|_| SignError::Request)?;
    let (instructions, _signature) = sign_request(signable, &params)
        .map_err(|_| SignError::Request)?
        .into_parts();
    let (signed, _query) = instructions.into_parts();
    let mut added = HeaderMap::new();
    for header in signed {
        let mut value = HeaderValue::from_str(header.value()).map_err(|_| SignError::Request)?;
        value.set_sensitive(true);
        added.insert(header.name(), value);
    }
    Ok(added)
}
