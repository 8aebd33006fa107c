//! Why an assertion does not count.

use super::xml::XmlError;

/// Why an assertion does not count, besides what it has in common with other tokens. Nothing in the words is taken from
/// an assertion that did not verify, except names, quoted and cut.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SamlError {
    /// Neither XML nor base64 of XML.
    #[error("it is neither a SAML assertion nor base64 of one")]
    NoAssertion,
    /// Not of the form that the standard gives it.
    #[error("it is no sound SAML assertion: {reason}")]
    Form {
        /// What is wrong.
        reason: String,
    },
    /// Something is in it that no identity provider writes, and that readers disagree on.
    #[error("it has comments or processing instructions in it, which no identity provider writes")]
    Asides,
    /// Put together so that one part is signed and another is read.
    #[error("its parts do not stand where they belong: {reason}")]
    Arrangement {
        /// What.
        reason: &'static str,
    },
    /// No signature.
    #[error("it is not signed")]
    Unsigned,
    /// Signed beside it.
    #[error(
        "its signature stands beside it and not in it, which SAML does not have; a policy that takes such assertions says `detached = true`"
    )]
    Detached,
    /// Encrypted for somebody.
    #[error("it is encrypted; have the identity provider sign it and leave it in clear")]
    Encrypted,
    /// A signature of another make.
    #[error("its signature is of a kind that is not accepted: {reason}")]
    Kind {
        /// What.
        reason: String,
    },
    /// The digest is of something else.
    #[error("it was changed after it was signed")]
    Changed,
    /// Signed by somebody else.
    #[error("no key in the metadata of {issuer} made its signature")]
    UnknownKey {
        /// The entity id.
        issuer: String,
    },
    /// A response that says that something went wrong.
    #[error("it is the answer of an identity provider that refused ({status:?})")]
    Status {
        /// The status code, cut.
        status: String,
    },
    /// Who may present it.
    #[error("it cannot be taken from a job: {reason}")]
    Confirmation {
        /// Why.
        reason: String,
    },
    /// A condition that cannot be met.
    #[error("it has a condition that is not understood ({condition:?})")]
    Condition {
        /// The element's name, cut.
        condition: String,
    },
    /// It may be used once, and was.
    #[error("it may be used once, and was used before; let the job ask for one for each connection")]
    UsedBefore,
    /// It may be used once, and may have been used before the agent started.
    #[error(
        "it may be used once, and was issued before the agent started, which does not know whether it was used; let the job ask for a new one"
    )]
    Older,
    /// Too many that may be used once.
    #[error("it may be used once, and the agent keeps note of as many of those as it can; let the job wait")]
    TooMany,
}

impl From<XmlError> for SamlError {
    fn from(error: XmlError) -> Self {
        Self::Form {
            reason: error.to_string(),
        }
    }
}
