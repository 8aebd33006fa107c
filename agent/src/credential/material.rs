//! A credential, as a login.

use crate::model::Material;
use crate::protocol::Login;

use super::CredentialError;

/// `material` for a protocol that knows user and password alone.
pub(super) fn login(material: &Material, database: Option<&str>) -> Result<Login, CredentialError> {
    match material {
        Material::Login { user, password } => Ok(Login {
            user: user.clone(),
            password: password.clone(),
            database: database.map(str::to_owned),
        }),
        Material::Token(_) | Material::Key { .. } | Material::Aws(_) => Err(CredentialError::NoLogin {
            given: material.what(),
        }),
    }
}
