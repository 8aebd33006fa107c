//! Finds and drops what a host left that is not there any more.

use super::admin::{self, Admin};
use super::error::RoleError;
use super::revoke::RoleHandle;
use crate::config::{AdminSpec, PostgresRoleSpec};
use crate::credential::on_server::{FoundRole, PREFIX, Server, host_of};

/// One server to sweep.
#[derive(Debug)]
pub(in crate::credential) struct Sweeper {
    server: Server,
    admin: AdminSpec,
    reassign_to: Option<String>,
}

impl Sweeper {
    /// For this server.
    pub(in crate::credential) fn new(spec: &PostgresRoleSpec, server: Server) -> Self {
        Self {
            server,
            admin: spec.admin.clone(),
            reassign_to: spec.reassign_to.clone(),
        }
    }

    /// Every role that an agent made, of any host.
    pub(in crate::credential) async fn find(&self) -> Result<Vec<FoundRole>, RoleError> {
        let mut admin = Admin::open(&self.server, None, &self.admin, None).await?;
        let sql = format!(
            "SELECT r.rolname, r.rolvaliduntil, coalesce(r.rolvaliduntil < pg_catalog.now(), false), \
             (SELECT count(*) FROM pg_catalog.pg_stat_activity a WHERE a.usename = r.rolname) \
             FROM pg_catalog.pg_roles r WHERE pg_catalog.starts_with(r.rolname, {}) ORDER BY r.rolname",
            admin::text(PREFIX)
        );
        let rows = admin.run("look for roles", &sql).await?;
        let found = rows.into_iter().filter_map(|row| {
            let mut row = row.into_iter();
            let role = row.next()??;
            Some(FoundRole {
                host: host_of(&role)?.to_owned(),
                role,
                valid_until: row.next()?,
                expired: row.next()?.as_deref() == Some("t"),
                sessions: row.next()??.parse().ok()?,
            })
        });
        Ok(found.collect())
    }

    /// Drops one of them, as its own agent would.
    pub(in crate::credential) async fn drop_role(&self, found: &FoundRole) -> Result<(), RoleError> {
        let handle = RoleHandle {
            role: found.role.clone(),
            server: self.server.clone(),
            admin: self.admin.clone(),
            reassign_to: self.reassign_to.clone(),
        };
        handle.revoke(None).await.map(drop)
    }
}
