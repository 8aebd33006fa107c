//! Verification of tokens: OIDC ID tokens, and access tokens in JWT form (RFC 9068) that are addressed to Tollgate.
//! SAML assertions are tokens of another kind: [`saml`].
//!
//! Signature, issuer, audience, expiry (`exp`), `nbf`, `iat` and required claims are checked. There is no nonce: the
//! token is not the answer to a request of ours. Symmetric signatures and `none` are refused whatever the keys say,
//! and so are ES512 and encrypted tokens, which the library behind this does not verify.
//!
//! Known limits: a key that the issuer withdraws counts for up to 5 minutes more, or for as long as the policy's `offline`
//! says while the issuer cannot be reached. A token that was copied to another process of the same workload is as good there.

mod claims;
mod fetch;
mod keys;
mod saml;

#[cfg(test)]
mod provider_tests;
#[cfg(test)]
mod shape_tests;
#[cfg(test)]
mod test_issuer;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use openidconnect::core::{
    CoreIdToken, CoreIdTokenClaims, CoreIdTokenVerifier, CoreJsonWebKeySet, CoreJwsSigningAlgorithm,
};
use openidconnect::{
    ClaimsVerificationError, ClientId, IssuerUrl, JsonWebTokenType, Nonce, SignatureVerificationError,
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::source::LONGEST_TOKEN;
use crate::config::{ClaimRule, IdentitySpec, Proof};
use crate::model::Secret;

use keys::{Issuer, Wanted};

pub use saml::SamlError;

/// What a validated token says. The token itself goes to sources of credentials alone ([`Self::job_token`]).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TokenClaims {
    /// What it is.
    pub kind: TokenKind,
    /// `iss`, or an assertion's issuer.
    pub issuer: String,
    /// `sub`, or an assertion's `NameID`.
    pub subject: String,
    /// `aud`.
    pub audience: String,
    /// `iat`.
    pub issued_at: DateTime<Utc>,
    /// `exp`, as the token has it; of an assertion the end of the session that it began, else its own.
    pub expires_at: DateTime<Utc>,
    /// The claims that the policy asked for, and those of [well-known CI systems](claims::WELL_KNOWN), as text. Of an
    /// assertion its attributes, and its ID as `jti`.
    pub claims: BTreeMap<String, String>,
    /// `kid` of the key that signed it, where the token names one.
    pub key: Option<String>,
    /// `exp` and the policy's leeway: when the right to run commands ends.
    #[serde(skip)]
    pub(super) valid_until: SystemTime,
    /// Every claim, for what is revoked. Not for records: the policy asked for few of them.
    #[serde(skip)]
    all: Arc<Map<String, Value>>,
    /// Itself. Never for records.
    #[serde(skip)]
    raw: Raw,
}

/// The token itself, for whoever changes it for a credential.
#[derive(Clone, Debug)]
struct Raw(Secret);

impl PartialEq for Raw {
    fn eq(&self, other: &Self) -> bool {
        self.0.expose() == other.0.expose()
    }
}

impl Eq for Raw {}

/// A workload's own token that was found good, for sources that change it for a credential.
#[derive(Clone, Debug)]
pub struct JobToken {
    /// What it is.
    pub kind: TokenKind,
    /// The token.
    pub secret: Secret,
}

/// What a workload proves itself with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenKind {
    /// A JSON Web Token of an OpenID issuer.
    Oidc,
    /// A SAML 2.0 assertion.
    Saml,
}

impl JobToken {
    /// An assertion as `urn:ietf:params:oauth:token-type:saml2` has it (RFC 8693 §3): base64url of its XML. `None`: it is none, or
    /// none by itself, but in a response or with its signature beside it, and what is left of it alone is signed by nobody.
    pub fn saml2(&self) -> Option<Zeroizing<String>> {
        let xml = saml::by_itself(&self.secret)?;
        Some(Zeroizing::new(URL_SAFE_NO_PAD.encode(xml.as_bytes())))
    }
}

impl TokenClaims {
    /// When the right to run commands ends: `exp` and the policy's leeway.
    pub fn valid_until(&self) -> SystemTime {
        self.valid_until
    }

    /// Itself, as the workload has it.
    pub fn job_token(&self) -> JobToken {
        JobToken {
            kind: self.kind,
            secret: self.raw.0.clone(),
        }
    }

