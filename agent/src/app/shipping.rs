//! Where records are shipped, as the configuration says.

use crate::config::{ShipSpec, ShipTarget as Place};
use crate::credential::{self, CredentialError};
use crate::ship::{S3Options, ShipError, ShipTarget};

/// Why records cannot be shipped. The agent does not start with it: its records would stay where a stolen host is.
#[derive(Debug, thiserror::Error)]
pub enum ShippingError {
    /// The key of the store.
    #[error("[ship]: {0}")]
    Credential(#[from] CredentialError),
    /// A key that is no text.
    #[error("[ship]: the access key is not ASCII text")]
    Key,
    /// The place itself.
    #[error("[ship]: {0}")]
    Target(#[from] ShipError),
}

/// Opens the target.
pub(super) fn target(spec: &ShipSpec) -> Result<ShipTarget, ShippingError> {
    let access_key_id = match &spec.access_key {
        Some(source) => {
            let key = credential::read(source)?;
            // An access key id is a name, and stands in each request in clear.
            Some(String::from_utf8(key.expose().to_vec()).map_err(|_| ShippingError::Key)?)
        }
        None => None,
    };
    let options = S3Options {
        allow_http: spec
            .endpoint
            .as_deref()
            .is_some_and(|endpoint| endpoint.starts_with("http://")),
        endpoint: spec.endpoint.clone(),
        region: spec.region.clone(),
        access_key_id,
        secret_access_key: spec.secret_key.as_ref().map(credential::read).transpose()?,
        session_token: None,
    };
    let url = match &spec.to {
        Place::Directory(path) => format!("file://{}", path.display()),
        Place::S3 { bucket, prefix } => format!("s3://{bucket}/{prefix}"),
    };
    Ok(ShipTarget::parse(&url, &options)?)
}
