//! Finds and drops what a host left that is not there any more.

use serde::{Deserialize, Serialize};

use super::admin::{self, Admin, Server};
use super::error::RoleError;
use super::names;
use super::revoke::RoleHandle;
use crate::config::{AdminSpec, EndpointHost, PostgresRoleSpec, TlsSpec};
use crate::model::{Place, ServiceName};

/// A role that some agent made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundRole {
    /// The role.
    pub role: String,
    /// The host whose agent made it, as `--host` takes it.
    pub host: String,
    /// `VALID UNTIL`, by the server's clock.
    pub valid_until: Option<String>,
    /// Whether that is over.
    pub expired: bool,
    /// Sessions that are logged in as it.
    pub sessions: u64,
}

/// One server to sweep.
#[derive(Debug)]
pub struct Sweeper {
    server: Server,
    admin: AdminSpec,
    reassign_to: Option<String>,
}

impl Sweeper {
    /// For the server of a service at `address`, as an address of this host's own network namespace.
    pub fn new(
        spec: &PostgresRoleSpec,
        service: ServiceName,
        tls: &TlsSpec,
        host: EndpointHost,
        address: Place,
    ) -> Self {
        Self {
            server: Server {
                service,
                address,
                host,
                tls: tls.clone(),
                in_host: true,
            },
            admin: spec.admin.clone(),
            reassign_to: spec.reassign_to.clone(),
        }
    }

    /// Every role that an agent made, of any host.
    pub async fn find(&self) -> Result<Vec<FoundRole>, RoleError> {
        let mut admin = Admin::open(&self.server, None, &self.admin, None).await?;
        let sql = format!(
            "SELECT r.rolname, r.rolvaliduntil, coalesce(r.rolvaliduntil < pg_catalog.now(), false), \
             (SELECT count(*) FROM pg_catalog.pg_stat_activity a WHERE a.usename = r.rolname) \
             FROM pg_catalog.pg_roles r WHERE pg_catalog.starts_with(r.rolname, {}) ORDER BY r.rolname",
            admin::text(names::PREFIX)
        );
        let rows = admin.run("look for roles", &sql).await?;
        let found = rows.into_iter().filter_map(|row| {
            let mut row = row.into_iter();
            let role = row.next()??;
            Some(FoundRole {
                host: names::host_of(&role)?.to_owned(),
                role,
                valid_until: row.next()?,
                expired: row.next()?.as_deref() == Some("t"),
                sessions: row.next()??.parse().ok()?,
            })
        });
        Ok(found.collect())
    }

    /// Drops one of them, as its own agent would.
    pub async fn drop_role(&self, found: &FoundRole) -> Result<(), RoleError> {
        let handle = RoleHandle {
            role: found.role.clone(),
            server: self.server.clone(),
            admin: self.admin.clone(),
            reassign_to: self.reassign_to.clone(),
        };
        handle.revoke(None).await.map(drop)
    }
}
