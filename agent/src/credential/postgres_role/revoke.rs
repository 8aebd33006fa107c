//! How a role is dropped, with everything that holds on to it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::admin::{self, Admin};
use super::error::RoleError;
use crate::config::AdminSpec;
use crate::credential::handle::Found;
use crate::credential::on_server::Server;
use crate::kernel::netns::Netns;

/// How often sessions are told to end, and how long between.
const TELLINGS: usize = 100;
const PAUSE: Duration = Duration::from_millis(50);

/// A role, and how to get at it: what stands in the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleHandle {
    pub(super) role: String,
    pub(super) server: Server,
    pub(super) admin: AdminSpec,
    pub(super) reassign_to: Option<String>,
}

impl RoleHandle {
    /// The role.
    pub fn name(&self) -> &str {
        &self.role
    }

    /// Ends its sessions, gives what it owns to somebody else, drops it. Can be asked again at any point.
    pub(in crate::credential) async fn revoke(&self, netns: Option<&Netns>) -> Result<Found, RoleError> {
        let mut admin = Admin::open(&self.server, netns, &self.admin, None).await?;
        let role = admin::name(&self.role);
        let text = admin::text(&self.role);
        let facts = admin
            .run(
                "look for the role",
                &format!(
                    "SELECT r.oid, (SELECT a.rolsuper FROM pg_catalog.pg_roles a WHERE a.rolname = CURRENT_USER) \
                     FROM pg_catalog.pg_roles r WHERE r.rolname = {text}"
                ),
            )
            .await?;
        let Some(facts) = facts.into_iter().next() else {
            return Ok(Found::Nothing);
        };
        let mut facts = facts.into_iter().flatten();
        let (oid, superuser) = (facts.next().unwrap_or_default(), facts.next());
        admin
            .run(
                "lock the role",
                &format!("ALTER ROLE {role} NOLOGIN PASSWORD NULL"),
            )
            .await?;
        if superuser.as_deref() != Some("t") {
            // Its sessions and what it owns are its members' to end and to give away.
            admin
                .run("join the role", &format!("GRANT {role} TO CURRENT_USER"))
                .await?;
        }
        end_sessions(&mut admin, &text).await?;
        let prepared = format!("SELECT count(*) FROM pg_catalog.pg_prepared_xacts WHERE owner = {text}");
        let prepared = admin.number("look for prepared transactions", &prepared).await?;
        if prepared > 0 {
            return Err(RoleError::Prepared(
                usize::try_from(prepared).unwrap_or(usize::MAX),
            ));
        }
        self.let_go(&mut admin, &oid, netns).await?;
        admin
            .run("drop the role", &format!("DROP ROLE IF EXISTS {role}"))
            .await?;
        Ok(Found::Voided)
    }

    /// In each database in which something belongs to the role, or something is allowed to it.
    async fn let_go(&self, admin: &mut Admin, oid: &str, netns: Option<&Netns>) -> Result<(), RoleError> {
        let databases = format!(
            "SELECT DISTINCT coalesce(d.datname, pg_catalog.current_database()) FROM pg_catalog.pg_shdepend s \
             LEFT JOIN pg_catalog.pg_database d ON d.oid = s.dbid \
             WHERE s.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass AND s.refobjid = {oid}"
        );
        let databases = admin.run("look for what the role owns", &databases).await?;
        let (mut objects, mut where_they_are) = (0, Vec::new());
        for database in databases.into_iter().flatten().flatten() {
            let mut there = Admin::open(&self.server, netns, &self.admin, Some(&database)).await?;
            let left = self.let_go_in(&mut there, oid).await?;
            if left > 0 {
                objects += left;
                where_they_are.push(database);
            }
        }
        if objects > 0 {
            return Err(RoleError::Owns {
                objects,
                databases: where_they_are.join(", "),
            });
        }
        Ok(())
    }

    /// Gives how many objects the role still owns there.
    async fn let_go_in(&self, admin: &mut Admin, oid: &str) -> Result<u64, RoleError> {
        let role = admin::name(&self.role);
        if let Some(heir) = &self.reassign_to {
            let sql = format!("REASSIGN OWNED BY {role} TO {}", admin::name(heir));
            admin.run("give away what the role owns", &sql).await?;
        }
        // Default privileges and user mappings are settings of the role, and go with it.
        let owned = format!(
            "SELECT count(*) FROM pg_catalog.pg_shdepend s \
             WHERE s.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass AND s.refobjid = {oid} AND s.deptype = 'o' \
             AND s.dbid IN (0, (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())) \
             AND s.classid NOT IN ('pg_catalog.pg_default_acl'::pg_catalog.regclass, \
                                   'pg_catalog.pg_user_mapping'::pg_catalog.regclass)"
        );
        let owned = admin.number("count what the role owns", &owned).await?;
        if owned == 0 {
            // What was allowed to it. Were there anything of its own, this would delete it.
            admin
                .run(
                    "take back what was allowed to the role",
                    &format!("DROP OWNED BY {role}"),
                )
                .await?;
        }
        Ok(owned)
    }
}

async fn end_sessions(admin: &mut Admin, role: &str) -> Result<(), RoleError> {
    let tell = format!(
        "SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity WHERE usename = {role}"
    );
    let mut left = 0;
    for _ in 0..TELLINGS {
        left = admin.run("end the sessions of the role", &tell).await?.len();
        if left == 0 {
            return Ok(());
        }
        tokio::time::sleep(PAUSE).await;
    }
    Err(RoleError::SessionsStay(left))
}
