use std::time::{Duration, Instant};

use super::*;
use crate::dns::{Alias, DnsName, Learned, MOST_ADDRESSES, Told};

fn told(name: &str, address: IpAddr, ttl: u32) -> Told {
    Told {
        name: DnsName::new(name),
        address,
        ttl,
    }
}

fn number(number: usize) -> IpAddr {
    IpAddr::from(u32::try_from(number).unwrap().to_be_bytes())
}

fn known(learned: &Learned, name: &str) -> Vec<IpAddr> {
    let all = learned.addresses();
    all.get(&policy())
        .and_then(|names| names.get(name))
        .cloned()
        .unwrap_or_default()
}

const HOUR: Duration = Duration::from_hours(1);

#[test]
fn an_address_is_kept_for_as_long_as_it_stands_and_for_an_hour_at_least() {
    let now = Instant::now();
    for (ttl, kept) in [(0, HOUR), (60, HOUR), (7200, 2 * HOUR), (u32::MAX, 7 * 24 * HOUR)] {
        let mut learned = Learned::default();
        let told = [told("db", ip("10.0.0.1"), ttl)];
        assert_eq!(learned.learn(policy(), &told, &[], true, now), Ok(true));
        assert_eq!(
            learned.learn(policy(), &told, &[], true, now),
            Ok(false),
            "known already"
        );
        assert!(
            !learned.expire(now + kept.saturating_sub(Duration::from_secs(1))),
            "{ttl}"
        );
        assert_eq!(known(&learned, "db").len(), 1);
        assert!(learned.expire(now + kept), "{ttl}");
        assert!(known(&learned, "db").is_empty());
    }
}

#[test]
fn what_is_told_again_is_kept_anew() {
    let now = Instant::now();
    let mut learned = Learned::default();
    let told = [told("db", ip("10.0.0.1"), 60)];
    learned.learn(policy(), &told, &[], true, now).unwrap();
    learned.learn(policy(), &told, &[], true, now + HOUR / 2).unwrap();
    assert!(!learned.expire(now + HOUR));
    assert!(learned.expire(now + HOUR + HOUR / 2));
}

/// An address that still stands is not given up for another: the workload has both.
#[test]
fn more_addresses_than_can_be_kept_are_not_told() {
    let now = Instant::now();
    let mut learned = Learned::default();
    let standing: Vec<Told> = (0..MOST_ADDRESSES).map(|n| told("db", number(n), 60)).collect();
    assert_eq!(learned.learn(policy(), &standing, &[], true, now), Ok(true));
    let more = [told("db", number(MOST_ADDRESSES), 60)];
    assert_eq!(
        learned.learn(policy(), &more, &[], true, now).unwrap_err().name,
        DnsName::new("db")
    );
    // Another name and another workload have room.
    assert_eq!(
        learned.learn(policy(), &[told("web", ip("10.0.0.1"), 1)], &[], true, now),
        Ok(true)
    );
    assert_eq!(learned.learn(PolicyId(9), &more, &[], true, now), Ok(true));
    // When they do not stand any more, the oldest gives way.
    let later = now + Duration::from_secs(61);
    assert_eq!(learned.learn(policy(), &more, &[], true, later), Ok(true));
    assert_eq!(known(&learned, "db").len(), MOST_ADDRESSES);
}

#[test]
fn only_what_a_believed_nameserver_said_is_proven() {
    let now = Instant::now();
    let mut learned = Learned::default();
    let told = [told("db", ip("10.0.0.1"), 60)];
    learned.learn(policy(), &told, &[], false, now).unwrap();
    assert_eq!(learned.unproven().len(), 1);
    assert_eq!(
        learned.learn(policy(), &told, &[], true, now),
        Ok(true),
        "news, though it is known"
    );
    assert!(learned.unproven().is_empty());
    learned.learn(policy(), &told, &[], false, now).unwrap();
    assert!(learned.unproven().is_empty(), "what is proven stays so");
}

#[test]
fn an_alias_leads_back_to_its_name_for_its_workload() {
    let now = Instant::now();
    let mut learned = Learned::default();
    let alias = Alias {
        name: DnsName::new("db"),
        alias: DnsName::new("x.test"),
        ttl: 60,
    };
    learned
        .learn(policy(), &[], std::slice::from_ref(&alias), true, now)
        .unwrap();
    assert_eq!(learned.name_of(policy(), &alias.alias), Some(DnsName::new("db")));
    assert_eq!(learned.name_of(PolicyId(9), &alias.alias), None);
    learned.expire(now + HOUR);
    assert_eq!(learned.name_of(policy(), &alias.alias), None);
}

#[test]
fn the_next_agent_knows_what_still_stands() {
    let (now, unix) = (Instant::now(), Duration::from_hours(500_000));
    let mut learned = Learned::default();
    let alias = Alias {
        name: DnsName::new("db"),
        alias: DnsName::new("x.test"),
        ttl: 7200,
    };
    let addresses = [
        told("db", ip("10.0.0.1"), 60),
        told("db", ip("2001:db8::1"), 7200),
    ];
    learned
        .learn(policy(), &addresses, std::slice::from_ref(&alias), false, now)
        .unwrap();
    let text = serde_json::to_vec(&learned.saved(now, unix)).unwrap();
    let restored =
        |after: Duration| Learned::restored(serde_json::from_slice(&text).unwrap(), now, unix + after);
    let at_once = restored(Duration::ZERO);
    assert_eq!(at_once.addresses(), learned.addresses());
    assert_eq!(at_once.unproven(), learned.unproven());
    assert_eq!(at_once.name_of(policy(), &alias.alias), Some(DnsName::new("db")));
    let later = restored(HOUR + Duration::from_secs(1));
    assert_eq!(known(&later, "db"), [ip("2001:db8::1")]);
    assert!(restored(3 * HOUR).addresses().is_empty());
}
