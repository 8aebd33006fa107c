//! What the sources that ask an issuer have in common: one question over HTTP, its errors, forms and signed assertions.
//!
//! Nothing that an issuer says goes into an error but its status and, where it is one of a list, its error code: what it
//! says at length may repeat the token that it was shown.

mod form;
mod jwt;

#[cfg(test)]
pub(super) mod double;

use std::path::PathBuf;
use std::time::SystemTime;

use chrono::{DateTime, Utc};

use super::maker::{Left, MakeError};
use super::source::Source;
use super::{CredentialError, RevokeError};
use crate::config::{IssuerSpec, SourceSpec};
use crate::model::Secret;
use crate::web::{self, Answer, Bounds, HeaderMap, Method, StatusCode, Url, Web, WebError};

pub(super) use form::Form;
pub(super) use jwt::{Assertion, signed};

/// The longest answer that is read, in bytes.
const LARGEST: usize = 64 * 1024;

/// Why an issuer gave nothing. No secret is in it.
#[derive(Debug, thiserror::Error)]
pub enum IssuerError {
    /// No answer.
    #[error(transparent)]
    Web(#[from] WebError),
    /// It said no.
    #[error("{url} refused with {status}{}", .code.map(|code| format!(" ({code})")).unwrap_or_default())]
    Refused {
        /// Who.
        url: String,
        /// Its status.
        status: StatusCode,
        /// Its error code, where that is a known one.
        code: Option<&'static str>,
    },
    /// It answered otherwise than it has to.
    #[error("{url} answered with {what}")]
    Nonsense {
        /// Who.
        url: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// There is nothing to show to the issuer.
    #[error("the workload proved itself with no token that could be shown to {url}")]
    NoProof {
        /// Who.
        url: String,
    },
    /// The workload's proof is of another kind.
    #[error("{url} takes JSON Web Tokens, and the workload proved itself with a SAML assertion")]
    WrongProof {
        /// Who.
        url: String,
    },
    /// The workload's proof cannot be shown by itself.
    #[error("{url} takes an assertion by itself, and the workload's is in a response or in something else")]
    Wrapped {
        /// Who.
        url: String,
    },
    /// A key that is none.
    #[error("{origin} holds no RSA private key in PEM (PKCS#1 or PKCS#8, 2048 bits at least)")]
    Key {
        /// Where it was looked for.
        origin: String,
    },
    /// A secret that the question cannot carry.
    #[error("{origin} holds what no {what} is")]
    Unfit {
        /// Where it is.
        origin: String,
        /// What it should be.
        what: &'static str,
    },
    /// The successor of a refresh token could not be kept.
    #[error("the refresh token in {} cannot be kept ({}); nothing is asked for that would void the one before", .path.display(), .source.kind())]
    Keep {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// What was kept is no refresh token.
    #[error("{} is no kept refresh token; remove it, and put a new refresh token into the policy's source", .path.display())]
    Kept {
        /// The file.
        path: PathBuf,
    },
    /// What proves the agent to the issuer is not to be had.
    #[error("{url} cannot be shown who asks: {why}")]
    Proof {
        /// Who.
        url: String,
        /// Why.
        why: String,
    },
    /// The token is nowhere any more, so nothing can be shown to void it.
    #[error(
        "the token was in the memory of an agent that is gone: it is valid until {0}, and ends by itself then"
    )]
    Lost(DateTime<Utc>),
}

/// One issuer, and how it is asked.
#[derive(Clone, Debug)]
pub(super) struct Issuer {
    web: Web,
    url: Url,
}

impl Issuer {
    /// The one of `spec`, at its end point.
    pub(super) fn new(spec: &IssuerSpec) -> Result<Self, IssuerError> {
        Self::at(spec, &spec.endpoint)
    }

    /// Another of its end points.
    pub(super) fn at(spec: &IssuerSpec, address: &str) -> Result<Self, IssuerError> {
        let url = web::address(address, false)?;
        let bounds = Bounds {
            time: spec.timeout,
            size: LARGEST,
        };
        Ok(Self {
            web: Web::new(&url, spec.ca.as_deref(), bounds)?,
            url,
        })
    }

    /// The end point of `spec`, as errors and operators see it.
    pub(super) fn name(spec: &IssuerSpec) -> String {
        web::address(&spec.endpoint, false).map_or_else(|_| String::new(), |url| web::shown(&url))
    }

    /// Its address, as errors and operators see it.
    pub(super) fn shown(&self) -> String {
        web::shown(&self.url)
    }

    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    pub(super) async fn ask(
        &self,
        method: Method,
        headers: HeaderMap,
        body: Vec<u8>,
    ) -> Result<Answer, IssuerError> {
        Ok(self.web.ask(method, &self.url, headers, body).await?)
    }

    pub(super) fn refused(&self, status: StatusCode, code: Option<&'static str>) -> IssuerError {
        IssuerError::Refused {
            url: self.shown(),
            status,
            code,
        }
    }

    pub(super) fn nonsense(&self, what: &'static str) -> IssuerError {
        IssuerError::Nonsense {
            url: self.shown(),
            what,
        }
    }
}

/// A failure after the issuer was asked: it may have issued something that nobody has.
pub(super) fn asked(error: IssuerError) -> MakeError {
    MakeError {
        error: error.into(),
        left: Left::Perhaps,
    }
}

/// What `specs` hold now, with where it is. Not on the runtime: a secret may lie on a file system that blocks.
pub(super) async fn read<const N: usize>(
    specs: [&SourceSpec; N],
) -> Result<[(Secret, String); N], CredentialError> {
    let mut sources = Vec::with_capacity(N);
    for spec in specs {
        sources.push(Source::open(spec)?);
    }
    let read = tokio::task::spawn_blocking(move || {
        let read = sources
            .iter()
            .map(|source| Ok((source.read()?, source.to_string())));
        read.collect::<Result<Vec<_>, CredentialError>>()
    });
    let read = read.await.map_err(|_| CredentialError::BrokenOff)??;
    read.try_into().map_err(|_| CredentialError::BrokenOff)
}

/// Reads everything that `specs` name once, and throws it away.
pub(super) async fn check(specs: Vec<(&'static str, &SourceSpec)>) -> Result<(), CredentialError> {
    for (_, spec) in specs {
        read([spec]).await?;
    }
    Ok(())
}

/// A secret as text.
pub(super) fn text<'s>(
    (secret, origin): &'s (Secret, String),
    what: &'static str,
) -> Result<&'s str, IssuerError> {
    // Exposed for the question that it proves something in.
    std::str::from_utf8(secret.expose()).map_err(|_| IssuerError::Unfit {
        origin: origin.clone(),
        what,
    })
}

/// How a revocation of what ends at `ends` by itself went: when that time is over there is nothing to void.
pub(super) fn unless_ended<T>(
    ends: DateTime<Utc>,
    nothing: T,
    result: Result<T, IssuerError>,
) -> Result<T, RevokeError> {
    match result {
        Err(_) if DateTime::<Utc>::from(SystemTime::now()) >= ends => Ok(nothing),
        other => Ok(other?),
    }
}
