//! `source = "github-app"`: a token of an installation of a GitHub app, for the repositories and permissions that the policy
//! names.
//!
//! The app proves itself with an assertion that it signs with its key (RS256, valid for nine minutes), and asks for a token
//! that is valid for an hour. GitHub adds the right to read metadata to every token; one that may more, or is for more
//! repositories than was asked for, is voided at once and not used.
//!
//! Known limits: as of `oauth2`, a token is in no journal, so that after a crash of the agent it ends by itself alone, within
//! the hour. GitHub itself cannot be run here: what this speaks is tested against its documentation.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::handle::{Found, RevokeError};
use super::hidden::Hidden;
use super::issuer::{Assertion, Issuer, IssuerError, asked, check, read, signed, unless_ended};
use super::maker::{Ask, Left, Made, MakeError, Maker, Working};
use super::{CredentialError, Handle, Material};
use crate::config::GithubAppSpec;
use crate::model::Secret;
use crate::web::{self, HeaderMap, HeaderValue, Method, StatusCode};

#[derive(Debug)]
struct GithubApp {
    spec: Arc<GithubAppSpec>,
}

/// The source.
pub(super) fn maker(spec: &GithubAppSpec) -> Arc<dyn Maker> {
    Arc::new(GithubApp {
        spec: Arc::new(spec.clone()),
    })
}

/// A token that was issued; see the handle of `oauth2`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstallationToken {
    name: String,
    ends: DateTime<Utc>,
    #[serde(skip)]
    live: Option<Live>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Live {
    spec: Arc<GithubAppSpec>,
    token: Secret,
}

#[derive(Serialize)]
struct Wanted<'a> {
    repositories: &'a [String],
    permissions: BTreeMap<&'a str, &'a str>,
}

/// What is read of the answer.
#[derive(Deserialize)]
struct Granted {
    token: Hidden,
    expires_at: DateTime<Utc>,
    permissions: BTreeMap<String, String>,
    #[serde(default)]
    repository_selection: Option<String>,
    #[serde(default)]
    repositories: Vec<Repository>,
}

#[derive(Deserialize)]
struct Repository {
    name: String,
}

impl Maker for GithubApp {
    fn check(&self) -> Working<'_, Result<(), CredentialError>> {
        Box::pin(async {
            check(vec![("app_key", &self.spec.key)]).await?;
            let [key] = read([&self.spec.key]).await?;
            // Seen here whether it is a key.
            Ok(app_token(&self.spec, &key).map(drop)?)
        })
    }

    fn plan(&self, _ask: &Ask) -> Option<Handle> {
        None
    }

    fn make<'a>(
        &'a self,
        _ask: &'a Ask,
        _planned: Option<&'a Handle>,
    ) -> Working<'a, Result<Made, MakeError>> {
        Box::pin(async {
            let spec = &*self.spec;
            let [key] = read([&spec.key]).await.map_err(MakeError::before)?;
            let app = app_token(spec, &key).map_err(MakeError::before)?;
            let address = format!(
                "{}/app/installations/{}/access_tokens",
                base(spec),
                spec.installation
            );
            let issuer = Issuer::at(&spec.issuer, &address).map_err(MakeError::before)?;
            let wanted = Wanted {
                repositories: &spec.repositories,
                permissions: spec
                    .permissions
                    .iter()
                    .map(|(name, level)| (name.as_str(), level.as_str()))
                    .collect(),
            };
            let body = serde_json::to_vec(&wanted)
                .map_err(|_| MakeError::before(issuer.nonsense("nothing: it was not asked")))?;
            let headers = headers(&app).map_err(MakeError::before)?;
            let answer = issuer.ask(Method::POST, headers, body).await.map_err(asked)?;
            if answer.status != StatusCode::CREATED {
                return Err(asked(issuer.refused(answer.status, None)));
            }
            let nonsense = |what| asked(issuer.nonsense(what));
            let granted: Granted = serde_json::from_slice(&answer.body)
                .map_err(|_| nonsense("something that is no installation access token"))?;
            let token = granted.token.token().map_err(nonsense)?;
            let handle = InstallationToken {
                name: format!("installation {} at {}", spec.installation, spec.issuer.endpoint),
                ends: granted.expires_at,
                live: Some(Live {
                    spec: Arc::clone(&self.spec),
                    token: token.clone(),
                }),
            };
            let handle = Handle::GithubApp(Box::new(handle));
            let expires = SystemTime::from(granted.expires_at) - SKEW;
            let fit = granted.is_what(spec).and_then(|()| {
                if expires <= SystemTime::now() {
                    return Err("a token that has ended, or ends at once");
                }
                Ok(())
            });
            // What nobody gets is voided as what somebody had.
            if let Err(what) = fit {
                return Err(MakeError {
                    error: issuer.nonsense(what).into(),
                    left: Left::There(Box::new(handle)),
                });
            }
            Ok(Made {
                material: Material::Token(token),
                expires: Some(expires),
                handle: Some(handle),
            })
        })
    }
}

