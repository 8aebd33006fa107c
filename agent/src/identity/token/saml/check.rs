//! What a policy and the standard ask of an assertion. Pure: it is told the time.

use chrono::{DateTime, TimeDelta, Utc};

use super::super::TokenError;
use super::assertion::{Assertion, Confirmation};
use super::error::SamlError;
use crate::config::{IdentitySpec, SamlSpec};

/// Checks everything but the attributes, and returns when the right that the assertion gives ends, without leeway.
pub(super) fn check(
    assertion: &Assertion,
    spec: &IdentitySpec,
    saml: &SamlSpec,
    now: DateTime<Utc>,
) -> Result<DateTime<Utc>, TokenError> {
    let leeway = TimeDelta::from_std(spec.leeway).unwrap_or_default();
    let conditions = &assertion.conditions;
    if assertion.issuer != spec.issuer {
        return Err(TokenError::Issuer {
            expected: spec.issuer.clone(),
        });
    }
    let restricted = !conditions.audiences.is_empty()
        && conditions
            .audiences
            .iter()
            .all(|audiences| matches!(audiences.as_slice(), [audience] if *audience == spec.audience));
    if !restricted {
        return Err(TokenError::Audience {
            expected: spec.audience.clone(),
        });
    }
    if assertion.issued_at > now + leeway {
        return Err(TokenError::NotYet);
    }
    within(conditions.not_before, conditions.not_on_or_after, now, leeway)?;
    within(None, assertion.session_end, now, leeway)?;
    let delivered_by = confirmed(&assertion.confirmations, saml, now, leeway)?;
    // The conditions and the confirmation limit when the assertion may be presented; the session that it began goes on.
    Ok(assertion
        .session_end
        .or(conditions.not_on_or_after)
        .unwrap_or(delivered_by))
}

/// Whether a job may present it: one confirmation has to hold (core §2.4.1). Returns until when that one does.
fn confirmed(
    confirmations: &[Confirmation],
    saml: &SamlSpec,
    now: DateTime<Utc>,
    leeway: TimeDelta,
) -> Result<DateTime<Utc>, TokenError> {
    let mut why = refused("it has no subject confirmation");
    for confirmation in confirmations {
        match bearer(confirmation, saml, now, leeway) {
            Ok(until) => return Ok(until),
            Err(error) => why = error,
        }
    }
    Err(why)
}

/// Profiles §4.1.4.2: a bearer's confirmation says until when and to whom.
fn bearer(
    confirmation: &Confirmation,
    saml: &SamlSpec,
    now: DateTime<Utc>,
    leeway: TimeDelta,
) -> Result<DateTime<Utc>, TokenError> {
    match confirmation.method.as_str() {
        BEARER => {}
        HOLDER_OF_KEY => {
            return Err(refused(
                "its presenter has to prove that it holds a key, which a job does not do on this path; have a bearer assertion issued",
            ));
        }
        SENDER_VOUCHES => {
            return Err(refused(
                "its sender has to vouch for it, and a job does not do that; have a bearer assertion issued",
            ));
        }
        other => {
            return Err(refused(&format!(
                "the confirmation method {:?} is not known",
                super::super::claims::cut(other)
            )));
        }
    }
    if confirmation.recipient != saml.recipient {
        return Err(match &saml.recipient {
            Some(expected) => refused(&format!("it is not delivered to the recipient {expected:?}")),
            None => refused("it names a recipient, and the policy names none"),
        });
    }
    let Some(until) = confirmation.not_on_or_after else {
        return Err(refused("its confirmation does not say until when"));
    };
    within(confirmation.not_before, Some(until), now, leeway)?;
    Ok(until)
}

fn within(
    from: Option<DateTime<Utc>>,
    until: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
    leeway: TimeDelta,
) -> Result<(), TokenError> {
    if from.is_some_and(|from| from > now + leeway) {
        return Err(TokenError::NotYet);
    }
    if until.is_some_and(|until| until <= now - leeway) {
        return Err(TokenError::Expired);
    }
    Ok(())
}

fn refused(reason: &str) -> TokenError {
    TokenError::Assertion(SamlError::Confirmation {
        reason: reason.to_owned(),
    })
}

const BEARER: &str = "urn:oasis:names:tc:SAML:2.0:cm:bearer";
const HOLDER_OF_KEY: &str = "urn:oasis:names:tc:SAML:2.0:cm:holder-of-key";
const SENDER_VOUCHES: &str = "urn:oasis:names:tc:SAML:2.0:cm:sender-vouches";
