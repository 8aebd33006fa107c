//! The agent's standing with one Vault: its own token, got when it is needed, renewed, and got again when it ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use serde::Serialize;
use serde_json::json;

use super::answer::{self, Authenticated};
use super::error::VaultError;
use super::http::{Http, Question};
use super::token::Token;
use crate::config::{SourceSpec, VaultAuth, VaultServer};
use crate::credential::CredentialError;
use crate::credential::maker::Ask;
use crate::credential::source::Source;
use crate::identity::TokenKind;
use crate::model::Secret;
use crate::web::Method;

/// How long a child token lasts until its accessor is in the journal and something is made under it.
const CHILD_TTL: &str = "60s";
/// How much longer than what is made under it a child lasts at most, so that it can revoke that.
const AFTERWARDS: Duration = Duration::from_mins(1);
/// Pause between two looks at a token that could not be had, or that has no end.
const LONGEST_PAUSE: Duration = Duration::from_mins(5);
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);

/// A Vault, as the agent stands with it.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) http: Arc<Http>,
    auth: VaultAuth,
    own: tokio::sync::Mutex<Option<Arc<Token>>>,
    kept: AtomicBool,
}

#[derive(Serialize)]
struct AppRoleLogin<'a> {
    role_id: &'a str,
    secret_id: &'a str,
}

#[derive(Serialize)]
struct JwtLogin<'a> {
    role: &'a str,
    jwt: &'a str,
}

impl Connection {
    pub(super) fn new(server: &VaultServer, auth: &VaultAuth) -> Arc<Self> {
        Arc::new(Self {
            http: Arc::new(Http::new(server)),
            auth: auth.clone(),
            own: tokio::sync::Mutex::default(),
            kept: AtomicBool::new(false),
        })
    }

    pub(super) fn auth(&self) -> &VaultAuth {
        &self.auth
    }

    /// Reads the agent's own login once, and throws it away. A token that somebody made for the agent is renewed from now on,
    /// so that it does not end before the first session.
    pub(super) async fn check(self: &Arc<Self>) -> Result<(), CredentialError> {
        let specs = match &self.auth {
            VaultAuth::Token(token) => vec![token],
            VaultAuth::AppRole {
                role_id, secret_id, ..
            } => vec![role_id, secret_id],
            VaultAuth::Jwt { cleanup, .. } => cleanup.iter().collect(),
        };
        for spec in specs {
            read(spec).await?;
        }
        if matches!(self.auth, VaultAuth::Token(_)) {
            self.keep();
        }
        Ok(())
    }

    /// The agent's own token: what it may do without a job.
    pub(super) async fn own(self: &Arc<Self>) -> Result<Arc<Token>, VaultError> {
        let mut kept = self.own.lock().await;
        if let Some(token) = &*kept {
            if token.is_fresh() {
                return Ok(Arc::clone(token));
            }
            if token.is_renewable()
                && let Err(error) = token.renew(None).await
            {
                tracing::debug!("the agent's token for Vault could not be renewed: {error}");
            }
            if token.is_fresh() {
                return Ok(Arc::clone(token));
            }
        }
        match self.log_in().await {
            Ok(token) => {
                let token = Arc::new(token);
                *kept = Some(Arc::clone(&token));
                drop(kept);
                self.keep();
                Ok(token)
            }
            // It does for as long as it lasts.
            Err(error) => match kept.as_ref().filter(|token| token.lasts()) {
                Some(token) => {
                    tracing::warn!(
                        "the agent's token for Vault nears its end, and no other can be had: {error}"
                    );
                    Ok(Arc::clone(token))
                }
                None => {
                    *kept = None;
                    Err(error)
                }
            },
        }
    }

    /// Whether `error` came of a token that is gone, as one that somebody revoked is: then another has to be got.
    pub(super) async fn lost(&self, token: &Arc<Token>, error: &VaultError) -> bool {
        if !error.is_status(403) || !token.is_gone().await {
            return false;
        }
        token.let_be();
        let mut kept = self.own.lock().await;
        if kept.as_ref().is_some_and(|kept| Arc::ptr_eq(kept, token)) {
            *kept = None;
        }
        true
    }

    async fn log_in(&self) -> Result<Token, VaultError> {
        match &self.auth {
            VaultAuth::Token(source)
            | VaultAuth::Jwt {
                cleanup: Some(source),
                ..
            } => {
                let secret = read(source).await.map_err(VaultError::secret)?;
                Token::given(&self.http, secret).await
            }
            VaultAuth::AppRole {
                mount,
                role_id,
                secret_id,
            } => {
                let role_id = read(role_id).await.map_err(VaultError::secret)?;
                let secret_id = read(secret_id).await.map_err(VaultError::secret)?;
                let body = AppRoleLogin {
                    role_id: text(&role_id)?,
                    secret_id: text(&secret_id)?,
                };
                self.token("log in by AppRole", &format!("auth/{mount}/login"), None, &body)
                    .await
            }
            VaultAuth::Jwt { cleanup: None, .. } => Err(VaultError::NoJwt),
        }
    }

