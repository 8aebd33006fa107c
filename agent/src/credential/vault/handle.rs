//! A lease of Vault's in the journal: what revokes it, and what has it last.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::answer::{self, LeaseRenewed, earlier, ends};
use super::connection::Connection;
use super::engine::ask;
use super::error::{Said, VaultError};
use super::http::Http;
use super::token::Token;
use crate::config::{VaultAuth, VaultServer};
use crate::credential::handle::Found;
use crate::credential::maker::Renewal;
use crate::model::Secret;
use crate::web::Method;

/// How often, and how long between, Vault is asked whether a lease is gone.
const LOOKS: usize = 30;
const PAUSE: Duration = Duration::from_millis(100);

/// A token of Vault's and the lease under it: what stands in the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VaultHandle {
    server: VaultServer,
    auth: VaultAuth,
    /// Of the token that everything is made under.
    accessor: String,
    /// Of the agent's own token, where it got that by a login: after a crash nobody has it.
    own: Option<String>,
    /// When the token ends by itself.
    until: Option<DateTime<Utc>>,
    /// What was made.
    lease: Option<LeaseName>,
    /// The tokens themselves: no journal has them.
    #[serde(skip)]
    alive: Alive,
}

/// A lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct LeaseName {
    id: String,
    renewable: bool,
    /// How long it was made for, in seconds.
    seconds: u32,
}

/// What the agent that made a lease has in memory.
#[derive(Clone, Debug, Default)]
struct Alive(Option<Arc<Tokens>>);

/// Two handles are the same if the journal says the same of them.
impl PartialEq for Alive {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Alive {}

#[derive(Debug)]
struct Tokens {
    connection: Arc<Connection>,
    /// What the lease is under.
    token: Token,
    /// What that is under; `None`: nothing, it was got with the job's own.
    parent: Option<Arc<Token>>,
}

impl VaultHandle {
    /// A token with nothing under it yet.
    pub(super) fn new(
        connection: &Arc<Connection>,
        token: Token,
        parent: Option<Arc<Token>>,
    ) -> Result<Self, VaultError> {
        if token.accessor().is_empty() {
            // A batch token, which nothing revokes.
            return Err(VaultError::Nonsense {
                what: "make a token for a lease",
                expected: "token with an accessor: a service token",
            });
        }
        Ok(Self {
            server: connection.http.server().clone(),
            auth: connection.auth().clone(),
            accessor: token.accessor().to_owned(),
            own: parent
                .as_ref()
                .map(|parent| parent.accessor().to_owned())
                .filter(|accessor| !accessor.is_empty()),
            until: token.ends().map(DateTime::from),
            lease: None,
            alive: Alive(Some(Arc::new(Tokens {
                connection: Arc::clone(connection),
                token,
                parent,
            }))),
        })
    }

    /// The same, with what was made under it.
    pub(super) fn with_lease(&self, id: String, renewable: bool, seconds: u32) -> Self {
        Self {
            until: self
                .alive
                .0
                .as_ref()
                .and_then(|alive| alive.token.ends())
                .map(DateTime::from),
            lease: Some(LeaseName {
                id,
                renewable,
                seconds,
            }),
            ..self.clone()
        }
    }

    /// What Vault calls the lease; or else the token that it was to be made under.
    pub fn name(&self) -> &str {
        self.lease.as_ref().map_or(&self.accessor, |lease| &lease.id)
    }

    pub(super) fn is_renewable(&self) -> bool {
        self.lease.as_ref().is_some_and(|lease| lease.renewable)
    }

    /// The token that things are to be made with.
    pub(super) fn secret(&self) -> Option<&Secret> {
        self.alive.0.as_ref().map(|alive| alive.token.secret())
    }

    /// Has the token last as long as the lease, which ends with it. Gives when the earlier of all ends.
    pub(super) async fn cover(
        &self,
        asked: SystemTime,
        seconds: u32,
    ) -> Result<Option<SystemTime>, VaultError> {
        let lease = ends(asked, seconds);
        let Some(alive) = &self.alive.0 else {
            return Ok(lease);
        };
        let short = earlier(alive.token.ends(), lease) != lease;
        if short && alive.token.is_renewable() {
            alive.token.renew(Some(seconds)).await?;
        }
        let parent = alive.parent.as_ref().and_then(|parent| parent.ends());
        Ok(earlier(earlier(lease, alive.token.ends()), parent))
    }

