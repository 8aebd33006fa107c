//! The beginning of leases: written down, made, handed out.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::super::journal::{LeaseId, Stage};
use super::super::lease::{Hold, Lease};
use super::super::maker::{Ask, Left, Made, MakeError, Maker};
use super::super::{CredentialError, Handle};
use super::{Held, Leases, Live, Phase, renew};
use crate::config::CredentialKind;
use crate::model::SessionId;

/// How long a source may take to make something.
const PATIENCE: Duration = Duration::from_secs(30);

impl Leases {
    /// A new one. Made in a task of its own: a session that ends half-way must not leave something half-made, of which
    /// nobody knows whether it is there.
    pub(super) async fn mint(
        &self,
        maker: &Arc<dyn Maker>,
        spec: &CredentialKind,
        ask: Ask,
    ) -> Result<Lease, CredentialError> {
        let (tell, told) = oneshot::channel();
        let (leases, maker, spec) = (self.clone(), Arc::clone(maker), spec.clone());
        self.spawn(async move {
            let made = leases.make(&maker, spec, &ask).await;
            // Nobody waits for it any more: dropping it gives it back.
            drop(tell.send(made));
        });
        told.await.unwrap_or(Err(CredentialError::Stopping))
    }

    async fn make(
        &self,
        maker: &Arc<dyn Maker>,
        spec: CredentialKind,
        ask: &Ask,
    ) -> Result<Lease, CredentialError> {
        let id = LeaseId::random();
        let handle = maker.plan(ask);
        let since = Utc::now();
        let held = Held {
            owner: ask.owner.clone(),
            source: spec.name(),
            handle,
            stage: Stage::Planned,
            since,
            expires: None,
            netns: Some(Arc::clone(&ask.netns)),
            phase: Phase::Making,
            users: BTreeSet::from([ask.owner.session]),
            over: watch::Sender::new(None),
            renewed: watch::Sender::default(),
            kick: Arc::default(),
        };
        {
            let mut table = self.0.table.lock();
            if table.closed {
                return Err(CredentialError::Stopping);
            }
            table.held.insert(id.clone(), held);
        }
        if let Err(error) = self.write(&id).await {
            self.forget(&id);
            return Err(CredentialError::Journal(error));
        }
        let made = tokio::time::timeout(PATIENCE, self.ask_for(&id, &**maker, ask)).await;
        let made = made.unwrap_or(Err(MakeError {
            error: CredentialError::TooSlow(PATIENCE.as_secs()),
            left: Left::Perhaps,
        }));
        match made {
            Ok(made) => self.made(&id, made, maker, spec, ask.owner.session).await,
            Err(MakeError { error, left }) => {
                match left {
                    Left::Nothing if self.unwrite(&id).await => self.forget(&id),
                    Left::Nothing | Left::Perhaps => self.revoke(&id, "it was not made for certain"),
                    Left::There(handle) => self.void(&id, *handle).await,
                }
                Err(error)
            }
        }
    }

    /// What was made and is of no use goes as what was used does: tried until it is void, and told of until then.
    async fn void(&self, id: &LeaseId, handle: Handle) {
        if let Some(held) = self.0.table.lock().held.get_mut(id) {
            held.handle = Some(handle);
            held.stage = Stage::Made;
        }
        if let Err(error) = self.write(id).await {
            tracing::warn!(lease = %id, %error, "a credential that nobody gets is not in the journal");
        }
        self.revoke(id, "it is not what was asked for");
    }

    /// Has the source prepare, writes down what came of it, and has it made.
    async fn ask_for(&self, id: &LeaseId, maker: &dyn Maker, ask: &Ask) -> Result<Made, MakeError> {
        let prepared = maker.prepare(ask).await?;
        let written = prepared.is_some();
        let handle = {
            let mut table = self.0.table.lock();
            let Some(held) = table.held.get_mut(id) else {
                return Err(MakeError::before(CredentialError::Stopping));
            };
            // Whoever wanted it void by now saw that there was nothing: what was prepared ends by itself.
            let ended = held.over.borrow().clone();
            if let Some(why) = ended {
                return Err(MakeError::before(CredentialError::Ended(why)));
            }
            if written {
                held.handle = prepared;
            }
            held.handle.clone()
        };
        if written {
            self.write(id).await.map_err(|error| MakeError {
                error: CredentialError::Journal(error),
                left: Left::Perhaps,
            })?;
        }
        maker.make(ask, handle.as_ref()).await
    }

    async fn made(
        &self,
        id: &LeaseId,
        made: Made,
        maker: &Arc<dyn Maker>,
        spec: CredentialKind,
        session: SessionId,
    ) -> Result<Lease, CredentialError> {
        let left = made.expires.map(renew::left);
        {
            let mut table = self.0.table.lock();
            let Some(held) = table.held.get_mut(id) else {
                return Err(CredentialError::Stopping);
            };
            held.stage = Stage::Made;
            held.expires = made.expires.map(DateTime::from);
            if made.handle.is_some() {
                held.handle = made.handle;
            }
        }
        if let Err(error) = self.write(id).await {
            self.revoke(id, "the journal cannot be written");
            return Err(CredentialError::Journal(error));
        }
        let (over, renewed, revocable) = {
            let mut table = self.0.table.lock();
            let Some(held) = table.held.get_mut(id) else {
                return Err(CredentialError::Stopping);
            };
            // Somebody wanted it void while it was made; what sees to that goes on.
            let ended = held.over.borrow().clone();
            if let Some(why) = ended {
                return Err(CredentialError::Ended(why));
            }
            held.phase = Phase::Live(Box::new(Live {
                material: made.material.clone(),
                spec,
                share_until: left.map(|left| Instant::now() + left / 2),
            }));
            (
                held.over.subscribe(),
                held.renewed.subscribe(),
                held.handle.is_some(),
            )
        };
        if let Some(expires) = made.expires {
            self.keep(id.clone(), expires, Arc::clone(maker), over.clone());
        }
        Ok(Lease {
            material: made.material,
            database: None,
            expires: made.expires,
            held: Some(Hold {
                leases: self.clone(),
                id: id.clone(),
                session,
                revocable,
                over,
                renewed,
            }),
        })
    }
}
