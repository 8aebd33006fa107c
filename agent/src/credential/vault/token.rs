//! A token of Vault's: how long it lasts, renewed and revoked.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use serde_json::json;

use super::answer::{self, Auth, LookedUp, Renewed, ends};
use super::error::VaultError;
use super::http::{Http, Nothing, Question};
use crate::model::Secret;
use crate::web::Method;

/// A token, in the agent's memory alone. One that the agent made is revoked when it is dropped, at the latest.
#[derive(Debug)]
pub(super) struct Token {
    http: Arc<Http>,
    secret: Secret,
    accessor: String,
    life: Mutex<Life>,
}

#[derive(Debug)]
struct Life {
    /// `None`: it has no end.
    ends: Option<SystemTime>,
    /// How long it was given for.
    whole: Duration,
    renewable: bool,
    /// Whether the agent is still to revoke it.
    to_revoke: bool,
}

impl Token {
    /// One that was made for the agent, when it was `asked` for.
    pub(super) fn made(
        http: &Arc<Http>,
        auth: &Auth,
        asked: SystemTime,
        what: &'static str,
    ) -> Result<Self, VaultError> {
        let secret = auth.client_token.secret().ok_or(VaultError::Nonsense {
            what,
            expected: "token",
        })?;
        Ok(Self {
            http: Arc::clone(http),
            secret,
            accessor: auth.accessor.clone(),
            life: Mutex::new(Life {
                ends: ends(asked, auth.lease_duration),
                whole: Duration::from_secs(auth.lease_duration.into()),
                renewable: auth.renewable,
                to_revoke: true,
            }),
        })
    }

    /// One that somebody else looks after. Asks Vault how long it lasts.
    pub(super) async fn given(http: &Arc<Http>, secret: Secret) -> Result<Self, VaultError> {
        let asked = SystemTime::now();
        let facts = look_up(http, &secret).await?;
        Ok(Self {
            http: Arc::clone(http),
            secret,
            accessor: String::new(),
            life: Mutex::new(Life {
                ends: ends(asked, facts.data.ttl),
                whole: Duration::from_secs(facts.data.ttl.into()),
                renewable: facts.data.renewable,
                to_revoke: false,
            }),
        })
    }

    pub(super) fn secret(&self) -> &Secret {
        &self.secret
    }

    /// Names it without being it. Empty: it has none, or it is not the agent's to revoke.
    pub(super) fn accessor(&self) -> &str {
        &self.accessor
    }

    pub(super) fn ends(&self) -> Option<SystemTime> {
        self.life.lock().ends
    }

    /// Whether more than a third of its time is left.
    pub(super) fn is_fresh(&self) -> bool {
        let life = self.life.lock();
        life.left().is_none_or(|left| left > life.whole / 3)
    }

    /// Whether it has not ended, as far as is known.
    pub(super) fn lasts(&self) -> bool {
        self.life.lock().left().is_none_or(|left| !left.is_zero())
    }

    pub(super) fn is_renewable(&self) -> bool {
        self.life.lock().renewable
    }

    /// How long until it is not fresh any more; `None`: it has no end.
    pub(super) fn until_stale(&self) -> Option<Duration> {
        let life = self.life.lock();
        life.left().map(|left| left.saturating_sub(life.whole / 3))
    }

    /// Has it last longer: for so many seconds, or for as long as it was made for. How long it does then is Vault's to say.
    pub(super) async fn renew(&self, seconds: Option<u32>) -> Result<(), VaultError> {
        const WHAT: &str = "renew a token";
        let body = match seconds {
            Some(seconds) => json!({ "increment": format!("{seconds}s") }),
            None => json!({}),
        };
        let asked = SystemTime::now();
        let answer = self
            .http
            .ask(Question {
                what: WHAT,
                method: Method::POST,
                path: "auth/token/renew-self",
                token: Some(&self.secret),
                body: Some(&body),
            })
            .await?;
        let renewed: Renewed = answer::read(&answer, WHAT, "token")?;
        let seconds = renewed.auth.lease_duration;
        let mut life = self.life.lock();
        life.ends = ends(asked, seconds);
        // Near its last end it gets less: it must not look fresh then.
        life.whole = life.whole.max(Duration::from_secs(seconds.into()));
        Ok(())
    }

    /// Whether Vault does not know it any more.
    pub(super) async fn is_gone(&self) -> bool {
        let looked = look_up(&self.http, &self.secret).await;
        looked.is_err_and(|error| error.is_status(403))
    }

    /// Revokes it, and everything under it. Again: does nothing.
    pub(super) async fn revoke(&self) -> Result<(), VaultError> {
        if !self.life.lock().to_revoke {
            return Ok(());
        }
        revoke(&self.http, &self.secret).await?;
        self.let_be();
        Ok(())
    }

    /// It is gone, or somebody else sees to that.
    pub(super) fn let_be(&self) {
        self.life.lock().to_revoke = false;
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        if !self.life.get_mut().to_revoke {
            return;
        }
        // Without a runtime the process ends, and the token's time has to.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (http, secret) = (Arc::clone(&self.http), self.secret.clone());
            runtime.spawn(async move {
                if let Err(error) = revoke(&http, &secret).await {
                    tracing::warn!(
                        "a token of Vault's could not be revoked, and is left to its own end: {error}"
                    );
                }
            });
        }
    }
}

impl Life {
    fn left(&self) -> Option<Duration> {
        let ends = self.ends?;
        Some(ends.duration_since(SystemTime::now()).unwrap_or_default())
    }
}

async fn revoke(http: &Http, secret: &Secret) -> Result<(), VaultError> {
    http.ask::<Nothing>(Question {
        what: "revoke a token",
        method: Method::POST,
        path: "auth/token/revoke-self",
        token: Some(secret),
        body: None,
    })
    .await
    .map(drop)
}

async fn look_up(http: &Http, secret: &Secret) -> Result<LookedUp, VaultError> {
    const WHAT: &str = "look at the agent's token";
    let answer = http
        .ask::<Nothing>(Question {
            what: WHAT,
            method: Method::GET,
            path: "auth/token/lookup-self",
            token: Some(secret),
            body: None,
        })
        .await?;
    answer::read(&answer, WHAT, "token")
}
