//! Files to typed values, once. Later stages never validate again.
//!
//! Knows files and their syntax; does not match, resolve names or read secrets.

mod policy;

pub use policy::{
    ColumnPattern, CredentialSource, Detector, Egress, Endpoint, EndpointHost, IdentitySpec, Limits,
    MaskOperator, MaskRule, MaskTarget, Mode, PolicyDoc, Protocol, RuleDoc, RuleVerdict, ServiceDoc,
    SourceSpec, TablePattern, TlsMode, TlsSpec, TokenSource, Workload,
};
