//! The end of a token before its time (RFC 7009).

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::super::CredentialError;
use super::super::handle::{Found, RevokeError};
use super::super::issuer::{Form, Issuer, IssuerError, unless_ended};
use super::answer::refusal;
use super::client;
use crate::config::Oauth2Spec;
use crate::model::Secret;
use crate::web::{Method, StatusCode};

/// A token that was issued. What is kept of it over a crash is that there was one, and until when: a token is a secret, and
/// in no journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenHandle {
    /// The client at its server, for operators.
    name: String,
    ends: DateTime<Utc>,
    #[serde(skip)]
    live: Option<Live>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Live {
    spec: Arc<Oauth2Spec>,
    token: Secret,
}

impl TokenHandle {
    pub(super) fn new(spec: &Arc<Oauth2Spec>, token: Secret, ends: DateTime<Utc>) -> Self {
        Self {
            name: format!("{} at {}", spec.client_id, Issuer::name(&spec.issuer)),
            ends,
            live: Some(Live {
                spec: Arc::clone(spec),
                token,
            }),
        }
    }

    /// What operators see.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Has the server void it.
    pub async fn revoke(&self) -> Result<Found, RevokeError> {
        unless_ended(self.ends, Found::Nothing, self.ask().await)
    }

    async fn ask(&self) -> Result<Found, IssuerError> {
        let Some(Live { spec, token }) = &self.live else {
            return Err(IssuerError::Lost(self.ends));
        };
        let address = spec.revocation.as_deref().unwrap_or(&spec.issuer.endpoint);
        let issuer = Issuer::at(&spec.issuer, address)?;
        let mut form = Form::new();
        // Exposed for the issuer that it came from; visible ASCII, as was checked when it came.
        form.add("token", std::str::from_utf8(token.expose()).unwrap_or_default());
        form.add("token_type_hint", "access_token");
        let mut headers = Form::headers("application/json");
        client::prove(spec, &mut form, &mut headers)
            .await
            .map_err(|error| match error {
                CredentialError::Issuer(error) => error,
                // The client's secret is not there any more.
                other => IssuerError::Proof {
                    url: issuer.shown(),
                    why: other.to_string(),
                },
            })?;
        let answer = issuer.ask(Method::POST, headers, form.body()).await?;
        match answer.status {
            StatusCode::OK => Ok(Found::Voided),
            status => Err(issuer.refused(status, refusal(&answer.body))),
        }
    }
}
