//! `source = "oauth2"`: a token of an OAuth 2.0 authorization server.
//!
//! Client credentials (RFC 6749 §4.4), refresh (§6; a successor is kept, [`rotated`]), and exchange of the workload's own
//! token (RFC 8693). Void by RFC 7009 where the server has an end point for it; otherwise when its time is over.
//!
//! A token counts from before it was asked for, and ends for the agent a little earlier than for the server, so that no
//! clock has it used when it is void. A server that says nothing of the end needs a `ttl` in the policy.
//!
//! Known limits: a token is shown to be void, so it is in no journal: after a crash of the agent it ends by itself alone.
//! What is bound to a key (`DPoP`, mTLS) is refused.

mod answer;
mod client;
mod rotated;
mod void;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::issuer::{Form, Issuer, IssuerError, asked, check, read, text};
use super::maker::{Ask, Left, Made, MakeError, Maker, Working};
use super::{CredentialError, Handle, Material};
use crate::config::{Oauth2Grant, Oauth2Spec, SubjectToken};
use crate::identity::{JobToken, TokenKind};
use crate::model::Secret;
use crate::web::{Method, StatusCode};

use answer::{Granted, Issued, refusal};
use rotated::Rotated;

pub(super) use void::TokenHandle;

#[derive(Debug)]
struct Oauth2Maker {
    spec: Arc<Oauth2Spec>,
    rotated: Option<Rotated>,
}

/// The source. `tokens`: the directory of refresh tokens that follow on those of sources.
pub(super) fn maker(spec: &Oauth2Spec, tokens: &Path) -> Arc<dyn Maker> {
    Arc::new(Oauth2Maker {
        rotated: Rotated::of(spec, tokens),
        spec: Arc::new(spec.clone()),
    })
}

impl Maker for Oauth2Maker {
    fn check(&self) -> Working<'_, Result<(), CredentialError>> {
        Box::pin(check(self.spec.sources()))
    }

    fn plan(&self, _ask: &Ask) -> Option<Handle> {
        None
    }

    fn make<'a>(
        &'a self,
        ask: &'a Ask,
        _planned: Option<&'a Handle>,
    ) -> Working<'a, Result<Made, MakeError>> {
        Box::pin(async {
            let user = match &self.spec.user {
                Some(user) => {
                    let [(user, _)] = read([user]).await.map_err(MakeError::before)?;
                    Some(user)
                }
                None => None,
            };
            let answered = match (&self.spec.grant, &self.rotated) {
                (Oauth2Grant::RefreshToken(configured), Some(rotated)) => {
                    let [configured] = read([configured]).await.map_err(MakeError::before)?;
                    // One at a time: a server that sees a refresh token twice takes it for stolen.
                    let mut turn = rotated.turn().await.map_err(MakeError::before)?;
                    let token = turn.current(&configured.0);
                    let mut form = grant_form("refresh_token");
                    form.add(
                        "refresh_token",
                        text(&(token, configured.1.clone()), "token").map_err(MakeError::before)?,
                    );
                    let answered = self.ask(form).await?;
                    // Also where the rest of the answer is of no use: the one that was shown may be void by now.
                    if let Some(next) = answered.issued.refresh_token() {
                        turn.keep(&configured.0, &next).await;
                    }
                    answered
                }
                (Oauth2Grant::TokenExchange(kind), _) => {
                    let form = self
                        .exchange(*kind, ask.token.as_ref())
                        .map_err(MakeError::before)?;
                    self.ask(form).await?
                }
                _ => self.ask(grant_form("client_credentials")).await?,
            };
            self.made(answered, user)
        })
    }
}

