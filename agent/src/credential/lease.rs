//! A credential in somebody's hands.

use std::time::{Duration, SystemTime};

use tokio::sync::watch;

use super::journal::LeaseId;
use super::{CredentialError, Leases, Material, material};
use crate::model::SessionId;
use crate::protocol::Login;

/// A credential that a session has. When it is dropped, the session has it no more: what was made for the session is
/// revoked, and what the workload shares is given back.
#[derive(Debug)]
pub struct Lease {
    pub(super) material: Material,
    pub(super) database: Option<String>,
    pub(super) expires: Option<SystemTime>,
    pub(super) held: Option<Hold>,
}

/// What of a lease is looked after.
#[derive(Debug)]
pub(super) struct Hold {
    pub(super) leases: Leases,
    pub(super) id: LeaseId,
    pub(super) session: SessionId,
    /// Whether it can be revoked; otherwise it is valid until it ends by itself, and only forgotten here.
    pub(super) revocable: bool,
    /// Why it is not valid any more.
    pub(super) over: watch::Receiver<Option<String>>,
    /// Until when it was last renewed.
    pub(super) renewed: watch::Receiver<Option<SystemTime>>,
}

/// How a session's use of a lease ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseEnd {
    /// There is nothing to revoke.
    Nothing,
    /// It is void.
    Revoked,
    /// Other sessions of the workload have it, or may have it yet.
    Shared,
    /// It is not void yet, and is seen to until it is: why.
    Pending(String),
}

impl Lease {
    /// As a login, for protocols that know user and password.
    pub fn login(&self) -> Result<Login, CredentialError> {
        material::login(&self.material, self.database.as_deref())
    }

    /// What it is.
    pub fn material(&self) -> &Material {
        &self.material
    }

    /// When it ends at the latest, as far as [`Self::renewed`] has told.
    pub fn expires(&self) -> Option<SystemTime> {
        self.expires
    }

    /// Until when it lasts, where it was renewed since this was asked last.
    pub fn renewed(&mut self) -> Option<SystemTime> {
        let renewed = &mut self.held.as_mut()?.renewed;
        if !renewed.has_changed().unwrap_or(false) {
            return None;
        }
        let until = *renewed.borrow_and_update();
        self.expires = until;
        until
    }

    /// Whether it was made for its owner, and not only read.
    pub fn is_made(&self) -> bool {
        self.held.is_some()
    }

    /// Resolves with the reason when it is not valid any more. Not bound to `self`.
    pub fn over(&self) -> impl Future<Output = String> + Send + use<> {
        let over = self.held.as_ref().map(|hold| hold.over.clone());
        async move {
            let Some(mut over) = over else {
                return std::future::pending().await;
            };
            match over.wait_for(Option::is_some).await {
                Ok(why) => why.clone().unwrap_or_default(),
                // Nobody looks after it any more, so nothing says that it is valid.
                Err(_) => "it is void".to_owned(),
            }
        }
    }

    /// Voids it for everybody who has it, because of `why`.
    pub fn void(&self, why: &str) {
        if let Some(hold) = &self.held {
            hold.leases.revoke(&hold.id, why);
        }
    }

    /// Gives it back, and waits for as long as `patience` until what is void by that is void.
    pub async fn end(mut self, patience: Duration) -> LeaseEnd {
        let Some(hold) = self.held.take() else {
            return LeaseEnd::Nothing;
        };
        hold.leases.give_back(&hold.id, hold.session);
        if !hold.revocable {
            return LeaseEnd::Nothing;
        }
        hold.leases.ended(&hold.id, patience).await
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(hold) = self.held.take() {
            hold.leases.give_back(&hold.id, hold.session);
        }
    }
}
