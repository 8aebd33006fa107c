//! The login of who makes and drops accounts.

use crate::config::AdminSpec;
use crate::credential::source::Source;
use crate::credential::{CredentialError, Material};
use crate::protocol::Login;

/// Reads it, for `database`.
pub(in crate::credential) async fn read(
    admin: &AdminSpec,
    database: Option<&str>,
) -> Result<Login, CredentialError> {
    let (user, password) = (Source::open(&admin.user)?, Source::open(&admin.password)?);
    // A secret may lie on a file system that blocks.
    let material = tokio::task::spawn_blocking(move || {
        Ok::<_, CredentialError>(Material::Login {
            user: user.read()?,
            password: password.read()?,
        })
    })
    .await
    .map_err(|_| CredentialError::BrokenOff)??;
    material.login(database)
}

/// Reads it once, and throws it away.
pub(in crate::credential) async fn check(admin: &AdminSpec) -> Result<(), CredentialError> {
    read(admin, None).await.map(drop)
}
