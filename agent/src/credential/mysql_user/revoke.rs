//! How a user is dropped, with its sessions.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::admin::{Admin, text};
use super::error::UserError;
use super::make::account;
use crate::config::AdminSpec;
use crate::credential::handle::Found;
use crate::credential::on_server::{Server, expiry_of};
use crate::kernel::netns::Netns;

/// How often sessions are told to end, and how long between.
const TELLINGS: usize = 100;
const PAUSE: Duration = Duration::from_millis(50);

/// A user, and how to get at it: what stands in the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserHandle {
    pub(super) user: String,
    pub(super) server: Server,
    pub(super) admin: AdminSpec,
}

impl UserHandle {
    /// The user.
    pub fn name(&self) -> &str {
        &self.user
    }

    /// When its time is over, as its name says.
    pub(super) fn expires(&self) -> SystemTime {
        expiry_of(&self.user).unwrap_or(UNIX_EPOCH)
    }

    /// Locks it, ends its sessions, drops it unless something runs as it. Can be asked again at any point.
    pub(in crate::credential) async fn revoke(&self, netns: Option<&Netns>) -> Result<Found, UserError> {
        let mut admin = Admin::open(&self.server, netns, &self.admin).await?;
        let found = self.revoke_by(&mut admin).await?;
        admin.close().await;
        Ok(found)
    }

    async fn revoke_by(&self, admin: &mut Admin) -> Result<Found, UserError> {
        let sql = format!(
            "SELECT User FROM mysql.user WHERE User = {} AND Host = '%'",
            text(&self.user)
        );
        if admin.run("look for the user", &sql).await?.is_empty() {
            // Sessions outlive their user there.
            self.end_sessions(admin).await?;
            return Ok(Found::Nothing);
        }
        let account = account(&self.user);
        admin
            .run(
                "lock the user",
                &format!("ALTER USER IF EXISTS {account} ACCOUNT LOCK"),
            )
            .await?;
        self.end_sessions(admin).await?;
        self.look_for_what_runs_as_it(admin).await?;
        admin
            .run("drop the user", &format!("DROP USER IF EXISTS {account}"))
            .await?;
        // One that had just proved its password when the user was locked.
        self.end_sessions(admin).await?;
        Ok(Found::Voided)
    }

    async fn end_sessions(&self, admin: &mut Admin) -> Result<(), UserError> {
        let user = text(&self.user);
        let count = format!("SELECT ID FROM information_schema.PROCESSLIST WHERE USER = {user}");
        let kill = format!("KILL HARD CONNECTION USER {user}");
        let mut left = 0;
        for _ in 0..TELLINGS {
            left = admin.run("look for sessions of the user", &count).await?.len();
            if left == 0 {
                return Ok(());
            }
            admin.run("end the sessions of the user", &kill).await?;
            tokio::time::sleep(PAUSE).await;
        }
        Err(UserError::SessionsStay(left))
    }

    async fn look_for_what_runs_as_it(&self, admin: &mut Admin) -> Result<(), UserError> {
        let definer = text(&format!("{}@%", self.user));
        let (mut objects, mut schemas) = (0, BTreeSet::new());
        for sql in [
            format!("SELECT db FROM mysql.proc WHERE definer = {definer}"),
            format!("SELECT db FROM mysql.event WHERE definer = {definer}"),
            format!("SELECT TABLE_SCHEMA FROM information_schema.VIEWS WHERE DEFINER = {definer}"),
            format!("SELECT TRIGGER_SCHEMA FROM information_schema.TRIGGERS WHERE DEFINER = {definer}"),
        ] {
            let rows = admin.run("look for what runs as the user", &sql).await?;
            objects += rows.len();
            schemas.extend(rows.into_iter().flatten().flatten());
        }
        if objects == 0 {
            return Ok(());
        }
        let schemas: Vec<String> = schemas.into_iter().collect();
        Err(UserError::Definer {
            objects,
            places: schemas.join(", "),
        })
    }
}