    /// Whether it says what `rule` asks for.
    pub(super) fn has(&self, rule: &ClaimRule) -> bool {
        claims::matches(&self.all, rule)
    }
}

/// Why a token does not count. The words are for the workload's author; nothing in them is taken from a token that
/// did not verify, except the names it claims, quoted and cut.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// More than anybody's.
    #[error("it is longer than 64 KiB, which no token is")]
    TooLong,
    /// Not a token at all, or without claims that every token has.
    #[error("it is not a signed JWT with iss, sub, aud, exp and iat")]
    Malformed,
    /// `none`, a symmetric algorithm, or one that is not known.
    #[error("its signature algorithm is not accepted; RS256 to PS512, ES256, ES384 and EdDSA are")]
    Algorithm,
    /// Of another kind than identity or access token.
    #[error("it is a token of another kind ({reason:?})")]
    Kind {
        /// What the library said.
        reason: String,
    },
    /// No key of the issuer fits.
    #[error("the issuer {issuer} has no key that fits it; its kid is {kid:?}")]
    UnknownKey {
        /// The issuer.
        issuer: String,
        /// The `kid`, cut.
        kid: Option<String>,
    },
    /// Changed, or signed by somebody else.
    #[error("its signature is wrong")]
    Signature,
    /// Another issuer.
    #[error("it is not of the issuer {expected:?}")]
    Issuer {
        /// The policy's.
        expected: String,
    },
    /// Another audience, or others too.
    #[error(
        "it is not for the audience {expected:?} alone; ask the CI system for a token with that audience"
    )]
    Audience {
        /// The policy's.
        expected: String,
    },
    /// Too late.
    #[error("it has expired; let the job ask for a new one, or give it a longer life")]
    Expired,
    /// `nbf` or `iat` lie ahead.
    #[error("it is not valid yet; check the clocks of this host and of the issuer")]
    NotYet,
    /// A required claim is missing or different.
    #[error("its claim {claim:?} is {}, and the policy asks for {expected}", found.as_ref().map_or_else(|| "missing".to_owned(), |found| format!("{found:?}")))]
    Claim {
        /// The claim.
        claim: String,
        /// What the policy asks for, as a message has it.
        expected: String,
        /// The token's value.
        found: Option<String>,
    },
    /// An assertion, and what is wrong with it is of SAML's own.
    #[error(transparent)]
    Assertion(#[from] SamlError),
    /// The issuer cannot be asked, and what is known of it is too old.
    #[error("it cannot be verified: {reason}")]
    Unavailable {
        /// Why, as a sentence.
        reason: String,
    },
}

/// Verifies tokens, and keeps the keys of the issuers. One for the whole agent.
#[derive(Debug, Default)]
pub struct TokenVerifier {
    issuers: Mutex<HashMap<IssuerKey, Arc<Issuer<CoreJsonWebKeySet>>>>,
    saml: saml::Verifier,
}

/// URL, extra authorities, and how long its keys count: the same issuer seen otherwise is asked again.
type IssuerKey = (String, Option<PathBuf>, Duration);

/// Both clocks, read once for a verification.
#[derive(Clone, Copy, Debug)]
struct Now {
    wall: SystemTime,
    steady: Instant,
}

/// What a token is verified for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    /// Somebody presents it.
    Presented,
    /// Somebody did, and goes by that.
    LoggedIn,
}

impl Now {
    fn read() -> Self {
        Self {
            wall: SystemTime::now(),
            steady: Instant::now(),
        }
    }
}

impl TokenVerifier {
    /// A verifier that knows no issuer yet; it asks them when their tokens come.
    pub fn new() -> Self {
        Self::default()
    }

    /// Checks `token` against what the policy asks for.
    pub async fn verify(&self, token: &Secret, spec: &IdentitySpec) -> Result<TokenClaims, TokenError> {
        self.verify_at(token, spec, Now::read()).await
    }

    /// Checks a token again that a job has logged in with: the login was the use of one that may be used once.
    pub async fn verify_login(&self, token: &Secret, spec: &IdentitySpec) -> Result<TokenClaims, TokenError> {
        self.verify_as(Use::LoggedIn, token, spec, Now::read()).await
    }

    async fn verify_at(
        &self,
        token: &Secret,
        spec: &IdentitySpec,
        now: Now,
    ) -> Result<TokenClaims, TokenError> {
        self.verify_as(Use::Presented, token, spec, now).await
    }

