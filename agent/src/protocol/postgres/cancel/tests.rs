use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use futures_util::FutureExt;

use super::{CancelMap, Cancelled, Owner};
use crate::config::{EndpointHost, TlsMode, TlsSpec};
use crate::model::PolicyId;
use crate::protocol::Target;
use crate::protocol::postgres::login::BackendKey;
use crate::protocol::postgres::startup::CancelKey;
use crate::tls::Upstream;

fn owner(policy: u32, service: &str) -> Owner {
    Owner {
        policy: PolicyId(policy),
        service: service.into(),
    }
}

fn target() -> Target {
    let tls = TlsSpec {
        upstream: TlsMode::Disable,
        ca: None,
        server_name: None,
    };
    Target {
        service: "db".into(),
        host: EndpointHost::Name("db.acme.test".to_owned()),
        address: crate::model::Place::Network(SocketAddr::from((Ipv4Addr::LOCALHOST, 5432))),
        tls: Arc::new(Upstream::from_spec(&tls).unwrap()),
    }
}

fn real() -> BackendKey {
    BackendKey {
        process: 4242,
        secret: vec![0xab; 4],
    }
}

#[test]
fn the_owner_of_a_session_reaches_the_target_and_nobody_else_does() {
    let map = Arc::new(CancelMap::default());
    let session = map.register(owner(1, "db"), &target(), Some(real()));
    let key = session.key();
    assert!(matches!(map.cancel(key, &owner(1, "db")), Cancelled::Forward(cancel) if cancel.key == real()));
    for stranger in [owner(2, "db"), owner(1, "other")] {
        assert!(matches!(map.cancel(key, &stranger), Cancelled::Ignored));
    }
    let [first, rest @ ..] = key.secret;
    let guessed = CancelKey {
        secret: [&[first ^ 1][..], &rest].concat().try_into().unwrap(),
        ..key
    };
    assert!(matches!(map.cancel(guessed, &owner(1, "db")), Cancelled::Ignored));
}

#[test]
fn a_key_of_a_session_that_has_ended_is_ignored() {
    let map = Arc::new(CancelMap::default());
    let session = map.register(owner(1, "db"), &target(), Some(real()));
    let key = session.key();
    drop(session);
    assert!(matches!(map.cancel(key, &owner(1, "db")), Cancelled::Ignored));
}

#[test]
fn the_key_of_the_target_is_not_the_clients_and_is_not_shown() {
    let map = Arc::new(CancelMap::default());
    let sessions: Vec<_> = (0..100)
        .map(|_| map.register(owner(1, "db"), &target(), Some(real())))
        .collect();
    let mut keys: Vec<_> = sessions
        .iter()
        .map(|session| (session.key().process, session.key().secret))
        .collect();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), 100);
    assert!(!keys.contains(&(4242, [0xab; 4])));
    let Cancelled::Forward(cancel) = map.cancel(sessions[0].key(), &owner(1, "db")) else {
        panic!("not forwarded");
    };
    for shown in [
        format!("{map:?}"),
        format!("{:?}", sessions[0]),
        format!("{cancel:?}"),
        format!("{:?}", real()),
    ] {
        assert!(!shown.contains("4242") && !shown.contains("171"), "{shown}");
    }
}

#[test]
fn a_cancel_during_a_hold_ends_the_hold_and_does_not_reach_the_target() {
    let map = Arc::new(CancelMap::default());
    let session = map.register(owner(1, "db"), &target(), Some(real()));
    let hold = session.begin_hold();
    assert!(hold.cancelled().now_or_never().is_none());
    // Told before anybody waits: it must not be lost.
    assert!(matches!(
        map.cancel(session.key(), &owner(1, "db")),
        Cancelled::Hold
    ));
    assert!(hold.cancelled().now_or_never().is_some());
    drop(hold);
    assert!(matches!(
        map.cancel(session.key(), &owner(1, "db")),
        Cancelled::Forward(_)
    ));
    let next = session.begin_hold();
    assert!(
        next.cancelled().now_or_never().is_none(),
        "a cancel of the first hold must not end the second"
    );
}

#[test]
fn without_a_key_of_the_target_only_holds_can_be_cancelled() {
    let map = Arc::new(CancelMap::default());
    let session = map.register(owner(1, "db"), &target(), None);
    assert!(matches!(
        map.cancel(session.key(), &owner(1, "db")),
        Cancelled::Ignored
    ));
    let _hold = session.begin_hold();
    assert!(matches!(
        map.cancel(session.key(), &owner(1, "db")),
        Cancelled::Hold
    ));
}
