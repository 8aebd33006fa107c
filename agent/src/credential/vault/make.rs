//! The source in the form that the keeper of leases takes.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::answer::earlier;
use super::certificate::SessionKey;
use super::connection::Connection;
use super::engine;
use super::error::VaultError;
use super::handle::VaultHandle;
use super::token::Token;
use crate::config::{VaultAuth, VaultEngine, VaultSpec};
use crate::credential::maker::{Ask, Left, Made, MakeError, Maker, Renewal, Working};
use crate::credential::{CredentialError, Handle};

#[derive(Debug)]
struct VaultMaker {
    engine: VaultEngine,
    max_ttl: Duration,
    connection: Arc<Connection>,
}

/// The source.
pub(in crate::credential) fn maker(spec: &VaultSpec) -> Arc<dyn Maker> {
    Arc::new(VaultMaker {
        engine: spec.engine.clone(),
        max_ttl: spec.max_ttl,
        connection: Connection::new(&spec.server, &spec.auth),
    })
}

impl Maker for VaultMaker {
    fn check(&self) -> Working<'_, Result<(), CredentialError>> {
        Box::pin(self.connection.check())
    }

    /// The token of which [`Self::prepare`] has the name.
    fn plan(&self, _ask: &Ask) -> Option<Handle> {
        None
    }

    fn prepare<'a>(&'a self, ask: &'a Ask) -> Working<'a, Result<Option<Handle>, MakeError>> {
        Box::pin(async move {
            if !matches!(self.engine, VaultEngine::Database { .. }) {
                return Ok(None);
            }
            let handle = self.token_of_its_own(ask).await.map_err(MakeError::before)?;
            Ok(Some(Handle::Vault(Box::new(handle))))
        })
    }

    fn make<'a>(&'a self, ask: &'a Ask, planned: Option<&'a Handle>) -> Working<'a, Result<Made, MakeError>> {
        Box::pin(async move {
            match (&self.engine, planned) {
                (VaultEngine::Database { mount, role }, Some(Handle::Vault(handle))) => self
                    .login(handle, mount, role)
                    .await
                    // The token is there in any case.
                    .map_err(|error| MakeError {
                        error: error.into(),
                        left: Left::Perhaps,
                    }),
                // Nothing that this source prepared.
                (VaultEngine::Database { .. }, _) => Err(MakeError::before(CredentialError::BrokenOff)),
                _ => self.given(ask).await.map_err(MakeError::before),
            }
        })
    }

    fn renewed_for(&self, handle: &Handle) -> Option<Duration> {
        match handle {
            Handle::Vault(handle) if handle.is_renewable() => Some(self.max_ttl),
            _ => None,
        }
    }

    fn renew<'a>(&'a self, handle: &'a Handle) -> Working<'a, Result<Renewal, CredentialError>> {
        Box::pin(async move {
            if let Handle::Vault(handle) = handle {
                return Ok(handle.renew().await?);
            }
            Ok(Renewal::Final)
        })
    }

    fn close(&self) -> Working<'_, ()> {
        Box::pin(self.connection.close())
    }
}

impl VaultMaker {
    async fn token_of_its_own(&self, ask: &Ask) -> Result<VaultHandle, VaultError> {
        let (token, parent) = if matches!(self.connection.auth(), VaultAuth::Jwt { .. }) {
            (self.connection.log_in_as_job(ask).await?, None)
        } else {
            let (child, own) = self.connection.child(ask, self.max_ttl).await?;
            (child, Some(own))
        };
        VaultHandle::new(&self.connection, token, parent)
    }

    /// A login that is made for the lease.
    async fn login(&self, handle: &VaultHandle, mount: &str, role: &str) -> Result<Made, VaultError> {
        let secret = handle.secret().ok_or(VaultError::Ended)?;
        let asked = SystemTime::now();
        let (material, lease) = engine::database(&self.connection.http, secret, mount, role).await?;
        let expires = handle.cover(asked, lease.lease_duration).await?;
        // Vault may give it for longer than the policy does.
        let expires = earlier(expires, Some(asked + self.max_ttl));
        if expires.is_some_and(|expires| expires <= SystemTime::now()) {
            return Err(VaultError::Ended);
        }
        let handle = handle.with_lease(lease.lease_id, lease.renewable, lease.lease_duration);
        Ok(Made {
            material,
            expires,
            handle: Some(Handle::Vault(Box::new(handle))),
        })
    }

    /// What leaves nothing to revoke.
    async fn given(&self, ask: &Ask) -> Result<Made, VaultError> {
        if matches!(self.connection.auth(), VaultAuth::Jwt { .. }) {
            let token = self.connection.log_in_as_job(ask).await?;
            let given = self.given_to(&token).await;
            // It has done what it was got for. If that cannot be told to Vault, its own end is left.
            if let Err(error) = token.revoke().await {
                token.let_be();
                tracing::warn!(
                    "a token of Vault's could not be revoked, and is left to its own end: {error}"
                );
            }
            return given;
        }
        let own = self.connection.own().await?;
        match self.given_to(&own).await {
            Err(error) if self.connection.lost(&own, &error).await => {
                let own = self.connection.own().await?;
                self.given_to(&own).await
            }
            given => given,
        }
    }

    async fn given_to(&self, token: &Token) -> Result<Made, VaultError> {
        let (http, token) = (&self.connection.http, token.secret());
        let (material, expires) = match &self.engine {
            VaultEngine::Kv {
                mount,
                path,
                version,
                fields,
            } => {
                let material = engine::kv(http, token, (mount, path), *version, fields).await?;
                (material, None)
            }
            VaultEngine::StaticRole { mount, role } => (engine::fixed(http, token, mount, role).await?, None),
            VaultEngine::Ssh {
                mount,
                role,
                principals,
                ttl,
            } => {
                let key = SessionKey::new();
                let public = key.public()?;
                let signed = engine::sign(http, token, (mount, role), &public, principals, *ttl).await?;
                let (material, ends) = key.certified(&signed, principals)?;
                (material, Some(ends))
            }
            VaultEngine::Database { .. } => return Err(VaultError::Ended),
        };
        Ok(Made {
            material,
            expires,
            handle: None,
        })
    }
}
