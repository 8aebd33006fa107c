//! Why no certificate was made.

/// Why no certificate was made. Nothing of a key is in it.
#[derive(Debug, thiserror::Error)]
pub enum SshCaError {
    /// The authority's key is something else.
    #[error("{origin} holds no private key in OpenSSH's form, as `ssh-keygen -t ed25519` writes it")]
    NoKey {
        /// Where it is.
        origin: String,
    },
    /// It has a passphrase.
    #[error(
        "the key in {origin} has a passphrase, and nobody is there to type it: take it off with `ssh-keygen -p`, and keep \
         the key in an age file or in an encrypted credential of systemd"
    )]
    Passphrase {
        /// Where it is.
        origin: String,
    },
    /// It is of a kind that is not signed with.
    #[error(
        "the key in {origin} is of the kind {kind}: an authority has an ed25519 key, or an ECDSA key over P-256 or P-384"
    )]
    Kind {
        /// Where it is.
        origin: String,
        /// The kind.
        kind: String,
    },
    /// A principal that the policy's pattern gives is none.
    #[error("\"{0}\" is no principal: a name of up to 64 letters, digits, \".\", \"_\", \"@\" and \"-\"")]
    Principal(String),
    /// The host's clock is before 1970.
    #[error("this host's clock cannot be right: no certificate can be dated")]
    Clock,
    /// The certificate could not be made.
    #[error("the certificate could not be signed; this is a fault of the agent: please report it")]
    Sign(#[source] ssh_key::Error),
}
