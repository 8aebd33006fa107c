//! Discovery and keys of an issuer over HTTP (OpenID Connect Discovery 1.0 §4, RFC 7517), and documents of its like.
//!
//! Of the discovery document only `issuer` and `jwks_uri` are read: issuers for machines (GitHub Actions, Kubernetes)
//! leave out the end points that people log in at, so the library's type for the whole document refuses theirs.
//! Redirects are not followed, and plain HTTP is spoken to loopback alone.

use std::path::{Path, PathBuf};
use std::time::Duration;

use openidconnect::core::CoreJsonWebKeySet;
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, StatusCode, Url};
use serde::Deserialize;

use super::saml::MetadataError;

/// Why an issuer's keys cannot be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("{url:?} is not an https:// address (plain http is for loopback alone)")]
    Insecure { url: String },
    #[error("the authorities in {} cannot be read; put PEM certificates there", .path.display())]
    Authorities { path: PathBuf },
    #[error("the HTTP client cannot be set up")]
    Client,
    #[error("{url} cannot be reached: {reason}")]
    Unreachable { url: Url, reason: String },
    #[error("{url} answered {status} instead of 200")]
    Status { url: Url, status: StatusCode },
    #[error("{url} answered with more than {LARGEST} bytes")]
    TooLarge { url: Url },
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
    let client = client(ca, local)?;
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
) -> Result<(Url, Vec<u8>), FetchError> {
    let url = address(url, false)?;
    let client = client(ca, url.scheme() == "http")?;
    let body = body(&client, &url, accept).await?;
    Ok((url, body))
}

fn address(text: &str, https_only: bool) -> Result<Url, FetchError> {
    let insecure = || FetchError::Insecure {
        url: super::claims::cut(text),
    };
    let url = Url::parse(text).map_err(|_| insecure())?;
    let allowed = match url.scheme() {
        "https" => true,
        "http" => !https_only && is_loopback(&url),
        _ => false,
    };
    if allowed { Ok(url) } else { Err(insecure()) }
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let literal = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || literal
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

fn client(ca: Option<&Path>, local: bool) -> Result<Client, FetchError> {
    let mut builder = Client::builder()
        .redirect(Policy::none())
        .timeout(PATIENCE)
        .https_only(!local)
        .user_agent(concat!("tollgate/", env!("CARGO_PKG_VERSION")));
    if local {
        builder = builder.no_proxy();
    }
    if let Some(path) = ca {
        let unreadable = || FetchError::Authorities {
            path: path.to_owned(),
        };
        let pem = std::fs::read(path).map_err(|_| unreadable())?;
        let certificates = Certificate::from_pem_bundle(&pem).map_err(|_| unreadable())?;
        if certificates.is_empty() {
            return Err(unreadable());
        }
        builder = builder.tls_certs_merge(certificates);
    }
    builder.build().map_err(|_| FetchError::Client)
}

async fn get<T: for<'de> Deserialize<'de>>(
    client: &Client,
    url: &Url,
    expected: &'static str,
) -> Result<T, FetchError> {
    let body = body(client, url, "application/json").await?;
    serde_json::from_slice(&body).map_err(|_| FetchError::Unreadable {
        url: url.clone(),
        expected,
    })
}

async fn body(client: &Client, url: &Url, accept: &'static str) -> Result<Vec<u8>, FetchError> {
    let unreachable = |error: reqwest::Error| FetchError::Unreachable {
        url: url.clone(),
        reason: root_cause(&error),
    };
    let mut response = client
        .get(url.clone())
        .header("accept", accept)
        .send()
        .await
        .map_err(unreachable)?;
    if response.status() != StatusCode::OK {
        return Err(FetchError::Status {
            url: url.clone(),
            status: response.status(),
        });
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
        if body.len() + chunk.len() > LARGEST {
            return Err(FetchError::TooLarge { url: url.clone() });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

/// Largest answer that is read, in bytes.
const LARGEST: usize = 1024 * 1024;
/// Longest time for one question, from connect to the last byte.
const PATIENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::address;

    #[test]
    fn plain_http_is_for_loopback_alone() {
        for (text, allowed, allowed_from_beyond) in [
            ("https://gitlab.acme.test/x", true, true),
            ("http://127.0.0.1:3000/x", true, false),
            ("http://[::1]:3000/x", true, false),
            ("http://localhost:3000/x", true, false),
            ("http://gitlab.acme.test/x", false, false),
            ("http://127.0.0.1.acme.test/x", false, false),
            ("http://10.0.0.1/x", false, false),
            ("file:///etc/shadow", false, false),
            ("127.0.0.1", false, false),
        ] {
            assert_eq!(address(text, false).is_ok(), allowed, "{text}");
            assert_eq!(
                address(text, true).is_ok(),
                allowed_from_beyond,
                "{text} from beyond"
            );
        }
    }
}