impl Oauth2Maker {
    fn exchange(&self, kind: SubjectToken, token: Option<&JobToken>) -> Result<Form, IssuerError> {
        let proof = token.ok_or_else(|| IssuerError::NoProof {
            url: Issuer::name(&self.spec.issuer),
        })?;
        let kind = match (proof.kind, kind) {
            (TokenKind::Saml, _) => "saml2",
            (TokenKind::Oidc, SubjectToken::Jwt) => "jwt",
            (TokenKind::Oidc, SubjectToken::IdToken) => "id_token",
            (TokenKind::Oidc, SubjectToken::AccessToken) => "access_token",
        };
        let mut form = grant_form("urn:ietf:params:oauth:grant-type:token-exchange");
        // Exposed for the issuer that the policy names.
        match proof.kind {
            TokenKind::Oidc => {
                let token = std::str::from_utf8(proof.secret.expose()).map_err(|_| IssuerError::Unfit {
                    origin: "the workload's token".to_owned(),
                    what: "token",
                })?;
                form.add("subject_token", token);
            }
            TokenKind::Saml => {
                let token = proof.saml2().ok_or_else(|| IssuerError::Wrapped {
                    url: Issuer::name(&self.spec.issuer),
                })?;
                form.add("subject_token", &token);
            }
        }
        form.add(
            "subject_token_type",
            &format!("urn:ietf:params:oauth:token-type:{kind}"),
        );
        Ok(form)
    }

    /// Asks for a token.
    async fn ask(&self, mut form: Form) -> Result<Answered, MakeError> {
        let spec = &*self.spec;
        if !spec.scope.is_empty() {
            form.add("scope", &spec.scope.join(" "));
        }
        form.add_some("audience", spec.audience.as_deref());
        form.add_some("resource", spec.resource.as_deref());
        let mut headers = Form::headers("application/json");
        client::prove(spec, &mut form, &mut headers)
            .await
            .map_err(MakeError::before)?;
        let issuer = Issuer::new(&spec.issuer).map_err(MakeError::before)?;
        let began = SystemTime::now();
        let answer = issuer
            .ask(Method::POST, headers, form.body())
            .await
            .map_err(asked)?;
        let exchanged = matches!(spec.grant, Oauth2Grant::TokenExchange(_));
        let granted = match answer.status {
            StatusCode::OK => Granted::read(&answer.body, exchanged).map_err(|what| issuer.nonsense(what)),
            status => Err(issuer.refused(status, refusal(&answer.body))),
        };
        Ok(Answered {
            granted,
            issued: Issued::read(&answer.body),
            began,
        })
    }

    fn made(&self, answered: Answered, user: Option<Secret>) -> Result<Made, MakeError> {
        let began = answered.began;
        let read = answered.granted.and_then(|granted| {
            let life = answer::life(granted.life, self.spec.ttl).map_err(|what| IssuerError::Nonsense {
                url: Issuer::name(&self.spec.issuer),
                what,
            })?;
            Ok((granted, began + life))
        });
        let (granted, expires) = match read {
            Ok(read) => read,
            // A token that nobody gets is voided as one that somebody had.
            Err(error) => {
                let issued = answered.issued.token();
                let handle = issued.and_then(|token| self.handle(token, began + LONGEST_LIFE));
                return Err(MakeError {
                    error: error.into(),
                    left: handle.map_or(Left::Perhaps, |handle| Left::There(Box::new(handle))),
                });
            }
        };
        let handle = self.handle(granted.token.clone(), expires);
        Ok(Made {
            material: match user {
                Some(user) => Material::Login {
                    user,
                    password: granted.token,
                },
                None => Material::Token(granted.token),
            },
            expires: Some(expires),
            handle,
        })
    }

    /// What voids a token, where the server has an end point for it.
    fn handle(&self, token: Secret, ends: SystemTime) -> Option<Handle> {
        self.spec.revocation.as_ref()?;
        Some(Handle::Oauth2(Box::new(TokenHandle::new(
            &self.spec,
            token,
            ends.into(),
        ))))
    }
}

/// What a server said to a question for a token.
struct Answered {
    granted: Result<Granted, IssuerError>,
    issued: Issued,
    /// When it was asked.
    began: SystemTime,
}

/// How long the server is asked to void a token of which it did not say when it ends.
const LONGEST_LIFE: Duration = Duration::from_hours(24);

fn grant_form(grant: &str) -> Form {
    let mut form = Form::new();
    form.add("grant_type", grant);
    form
}