    async fn verify_as(
        &self,
        what_for: Use,
        token: &Secret,
        spec: &IdentitySpec,
        now: Now,
    ) -> Result<TokenClaims, TokenError> {
        if token.expose().len() > LONGEST_TOKEN {
            return Err(TokenError::TooLong);
        }
        match &spec.proof {
            Proof::Oidc => self.verify_jwt(token, spec, now).await,
            Proof::Saml(saml) => self.saml.verify(what_for, token, spec, saml, now).await,
        }
    }

    async fn verify_jwt(
        &self,
        token: &Secret,
        spec: &IdentitySpec,
        now: Now,
    ) -> Result<TokenClaims, TokenError> {
        // Exposed for its verification.
        let text = std::str::from_utf8(token.expose()).map_err(|_| TokenError::Malformed)?;
        let header = Header::read(text)?;
        if !ACCEPTED.iter().any(|(name, _)| *name == header.alg) {
            return Err(TokenError::Algorithm);
        }
        let parsed = CoreIdToken::from_str(text).map_err(|_| TokenError::Malformed)?;
        let issuer = self.issuer(spec);
        let wanted = header.kid.clone().map_or(Wanted::Any, Wanted::Named);
        let keys = issuer.keys(&wanted, now.steady).await?;
        let sound = match checked_with(&parsed, &keys, &header, spec, now.wall) {
            // An issuer may have put another key in the place of the one of this name, or of the one without a name: asked for
            // as an unknown one is.
            Err(error @ (TokenError::Signature | TokenError::UnknownKey { .. })) => {
                let newer = issuer.keys(&Wanted::Other, now.steady).await?;
                if Arc::ptr_eq(&newer, &keys) {
                    return Err(error);
                }
                checked_with(&parsed, &newer, &header, spec, now.wall)?
            }
            checked => checked?,
        };

        // The same bytes that the signature covers, this time with every claim.
        let all = payload(text)?;
        let latest_start = DateTime::<Utc>::from(now.wall) + leeway(spec);
        if not_before(&all).is_some_and(|start| start > latest_start) {
            return Err(TokenError::NotYet);
        }
        let expires_at = sound.expiration();
        Ok(TokenClaims {
            kind: TokenKind::Oidc,
            issuer: spec.issuer.clone(),
            subject: claims::cut(sound.subject().as_str()),
            audience: spec.audience.clone(),
            issued_at: sound.issue_time(),
            expires_at,
            claims: claims::check(&all, &spec.claims)?,
            key: header.kid.as_deref().map(claims::cut),
            valid_until: SystemTime::from(expires_at) + spec.leeway,
            all: Arc::new(all),
            raw: Raw(token.clone()),
        })
    }

    fn issuer(&self, spec: &IdentitySpec) -> Arc<Issuer<CoreJsonWebKeySet>> {
        let key = (spec.issuer.clone(), spec.ca.clone(), spec.offline);
        let mut issuers = self.issuers.lock();
        Arc::clone(
            issuers
                .entry(key)
                .or_insert_with(|| Arc::new(Issuer::new(spec.issuer.clone(), spec.ca.clone(), spec.offline))),
        )
    }
}

/// The part of the JOSE header that chooses keys. Not trusted: the library checks each choice again.
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
}

impl Header {
    fn read(token: &str) -> Result<Self, TokenError> {
        serde_json::from_slice(&segment(token, 0)?).map_err(|_| TokenError::Malformed)
    }
}

/// Checks signature, issuer, audience, `exp` and `iat` with these keys.
fn checked_with<'t>(
    token: &'t CoreIdToken,
    keys: &CoreJsonWebKeySet,
    header: &Header,
    spec: &IdentitySpec,
    wall: SystemTime,
) -> Result<&'t CoreIdTokenClaims, TokenError> {
    let issuer = IssuerUrl::new(spec.issuer.clone()).map_err(|_| TokenError::Unavailable {
        reason: format!("the policy's issuer {:?} is no URL", spec.issuer),
    })?;
    let (wall, leeway) = (DateTime::<Utc>::from(wall), leeway(spec));
    let audience = ClientId::new(spec.audience.clone());
    let verifier = CoreIdTokenVerifier::new_public_client(audience, issuer, keys.clone())
        .set_allowed_algs(ACCEPTED.iter().map(|(_, algorithm)| algorithm.clone()))
        .set_allowed_jose_types(
            TYPES
                .iter()
                .filter_map(|name| JsonWebTokenType::new((*name).to_owned()).normalize().ok()),
        )
        .set_time_fn(move || wall - leeway)
        .set_issue_time_verifier_fn(move |issued| {
            if issued <= wall + leeway {
                Ok(())
            } else {
                Err(FROM_THE_FUTURE.to_owned())
            }
        });
    let no_nonce = |_: Option<&Nonce>| Ok(());
    token
        .claims(&verifier, no_nonce)
        .map_err(|error| explain(&error, spec, header.kid.as_deref()))
}

