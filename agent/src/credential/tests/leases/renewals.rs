//! How long leases last.

use std::time::Duration;

use super::super::ask;
use super::{Renews, World, on};
use crate::config::Share;

const SHORT: Duration = Duration::from_millis(300);

#[tokio::test]
async fn a_lease_that_is_held_is_renewed_for_as_long_as_the_policy_says_and_no_longer() {
    let world = World::renewing(Some(SHORT), Some(SHORT * 4));
    let leases = world.open();
    on(world.server, |server| server.renews = Some(Renews::For(SHORT)));
    let begun = std::time::Instant::now();
    let mut lease = world.take(&leases, ask(Share::Session)).await.unwrap();
    let first = leases.list()[0].expires.unwrap();
    assert_eq!(lease.renewed(), None);
    assert_eq!(lease.over().await, "its time is over");
    // Told once, for the record of the session.
    let until = lease.renewed().unwrap();
    assert!(until > std::time::SystemTime::from(first) && lease.expires() == Some(until));
    assert_eq!(lease.renewed(), None);
    let lasted = begun.elapsed();
    assert!(lasted > SHORT * 3 && lasted < SHORT * 8, "{lasted:?}");
    assert!(on(world.server, |server| server.renewed) >= 3);
    assert!(leases.list().iter().all(|lease| lease.expires.unwrap() > first));
    world.wait_until_clean(&leases).await;
}

#[tokio::test]
async fn a_lease_that_nobody_holds_is_not_renewed() {
    let world = World::renewing(Some(SHORT), Some(Duration::from_hours(1)));
    let leases = world.open();
    on(world.server, |server| server.renews = Some(Renews::For(SHORT)));
    drop(world.take(&leases, ask(Share::Session)).await.unwrap());
    world.wait_until_clean(&leases).await;
    tokio::time::sleep(SHORT).await;
    assert_eq!(on(world.server, |server| server.renewed), 0);
}

#[tokio::test]
async fn a_lease_that_cannot_be_renewed_ends_when_it_was_said_to_and_says_why() {
    for (renews, why) in [
        (Some(Renews::Final), "its time is over"),
        (
            None,
            "its time is over, and it could not be renewed: the read of a secret was broken off: the agent stops",
        ),
        (
            Some(Renews::Gone),
            "its source says that it is not there any more",
        ),
    ] {
        let world = World::renewing(Some(SHORT), Some(Duration::from_hours(1)));
        let leases = world.open();
        on(world.server, |server| server.renews = renews);
        let lease = world.take(&leases, ask(Share::Session)).await.unwrap();
        assert_eq!(lease.over().await, why);
        let asked = on(world.server, |server| server.renewed);
        assert!(if renews.is_none() { asked > 2 } else { asked == 1 }, "{asked}");
        world.wait_until_clean(&leases).await;
    }
}

#[tokio::test]
async fn what_a_server_was_asked_to_name_is_in_the_journal_before_anything_is_made() {
    let world = World::new(None);
    let leases = world.open();
    on(world.server, |server| {
        server.prepares = true;
        server.slow = Some(Duration::from_millis(100));
    });
    let taking = world.take(&leases, ask(Share::Session));
    let looking = async {
        loop {
            if world.entries() == 1 {
                break world.there();
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let (lease, there) = tokio::join!(taking, looking);
    assert_eq!(there, 0);
    assert_eq!((world.there(), world.entries()), (1, 1));
    // Killed in between: the next one finds it.
    on(world.server, |server| server.down = true);
    assert_eq!(leases.close(Duration::from_millis(20)).await, 1);
    on(world.server, |server| server.down = false);
    drop(lease);
    let next = world.open();
    world.wait_until_clean(&next).await;
}