impl Granted {
    /// Whether it may what was asked for, and no more.
    fn is_what(&self, spec: &GithubAppSpec) -> Result<(), &'static str> {
        let more = self.permissions.iter().any(|(name, level)| {
            let wanted = spec.permissions.iter().find(|(wanted, _)| wanted == name);
            match wanted {
                Some((_, wanted)) => rank(level) > rank(wanted),
                None => name != "metadata" || level != "read",
            }
        });
        if more {
            return Err("a token that may more than was asked for");
        }
        let others = self.repository_selection.as_deref() != Some("selected")
            || self.repositories.iter().any(|repository| {
                !spec
                    .repositories
                    .iter()
                    .any(|wanted| wanted.eq_ignore_ascii_case(&repository.name))
            });
        if others {
            return Err("a token for more repositories than were asked for");
        }
        Ok(())
    }
}

impl InstallationToken {
    /// What operators see.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Has GitHub void it.
    pub async fn revoke(&self) -> Result<Found, RevokeError> {
        unless_ended(self.ends, Found::Nothing, self.ask().await)
    }

    async fn ask(&self) -> Result<Found, IssuerError> {
        let Some(Live { spec, token }) = &self.live else {
            return Err(IssuerError::Lost(self.ends));
        };
        let issuer = Issuer::at(&spec.issuer, &format!("{}/installation/token", base(spec)))?;
        // Exposed for the issuer that it came from; visible ASCII, as was checked when it came.
        let headers = headers(std::str::from_utf8(token.expose()).unwrap_or_default())?;
        let answer = issuer.ask(Method::DELETE, headers, Vec::new()).await?;
        match answer.status {
            StatusCode::NO_CONTENT => Ok(Found::Voided),
            // It proves itself with what is to be voided.
            StatusCode::UNAUTHORIZED => Ok(Found::Nothing),
            status => Err(issuer.refused(status, None)),
        }
    }
}

fn base(spec: &GithubAppSpec) -> &str {
    spec.issuer.endpoint.trim_end_matches('/')
}

/// What the app proves itself with.
fn app_token(spec: &GithubAppSpec, key: &(Secret, String)) -> Result<Zeroizing<String>, IssuerError> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    signed(
        key,
        &Assertion {
            iss: &spec.app,
            sub: None,
            aud: None,
            jti: None,
            // As GitHub advises: its clock may be behind.
            iat: now.saturating_sub(60),
            exp: now + 9 * 60,
        },
    )
}

fn headers(token: &str) -> Result<HeaderMap, IssuerError> {
    let bearer = Zeroizing::new(format!("Bearer {token}"));
    let bearer = web::sensitive(bearer.as_bytes()).ok_or_else(|| IssuerError::Unfit {
        origin: "a token".to_owned(),
        what: "token",
    })?;
    let mut headers = HeaderMap::new();
    headers.insert("authorization", bearer);
    headers.insert("accept", HeaderValue::from_static("application/vnd.github+json"));
    headers.insert("x-github-api-version", HeaderValue::from_static("2022-11-28"));
    Ok(headers)
}

/// Levels of a permission, in their order; what is not known is more than any.
fn rank(level: &str) -> u8 {
    match level {
        "read" => 1,
        "write" => 2,
        "admin" => 3,
        _ => 4,
    }
}

/// How much earlier a token ends for the agent than for GitHub.
const SKEW: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests;