fn leeway(spec: &IdentitySpec) -> chrono::TimeDelta {
    chrono::TimeDelta::from_std(spec.leeway).unwrap_or_default()
}

fn payload(token: &str) -> Result<Map<String, Value>, TokenError> {
    serde_json::from_slice(&segment(token, 1)?).map_err(|_| TokenError::Malformed)
}

fn segment(token: &str, number: usize) -> Result<Vec<u8>, TokenError> {
    let text = token.split('.').nth(number).ok_or(TokenError::Malformed)?;
    URL_SAFE_NO_PAD.decode(text).map_err(|_| TokenError::Malformed)
}

/// `nbf` (RFC 7519 §4.1.5), seconds since 1970. What is no number lies in the far future: refused.
fn not_before(claims: &Map<String, Value>) -> Option<DateTime<Utc>> {
    let claim = claims.get("nbf")?;
    let seconds = claim.as_i64().or_else(|| claim.as_f64().map(whole_seconds));
    Some(
        seconds
            .and_then(|seconds| DateTime::from_timestamp(seconds, 0))
            .unwrap_or(DateTime::<Utc>::MAX_UTC),
    )
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "saturates, and a date that far off is refused anyway"
)]
fn whole_seconds(seconds: f64) -> i64 {
    seconds.ceil() as i64
}

fn explain(error: &ClaimsVerificationError, spec: &IdentitySpec, kid: Option<&str>) -> TokenError {
    match error {
        ClaimsVerificationError::Expired(why) if why == FROM_THE_FUTURE => TokenError::NotYet,
        ClaimsVerificationError::Expired(_) => TokenError::Expired,
        ClaimsVerificationError::InvalidAudience(_) => TokenError::Audience {
            expected: spec.audience.clone(),
        },
        ClaimsVerificationError::InvalidIssuer(_) => TokenError::Issuer {
            expected: spec.issuer.clone(),
        },
        ClaimsVerificationError::SignatureVerification(error) => match error {
            SignatureVerificationError::NoMatchingKey | SignatureVerificationError::AmbiguousKeyId(_) => {
                TokenError::UnknownKey {
                    issuer: spec.issuer.clone(),
                    kid: kid.map(claims::cut),
                }
            }
            SignatureVerificationError::DisallowedAlg(_)
            | SignatureVerificationError::UnsupportedAlg(_)
            | SignatureVerificationError::NoSignature => TokenError::Algorithm,
            _ => TokenError::Signature,
        },
        ClaimsVerificationError::Unsupported(reason) => TokenError::Kind {
            reason: claims::cut(reason),
        },
        _ => TokenError::Malformed,
    }
}

/// Asymmetric algorithms that the library verifies, by their names in a JOSE header (RFC 7518 §3.1, RFC 8037).
const ACCEPTED: &[(&str, CoreJwsSigningAlgorithm)] = &[
    ("RS256", CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256),
    ("RS384", CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha384),
    ("RS512", CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha512),
    ("PS256", CoreJwsSigningAlgorithm::RsaSsaPssSha256),
    ("PS384", CoreJwsSigningAlgorithm::RsaSsaPssSha384),
    ("PS512", CoreJwsSigningAlgorithm::RsaSsaPssSha512),
    ("ES256", CoreJwsSigningAlgorithm::EcdsaP256Sha256),
    ("ES384", CoreJwsSigningAlgorithm::EcdsaP384Sha384),
    ("EdDSA", CoreJwsSigningAlgorithm::EdDsa),
];
/// `typ` of identity tokens, and of access tokens in JWT form. Others (logout tokens, proofs) say something else with
/// the same keys.
const TYPES: &[&str] = &["JWT", "at+jwt"];
const FROM_THE_FUTURE: &str = "issued in the future";
