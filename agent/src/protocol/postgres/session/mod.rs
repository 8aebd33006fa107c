//! A PostgreSQL session from its first byte to its last: start-up, login, conversation, cancel requests.

mod boxes;
mod drive;
mod ends;
mod statements;
#[cfg(test)]
mod tests;
mod whole;

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use zeroize::Zeroize as _;

use crate::config::EndpointHost;
use crate::finding::{Question, SecretKind, SeenAt, Sighting};
use crate::flow::Stream;
use crate::model::{Direction, FrameKind, PolicyId};
use crate::protocol::{SessionEnd, Stages, sql};
use crate::tls::LocalCa;

use super::cancel::{CancelMap, Cancelled, Owner, forward};
use super::catalog::{Catalog, CatalogCaches, CatalogKey};
use super::login::{self, LoggedIn, Settings, greeting, login};
use super::relay::{Classify, Masking, Relay, Turn};
use super::startup::probe::{self, Answer};
use super::startup::{self, CancelKey, ClientStream, ClientTls, Fatal, Opened, Startup};
use crate::protocol::Target;

use drive::Conversation;
use statements::Statements;

/// How long a client is given to take the last words of its session.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// How long a client that was told why its session ends is given to close the connection.
const LINGER: Duration = Duration::from_secs(1);

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
        stream: Stream,
        policy: PolicyId,
        target: &Target,
        stages: &mut S,
    ) -> Result<(), SessionEnd> {
        let owner = Owner {
            policy,
            service: target.service.clone(),
        };
        let names = names(target);
        let opened = tokio::select! {
            // The client has not asked for anything that could be answered.
            end = stages.ending() => return Err(end),
            opened = startup::accept(stream, self.client_tls(&names, target)) => opened?,
        };
        match opened {
            Opened::Session {
                client,
                startup,
                early,
            } => self.session(client, &startup, early, owner, target, stages).await,
            Opened::Cancel { client, key } => {
                let ending = stages.ending();
                tokio::select! {
                    end = ending => return Err(end),
                    done = self.cancel(key, &owner, stages) => done?,
                }
                drop(client);
                Ok(())
            }
        }
    }

    /// Tells a client in its own protocol that it is not let in.
    pub async fn refuse(&self, stream: Stream, target: &Target, why: &SessionEnd) {
        if let Ok(Opened::Session { client, .. }) =
            startup::accept(stream, self.client_tls(&names(target), target)).await
        {
            let mut fatal = ends::fatal(why);
            if matches!(why, SessionEnd::Policy(_)) {
                // Who does not get in is told so as one whose login is refused.
                "28000".clone_into(&mut fatal.code);
            }
            startup::refuse(client, &fatal).await;
        }
    }

    async fn session<S: Stages>(
        &self,
        mut client: ClientStream,
        startup: &Startup,
        mut early: BytesMut,
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
        if let Err(end) = ask_for_password(&mut client, startup, &mut early, stages).await {
            return Err(turn_away(client, end.into(), stages).await);
        }
        let policy = owner.policy;
        let ending = stages.ending();
        let opened = async {
            let credential = stages.login().await?;
            let stream = stages.dial().await?;
            let ask = login::Ask {
                database: startup.database(),
                settings: &settings,
            };
            let database = credential
                .database
                .clone()
                .unwrap_or_else(|| startup.database().to_owned());
            match login(stream, target, &credential, ask).await {
                Ok(server) => Ok::<_, Refused>((server, database)),
                Err(error) => Err(Refused {
                    fatal: error.to_client(&target.service),
                    end: error.into(),
                }),
            }
        };
        let opened = tokio::select! {
            end = ending => Err(end.into()),
            opened = opened => opened,
        };
        let (server, database) = match opened {
            Ok(opened) => opened,
            Err(refused) => return Err(turn_away(client, refused, stages).await),
        };
        let registration = self.cancels.register(owner, target, server.key.clone());
        let masks = stages.masks();
        let mut relay = Relay::new(
            &*masks,
            Statements(Arc::clone(&self.statements)),
            startup.user.as_bytes(),
        );
        for (name, value) in &server.parameters {
            relay.reported(name.as_bytes(), value.as_bytes());
        }
        let hello = match hello(
            &mut relay,
            &server,
            greeting(&server, startup, registration.key()),
        ) {
            Ok(hello) => hello,
            Err(end) => return Err(turn_away(client, end.into(), stages).await),
        };
        if let Err(end) = stages.record(FrameKind::ServerBytes, Direction::ToClient, &[&hello]) {
            return Err(turn_away(client, end.into(), stages).await);
        }
        write_all(&mut client, &hello).await?;

        let key = CatalogKey {
            policy,
            service: target.service.clone(),
            address: target.address.clone(),
            database: database.clone(),
        };
        let catalog = Catalog::new(target.clone(), database, self.catalogs.of(key));
        let mut conversation = Conversation::new(stages, relay, catalog, &registration, &startup.user);
        conversation.begun(&early, &server.early);
        // A password that nobody asked for may be in it.
        early.as_mut().zeroize();
        conversation.run(client, server.stream).await
    }

    async fn cancel<S: Stages>(
        &self,
        key: CancelKey,
        owner: &Owner,
        stages: &mut S,
    ) -> Result<(), SessionEnd> {
        if let Cancelled::Forward(cancel) = self.cancels.cancel(key, owner) {
            let stream = stages.dial().await?;
            forward(stream, &cancel).await?;
        }
        Ok(())
    }

    fn client_tls<'a>(&'a self, names: &'a [String], target: &Target) -> ClientTls<'a> {
        ClientTls {
            authority: &self.authority,
            names,
            address: target.ip(),
        }
    }
}

