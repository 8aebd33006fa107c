//! Users in the hands of the keeper of leases.

use std::sync::Arc;
use std::time::Duration;

use super::{World, login, maker};
use crate::config::{CredentialKind, Share};
use crate::credential::leases::Pace;
use crate::credential::tests::PLAIN;
use crate::credential::{Ask, Lease, LeaseEnd, Leases, Maker, Material};
use crate::model::SessionId;

const LONG: Duration = Duration::from_secs(40);
pub(super) const PACE: Pace = Pace {
    idle: Duration::from_millis(50),
    first_pause: Duration::from_millis(50),
    between: Duration::from_millis(50),
};

struct Keeping {
    world: World,
    maker: Arc<dyn Maker>,
    kind: CredentialKind,
    dir: tempfile::TempDir,
}

impl Keeping {
    fn start(share: Share) -> Self {
        let world = World::start();
        let mut spec = world.keeper();
        spec.share = share;
        Self {
            maker: maker(&spec, &PLAIN),
            kind: CredentialKind::MysqlUser(spec),
            world,
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn leases(&self) -> Leases {
        Leases::open_at(&self.dir.path().join("leases"), PACE).unwrap()
    }

    fn ask(&self, share: Share) -> Ask {
        let mut ask = self.world.ask();
        ask.owner.share = share;
        ask.owner.session = SessionId::new();
        ask
    }

    async fn take(&self, leases: &Leases, share: Share) -> Lease {
        leases
            .take(&self.maker, &self.kind, self.ask(share))
            .await
            .unwrap()
    }
}

fn user(lease: &Lease) -> String {
    let Material::Login { user, .. } = lease.material() else {
        panic!("a login is made")
    };
    String::from_utf8(user.expose().to_vec()).unwrap()
}

#[tokio::test]
async fn a_user_of_a_session_goes_with_it_and_one_of_a_workload_with_the_last() {
    let keeping = Keeping::start(Share::Workload);
    let leases = keeping.leases();
    let session = keeping.take(&leases, Share::Session).await;
    let listed = leases.list();
    assert_eq!(listed[0].source, "mysql-user");
    assert_eq!(listed[0].name.as_deref(), Some(user(&session).as_str()));
    assert_eq!(session.end(LONG).await, LeaseEnd::Revoked);
    assert_eq!(keeping.world.users(), "0");

    let (one, other) = tokio::join!(
        keeping.take(&leases, Share::Workload),
        keeping.take(&leases, Share::Workload)
    );
    assert_eq!(user(&one), user(&other));
    assert_eq!(keeping.world.users(), "1");
    assert_eq!(one.end(LONG).await, LeaseEnd::Shared);
    let made = crate::credential::Made {
        material: other.material().clone(),
        expires: None,
        handle: None,
    };
    let (name, password) = login(&made);
    assert!(
        keeping
            .world
            .server
            .client(&name, &password, &[], "SELECT 1")
            .status
            .success()
    );
    drop(other);
    eventually(|| keeping.world.users() == "0" && leases.list().is_empty()).await;
}

#[tokio::test]
async fn a_server_that_is_down_when_a_user_is_revoked_is_asked_again_also_after_a_restart() {
    let mut keeping = Keeping::start(Share::Session);
    let leases = keeping.leases();
    let lease = keeping.take(&leases, Share::Session).await;
    keeping.world.server.down();
    let LeaseEnd::Pending(why) = lease.end(LONG).await else {
        panic!("nobody was there to revoke it")
    };
    assert!(why.contains("cannot be reached"), "{why}");
    eventually(|| {
        leases
            .list()
            .first()
            .is_some_and(|lease| lease.failed_attempts > 1)
    })
    .await;
    assert!(leases.warnings()[0].contains("mysql") || leases.warnings()[0].contains("could not be revoked"));
    // The agent goes, with the server down, and another comes.
    assert_eq!(leases.close(Duration::ZERO).await, 1);
    let next = keeping.leases();
    keeping.world.server.up();
    eventually(|| next.list().is_empty()).await;
    assert_eq!(keeping.world.users(), "0");
}

/// Waits until it holds.
async fn eventually(mut holds: impl FnMut() -> bool) {
    let until = tokio::time::Instant::now() + LONG;
    while !holds() {
        assert!(tokio::time::Instant::now() < until, "it does not come to hold");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
