//! `source = "aws"`: keys of a role, from the Security Token Service.
//!
//! Without `keys` the workload's own token assumes the role (`AssumeRoleWithWebIdentity`), so that the host has no secret of
//! AWS at all; with them that access key does (`AssumeRole`). The session is called after Tollgate's session, so that
//! `CloudTrail` names the record; a session policy narrows what it may.
//!
//! Known limits: AWS has no call that voids the keys of one session. They end by themselves, after `ttl`.

mod answer;
mod sign;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::issuer::{Form, Issuer, IssuerError, asked, check, read};
use super::maker::{Ask, Made, MakeError, Maker, Owner, Working};
use super::{CredentialError, Handle, Material};
use crate::config::AwsSpec;
use crate::identity::{JobToken, TokenKind};
use crate::web::{HeaderMap, Method, StatusCode};

use super::AwsKeys;

pub use sign::{SignError, ToSign, sign};

#[derive(Debug)]
struct AwsMaker {
    spec: AwsSpec,
}

/// The source.
pub(super) fn maker(spec: &AwsSpec) -> Arc<dyn Maker> {
    Arc::new(AwsMaker { spec: spec.clone() })
}

impl Maker for AwsMaker {
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
            let spec = &self.spec;
            let issuer = Issuer::new(&spec.issuer).map_err(MakeError::before)?;
            let mut form = Form::new();
            form.add("Version", "2011-06-15");
            form.add("RoleArn", &spec.role);
            form.add("RoleSessionName", &session_name(&ask.owner));
            form.add("DurationSeconds", &spec.ttl.as_secs().to_string());
            form.add_some("Policy", spec.session_policy.as_deref());
            let (headers, body) = match &spec.keys {
                Some(keys) => {
                    form.add("Action", "AssumeRole");
                    form.add_some("ExternalId", spec.external_id.as_deref());
                    let [id, secret] = read([&keys.id, &keys.secret]).await.map_err(MakeError::before)?;
                    let keys = AwsKeys {
                        id: id.0,
                        secret: secret.0,
                        token: None,
                        region: spec.region.clone(),
                    };
                    let body = form.body();
                    let headers = signed(&issuer, &keys, &body).map_err(MakeError::before)?;
                    (headers, body)
                }
                None => {
                    form.add("Action", "AssumeRoleWithWebIdentity");
                    let token = ask.token.as_ref();
                    form.add(
                        "WebIdentityToken",
                        web_identity(&issuer, token).map_err(MakeError::before)?,
                    );
                    (Form::headers(ACCEPT), form.body())
                }
            };
            let answer = issuer.ask(Method::POST, headers, body).await.map_err(asked)?;
            if answer.status != StatusCode::OK {
                return Err(asked(
                    issuer.refused(answer.status, answer::refusal(&answer.body)),
                ));
            }
            let granted = answer::Granted::read(&answer.body).map_err(|what| asked(issuer.nonsense(what)))?;
            let expires = SystemTime::from(granted.ends) - SKEW;
            if expires <= SystemTime::now() {
                return Err(asked(issuer.nonsense("keys that have ended, or end at once")));
            }
            Ok(Made {
                material: Material::Aws(AwsKeys {
                    id: granted.id,
                    secret: granted.secret,
                    token: Some(granted.token),
                    region: spec.region.clone(),
                }),
                expires: Some(expires),
                handle: None,
            })
        })
    }
}

fn signed(issuer: &Issuer, keys: &AwsKeys, body: &[u8]) -> Result<HeaderMap, IssuerError> {
    let mut headers = Form::headers(ACCEPT);
    let request = ToSign {
        method: "POST",
        url: issuer.url().as_str(),
        headers: &headers,
        body,
    };
    let signature = sign(keys, "sts", &request, SystemTime::now()).map_err(|_| IssuerError::Unfit {
        origin: "the policy's \"keys\"".to_owned(),
        what: "access key",
    })?;
    headers.extend(signature);
    Ok(headers)
}

fn web_identity<'t>(issuer: &Issuer, token: Option<&'t JobToken>) -> Result<&'t str, IssuerError> {
    let token = token.ok_or_else(|| IssuerError::NoProof { url: issuer.shown() })?;
    if token.kind != TokenKind::Oidc {
        return Err(IssuerError::WrongProof { url: issuer.shown() });
    }
    // Exposed for the issuer that the policy names.
    std::str::from_utf8(token.secret.expose()).map_err(|_| IssuerError::Unfit {
        origin: "the workload's token".to_owned(),
        what: "token",
    })
}

/// What the session is called at AWS: Tollgate's session, and as much of the workload's name as there is room for.
fn session_name(owner: &Owner) -> String {
    let workload = owner.workload.as_str();
    let room = LONGEST_NAME.saturating_sub(owner.session.to_string().len() + 1);
    // Names of workloads are letters, digits, and of the rest what AWS takes.
    format!("{}@{}", owner.session, workload.get(..room).unwrap_or(workload))
}

/// The limit of AWS.
const LONGEST_NAME: usize = 64;
const ACCEPT: &str = "text/xml";
/// How much earlier keys end for the agent than for AWS.
const SKEW: Duration = Duration::from_secs(30);
