//! Verification of SAML 2.0 assertions that a job presents as its token.
//!
//! A job presents what it has: there was no request of ours, so `InResponseTo` and `Destination` say nothing here. The
//! signature, who made it, for whom, until when, to whom it was delivered, how often it may be used and the attributes that
//! the policy asks for are checked. Keys come from the provider's metadata alone; those that an assertion brings along
//! are not looked at. See [`signature`] for what keeps one element from being signed and another from being read.
//!
//! Known limits: encrypted assertions, names and attributes are not read. `Address` of a confirmation is not compared:
//! the provider saw the job from elsewhere than the agent does. What was used once is known until the agent ends;
//! after its start, one-time assertions from before are refused.

mod algorithm;
mod assertion;
mod check;
mod envelope;
mod error;
mod metadata;
mod signature;
mod used;
mod xml;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use chrono::{DateTime, TimeDelta, Utc};
use parking_lot::Mutex;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::keys::{Issuer, Wanted};
use super::{IssuerKey, Now, TokenClaims, TokenError, Use, claims};
use crate::config::{IdentitySpec, SamlSpec};
use crate::model::Secret;

use assertion::Assertion;
use envelope::Envelope;
use metadata::Metadata;
use used::Used;
use xml::Tree;

pub use error::SamlError;
pub(super) use metadata::MetadataError;

/// Verifies assertions, and keeps the metadata of providers and what was used.
#[derive(Debug)]
pub(super) struct Verifier {
    providers: Mutex<HashMap<IssuerKey, Arc<Issuer<Metadata>>>>,
    used: Mutex<Used>,
}

impl Default for Verifier {
    fn default() -> Self {
        Self::since(SystemTime::now())
    }
}

impl Verifier {
    fn since(start: SystemTime) -> Self {
        Self {
            providers: Mutex::default(),
            used: Mutex::new(Used::since(start.into())),
        }
    }

    /// Checks an assertion against what the policy asks for.
    pub(super) async fn verify(
        &self,
        what_for: Use,
        token: &Secret,
        spec: &IdentitySpec,
        saml: &SamlSpec,
        now: Now,
    ) -> Result<TokenClaims, TokenError> {
        let wall = DateTime::<Utc>::from(now.wall);
        // Exposed for its verification; nothing below keeps it.
        let envelope = Envelope::open(token.expose(), saml.detached)?;
        let provider = self.provider(spec, saml);
        // Once with the keys at hand; if none of them made the signature, with those that the provider has by now.
        for wanted in [Wanted::Any, Wanted::Other] {
            let metadata = provider.keys(&wanted, now.steady).await?;
            let keys = metadata
                .keys(&spec.issuer, wall)
                .map_err(|error| TokenError::Unavailable {
                    reason: format!("{}: {error}", saml.metadata),
                })?;
            let Some((key, octets)) = envelope.verified(keys) else {
                continue;
            };
            let read = read(octets)?;
            let expires_at = check::check(&read, spec, saml, wall)?;
            let all = all(&read);
            let kept = claims::check(&all, &spec.claims)?;
            if read.conditions.one_time_use && what_for == Use::Presented {
                let leeway = TimeDelta::from_std(spec.leeway).unwrap_or_default();
                let until = expires_at.max(latest(&read).unwrap_or(expires_at)) + leeway;
                let named = (read.issuer.as_str(), read.id.as_str());
                self.used
                    .lock()
                    .first_use(named, read.issued_at, leeway, until, wall)?;
            }
            return Ok(TokenClaims {
                kind: super::TokenKind::Saml,
                issuer: spec.issuer.clone(),
                subject: claims::cut(&read.subject),
                audience: spec.audience.clone(),
                issued_at: read.issued_at,
                expires_at,
                claims: kept,
                key: Some(key.fingerprint.clone()),
                valid_until: SystemTime::from(expires_at) + spec.leeway,
                all: Arc::new(all),
                raw: super::Raw(token.clone()),
            });
        }
        Err(SamlError::UnknownKey {
            issuer: spec.issuer.clone(),
        }
        .into())
    }

    fn provider(&self, spec: &IdentitySpec, saml: &SamlSpec) -> Arc<Issuer<Metadata>> {
        let key = (saml.metadata.clone(), spec.ca.clone(), spec.offline);
        let mut providers = self.providers.lock();
        let made = || Arc::new(Issuer::new(saml.metadata.clone(), spec.ca.clone(), spec.offline));
        Arc::clone(providers.entry(key).or_insert_with(made))
    }
}

/// The XML of an assertion that was found good, where it is all that the job has.
pub(super) fn by_itself(token: &Secret) -> Option<Zeroizing<String>> {
    // Exposed for whom the policy has it shown to.
    envelope::by_itself(token.expose())
}

/// Reads the octets that were signed, and nothing else.
fn read(octets: &str) -> Result<Assertion, SamlError> {
    let tree = Tree::parse(octets)?;
    Assertion::read(envelope::assertion_of(&tree)?)
}

/// What rules can ask for: every attribute, and two names that stand for what is no attribute.
fn all(assertion: &Assertion) -> Map<String, Value> {
    let mut all = assertion.attributes.clone();
    all.insert(NAME_ID.to_owned(), Value::String(assertion.subject.clone()));
    all.insert(ASSERTION_ID.to_owned(), Value::String(assertion.id.clone()));
    all
}

/// The last time at which anybody could present it.
fn latest(assertion: &Assertion) -> Option<DateTime<Utc>> {
    let confirmations = assertion.confirmations.iter();
    confirmations
        .filter_map(|confirmation| confirmation.not_on_or_after)
        .chain(assertion.conditions.not_on_or_after)
        .max()
}

/// The subject, as a name of an attribute.
const NAME_ID: &str = "NameID";
/// The assertion's ID, under the name that tokens have for theirs: it is kept for the record.
const ASSERTION_ID: &str = "jti";
