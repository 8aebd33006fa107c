//! The keeper of leases, with a source that is up, down or slow as the test says.

mod renewals;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::ask;
use crate::config::{CredentialKind, ExecSpec, Share};
use crate::credential::leases::Pace;
use crate::credential::maker::Working;
use crate::credential::{
    Ask, CredentialError, Found, Handle, Lease, LeaseEnd, Leases, Left, Made, MakeError, Maker, Material,
    Renewal, RevokeError,
};
use crate::model::Secret;

/// What stands for a server: names that are there, and how it is.
#[derive(Debug, Default)]
struct Server {
    there: Vec<String>,
    made: usize,
    down: bool,
    /// It refuses to make anything, and leaves this behind.
    refuses: Option<Left>,
    slow: Option<Duration>,
    /// Whether something is to be asked for before anything is made.
    prepares: bool,
    /// What a renewal comes to; `None`: it fails.
    renews: Option<Renews>,
    renewed: usize,
}

#[derive(Clone, Copy, Debug)]
enum Renews {
    For(Duration),
    Final,
    Gone,
}

static SERVERS: LazyLock<Mutex<HashMap<u64, Server>>> = LazyLock::new(Mutex::default);

/// Something on a server of the tests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Double {
    server: u64,
    name: String,
}

impl Double {
    pub(in crate::credential) fn name(&self) -> &str {
        &self.name
    }

    pub(in crate::credential) fn revoke(&self) -> Result<Found, RevokeError> {
        on(self.server, |server| {
            if server.down {
                return Err(RevokeError::Double);
            }
            let before = server.there.len();
            server.there.retain(|name| *name != self.name);
            Ok(if server.there.len() < before {
                Found::Voided
            } else {
                Found::Nothing
            })
        })
    }
}

fn on<T>(server: u64, act: impl FnOnce(&mut Server) -> T) -> T {
    act(SERVERS.lock().entry(server).or_default())
}

#[derive(Debug)]
struct DoubleMaker {
    server: u64,
    ttl: Option<Duration>,
    /// For how long it is renewed.
    most: Option<Duration>,
}

impl Maker for DoubleMaker {
    fn check(&self) -> Working<'_, Result<(), CredentialError>> {
        Box::pin(async { Ok(()) })
    }

    fn plan(&self, ask: &Ask) -> Option<Handle> {
        let prepares = on(self.server, |server| server.prepares);
        (!prepares).then(|| self.name(ask))
    }

    fn prepare<'a>(&'a self, ask: &'a Ask) -> Working<'a, Result<Option<Handle>, MakeError>> {
        Box::pin(async {
            let prepares = on(self.server, |server| server.prepares);
            Ok(prepares.then(|| self.name(ask)))
        })
    }

    fn renewed_for(&self, _: &Handle) -> Option<Duration> {
        self.most
    }

    fn renew<'a>(&'a self, _: &'a Handle) -> Working<'a, Result<Renewal, CredentialError>> {
        Box::pin(async {
            on(self.server, |server| {
                server.renewed += 1;
                match server.renews {
                    Some(Renews::For(time)) => Ok(Renewal::Until(SystemTime::now() + time)),
                    Some(Renews::Final) => Ok(Renewal::Final),
                    Some(Renews::Gone) => Ok(Renewal::Gone),
                    None => Err(CredentialError::BrokenOff),
                }
            })
        })
    }

    fn make<'a>(&'a self, _: &'a Ask, planned: Option<&'a Handle>) -> Working<'a, Result<Made, MakeError>> {
        Box::pin(async move {
            let Some(Handle::Double(double)) = planned else {
                unreachable!("planned by this source")
            };
            if let Some(slow) = on(self.server, |server| server.slow) {
                tokio::time::sleep(slow).await;
            }
            on(self.server, |server| {
                if let Some(left) = server.refuses.clone() {
                    if left == Left::Perhaps {
                        server.there.push(double.name.clone());
                    }
                    return Err(MakeError {
                        error: CredentialError::BrokenOff,
                        left,
                    });
                }
                server.there.push(double.name.clone());
                server.made += 1;
                Ok(Made {
                    material: Material::Login {
                        user: Secret::new(double.name.clone().into_bytes()),
                        password: Secret::new(b"x".to_vec()),
                    },
                    expires: self.ttl.map(|ttl| SystemTime::now() + ttl),
                    handle: None,
                })
            })
        })
    }
}

impl DoubleMaker {
    fn name(&self, ask: &Ask) -> Handle {
        Handle::Double(Double {
            server: self.server,
            name: format!("{}-{}", ask.owner.session, rand::random::<u32>()),
        })
    }
}

struct World {
    server: u64,
    state: tempfile::TempDir,
    maker: Arc<dyn Maker>,
}

