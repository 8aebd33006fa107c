//! What a policy file says of a server to sweep.
//!
//! A server is swept of what agents left, also by a version that does not speak the protocol of its service, and so refuses the
//! policy: nothing but the credential and the way to the server is read.

use std::path::Path;

use super::credential::CredentialKind;
use super::load::{decode_with, read};
use super::policy::{Endpoint, TlsSpec};
use super::problem::PolicyErrors;
use super::reader::Table;
use super::{decode, keys};
use crate::model::{ServiceName, SocketPath};

/// A service whose server can be swept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SweepDoc {
    /// `name`.
    pub name: ServiceName,
    /// `address`.
    pub addresses: Vec<Endpoint>,
    /// `unix`.
    pub unix: Vec<SocketPath>,
    /// `tls`.
    pub tls: TlsSpec,
    /// `source`, with the keys that belong to it.
    pub kind: CredentialKind,
}

/// Reads the service `name` of the policy file at `path`. Whether the policy could be used is not asked.
///
/// # Errors
/// The file cannot be read, has no such service, or what a sweep needs of it is wrong.
pub fn load_sweep(path: &Path, name: &ServiceName) -> Result<SweepDoc, PolicyErrors> {
    decode_with(path, &read(path)?, |root, report| {
        decode::sweepable(&Table::root(&keys::ROOT, root, report)?, name.as_str())
    })
}
