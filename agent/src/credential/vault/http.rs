//! One question to Vault, and its answer: nothing is followed, nothing is read without end, nothing waits without end.

use std::time::Duration;

use parking_lot::Mutex;
use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, Method, StatusCode};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::error::{Said, VaultError};
use crate::config::VaultServer;
use crate::model::Secret;

/// Longest time for one question, from connect to the last byte.
const PATIENCE: Duration = Duration::from_secs(5);
/// No login, lease or certificate is longer.
const LARGEST: usize = 256 * 1024;

/// A Vault.
#[derive(Debug)]
pub(super) struct Http {
    server: VaultServer,
    /// Made when it is needed, and anew after a failure to connect: a renewed `ca` may be why.
    client: Mutex<Option<Client>>,
}

/// A question.
#[derive(Debug)]
pub(super) struct Question<'a, B> {
    /// To do what, for people: "Vault refused to …".
    pub(super) what: &'static str,
    pub(super) method: Method,
    /// Path below `/v1/`, with its query.
    pub(super) path: &'a str,
    pub(super) token: Option<&'a Secret>,
    pub(super) body: Option<&'a B>,
}

/// No body.
pub(super) type Nothing = ();

#[derive(Deserialize)]
struct Errors {
    #[serde(default)]
    errors: Vec<String>,
}

impl Http {
    pub(super) fn new(server: &VaultServer) -> Self {
        Self {
            server: server.clone(),
            client: Mutex::default(),
        }
    }

    pub(super) fn server(&self) -> &VaultServer {
        &self.server
    }

    /// Asks, and gives the answer's body: JSON, or nothing where it has none (204).
    pub(super) async fn ask<B: Serialize>(
        &self,
        question: Question<'_, B>,
    ) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        let what = question.what;
        let asked = tokio::time::timeout(PATIENCE, self.answer(question)).await;
        asked.unwrap_or(Err(VaultError::TooSlow {
            what,
            limit: PATIENCE.as_secs(),
        }))
    }

    async fn answer<B: Serialize>(
        &self,
        question: Question<'_, B>,
    ) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        let what = question.what;
        let client = self.client()?;
        let url = format!("{}/v1/{}", self.server.address, question.path);
        let mut request = client
            .request(question.method, url)
            .headers(self.headers(question.token)?);
        if let Some(body) = question.body {
            let body = serde_json::to_vec(body).map_err(|_| VaultError::Unfit("JSON text"))?;
            request = request.header("content-type", "application/json").body(body);
        }
        let mut response = request
            .send()
            .await
            .map_err(|error| self.unreachable(what, &error))?;
        let status = response.status();
        if status.is_redirection() {
            return Err(VaultError::Redirect { what });
        }
        // One allocation, as far as the answer says its length: a vector that grows leaves copies of the secret behind.
        let expected = response
            .content_length()
            .and_then(|length| usize::try_from(length).ok());
        let mut body = Zeroizing::new(Vec::with_capacity(expected.unwrap_or(LARGEST).min(LARGEST)));
        while let Some(chunk) = response
            .chunk()
            .await
            .map_err(|error| self.unreachable(what, &error))?
        {
            if body.len() + chunk.len() > LARGEST {
                return Err(VaultError::TooLarge { what, limit: LARGEST });
            }
            body.extend_from_slice(&chunk);
        }
        match status {
            StatusCode::OK | StatusCode::NO_CONTENT => Ok(body),
            _ => Err(VaultError::Refused {
                what,
                status: status.as_u16(),
                said: serde_json::from_slice::<Errors>(&body)
                    .map_or(Said::Other, |said| Said::of(&said.errors)),
            }),
        }
    }

    fn headers(&self, token: Option<&Secret>) -> Result<HeaderMap, VaultError> {
        let mut headers = HeaderMap::new();
        // A listener may ask for it, against forged requests.
        headers.insert("x-vault-request", HeaderValue::from_static("true"));
        if let Some(token) = token {
            // Exposed to Vault, which gave it.
            let mut value =
                HeaderValue::from_bytes(token.expose()).map_err(|_| VaultError::Unfit("header"))?;
            value.set_sensitive(true);
            headers.insert("x-vault-token", value);
        }
        if let Some(namespace) = &self.server.namespace {
            let value = HeaderValue::from_str(namespace).map_err(|_| VaultError::Unfit("header"))?;
            headers.insert("x-vault-namespace", value);
        }
        Ok(headers)
    }

    fn client(&self) -> Result<Client, VaultError> {
        let mut kept = self.client.lock();
        if let Some(client) = &*kept {
            return Ok(client.clone());
        }
        let local = self.server.address.starts_with("http://");
        let mut builder = Client::builder()
            .redirect(Policy::none())
            .https_only(!local)
            .user_agent(concat!("tollgate/", env!("CARGO_PKG_VERSION")));
        if local {
            builder = builder.no_proxy();
        }
        if let Some(path) = &self.server.ca {
            let unreadable = || VaultError::Authorities { path: path.clone() };
            let pem = std::fs::read(path).map_err(|_| unreadable())?;
            let certificates = Certificate::from_pem_bundle(&pem).map_err(|_| unreadable())?;
            if certificates.is_empty() {
                return Err(unreadable());
            }
            builder = builder.tls_certs_merge(certificates);
        }
        let client = builder.build().map_err(|_| VaultError::Client)?;
        *kept = Some(client.clone());
        Ok(client)
    }

    fn unreachable(&self, what: &'static str, error: &reqwest::Error) -> VaultError {
        *self.client.lock() = None;
        let mut cause: &dyn std::error::Error = error;
        while let Some(deeper) = cause.source() {
            cause = deeper;
        }
        VaultError::Unreachable {
            what,
            reason: cause.to_string(),
        }
    }
}
