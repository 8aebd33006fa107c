//! What a source gives: not always a user and a password.

use super::Secret;

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
    /// A bearer token, or whatever else is one text.
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
    /// What it is, for messages.
    pub fn what(&self) -> &'static str {
        match self {
            Self::Login { .. } => "a user and a password",
            Self::Token(_) => "a token",
            Self::Key { .. } => "a key",
            Self::Aws(_) => "keys of AWS",
        }
    }
}
