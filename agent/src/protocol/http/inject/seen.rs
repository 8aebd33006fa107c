//! Whether what was sent in the place of a credential is a secret, and of what kind.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE};

use crate::config::Detector;
use crate::finding::{SecretKind, SeenAt, Sighting};
use crate::mask;
use crate::model::Secret;

/// A real secret.
pub(super) struct Real {
    kind: SecretKind,
    secret: Secret,
}

impl Real {
    fn new(kind: SecretKind, secret: &[u8]) -> Self {
        Self {
            kind,
            secret: Secret::new(secret.to_vec()),
        }
    }

    /// Seen there.
    pub(super) fn at(self, at: SeenAt) -> Sighting {
        Sighting {
            kind: self.kind,
            at,
            secret: self.secret,
        }
    }
}

/// The value of an `Authorization` or `Proxy-Authorization`.
pub(super) fn authorization(value: &[u8], placeholder: Option<&[u8]>) -> Option<Real> {
    let value = value.trim_ascii();
    let at = value.iter().position(|byte| *byte == b' ' || *byte == b'\t');
    let Some(at) = at else {
        // A scheme alone, or a secret alone: only the second is a secret.
        let scheme = value.eq_ignore_ascii_case(b"bearer")
            || value.eq_ignore_ascii_case(b"basic")
            || value.eq_ignore_ascii_case(b"negotiate");
        return if scheme {
            None
        } else {
            self::value(value, placeholder)
        };
    };
    let (scheme, rest) = value.split_at(at);
    let rest = rest.trim_ascii();
    match scheme.to_ascii_lowercase().as_slice() {
        b"basic" => {
            let login = STANDARD
                .decode(rest)
                .or_else(|_| STANDARD_NO_PAD.decode(rest))
                .or_else(|_| URL_SAFE.decode(rest));
            match login {
                Ok(login) => self::login(&login, placeholder),
                Err(_) => self::value(rest, placeholder),
            }
        }
        // Another value each time: what is known is that there is a secret.
        scheme @ (b"digest" | b"negotiate" | b"ntlm" | b"hawk" | b"hoba" | b"mutual" | b"oauth"
        | b"signature" | b"scram-sha-256") => (!rest.is_empty() && !has(rest, placeholder))
            .then(|| Real::new(SecretKind::PasswordProof, scheme)),
        scheme if scheme.starts_with(b"aws4-") => self::scope(rest, placeholder),
        b"aws" => {
            let id = rest.split(|byte| *byte == b':').next().unwrap_or_default();
            (!id.is_empty() && !has(id, placeholder)).then(|| Real::new(SecretKind::AwsAccessKey, id))
        }
        b"bearer" | b"token" | b"apikey" | b"api-key" | b"key" => of(SecretKind::Token, rest, placeholder),
        _ => self::value(rest, placeholder),
    }
}

/// The value of an `X-Amz-Credential`.
pub(super) fn scope(value: &[u8], placeholder: Option<&[u8]>) -> Option<Real> {
    let id = super::sigv4::access_key(value)?;
    (!is_placeholder(id.as_bytes(), placeholder)).then(|| Real::new(SecretKind::AwsAccessKey, id.as_bytes()))
}

/// `user:password`.
pub(super) fn login(login: &[u8], placeholder: Option<&[u8]>) -> Option<Real> {
    let at = login.iter().position(|byte| *byte == b':');
    let (user, password) = at.map_or((login, &b""[..]), |at| {
        let (user, rest) = login.split_at(at);
        (user, rest.get(1..).unwrap_or_default())
    });
    if password.is_empty() || has(password, placeholder) {
        // Some services take a key as the user, and no password.
        return if password.is_empty() {
            looks(user, placeholder)
        } else {
            None
        };
    }
    of(SecretKind::Password, password, placeholder)
}

/// A value that is called a secret by where it stands.
pub(super) fn value(value: &[u8], placeholder: Option<&[u8]>) -> Option<Real> {
    of(SecretKind::Token, value.trim_ascii(), placeholder)
}

fn of(usual: SecretKind, secret: &[u8], placeholder: Option<&[u8]>) -> Option<Real> {
    if secret.is_empty() || has(secret, placeholder) {
        return None;
    }
    let kind = mask::secrets(secret)
        .first()
        .map_or(usual, |(detector, _)| kind_of(*detector, usual));
    Some(Real::new(kind, secret))
}

fn looks(secret: &[u8], placeholder: Option<&[u8]>) -> Option<Real> {
    let unknown = crate::identity::secrets_by_looks(&String::from_utf8_lossy(secret)).is_empty()
        && mask::secrets(secret).is_empty();
    if unknown || has(secret, placeholder) {
        return None;
    }
    of(SecretKind::Token, secret, placeholder)
}

fn kind_of(detector: Detector, usual: SecretKind) -> SecretKind {
    match detector {
        Detector::Jwt => SecretKind::Token,
        Detector::PrivateKey => SecretKind::PrivateKey,
        Detector::AwsAccessKey => SecretKind::AwsAccessKey,
        Detector::Card | Detector::Email => usual,
    }
}

fn has(text: &[u8], placeholder: Option<&[u8]>) -> bool {
    placeholder.is_some_and(|placeholder| memchr::memmem::find(text, placeholder).is_some())
}

fn is_placeholder(text: &[u8], placeholder: Option<&[u8]>) -> bool {
    placeholder == Some(text)
}
