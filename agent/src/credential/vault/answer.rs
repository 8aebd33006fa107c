//! What Vault answers. Fields that are not used are not read; those that are have to be there.

use std::time::{Duration, SystemTime};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use super::error::VaultError;
use crate::model::Secret;

/// A text that is wiped when it is dropped.
pub(super) struct Hidden(Zeroizing<String>);

impl<'de> Deserialize<'de> for Hidden {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(Zeroizing::new(text)))
    }
}

impl Hidden {
    pub(super) fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// As a secret. An empty one, or one with a zero byte, is none.
    pub(super) fn secret(&self) -> Option<Secret> {
        let fits = !self.0.is_empty() && !self.0.contains('\0');
        fits.then(|| Secret::new(self.0.as_bytes().to_vec()))
    }

    /// As text, for what is no secret.
    pub(super) fn text(&self) -> &str {
        &self.0
    }
}

/// A token: what a login and the making of a child answer.
#[derive(Deserialize)]
pub(super) struct Authenticated {
    pub(super) auth: Auth,
}

/// `auth` of an answer.
#[derive(Deserialize)]
pub(super) struct Auth {
    pub(super) client_token: Hidden,
    /// Batch tokens have none.
    #[serde(default)]
    pub(super) accessor: String,
    /// Seconds; 0: it has no end.
    pub(super) lease_duration: u32,
    pub(super) renewable: bool,
}

/// What a token's renewal answers.
#[derive(Deserialize)]
pub(super) struct Renewed {
    pub(super) auth: RenewedAuth,
}

/// `auth` of a renewal.
#[derive(Deserialize)]
pub(super) struct RenewedAuth {
    pub(super) lease_duration: u32,
}

/// What a token's look at itself answers.
#[derive(Deserialize)]
pub(super) struct LookedUp {
    pub(super) data: TokenFacts,
}

/// `data` of a token.
#[derive(Deserialize)]
pub(super) struct TokenFacts {
    /// Seconds left; 0: it has no end.
    pub(super) ttl: u32,
    #[serde(default)]
    pub(super) renewable: bool,
}

/// A lease of the database engine.
#[derive(Deserialize)]
pub(super) struct Leased {
    pub(super) lease_id: String,
    pub(super) lease_duration: u32,
    pub(super) renewable: bool,
    pub(super) data: Login,
}

/// What `static-creds` answers.
#[derive(Deserialize)]
pub(super) struct Given {
    pub(super) data: Login,
}

/// A login.
#[derive(Deserialize)]
pub(super) struct Login {
    pub(super) username: Hidden,
    pub(super) password: Hidden,
}

/// What a lease's renewal answers.
#[derive(Deserialize)]
pub(super) struct LeaseRenewed {
    pub(super) lease_duration: u32,
}

/// What the SSH engine answers.
#[derive(Deserialize)]
pub(super) struct SignedKey {
    pub(super) data: Signed,
}

/// A certificate.
#[derive(Deserialize)]
pub(super) struct Signed {
    pub(super) signed_key: Hidden,
}

/// Reads an answer. What serde says of one that is wrong may hold parts of it, so it is not kept.
pub(super) fn read<T: DeserializeOwned>(
    body: &[u8],
    what: &'static str,
    expected: &'static str,
) -> Result<T, VaultError> {
    serde_json::from_slice(body).map_err(|_| VaultError::Nonsense { what, expected })
}

/// When something ends that was `asked` for then, and lasts so many seconds; 0 is for ever.
pub(super) fn ends(asked: SystemTime, seconds: u32) -> Option<SystemTime> {
    (seconds > 0).then(|| asked + Duration::from_secs(seconds.into()))
}

/// The earlier of two ends, where `None` is none.
pub(super) fn earlier(one: Option<SystemTime>, other: Option<SystemTime>) -> Option<SystemTime> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::{earlier, ends};

    #[test]
    fn no_end_is_later_than_any() {
        let now = SystemTime::now();
        let soon = ends(now, 5);
        assert_eq!(soon, Some(now + Duration::from_secs(5)));
        assert_eq!(ends(now, 0), None);
        assert_eq!(earlier(None, soon), soon);
        assert_eq!(earlier(ends(now, 9), soon), soon);
        assert_eq!(earlier(None, None), None);
    }
}
