//! Discovery and keys of an issuer over HTTP (OpenID Connect Discovery 1.0 §4, RFC 7517), and documents of its like.
//!
//! Of the discovery document only `issuer` and `jwks_uri` are read: issuers for machines (GitHub Actions, Kubernetes)
//! leave out the end points that people log in at, so the library's type for the whole document refuses theirs.
//! Redirects are not followed, and plain HTTP is spoken to loopback alone.

use std::path::Path;
use std::time::Duration;

use openidconnect::core::CoreJsonWebKeySet;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::saml::MetadataError;
use crate::web::{Bounds, StatusCode, Url, Web, WebError, address};

/// Why an issuer's keys cannot be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error(transparent)]
    Web(#[from] WebError),
    #[error("{url} answered {status} instead of 200")]
    Status { url: Url, status: StatusCode },
    #[error("{url} answered with something that is no {expected}")]
    Unreadable { url: Url, expected: &'static str },
    #[error("{url} speaks for the issuer {found:?}")]
    OtherIssuer { url: Url, found: String },
    #[error("{url} lists no key that could be used")]
    NoKeys { url: Url },
    #[error("{url} cannot be used: {error}")]
    Metadata { url: Url, error: MetadataError },
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

/// Asks `issuer` for its keys. `ca`: authorities that may vouch for it besides the system's.
pub(super) async fn keys(issuer: &str, ca: Option<&Path>) -> Result<CoreJsonWebKeySet, FetchError> {
    let discovery = format!(
        "{}/.well-known/openid-configuration",
        issuer.trim_end_matches('/')
    );
    let discovery = address(&discovery, false)?;
    let local = discovery.scheme() == "http";
    // Made anew for each question: there are few, and a renewed `ca` counts at once.
    let client = Web::new(&discovery, ca, BOUNDS)?;
    let document: Discovery = get(&client, &discovery, "discovery document").await?;
    if document.issuer != issuer {
        return Err(FetchError::OtherIssuer {
            url: discovery,
            found: super::claims::cut(&document.issuer),
        });
    }
    // An issuer beyond loopback must not send the agent to a service of this host.
    let jwks_uri = address(&document.jwks_uri, !local)?;
    let keys: CoreJsonWebKeySet = get(&client, &jwks_uri, "JSON Web Key Set").await?;
    if keys.keys().is_empty() {
        return Err(FetchError::NoKeys { url: jwks_uri });
    }
    Ok(keys)
}

/// Asks for the document at `url`, and returns it with the address as it was understood. `ca`: as above.
pub(super) async fn document(
    url: &str,
    ca: Option<&Path>,
    accept: &'static str,
) -> Result<(Url, Zeroizing<Vec<u8>>), FetchError> {
    let url = address(url, false)?;
    let client = Web::new(&url, ca, BOUNDS)?;
    let body = body(&client, &url, accept).await?;
    Ok((url, body))
}

async fn get<T: for<'de> Deserialize<'de>>(
    client: &Web,
    url: &Url,
    expected: &'static str,
) -> Result<T, FetchError> {
    let body = body(client, url, "application/json").await?;
    serde_json::from_slice(&body).map_err(|_| FetchError::Unreadable {
        url: url.clone(),
        expected,
    })
}

async fn body(client: &Web, url: &Url, accept: &'static str) -> Result<Zeroizing<Vec<u8>>, FetchError> {
    let answer = client.get(url, accept).await?;
    if answer.status != StatusCode::OK {
        return Err(FetchError::Status {
            url: url.clone(),
            status: answer.status,
        });
    }
    Ok(answer.body)
}

/// A mebibyte at most, within five seconds.
const BOUNDS: Bounds = Bounds {
    time: Duration::from_secs(5),
    size: 1024 * 1024,
};
