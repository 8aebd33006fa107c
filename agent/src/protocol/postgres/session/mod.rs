//! A PostgreSQL session from its first byte to its last: start-up, login, conversation, cancel requests.

mod boxes;
mod drive;
mod statements;

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;

use crate::config::EndpointHost;
use crate::model::{Direction, FrameKind, PolicyId};
use crate::policy::Denied;
use crate::protocol::{SessionEnd, Stages, sql};
use crate::tls::LocalCa;

use super::cancel::{CancelMap, Cancelled, Owner, forward};
use super::catalog::{Catalog, CatalogCaches, CatalogKey};
use super::login::{self, Settings, Target, greeting, login};
use super::relay::Relay;
use super::startup::{self, CancelKey, ClientStream, ClientTls, Fatal, Opened, Startup};

use drive::Conversation;
use statements::Statements;

/// How long a client is given to take the last words of its session.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Classified statements that are kept, over all sessions, and the bytes of text that they may take.
const STATEMENTS: usize = 4096;
const STATEMENT_BYTES: usize = 16 << 20;

/// What all PostgreSQL sessions of the host share.
#[derive(Debug)]
pub struct Adapter {
    authority: Arc<LocalCa>,
    cancels: Arc<CancelMap>,
    catalogs: CatalogCaches,
    statements: Arc<sql::Cache>,
}

impl Adapter {
    /// An adapter whose clients are shown certificates of `authority`.
    pub fn new(authority: Arc<LocalCa>) -> Self {
        Self {
            authority,
            cancels: Arc::default(),
            catalogs: CatalogCaches::default(),
            statements: Arc::new(sql::Cache::new(STATEMENTS, STATEMENT_BYTES)),
        }
    }

    /// Runs one session, or one cancel request.
    pub async fn run<S: Stages>(
        &self,
        stream: TcpStream,
        policy: PolicyId,
        target: &Target,
        stages: &mut S,
    ) -> Result<(), SessionEnd> {
        let owner = Owner { policy, service: target.service.clone() };
        match startup::accept(stream, self.client_tls(&names(target), target)).await? {
            Opened::Session { client, startup, early } => {
                self.session(client, &startup, &early, owner, target, stages).await
            }
            Opened::Cancel { client, key } => {
                self.cancel(key, &owner, stages).await?;
                drop(client);
                Ok(())
            }
        }
    }

    /// Tells a client in its own protocol that it is not let in.
    pub async fn refuse(&self, stream: TcpStream, target: &Target, denied: &Denied) {
        if let Ok(Opened::Session { client, .. }) =
            startup::accept(stream, self.client_tls(&names(target), target)).await
        {
            let fatal = Fatal::new("28000", denied.message.clone()).with_hint(denied.hint.clone());
            startup::refuse(client, &fatal).await;
        }
    }

    async fn session<S: Stages>(
        &self,
        mut client: ClientStream,
        startup: &Startup,
        early: &[u8],
        owner: Owner,
        target: &Target,
        stages: &mut S,
    ) -> Result<(), SessionEnd> {
        let settings = match Settings::of(startup) {
            Ok(settings) => settings,
            Err(error) => {
                startup::refuse(client, &error.to_client()).await;
                return Err(SessionEnd::Client(error.to_string()));
            }
        };
        let policy = owner.policy;
        let opened = async {
            let credential = stages.login().await?;
            let stream = stages.dial().await?;
            let ask = login::Ask { database: startup.database(), settings: &settings };
            let database = credential.database.clone().unwrap_or_else(|| startup.database().to_owned());
            match login(stream, target, &credential, ask).await {
                Ok(server) => Ok::<_, Refused>((server, database)),
                Err(error) => Err(Refused { fatal: error.to_client(&target.service), end: error.into() }),
            }
        };
        let (server, database) = match opened.await {
            Ok(opened) => opened,
            Err(Refused { fatal, end }) => {
                stages.record(FrameKind::ServerBytes, Direction::ToClient, &[&fatal.encode()])?;
                startup::refuse(client, &fatal).await;
                return Err(end);
            }
        };
        let registration = self.cancels.register(owner, target, server.key.clone());
        let hello = greeting(&server, startup, registration.key());
        stages.record(FrameKind::ServerBytes, Direction::ToClient, &[&hello])?;
        write_all(&mut client, &hello).await?;

        let masks = stages.masks();
        let mut relay = Relay::new(&*masks, Statements(Arc::clone(&self.statements)), startup.user.as_bytes());
        for (name, value) in &server.parameters {
            relay.reported(name.as_bytes(), value.as_bytes());
        }
        let key = CatalogKey {
            policy,
            service: target.service.clone(),
            address: target.address,
            database: database.clone(),
        };
        let catalog = Catalog::new(target.clone(), database, self.catalogs.of(key));
        let mut conversation = Conversation::new(stages, relay, catalog, &registration);
        conversation.begun(early, &server.early);
        conversation.run(client, server.stream).await
    }

    async fn cancel<S: Stages>(&self, key: CancelKey, owner: &Owner, stages: &mut S) -> Result<(), SessionEnd> {
        if let Cancelled::Forward(cancel) = self.cancels.cancel(key, owner) {
            let stream = stages.dial().await?;
            forward(stream, &cancel).await?;
        }
        Ok(())
    }

    fn client_tls<'a>(&'a self, names: &'a [String], target: &Target) -> ClientTls<'a> {
        ClientTls { authority: &self.authority, names, address: target.address.ip() }
    }
}

/// A session that does not come to be: what the client is told, and what stands in the record.
struct Refused {
    fatal: Fatal,
    end: SessionEnd,
}

impl From<SessionEnd> for Refused {
    fn from(end: SessionEnd) -> Self {
        Self { fatal: drive::fatal(&end), end }
    }
}

/// Names that the service is known by to its clients.
fn names(target: &Target) -> Vec<String> {
    match &target.host {
        EndpointHost::Name(name) => vec![name.clone()],
        EndpointHost::Net(_) => Vec::new(),
    }
}

async fn write_all(client: &mut ClientStream, bytes: &[u8]) -> Result<(), SessionEnd> {
    use tokio::io::AsyncWriteExt;
    client.write_all(bytes).await.map_err(|error| SessionEnd::Client(error.to_string()))?;
    client.flush().await.map_err(|error| SessionEnd::Client(error.to_string()))
}
