//! Why a request cannot get a credential.

/// Why a request cannot get a credential. Nothing of the credential is in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InjectError {
    /// The source gave something else than the policy puts into requests.
    #[error("the source gave {given}, and inject = \"{inject}\" cannot put that into a request")]
    NoFit {
        /// What it gave.
        given: &'static str,
        /// What the policy says.
        inject: &'static str,
    },
    /// A secret that would be found everywhere.
    #[error("the credential has fewer than {least} bytes")]
    TooShort {
        /// The least.
        least: usize,
    },
    /// Line breaks, say.
    #[error("the credential has bytes in it that no header may have")]
    NoHeader,
    /// RFC 7617.
    #[error(
        "the user has a colon, or user or password a control character, which basic authentication cannot send"
    )]
    NoLogin,
    /// RFC 6265.
    #[error("the credential has bytes in it that no cookie may have")]
    NoCookie,
    /// A request without a path cannot have parameters.
    #[error("a request for \"*\" or a tunnel has no query that the credential could go into")]
    NoQuery,
    /// Keys that are no text.
    #[error("the keys of AWS are no text")]
    NoKeys,
    /// A head that cannot be signed.
    #[error("the request cannot be signed: {why}")]
    Unsignable {
        /// Why.
        why: &'static str,
    },
    /// The body of a request does not have the form that its head promises.
    #[error("the body is not as the request's head says: {why}")]
    Body {
        /// Why.
        why: &'static str,
    },
}
