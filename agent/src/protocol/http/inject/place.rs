//! What is kept of what a workload sent.

/// What of it decides how the credential goes in. No secret is in it.
#[derive(Debug, Default)]
pub(super) struct Sent {
    /// What stood before and behind the placeholder in the header that gets the credential.
    pub(super) around: Option<(Vec<u8>, Vec<u8>)>,
    /// What was signed for, where it was signed as for AWS.
    pub(super) signed: Option<Signed>,
}

/// What the client signed, with keys that are worth nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Signed {
    /// Region of the scope.
    pub(super) region: Option<String>,
    /// Service of the scope.
    pub(super) service: Option<String>,
    /// Names of the headers that were signed, in lower case.
    pub(super) headers: Vec<String>,
    /// It was signed in the query.
    pub(super) presigned: bool,
}
