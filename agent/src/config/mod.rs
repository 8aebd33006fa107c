//! Files to typed values, once. Later stages never validate again.
//!
//! Knows files and their syntax; does not match, resolve names or read secrets.
//!
//! Decoding is strict: an unknown key, a wrong type, a value out of range and a key that has no effect where it stands
//! are errors, and all errors of a file are reported at once. Known limit: text that is not TOML gives one error, the
//! first, because nothing behind it can be read with certainty.

mod agent;
mod claim;
mod credential;
mod decode;
mod glob;
mod http_mask;
mod inject;
mod issuer;
mod json_path;
mod keys;
mod load;
mod path_pattern;
mod policy;
mod problem;
mod reader;
mod report;
mod request;
mod scalar;
mod selector;
mod sweep;
mod vault;

#[cfg(test)]
mod tests;

pub use agent::{AgentConfig, Durability, ShipSpec, ShipTarget};
pub use claim::{ClaimName, ClaimRule, ClaimValue, TokenPattern};
pub use credential::{
    AdminSpec, CredentialKind, CredentialSource, ExecSpec, MysqlUserSpec, PostgresRoleSpec, Share,
    SourceSpec, SshCaSpec,
};
pub use glob::{Glob, GlobError};
pub use http_mask::{HeaderPattern, KeyPattern, MediaPattern};
pub use inject::{HttpCredential, Inject, Placeholder};
pub use issuer::{
    AwsKeysSpec, AwsSpec, ClientAuth, GithubAppSpec, IssuerSpec, Oauth2Grant, Oauth2Spec, SubjectToken,
};
pub use json_path::{JsonPath, JsonSegment, JsonSelector};
pub use load::{load_policies, load_policy, load_policy_files, locate, parse_policy, policy_files};
pub use path_pattern::{PathPattern, PathPatternError};
pub use policy::{
    ClientTls, ColumnPattern, Demand, Detector, DnsSpec, Egress, Endpoint, EndpointHost, FindingsSpec,
    IdentitySpec, Limits, MaskOperator, MaskRule, MaskTarget, Mode, PolicyDoc, PolicyText, Probe, Proof,
    Protocol, RuleDoc, RuleVerdict, SamlSpec, ServiceDoc, TablePattern, TlsMode, TlsSpec, TokenSource,
    Workload,
};
pub use problem::{PolicyErrors, Position, Problem, Problems, Severity};
pub use request::{Condition, FieldRule, GraphqlRule, RequestRule};
pub use selector::{
    CgroupPlace, ContainerName, ContainerSpec, LabelRule, PlaceLevel, Selector, SelectorKind, container_at,
    container_in, unit_of, user_unit_of,
};
pub use sweep::{SweepDoc, load_sweep};
pub use vault::{KvFields, KvVersion, VaultAuth, VaultEngine, VaultServer, VaultSpec};
