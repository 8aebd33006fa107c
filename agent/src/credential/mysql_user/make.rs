//! How a user is made.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::admin::{Admin, log_in, name, text};
use super::error::UserError;
use super::revoke::UserHandle;
use crate::config::{MysqlUserSpec, TlsMode, TlsSpec};
use crate::credential::maker::{Ask, Left, Made, MakeError, Maker, Working};
use crate::credential::on_server::{self, Server, password};
use crate::credential::{CredentialError, Handle, Material};
use crate::model::{Place, Secret};
use crate::protocol::Login;
use crate::protocol::mysql::native_hash;

const PATIENCE: Duration = Duration::from_secs(15);
const DAY: u64 = 24 * 60 * 60;

#[derive(Debug)]
struct UserMaker {
    spec: MysqlUserSpec,
    tls: TlsSpec,
}

/// The source, for a service with this `tls`.
pub(in crate::credential) fn maker(spec: &MysqlUserSpec, tls: &TlsSpec) -> Arc<dyn Maker> {
    Arc::new(UserMaker {
        spec: spec.clone(),
        tls: tls.clone(),
    })
}

impl Maker for UserMaker {
    fn check(&self) -> Working<'_, Result<(), CredentialError>> {
        Box::pin(on_server::check(&self.spec.admin))
    }

    fn plan(&self, ask: &Ask) -> Option<Handle> {
        let expires = SystemTime::now() + self.spec.ttl;
        Some(Handle::MysqlUser(Box::new(UserHandle {
            user: on_server::new(Some(expires)),
            server: Server::of(&ask.target, &self.tls, &ask.netns),
            admin: self.spec.admin.clone(),
        })))
    }

    fn make<'a>(&'a self, ask: &'a Ask, planned: Option<&'a Handle>) -> Working<'a, Result<Made, MakeError>> {
        Box::pin(async move {
            let Some(Handle::MysqlUser(handle)) = planned else {
                // Nothing that this source planned.
                return Err(MakeError::before(CredentialError::BrokenOff));
            };
            self.create(handle, ask).await
        })
    }
}

impl UserMaker {
    async fn create(&self, handle: &UserHandle, ask: &Ask) -> Result<Made, MakeError> {
        let mut admin = Admin::open(&handle.server, Some(&ask.netns), &handle.admin)
            .await
            .map_err(MakeError::before)?;
        admin.check().await.map_err(MakeError::before)?;
        let password = password();
        // Hashed here, so that it does not travel.
        let hash = native_hash(password.expose());
        let created = admin.run("make a user", &self.create_user(handle, &hash)).await;
        created.map_err(|error| MakeError {
            // One user, one statement: what was refused has not happened.
            left: match &error {
                UserError::Refused { .. } => Left::Nothing,
                _ => Left::Perhaps,
            },
            error: error.into(),
        })?;
        let perhaps = |error: UserError| MakeError {
            error: error.into(),
            left: Left::Perhaps,
        };
        let grant = format!("GRANT {} TO {}", name(&self.spec.grant), account(&handle.user));
        admin
            .run("grant the role of the policy", &grant)
            .await
            .map_err(perhaps)?;
        admin.close().await;
        let login = Login {
            user: Secret::new(handle.user.clone().into_bytes()),
            password,
            database: None,
        };
        self.activate(handle, ask, &login).await.map_err(perhaps)?;
        Ok(Made {
            material: Material::Login {
                user: login.user,
                password: login.password,
            },
            expires: Some(handle.expires()),
            handle: None,
        })
    }

    fn create_user(&self, handle: &UserHandle, hash: &str) -> String {
        let plain =
            handle.server.tls.upstream == TlsMode::Disable || matches!(handle.server.address, Place::Unix(_));
        format!(
            "CREATE USER {} IDENTIFIED VIA mysql_native_password USING {} REQUIRE {} WITH MAX_USER_CONNECTIONS {} \
             PASSWORD EXPIRE INTERVAL {} DAY",
            account(&handle.user),
            text(hash),
            if plain { "NONE" } else { "SSL" },
            self.spec.connections,
            self.spec.ttl.as_secs().div_ceil(DAY).max(1),
        )
    }

    /// The user itself says which role its sessions begin with: for somebody else to say that takes the right to write the
    /// tables of privileges. So it is known as well that it can log in.
    async fn activate(&self, handle: &UserHandle, ask: &Ask, login: &Login) -> Result<(), UserError> {
        let mut session = log_in(&handle.server, Some(&ask.netns), login)
            .await?
            .map_err(UserError::FirstLogin)?;
        let what = "have its sessions begin with the role of the policy";
        session
            .query(&format!("SET DEFAULT ROLE {}", name(&self.spec.grant)), PATIENCE)
            .await
            .map_err(|error| UserError::of(what, error))?;
        session.quit().await;
        Ok(())
    }
}

/// As every statement names it: from wherever it comes, since the server sees the agent's address and the agent does not know it.
pub(super) fn account(user: &str) -> String {
    format!("{}@'%'", name(user))
}
