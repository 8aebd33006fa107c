//! Why Vault gave nothing.

use chrono::{DateTime, Utc};

use crate::credential::CredentialError;
use crate::web::WebError;

/// Why Vault gave nothing, or could not be had revoke. Nothing that it answered is in it, except what kind of answer it was.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The agent's own login cannot be read.
    #[error("the agent's login to Vault cannot be read: {0}")]
    Secret(#[source] Box<CredentialError>),
    /// A login that no header or JSON text can hold.
    #[error("the agent's login to Vault has bytes in it that no {0} has")]
    Unfit(&'static str),
    /// No answer, or not one that is read.
    #[error("Vault could not be asked to {what}: {error}")]
    Web {
        /// To do what.
        what: &'static str,
        /// Why.
        #[source]
        error: WebError,
    },
    /// Somebody else is to get the token.
    #[error(
        "Vault sends elsewhere when it is asked to {what}, and a token goes nowhere but to the policy's address; name the active node or its balancer there"
    )]
    Redirect {
        /// To do what.
        what: &'static str,
    },
    /// It said no.
    #[error("Vault refused to {what} (status {status}){}", hint(*.status, *.said))]
    Refused {
        /// To do what.
        what: &'static str,
        /// Its status.
        status: u16,
        /// What it said, as far as that is a phrase of its own.
        said: Said,
    },
    /// Not what its API documents.
    #[error("Vault answered with something that is no {expected} when it was asked to {what}")]
    Nonsense {
        /// To do what.
        what: &'static str,
        /// What it should have been.
        expected: &'static str,
    },
    /// The secret has no such field, or it is no text.
    #[error("the secret in Vault has no text in a field {field:?}")]
    Field {
        /// The field that the policy names.
        field: String,
    },
    /// What was given is over already.
    #[error("what Vault gave has ended already")]
    Ended,
    /// The job has no JWT.
    #[error(
        "Vault is to be logged in to with the job's own JWT, and the job has none; [identity.oidc] asks for one"
    )]
    NoJwt,
    /// A certificate that is not the one that was asked for.
    #[error("Vault signed something else than it was asked for: {0}")]
    Certificate(&'static str),
    /// A key that could not be made or written.
    #[error("a key for SSH could not be made")]
    Key,
    /// It is there still.
    #[error(
        "Vault has not revoked the lease yet; a token that may `update` sys/leases/revoke would have it wait for that"
    )]
    Lingers,
    /// Nobody has a token that may.
    #[error("no token is left that may revoke it, and `cleanup` names none: Vault ends it by {}", .until.format("%Y-%m-%d %H:%M:%S UTC"))]
    NobodyMay {
        /// When it ends by itself at the latest.
        until: DateTime<Utc>,
    },
}

/// Phrases of Vault's errors that are known. Others are not shown: who knows what is in them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// "Vault is sealed".
    Sealed,
    /// "invalid role or secret ID" and the like.
    Login,
    /// "lease not found", "invalid lease".
    NoLease,
    /// "lease is not renewable".
    NotRenewable,
    /// "invalid accessor".
    NoAccessor,
    /// "unknown role".
    NoRole,
    /// "no handler for route".
    NoEngine,
    /// Something else, or nothing.
    Other,
}

impl Said {
    /// What the texts of an error come to.
    pub(super) fn of(errors: &[String]) -> Self {
        const PHRASES: &[(&str, Said)] = &[
            ("vault is sealed", Said::Sealed),
            ("invalid role or secret id", Said::Login),
            ("invalid secret id", Said::Login),
            ("invalid role id", Said::Login),
            ("error validating token", Said::Login),
            // One that is not there is told of as "not found or not renewable".
            ("lease not found", Said::NoLease),
            ("lease expired", Said::NoLease),
            ("lease is not renewable", Said::NotRenewable),
            ("invalid lease", Said::NoLease),
            ("invalid accessor", Said::NoAccessor),
            ("unknown role", Said::NoRole),
            ("no handler for route", Said::NoEngine),
            ("unsupported path", Said::NoEngine),
        ];
        let errors: Vec<String> = errors.iter().map(|text| text.to_lowercase()).collect();
        let known = PHRASES
            .iter()
            .find(|(phrase, _)| errors.iter().any(|text| text.contains(phrase)));
        known.map_or(Self::Other, |(_, said)| *said)
    }
}

impl VaultError {
    pub(super) fn secret(error: CredentialError) -> Self {
        Self::Secret(Box::new(error))
    }

    /// Whether it said no with this status.
    pub(super) fn is_status(&self, wanted: u16) -> bool {
        matches!(self, Self::Refused { status, .. } if *status == wanted)
    }

    /// Whether it said this.
    pub(super) fn says(&self, wanted: Said) -> bool {
        matches!(self, Self::Refused { said, .. } if *said == wanted)
    }
}

fn hint(status: u16, said: Said) -> &'static str {
    match (status, said) {
        (_, Said::Sealed) => ": it is sealed",
        (_, Said::Login) => ": it does not know the login: role_id, secret_id or the job's token",
        (_, Said::NoLease) => ": it does not know the lease",
        (_, Said::NotRenewable) => ": the lease cannot be renewed",
        (_, Said::NoAccessor) => ": it does not know the token",
        (_, Said::NoRole) => ": it does not know the role",
        (_, Said::NoEngine) => ": nothing is mounted there",
        (403, Said::Other) => ": the token's policies do not allow it, or the token has ended",
        (404, Said::Other) => ": there is nothing at that path",
        (429, Said::Other) => ": it is asked too often",
        (501, Said::Other) => ": it is not initialized",
        (503, Said::Other) => ": it is sealed or under maintenance",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::Said;

    #[test]
    fn phrases_are_known_and_nothing_else_is_repeated() {
        for (text, said) in [
            ("Vault is sealed", Said::Sealed),
            ("1 error occurred:\n\t* invalid accessor\n\n", Said::NoAccessor),
            ("invalid role or secret ID", Said::Login),
            ("lease not found or lease is not renewable", Said::NoLease),
            ("lease is not renewable", Said::NotRenewable),
            ("hunter2", Said::Other),
        ] {
            assert_eq!(Said::of(&[text.to_owned()]), said, "{text}");
        }
        assert_eq!(Said::of(&[]), Said::Other);
    }
}
