//! The login of who makes and drops accounts.

use crate::config::AdminSpec;
use crate::credential::CredentialError;
use crate::credential::source::Source;
use crate::protocol::Login;

/// Reads it, for `database`.
pub(in crate::credential) async fn read(
    admin: &AdminSpec,
    database: Option<&str>,
) -> Result<Login, CredentialError> {
    let (user, password) = (Source::open(&admin.user)?, Source::open(&admin.password)?);
    // A secret may lie on a file system that blocks.
    let (user, password) =
        tokio::task::spawn_blocking(move || Ok::<_, CredentialError>((user.read()?, password.read()?)))
            .await
            .map_err(|_| CredentialError::BrokenOff)??;
    Ok(Login {
        user,
        password,
        database: database.map(str::to_owned),
    })
}

/// Reads it once, and throws it away.
pub(in crate::credential) async fn check(admin: &AdminSpec) -> Result<(), CredentialError> {
    read(admin, None).await.map(drop)
}
