//! Questions to issuers over HTTP: OpenID providers, token and security token services, stores of secrets.
//!
//! One question, one answer. Redirects are not followed, since they would carry a secret to whom the policy does not name;
//! plain HTTP is spoken to loopback alone; an answer has a largest size and a question a longest time. The system's
//! authorities vouch for a server, and those that the policy names. Connections are the agent's own: the host's network
//! namespace, and the proxy of the agent's environment (not for loopback).
//!
//! Errors name the address that was asked, without its query, and never what was sent or answered.
//!
//! Known limits: the library that speaks HTTP keeps copies of what it sends and reads, and does not wipe them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, RequestBuilder};
use zeroize::Zeroizing;

pub use reqwest::header::{HeaderMap, HeaderValue};
pub use reqwest::{Method, StatusCode, Url};

/// Why there is no answer, or not one that is read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WebError {
    /// Plain HTTP to elsewhere than loopback, or no address at all.
    #[error("{url:?} is not an https:// address (plain http is for loopback alone)")]
    Insecure {
        /// What was to be the address.
        url: String,
    },
    /// The policy's authorities.
    #[error("the authorities in {} cannot be read; put PEM certificates there", .path.display())]
    Authorities {
        /// Their file.
        path: PathBuf,
    },
    /// The library refused.
    #[error("the HTTP client cannot be set up")]
    Client,
    /// A question that HTTP cannot carry: a header with a line break, say.
    #[error("{url} cannot be asked: {what}")]
    Question {
        /// Who.
        url: String,
        /// What is wrong with the question.
        what: &'static str,
    },
    /// No connection, or it broke off.
    #[error("{url} cannot be reached: {reason}")]
    Unreachable {
        /// Who.
        url: String,
        /// Why.
        reason: String,
    },
    /// The time was over.
    #[error("{url} did not answer within {limit} s")]
    TooSlow {
        /// Who.
        url: String,
        /// The limit, in seconds.
        limit: u64,
    },
    /// The answer is too long.
    #[error("{url} answered with more than {limit} bytes")]
    TooLarge {
        /// Who.
        url: String,
        /// The limit, in bytes.
        limit: usize,
    },
}

/// How much an answer may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// From connect to the last byte.
    pub time: Duration,
    /// Bytes of the answer's body.
    pub size: usize,
}

/// An answer, whatever its status.
pub struct Answer {
    /// The status. A redirect is one like any other.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body; it may hold a secret, and is wiped.
    pub body: Zeroizing<Vec<u8>>,
}

/// What asks one server.
#[derive(Clone, Debug)]
pub struct Web {
    client: Client,
    bounds: Bounds,
}

impl Web {
    /// For questions to the server of `url`. `ca`: authorities that may vouch for it besides the system's; read here, so that
    /// a renewed file counts from the next `Web` on. Blocks for the disk, shortly.
    pub fn new(url: &Url, ca: Option<&Path>, bounds: Bounds) -> Result<Self, WebError> {
        let local = url.scheme() == "http";
        let mut builder = Client::builder()
            .redirect(Policy::none())
            .timeout(bounds.time)
            .https_only(!local)
            .user_agent(concat!("tollgate/", env!("CARGO_PKG_VERSION")));
        if local {
            builder = builder.no_proxy();
        }
        if let Some(path) = ca {
            let unreadable = || WebError::Authorities {
                path: path.to_owned(),
            };
            let pem = std::fs::read(path).map_err(|_| unreadable())?;
            let certificates = Certificate::from_pem_bundle(&pem).map_err(|_| unreadable())?;
            if certificates.is_empty() {
                return Err(unreadable());
            }
            builder = builder.tls_certs_merge(certificates);
        }
        Ok(Self {
            client: builder.build().map_err(|_| WebError::Client)?,
            bounds,
        })
    }

    /// Asks with GET.
    pub async fn get(&self, url: &Url, accept: &'static str) -> Result<Answer, WebError> {
        self.send(url, self.client.get(url.clone()).header("accept", accept))
            .await
    }

    /// Asks with any method. `headers` that hold a secret are marked as sensitive by the caller.
    pub async fn ask(
        &self,
        method: Method,
        url: &Url,
        headers: HeaderMap,
        body: Vec<u8>,
    ) -> Result<Answer, WebError> {
        let mut request = self.client.request(method, url.clone()).headers(headers);
        if !body.is_empty() {
            request = request.body(body);
        }
        self.send(url, request).await
    }

    async fn send(&self, url: &Url, request: RequestBuilder) -> Result<Answer, WebError> {
        let failed = |error: reqwest::Error| {
            let url = shown(url);
            if error.is_timeout() {
                return WebError::TooSlow {
                    url,
                    limit: self.bounds.time.as_secs(),
                };
            }
            WebError::Unreachable {
                url,
                reason: root_cause(&error),
            }
        };
        let mut response = request.send().await.map_err(failed)?;
        // One allocation of the largest size would be a mebibyte for a few hundred bytes; the length that is told is a hint.
        let told = response
            .content_length()
            .and_then(|told| usize::try_from(told).ok())
            .unwrap_or_default();
        let mut body = Zeroizing::new(Vec::with_capacity(told.min(self.bounds.size)));
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > self.bounds.size {
                return Err(WebError::TooLarge {
                    url: shown(url),
                    limit: self.bounds.size,
                });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer {
            status: response.status(),
            headers: std::mem::take(response.headers_mut()),
            body,
        })
    }
}

/// The address of a server: HTTPS, or plain HTTP to loopback unless `https_only`.
pub fn address(text: &str, https_only: bool) -> Result<Url, WebError> {
    let insecure = || WebError::Insecure {
        url: text.chars().take(LONGEST_SHOWN).collect(),
    };
    let url = Url::parse(text).map_err(|_| insecure())?;
    let allowed = match url.scheme() {
        "https" => true,
        "http" => !https_only && is_loopback(&url),
        _ => false,
    };
    if allowed { Ok(url) } else { Err(insecure()) }
}

/// A header's value that holds a secret; `None`: HTTP cannot carry it.
pub fn sensitive(value: &[u8]) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_bytes(value).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// An address as errors show it.
pub fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    // Fails for addresses that have no room for them.
    let _none = url.set_username("").and_then(|()| url.set_password(None));
    url.to_string()
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let literal = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || literal
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

/// Letters of a wrong address that an error repeats.
const LONGEST_SHOWN: usize = 200;

#[cfg(test)]
mod tests {
    use super::{address, shown};

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

    #[test]
    fn an_address_is_shown_without_what_may_be_secret_in_it() {
        let url = address("https://u:p@a.test/x?token=hunter2#part", false).unwrap();
        assert_eq!(shown(&url), "https://a.test/x");
    }
}
