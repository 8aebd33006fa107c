//! What a source gives: not always a user and a password.

use crate::model::Secret;
use crate::protocol::Login;

use super::CredentialError;

/// A credential. Each protocol takes the kinds that it knows and refuses the others.
#[derive(Clone, Debug)]
pub enum Material {
    /// User and password: databases, HTTP basic authentication.
    Login {
        /// User.
        user: Secret,
        /// Password.
        password: Secret,
    },
    /// A bearer token.
    Token(Secret),
    /// A private key, and what vouches for it.
    Key {
        /// The key, in the form that its protocol reads (PEM, OpenSSH).
        private: Secret,
        /// A certificate over it.
        certificate: Option<Secret>,
    },
    /// Keys that requests to AWS are signed with.
    Aws(AwsKeys),
}

/// Keys of a session of AWS.
#[derive(Clone, Debug)]
pub struct AwsKeys {
    /// Access key id.
    pub id: Secret,
    /// Secret access key.
    pub secret: Secret,
    /// Session token; a long-term key has none.
    pub token: Option<Secret>,
    /// The region that is signed for.
    pub region: String,
}

impl Material {
    /// As a login for a protocol that knows user and password alone.
    pub fn login(&self, database: Option<&str>) -> Result<Login, CredentialError> {
        let given = match self {
            Self::Login { user, password } => {
                return Ok(Login {
                    user: user.clone(),
                    password: password.clone(),
                    database: database.map(str::to_owned),
                });
            }
            Self::Token(_) => "a token",
            Self::Key { .. } => "a key",
            Self::Aws(_) => "keys of AWS",
        };
        Err(CredentialError::NoLogin { given })
    }
}
