//! How a role is made.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::SystemTime;

use super::admin::{self, Admin};
use super::error::RoleError;
use super::revoke::RoleHandle;
use crate::config::{PostgresRoleSpec, TlsSpec};
use crate::credential::maker::{Ask, Left, Made, MakeError, Maker, Working};
use crate::credential::on_server::{self, Server, password};
use crate::credential::{CredentialError, Handle, Material};
use crate::model::Secret;
use crate::protocol::postgres::login::verifier;

#[derive(Debug)]
struct RoleMaker {
    spec: PostgresRoleSpec,
    tls: TlsSpec,
}

/// The source, for a service with this `tls`.
pub(in crate::credential) fn maker(spec: &PostgresRoleSpec, tls: &TlsSpec) -> Arc<dyn Maker> {
    Arc::new(RoleMaker {
        spec: spec.clone(),
        tls: tls.clone(),
    })
}

impl Maker for RoleMaker {
    fn check(&self) -> Working<'_, Result<(), CredentialError>> {
        Box::pin(on_server::check(&self.spec.admin))
    }

    fn plan(&self, ask: &Ask) -> Option<Handle> {
        Some(Handle::PostgresRole(Box::new(RoleHandle {
            role: on_server::new(None),
            server: Server::of(&ask.target, &self.tls, &ask.netns),
            admin: self.spec.admin.clone(),
            reassign_to: self.spec.reassign_to.clone(),
        })))
    }

    fn make<'a>(&'a self, ask: &'a Ask, planned: Option<&'a Handle>) -> Working<'a, Result<Made, MakeError>> {
        Box::pin(async move {
            let Some(Handle::PostgresRole(handle)) = planned else {
                // Nothing that this source planned.
                return Err(MakeError::before(CredentialError::BrokenOff));
            };
            self.create(handle, ask).await
        })
    }
}

impl RoleMaker {
    async fn create(&self, handle: &RoleHandle, ask: &Ask) -> Result<Made, MakeError> {
        let mut admin = Admin::open(&handle.server, Some(&ask.netns), &handle.admin, None)
            .await
            .map_err(MakeError::before)?;
        let expires = SystemTime::now() + self.spec.ttl;
        // By the server's clock: it is what counts there.
        let until = format!(
            "SELECT (pg_catalog.now() + '{} seconds'::pg_catalog.interval)::pg_catalog.text",
            self.spec.ttl.as_secs()
        );
        let until = admin
            .value("tell the time", &until)
            .await
            .map_err(MakeError::before)?;
        let password = password();
        let sql = self.sql(&handle.role, &verifier(&password), &until);
        admin.run("make a role", &sql).await.map_err(|error| MakeError {
            // All statements of one query are one transaction: what was refused has not happened.
            left: match &error {
                RoleError::Refused { .. } => Left::Nothing,
                _ => Left::Perhaps,
            },
            error: error.into(),
        })?;
        Ok(Made {
            material: Material::Login {
                user: Secret::new(handle.role.clone().into_bytes()),
                password,
            },
            expires: Some(expires),
            handle: None,
        })
    }

    fn sql(&self, role: &str, verifier: &str, until: &str) -> String {
        let name = admin::name(role);
        let grant: Vec<String> = self.spec.grant.iter().map(|role| admin::name(role)).collect();
        let mut sql = format!(
            "CREATE ROLE {name} LOGIN NOCREATEDB NOCREATEROLE INHERIT CONNECTION LIMIT {} PASSWORD {} VALID UNTIL {} IN ROLE {}",
            self.spec.connections,
            admin::text(verifier),
            admin::text(until),
            grant.join(", ")
        );
        if let Some(acts_as) = &self.spec.set_role {
            // Writing to a String cannot fail.
            let _infallible = write!(sql, "; ALTER ROLE {name} SET role TO {}", admin::text(acts_as));
        }
        sql
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{RoleMaker, password, verifier};
    use crate::config::{AdminSpec, PostgresRoleSpec, Share, SourceSpec, TlsMode, TlsSpec};

    #[test]
    fn names_are_quoted_and_the_password_is_not_in_it() {
        let maker = RoleMaker {
            spec: PostgresRoleSpec {
                admin: AdminSpec {
                    user: SourceSpec::Literal("admin".into()),
                    password: SourceSpec::Env("X".into()),
                    database: None,
                },
                grant: vec!["readers".into(), "o\"dd".into()],
                set_role: Some("o'wner".into()),
                reassign_to: None,
                ttl: Duration::from_mins(1),
                connections: 3,
                share: Share::Session,
            },
            tls: TlsSpec {
                upstream: TlsMode::Disable,
                ca: None,
                server_name: None,
            },
        };
        let secret = password();
        let text = std::str::from_utf8(secret.expose()).unwrap();
        let sql = maker.sql("tollgate_h_0", &verifier(&secret), "2026-11-25 12:00:00+00");
        assert!(sql.contains("\"o\"\"dd\"") && sql.contains("'o''wner'"), "{sql}");
        assert!(sql.contains("PASSWORD 'SCRAM-SHA-256$4096:"), "{sql}");
        assert!(!sql.contains(text), "{sql}");
    }
}