    /// A token for the job, which it gets for its own.
    pub(super) async fn log_in_as_job(&self, ask: &Ask) -> Result<Token, VaultError> {
        let VaultAuth::Jwt { mount, role, .. } = &self.auth else {
            return Err(VaultError::NoJwt);
        };
        let jwt = ask
            .token
            .as_ref()
            .filter(|token| token.kind == TokenKind::Oidc)
            .ok_or(VaultError::NoJwt)?;
        // Exposed to the Vault that the policy names, which is to know the job by it.
        let body = JwtLogin {
            role,
            jwt: text(&jwt.secret)?,
        };
        self.token(
            "log in with the job's token",
            &format!("auth/{mount}/login"),
            None,
            &body,
        )
        .await
    }

    /// A child of the agent's token, for one lease, and the agent's token.
    pub(super) async fn child(
        self: &Arc<Self>,
        ask: &Ask,
        max_ttl: Duration,
    ) -> Result<(Token, Arc<Token>), VaultError> {
        let own = self.own().await?;
        match self.child_of(&own, ask, max_ttl).await {
            Err(error) if self.lost(&own, &error).await => {
                let own = self.own().await?;
                Ok((self.child_of(&own, ask, max_ttl).await?, own))
            }
            child => Ok((child?, own)),
        }
    }

    async fn child_of(&self, own: &Token, ask: &Ask, max_ttl: Duration) -> Result<Token, VaultError> {
        let body = json!({
            "ttl": CHILD_TTL,
            "renewable": true,
            "explicit_max_ttl": format!("{}s", (max_ttl + AFTERWARDS).as_secs()),
            "display_name": "tollgate",
            "meta": {
                "workload": ask.owner.workload.as_str(),
                "service": ask.owner.service.as_str(),
                "session": ask.owner.session.to_string(),
            },
        });
        self.token(
            "make a token for a lease",
            "auth/token/create",
            Some(own.secret()),
            &body,
        )
        .await
    }

    async fn token<B: Serialize>(
        &self,
        what: &'static str,
        path: &str,
        token: Option<&Secret>,
        body: &B,
    ) -> Result<Token, VaultError> {
        let asked = SystemTime::now();
        let answer = self
            .http
            .ask(Question {
                what,
                method: Method::POST,
                path,
                token,
                body: Some(body),
            })
            .await?;
        let made: Authenticated = answer::read(&answer, what, "token")?;
        Token::made(&self.http, &made.auth, asked, what)
    }

    /// Revokes the agent's own token, where the agent got it by a login.
    pub(super) async fn close(&self) {
        if let Some(own) = self.own.lock().await.take()
            && let Err(error) = own.revoke().await
        {
            own.let_be();
            tracing::warn!(
                "the agent's token for Vault could not be revoked, and is left to its own end: {error}"
            );
        }
    }

    /// Renews the agent's own token from now on, for as long as somebody has the connection.
    fn keep(self: &Arc<Self>) {
        if self.kept.swap(true, Ordering::Relaxed) {
            return;
        }
        let weak = Arc::downgrade(self);
        tokio::spawn(async move {
            loop {
                let Some(connection) = weak.upgrade() else { return };
                let pause = connection.keep_once().await;
                drop(connection);
                tokio::time::sleep(pause.clamp(SHORTEST_PAUSE, LONGEST_PAUSE)).await;
            }
        });
    }

    /// Gives how long until the next time.
    async fn keep_once(self: &Arc<Self>) -> Duration {
        if matches!(self.auth, VaultAuth::Token(_))
            && let Err(error) = self.own().await
        {
            tracing::warn!("the agent's token for Vault cannot be used: {error}");
            return LONGEST_PAUSE / 10;
        }
        let own = self.own.lock().await.clone();
        let Some(own) = own else { return LONGEST_PAUSE };
        // A new login is left to when there is a need: it may use something up.
        if !own.is_fresh()
            && own.is_renewable()
            && let Err(error) = own.renew(None).await
        {
            tracing::warn!("the agent's token for Vault could not be renewed: {error}");
        }
        own.until_stale().unwrap_or(LONGEST_PAUSE)
    }
}

/// A secret may lie on a file system that blocks.
async fn read(spec: &SourceSpec) -> Result<Secret, CredentialError> {
    let spec = spec.clone();
    tokio::task::spawn_blocking(move || Source::open(&spec)?.read())
        .await
        .map_err(|_| CredentialError::BrokenOff)?
}

/// For a JSON text.
fn text(secret: &Secret) -> Result<&str, VaultError> {
    std::str::from_utf8(secret.expose()).map_err(|_| VaultError::Unfit("JSON text"))
}