    /// Has the lease last longer, and the tokens that it is under.
    pub(super) async fn renew(&self) -> Result<Renewal, VaultError> {
        const WHAT: &str = "renew a lease";
        let (Some(alive), Some(lease)) = (&self.alive.0, &self.lease) else {
            return Ok(Renewal::Final);
        };
        if let Some(parent) = &alive.parent
            && parent.is_renewable()
            && let Err(error) = parent.renew(None).await
        {
            // What is left of it counts below.
            tracing::debug!("the agent's token for Vault could not be renewed: {error}");
        }
        let body = json!({ "lease_id": lease.id, "increment": lease.seconds });
        let asked = SystemTime::now();
        let path = "sys/leases/renew";
        let answer = ask(
            &alive.connection.http,
            alive.token.secret(),
            WHAT,
            Method::POST,
            path,
            Some(&body),
        )
        .await;
        let answer = match answer {
            Err(error) if error.says(Said::NoLease) => return Ok(Renewal::Gone),
            Err(error) if error.says(Said::NotRenewable) => return Ok(Renewal::Final),
            Err(error) if error.is_status(403) && alive.token.is_gone().await => return Ok(Renewal::Gone),
            answer => answer?,
        };
        let renewed: LeaseRenewed = answer::read(&answer, WHAT, "lease")?;
        let longer = self.cover(asked, renewed.lease_duration).await?;
        Ok(longer.map_or(Renewal::Final, Renewal::Until))
    }

    /// Revokes the lease, and the token with everything else under it. Can be asked again at any point.
    pub(in crate::credential) async fn revoke(&self) -> Result<Found, VaultError> {
        let Some(alive) = &self.alive.0 else {
            return self.revoke_left().await;
        };
        let http = &alive.connection.http;
        let sure = self.revoke_lease(http, alive.token.secret()).await?;
        match alive.token.revoke().await {
            Ok(()) if sure => Ok(Found::Voided),
            // Its token went the same way, so another has to look.
            Ok(()) => match self.other(&alive.connection).await? {
                Some(other) => {
                    self.see_gone(http, other.secret()).await?;
                    Ok(Found::Voided)
                }
                None => Ok(Found::Voided),
            },
            Err(error) if error.is_status(403) => {
                let found = self.by_accessor(&alive.connection, false).await?;
                alive.token.let_be();
                Ok(found)
            }
            Err(error) => Err(error),
        }
    }

    /// What an agent before this one left.
    async fn revoke_left(&self) -> Result<Found, VaultError> {
        let connection = Connection::new(&self.server, &self.auth);
        let found = self.by_accessor(&connection, true).await;
        connection.close().await;
        found
    }

    /// Revokes with the agent's own token. `left`: by an agent that is gone, and so is to be what it was let in with.
    async fn by_accessor(&self, connection: &Arc<Connection>, left: bool) -> Result<Found, VaultError> {
        let http = &connection.http;
        let Some(own) = self.other(connection).await? else {
            return match self.until {
                Some(until) if until > Utc::now() => Err(VaultError::NobodyMay { until }),
                Some(_) => Ok(Found::Voided),
                None => Err(VaultError::NobodyMay {
                    until: DateTime::<Utc>::MAX_UTC,
                }),
            };
        };
        let sure = self.revoke_lease(http, own.secret()).await?;
        let mut found = Found::Nothing;
        for accessor in std::iter::once(&self.accessor).chain(self.own.iter().filter(|_| left)) {
            let revoked = ask(
                http,
                own.secret(),
                "revoke a token by its accessor",
                Method::POST,
                "auth/token/revoke-accessor",
                Some(&json!({ "accessor": accessor })),
            )
            .await;
            match revoked {
                Ok(_) => found = Found::Voided,
                Err(error) if error.says(Said::NoAccessor) => {}
                Err(error) => return Err(error),
            }
        }
        if !sure {
            self.see_gone(http, own.secret()).await?;
        }
        Ok(if self.lease.is_some() {
            Found::Voided
        } else {
            found
        })
    }

    /// Revokes the lease, and waits for that. False: this token may not, or there may be none that is known.
    async fn revoke_lease(&self, http: &Http, token: &Secret) -> Result<bool, VaultError> {
        let Some(lease) = &self.lease else {
            return Ok(true);
        };
        let revoked = ask(
            http,
            token,
            "revoke a lease",
            Method::POST,
            "sys/leases/revoke",
            Some(&json!({ "lease_id": lease.id, "sync": true })),
        )
        .await;
        match revoked {
            Ok(_) => Ok(true),
            Err(error) if error.says(Said::NoLease) => Ok(true),
            Err(error) if error.is_status(403) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Waits until Vault does not know the lease any more.
    async fn see_gone(&self, http: &Http, token: &Secret) -> Result<(), VaultError> {
        let Some(lease) = &self.lease else {
            return Ok(());
        };
        for _ in 0..LOOKS {
            let looked = ask(
                http,
                token,
                "look at a lease",
                Method::POST,
                "sys/leases/lookup",
                Some(&json!({ "lease_id": lease.id })),
            )
            .await;
            match looked {
                Ok(_) => tokio::time::sleep(PAUSE).await,
                Err(error) if error.says(Said::NoLease) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Err(VaultError::Lingers)
    }

    /// The agent's own token; `None`: it has none without a job.
    async fn other(&self, connection: &Arc<Connection>) -> Result<Option<Arc<Token>>, VaultError> {
        if matches!(self.auth, VaultAuth::Jwt { cleanup: None, .. }) {
            return Ok(None);
        }
        connection.own().await.map(Some)
    }
}