/// A session that does not come to be: what the client is told, and what stands in the record.
struct Refused {
    fatal: Fatal,
    end: SessionEnd,
}

impl From<SessionEnd> for Refused {
    fn from(end: SessionEnd) -> Self {
        Self {
            fatal: ends::fatal(&end),
            end,
        }
    }
}

/// Asks a client whether it has a password of its own, where the policy wants to know.
async fn ask_for_password<S: Stages>(
    client: &mut ClientStream,
    startup: &Startup,
    early: &mut BytesMut,
    stages: &mut S,
) -> Result<(), SessionEnd> {
    let Some(question) = stages.question(&startup.user) else {
        return Ok(());
    };
    let request = probe::request(question);
    stages.record(FrameKind::ServerBytes, Direction::ToClient, &[&request])?;
    let answer = tokio::select! {
        end = stages.ending() => return Err(end),
        answer = probe::ask(client, early, &request, question) => answer?,
    };
    match answer {
        Answer::Secret(secret) => stages.found(Sighting {
            kind: match question {
                Question::Password => SecretKind::Password,
                Question::Proof { .. } => SecretKind::PasswordProof,
            },
            at: SeenAt::Login {
                user: startup.user.clone(),
            },
            secret,
        }),
        Answer::Empty => {
            stages.has_no_password(&startup.user);
            Ok(())
        }
        Answer::Gone => {
            stages.has_no_password(&startup.user);
            Err(SessionEnd::Client(
                "it was asked for a password of its own, as the policy wants, and has none; it will not be asked again"
                    .to_owned(),
            ))
        }
    }
}

/// Tells a client that its session does not come to be.
async fn turn_away<S: Stages>(client: ClientStream, refused: Refused, stages: &mut S) -> SessionEnd {
    let Refused { mut fatal, mut end } = refused;
    if let Err(unrecorded) = stages.record(FrameKind::ServerBytes, Direction::ToClient, &[&fatal.encode()]) {
        fatal = ends::fatal(&unrecorded);
        end = unrecorded;
    }
    startup::refuse(client, &fatal).await;
    end
}

/// The greeting, with the notices that the target gave during the login before its `ReadyForQuery`, as clients expect
/// them. They are text of the target, so they go through the masks.
fn hello<M: Masking, C: Classify>(
    relay: &mut Relay<'_, M, C>,
    server: &LoggedIn,
    mut greeting: Vec<u8>,
) -> Result<Vec<u8>, SessionEnd> {
    let mut notices = Vec::new();
    for notice in &server.notices {
        startup::message(&mut notices, b'N', |out| out.extend_from_slice(notice));
    }
    let mut turn = Turn::default();
    relay
        .server(&notices, &mut turn)
        .map_err(|error| SessionEnd::Target(error.to_string()))?;
    let ready = greeting.split_off(greeting.len().saturating_sub(READY_FOR_QUERY));
    greeting.extend(turn.out.parts(&notices).flatten());
    greeting.extend(ready);
    Ok(greeting)
}

/// Length of a `ReadyForQuery`, with which a greeting ends.
const READY_FOR_QUERY: usize = 6;

/// Names that the service is known by to its clients.
fn names(target: &Target) -> Vec<String> {
    match &target.host {
        EndpointHost::Name(name) => vec![name.clone()],
        EndpointHost::Net(_) => Vec::new(),
    }
}

async fn write_all(client: &mut ClientStream, bytes: &[u8]) -> Result<(), SessionEnd> {
    use tokio::io::AsyncWriteExt;
    client
        .write_all(bytes)
        .await
        .map_err(|error| SessionEnd::Client(error.to_string()))?;
    client
        .flush()
        .await
        .map_err(|error| SessionEnd::Client(error.to_string()))
}