impl World {
    fn new(ttl: Option<Duration>) -> Self {
        Self::renewing(ttl, None)
    }

    /// One whose leases last so long, and are renewed for so long.
    fn renewing(ttl: Option<Duration>, most: Option<Duration>) -> Self {
        let server = rand::random();
        Self {
            server,
            state: tempfile::tempdir().unwrap(),
            maker: Arc::new(DoubleMaker { server, ttl, most }),
        }
    }

    fn journal(&self) -> &Path {
        self.state.path()
    }

    fn open(&self) -> Leases {
        let dir = self.state.path().join("leases");
        let pace = Pace {
            idle: Duration::from_millis(300),
            first_pause: Duration::from_millis(10),
            between: Duration::from_millis(10),
        };
        Leases::open_at(&dir, pace).unwrap()
    }

    fn entries(&self) -> usize {
        std::fs::read_dir(self.journal().join("leases")).unwrap().count()
    }

    fn there(&self) -> usize {
        on(self.server, |server| server.there.len())
    }

    async fn take(&self, leases: &Leases, ask: Ask) -> Result<Lease, CredentialError> {
        leases.take(&self.maker, &spec(), ask).await
    }

    /// Waits until nothing is left anywhere.
    async fn wait_until_clean(&self, leases: &Leases) {
        for _ in 0..2000 {
            if leases.list().is_empty() {
                assert_eq!((self.there(), self.entries()), (0, 0));
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("not revoked: {:?}", leases.list());
    }
}

fn spec() -> CredentialKind {
    CredentialKind::Exec(ExecSpec {
        command: vec!["/double".into()],
        timeout: Duration::from_secs(1),
        share: Share::Workload,
    })
}

#[tokio::test]
async fn a_lease_is_in_the_journal_while_it_is_there_and_gone_with_its_session() {
    let world = World::new(None);
    let leases = world.open();
    let lease = world.take(&leases, ask(Share::Session)).await.unwrap();
    assert_eq!((world.there(), world.entries()), (1, 1));
    assert!(lease.is_made());
    assert_eq!(lease.end(Duration::from_secs(5)).await, LeaseEnd::Revoked);
    assert_eq!((world.there(), world.entries()), (0, 0));
}

#[tokio::test]
async fn a_session_that_is_dropped_leaves_nothing() {
    let world = World::new(None);
    let leases = world.open();
    drop(world.take(&leases, ask(Share::Session)).await.unwrap());
    world.wait_until_clean(&leases).await;
}

#[tokio::test]
async fn a_session_that_gives_up_while_its_credential_is_made_leaves_nothing() {
    let world = World::new(None);
    let leases = world.open();
    on(world.server, |server| {
        server.slow = Some(Duration::from_millis(50));
    });
    let taking = world.take(&leases, ask(Share::Session));
    assert!(
        tokio::time::timeout(Duration::from_millis(10), taking)
            .await
            .is_err()
    );
    // It is made nevertheless, since it was begun, and then revoked.
    for _ in 0..1000 {
        if on(world.server, |server| server.made) == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(on(world.server, |server| server.made), 1);
    world.wait_until_clean(&leases).await;
}

#[tokio::test]
async fn a_pool_of_connections_makes_one() {
    let world = World::new(Some(Duration::from_hours(1)));
    let leases = world.open();
    on(world.server, |server| {
        server.slow = Some(Duration::from_millis(20));
    });
    let taking = (0..20).map(|_| world.take(&leases, ask(Share::Workload)));
    let taken = futures_util::future::join_all(taking).await;
    let taken: Vec<Lease> = taken.into_iter().map(Result::unwrap).collect();
    assert_eq!(on(world.server, |server| server.made), 1);
    for lease in taken {
        assert_eq!(lease.end(Duration::from_secs(5)).await, LeaseEnd::Shared);
    }
    assert_eq!(world.there(), 1, "the next connection finds it");
    // Somebody else's job, or identity, gets one of its own.
    let mut other = ask(Share::Workload);
    other.owner.identity = "uid 2000".into();
    let _other = world.take(&leases, other).await.unwrap();
    assert_eq!(on(world.server, |server| server.made), 2);
    assert_eq!(
        leases.revoke_where("test", |owner| owner.identity == "uid 1000"),
        1
    );
}

#[tokio::test]
async fn what_nobody_uses_any_more_is_revoked_after_a_while() {
    let world = World::new(None);
    let leases = world.open();
    drop(world.take(&leases, ask(Share::Workload)).await.unwrap());
    assert_eq!(world.there(), 1);
    world.wait_until_clean(&leases).await;
}

#[tokio::test]
async fn its_time_ends_a_lease_that_is_in_use() {
    let world = World::new(Some(Duration::from_millis(200)));
    let leases = world.open();
    let lease = world.take(&leases, ask(Share::Session)).await.unwrap();
    assert_eq!(lease.over().await, "its time is over");
    world.wait_until_clean(&leases).await;
}

#[tokio::test]
async fn a_revoked_identity_loses_its_lease_while_it_uses_it() {
    let world = World::new(None);
    let leases = world.open();
    let lease = world.take(&leases, ask(Share::Session)).await.unwrap();
    let over = lease.over();
    assert_eq!(
        leases.revoke_where("its identity was revoked", |owner| owner.identity == "uid 1000"),
        1
    );
    assert_eq!(over.await, "its identity was revoked");
    world.wait_until_clean(&leases).await;
}

#[tokio::test]
async fn a_server_that_is_down_is_asked_until_it_answers_and_that_is_told() {
    let world = World::new(None);
    let leases = world.open();
    let lease = world.take(&leases, ask(Share::Session)).await.unwrap();
    on(world.server, |server| server.down = true);
    let LeaseEnd::Pending(why) = lease.end(Duration::from_secs(3)).await else {
        panic!("it cannot be void")
    };
    assert_eq!(why, "the double is down");
    let listed = loop {
        let listed = leases.list().remove(0);
        if listed.failed_attempts > 3 {
            break listed;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert!(listed.next_attempt.is_some(), "{listed:?}");
    assert!(
        leases.warnings()[0].contains("could not be revoked"),
        "{:?}",
        leases.warnings()
    );
    on(world.server, |server| server.down = false);
    assert!(leases.revoke_one(&listed.id, "asked for"));
    world.wait_until_clean(&leases).await;
    assert!(leases.warnings().is_empty());
}

#[tokio::test]
async fn what_an_agent_left_is_revoked_by_the_next_one() {
    let world = World::new(None);
    let leases = world.open();
    let lease = world.take(&leases, ask(Share::Session)).await.unwrap();
    // As SIGKILL does it: nothing of it runs.
    on(world.server, |server| server.down = true);
    assert_eq!(leases.close(Duration::from_millis(20)).await, 1);
    on(world.server, |server| server.down = false);
    drop(lease);
    assert_eq!((world.there(), world.entries()), (1, 1));
    let next = world.open();
    world.wait_until_clean(&next).await;
}

#[tokio::test]
async fn a_source_that_refuses_leaves_nothing_to_revoke_and_one_that_fails_half_way_does() {
    let world = World::new(None);
    let leases = world.open();
    on(world.server, |server| server.refuses = Some(Left::Nothing));
    assert!(world.take(&leases, ask(Share::Session)).await.is_err());
    assert_eq!((leases.list().len(), world.entries()), (0, 0));
    on(world.server, |server| server.refuses = Some(Left::Perhaps));
    assert!(world.take(&leases, ask(Share::Session)).await.is_err());
    world.wait_until_clean(&leases).await;
    // What it says is there goes, and not what was planned.
    let there = Double {
        server: world.server,
        name: "there".to_owned(),
    };
    on(world.server, |server| {
        server.there.push("there".to_owned());
        server.refuses = Some(Left::There(Box::new(Handle::Double(there))));
    });
    assert!(world.take(&leases, ask(Share::Session)).await.is_err());
    world.wait_until_clean(&leases).await;
}

#[tokio::test]
async fn nothing_is_made_that_the_journal_does_not_know_of() {
    let world = World::new(None);
    let leases = world.open();
    std::fs::remove_dir_all(world.journal().join("leases")).unwrap();
    let error = world.take(&leases, ask(Share::Session)).await.unwrap_err();
    assert!(matches!(error, CredentialError::Journal(_)), "{error}");
    assert_eq!(
        (on(world.server, |server| server.made), leases.list().len()),
        (0, 0)
    );
}

#[tokio::test]
async fn an_entry_that_cannot_be_read_is_kept_and_told_of() {
    let world = World::new(None);
    let dir = world.journal().join("leases");
    drop(world.open());
    std::fs::write(dir.join("0123456789ab.json"), "{").unwrap();
    std::fs::write(dir.join("0123456789ac.new"), "{").unwrap();
    let leases = world.open();
    assert!(
        leases.warnings()[0].contains("0123456789ab.json"),
        "{:?}",
        leases.warnings()
    );
    assert_eq!(
        world.entries(),
        1,
        "what never counted is gone, what cannot be read is not"
    );
}

#[test]
fn a_journal_that_others_can_write_to_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o770)).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let error = runtime.block_on(async { Leases::open(dir.path()) }).unwrap_err();
    assert!(error.to_string().contains("chmod 0700"), "{error}");
}
