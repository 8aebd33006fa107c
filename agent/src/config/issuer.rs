//! Sources that have an issuer make something: `oauth2`, `github-app`, `aws`.

use std::path::PathBuf;
use std::time::Duration;

use super::credential::{Share, SourceSpec};

/// How an issuer is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerSpec {
    /// `endpoint`: its address. HTTPS, or plain HTTP on loopback.
    pub endpoint: String,
    /// `endpoint_ca`: authorities that may vouch for it besides the system's.
    pub ca: Option<PathBuf>,
    /// `timeout`, 10 s if left out: how long one question may take.
    pub timeout: Duration,
}

/// `source = "oauth2"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Oauth2Spec {
    /// `endpoint`: the token end point.
    pub issuer: IssuerSpec,
    /// `revocation_endpoint`: RFC 7009. `None`: what was issued ends by itself alone.
    pub revocation: Option<String>,
    /// `grant_type`.
    pub grant: Oauth2Grant,
    /// `client_id`.
    pub client_id: String,
    /// `client_auth`, "basic" if left out.
    pub auth: ClientAuth,
    /// `scope`.
    pub scope: Vec<String>,
    /// `audience` (RFC 8693, and of some issuers).
    pub audience: Option<String>,
    /// `resource` (RFC 8707).
    pub resource: Option<String>,
    /// `user`: the token is the password of this user. `None`: it is a bearer token.
    pub user: Option<SourceSpec>,
    /// `ttl`: how long a token counts at most. `None`: as long as the issuer says, which it then has to.
    pub ttl: Option<Duration>,
    /// `share`, "session" if left out.
    pub share: Share,
}

/// `grant_type`: what the issuer is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Oauth2Grant {
    /// `"client_credentials"` (RFC 6749 §4.4): who the client is, and nothing else.
    ClientCredentials,
    /// `"refresh_token"` (RFC 6749 §6): a refresh token, and its successors.
    RefreshToken(SourceSpec),
    /// `"token_exchange"` (RFC 8693): the workload's own token.
    TokenExchange(SubjectToken),
}

/// `subject_token_type`: what an exchange calls the workload's token. A SAML assertion is called what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubjectToken {
    /// "jwt", if left out.
    Jwt,
    /// `"id_token"`.
    IdToken,
    /// `"access_token"`.
    AccessToken,
}

/// `client_auth`: how the client proves itself to the issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// "basic": `client_secret` in the Authorization header.
    Basic(SourceSpec),
    /// "post": `client_secret` in the body.
    Post(SourceSpec),
    /// `"private_key_jwt"`: an assertion signed with the RSA key `client_key` (RFC 7523).
    PrivateKey(SourceSpec),
    /// "none": a public client; for exchanges, in which the workload's token is the proof.
    None,
}

/// `source = "github-app"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GithubAppSpec {
    /// `endpoint`, `"https://api.github.com"` if left out: the API, of GitHub or of an Enterprise Server.
    pub issuer: IssuerSpec,
    /// `app_id`: the app's id, or its client id.
    pub app: String,
    /// `app_key`: its private key.
    pub key: SourceSpec,
    /// `installation`: the installation's id.
    pub installation: u64,
    /// `repositories`: names without their owner; at least one.
    pub repositories: Vec<String>,
    /// `permissions`: what the token may do; at least one.
    pub permissions: Vec<(String, String)>,
    /// `share`, "session" if left out.
    pub share: Share,
}

/// `source = "aws"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AwsSpec {
    /// `endpoint`, the region's own if left out: STS.
    pub issuer: IssuerSpec,
    /// `region`: of STS, and of what is signed later.
    pub region: String,
    /// `role_arn`: the role that is assumed.
    pub role: String,
    /// `keys`: the access key that assumes it. `None`: the workload's own token does.
    pub keys: Option<AwsKeysSpec>,
    /// `session_policy`: what a session may do at most, besides what the role allows. JSON.
    pub session_policy: Option<String>,
    /// `external_id`, with `keys` alone.
    pub external_id: Option<String>,
    /// `ttl`, 1 h if left out.
    pub ttl: Duration,
    /// `share`, "session" if left out.
    pub share: Share,
}

/// `keys`: an access key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AwsKeysSpec {
    /// `access_key_id`.
    pub id: SourceSpec,
    /// `secret_access_key`.
    pub secret: SourceSpec,
}

impl Oauth2Spec {
    /// Every single value that is read from somewhere; see `CredentialKind::sources`.
    pub fn sources(&self) -> Vec<(&'static str, &SourceSpec)> {
        let mut sources = Vec::new();
        if let Some(user) = &self.user {
            sources.push(("user", user));
        }
        match &self.auth {
            ClientAuth::Basic(secret) | ClientAuth::Post(secret) => sources.push(("client_secret", secret)),
            ClientAuth::PrivateKey(key) => sources.push(("client_key", key)),
            ClientAuth::None => {}
        }
        if let Oauth2Grant::RefreshToken(token) = &self.grant {
            sources.push(("refresh_token", token));
        }
        sources
    }
}

impl AwsSpec {
    /// Every single value that is read from somewhere; see `CredentialKind::sources`.
    pub fn sources(&self) -> Vec<(&'static str, &SourceSpec)> {
        self.keys.as_ref().map_or_else(Vec::new, |keys| {
            vec![
                ("keys/access_key_id", &keys.id),
                ("keys/secret_access_key", &keys.secret),
            ]
        })
    }
}
