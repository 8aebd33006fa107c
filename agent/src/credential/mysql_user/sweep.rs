//! Finds and drops what a host left that is not there any more.

use std::time::SystemTime;

use chrono::{DateTime, SecondsFormat, Utc};

use super::admin::{Admin, text};
use super::error::UserError;
use super::revoke::UserHandle;
use crate::config::{AdminSpec, MysqlUserSpec};
use crate::credential::on_server::{FoundRole, PREFIX, Server, expiry_of, host_of};

/// One server to sweep.
#[derive(Debug)]
pub(in crate::credential) struct Sweeper {
    server: Server,
    admin: AdminSpec,
}

impl Sweeper {
    /// For this server.
    pub(in crate::credential) fn new(spec: &MysqlUserSpec, server: Server) -> Self {
        Self {
            server,
            admin: spec.admin.clone(),
        }
    }

    /// Every user that an agent made, of any host.
    pub(in crate::credential) async fn find(&self) -> Result<Vec<FoundRole>, UserError> {
        let mut admin = Admin::open(&self.server, None, &self.admin).await?;
        let sql = format!(
            "SELECT u.User, (SELECT COUNT(*) FROM information_schema.PROCESSLIST p WHERE p.USER = u.User) \
             FROM mysql.user u WHERE LEFT(u.User, {}) = {} AND u.Host = '%' ORDER BY u.User",
            PREFIX.len(),
            text(PREFIX)
        );
        let rows = admin.run("look for users", &sql).await?;
        admin.close().await;
        let now = SystemTime::now();
        let found = rows.into_iter().filter_map(|row| {
            let mut row = row.into_iter().flatten();
            let role = row.next()?;
            let expires = expiry_of(&role);
            Some(FoundRole {
                host: host_of(&role)?.to_owned(),
                role,
                valid_until: expires
                    .map(|at| DateTime::<Utc>::from(at).to_rfc3339_opts(SecondsFormat::Secs, true)),
                expired: expires.is_some_and(|at| at <= now),
                sessions: row.next()?.parse().ok()?,
            })
        });
        Ok(found.collect())
    }

    /// Drops one of them, as its own agent would.
    pub(in crate::credential) async fn drop_role(&self, found: &FoundRole) -> Result<(), UserError> {
        let handle = UserHandle {
            user: found.role.clone(),
            server: self.server.clone(),
            admin: self.admin.clone(),
        };
        handle.revoke(None).await.map(drop)
    }
}
