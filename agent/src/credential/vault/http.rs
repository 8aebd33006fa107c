//! One question to Vault, and its answer.

use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::error::{Said, VaultError};
use crate::config::VaultServer;
use crate::model::Secret;
use crate::web::{
    Bounds, HeaderMap, HeaderValue, Method, StatusCode, Url, Web, WebError, address, sensitive,
};

/// No login, lease or certificate is longer.
const BOUNDS: Bounds = Bounds {
    time: Duration::from_secs(5),
    size: 256 * 1024,
};

/// A Vault.
#[derive(Debug)]
pub(super) struct Http {
    server: VaultServer,
    /// Made when it is needed, and anew after a failure: a renewed `ca` may be why.
    web: Mutex<Option<Web>>,
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
            web: Mutex::default(),
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
        let failed = |error| {
            *self.web.lock() = None;
            VaultError::Web { what, error }
        };
        let mut headers = self.headers(question.token)?;
        let mut body = Vec::new();
        if let Some(value) = question.body {
            headers.insert("content-type", HeaderValue::from_static("application/json"));
            body = serde_json::to_vec(value).map_err(|_| VaultError::Unfit("JSON text"))?;
        }
        let url = format!("{}/v1/{}", self.server.address, question.path);
        let url = address(&url, false).map_err(failed)?;
        let web = self.web(&url).map_err(failed)?;
        let answer = web
            .ask(question.method, &url, headers, body)
            .await
            .map_err(failed)?;
        match answer.status {
            StatusCode::OK | StatusCode::NO_CONTENT => Ok(answer.body),
            status if status.is_redirection() => Err(VaultError::Redirect { what }),
            status => Err(VaultError::Refused {
                what,
                status: status.as_u16(),
                said: serde_json::from_slice::<Errors>(&answer.body)
                    .map_or(Said::Other, |said| Said::of(&said.errors)),
            }),
        }
    }

    fn web(&self, url: &Url) -> Result<Web, WebError> {
        let mut kept = self.web.lock();
        if let Some(web) = &*kept {
            return Ok(web.clone());
        }
        let web = Web::new(url, self.server.ca.as_deref(), BOUNDS)?;
        *kept = Some(web.clone());
        Ok(web)
    }

    fn headers(&self, token: Option<&Secret>) -> Result<HeaderMap, VaultError> {
        let mut headers = HeaderMap::new();
        // A listener may ask for it, against forged requests.
        headers.insert("x-vault-request", HeaderValue::from_static("true"));
        if let Some(token) = token {
            // Exposed to Vault, which gave it.
            let value = sensitive(token.expose()).ok_or(VaultError::Unfit("header"))?;
            headers.insert("x-vault-token", value);
        }
        if let Some(namespace) = &self.server.namespace {
            let value = HeaderValue::from_str(namespace).map_err(|_| VaultError::Unfit("header"))?;
            headers.insert("x-vault-namespace", value);
        }
        Ok(headers)
    }
}
