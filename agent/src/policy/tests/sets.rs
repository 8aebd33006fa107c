use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use ipnet::IpNet;

use super::super::{PolicySet, Protected, Resolved};
use crate::config::{PolicyDoc, PolicyErrors, parse_policy};
use crate::model::{OriginalDst, PolicyId, WorkloadName};

fn doc(name: &str, cgroup: &str, services: &[(&str, &str)]) -> Arc<PolicyDoc> {
    Arc::new(parse(name, cgroup, services).unwrap_or_else(|errors| panic!("{errors}")))
}

fn parse(name: &str, cgroup: &str, services: &[(&str, &str)]) -> Result<PolicyDoc, PolicyErrors> {
    let mut text = format!("[workload]\nname = \"{name}\"\ncgroup = [\"{cgroup}\"]\n");
    for (service, address) in services {
        let _ = write!(
            text,
            "[[service]]\nname = \"{service}\"\nprotocol = \"opaque\"\naddress = [{address}]\n"
        );
    }
    parse_policy(Path::new(&format!("/etc/p.d/{name}.toml")), &text)
}

fn resolved(names: &[(&str, &[&str])], local: &[&str]) -> Resolved {
    let parse = |list: &[&str]| list.iter().map(|ip| ip.parse().unwrap()).collect::<Vec<IpAddr>>();
    Resolved {
        names: names
            .iter()
            .map(|(name, ips)| ((*name).to_owned(), parse(ips)))
            .collect(),
        local: parse(local).into_iter().map(IpNet::from).collect(),
        ..Resolved::default()
    }
}

fn service(set: &PolicySet, dst: &str, resolved: &Resolved) -> Option<String> {
    let dst = OriginalDst(dst.parse::<SocketAddr>().unwrap());
    set.service(PolicyId::of(&"a".into()), dst, resolved)
        .map(|service| service.doc.name.to_string())
}

fn nets(set: &PolicySet, resolved: &Resolved) -> Vec<String> {
    set.protected(resolved)
        .into_iter()
        .map(
            |Protected {
                 net, port, service, ..
             }| format!("{net}:{port} {service}"),
        )
        .collect()
}

#[test]
fn a_number_follows_from_the_name_alone() {
    let id = |set: &PolicySet, name: &str| set.by_name(&WorkloadName::from(name)).map(|policy| policy.id);
    let first = PolicySet::compile([doc("a", "/a", &[]), doc("b", "/b", &[])]);
    let second = PolicySet::compile([doc("c", "/c", &[]), doc("b", "/b", &[])]);
    assert_eq!(id(&first, "b"), id(&second, "b"));
    assert_eq!(id(&first, "b"), Some(PolicyId::of(&"b".into())));
    // What pinned maps hold has to mean the same after an upgrade: these numbers never change.
    assert_eq!(PolicyId::of(&"nightly-backup".into()), PolicyId(2_240_308_084));
}

#[test]
fn a_bad_file_keeps_its_last_good_policy_and_says_so() {
    let set = PolicySet::compile([doc("a", "/a", &[]), doc("b", "/b", &[])]);
    let bad = parse_policy(Path::new("/etc/p.d/a.toml"), "nonsense");
    let (reloaded, errors) = set.reloaded(vec![bad, parse("c", "/c", &[])]);
    assert_eq!(errors.len(), 1);
    let names: Vec<&str> = reloaded
        .policies()
        .iter()
        .map(|policy| policy.doc.workload.name.as_str())
        .collect();
    assert_eq!(names, ["c", "a"], "b's file is gone, a's is bad");

    // A directory that cannot be read is no directory without files.
    let unreadable = crate::config::load_policies(Path::new("/etc/p.d/none/of/these"));
    let (kept, errors) = set.reloaded(unreadable);
    assert_eq!((kept.policies().len(), errors.len()), (0, 1), "another directory");
    let dir = tempfile::tempdir().unwrap();
    let mut doc_there = (*doc("a", "/a", &[])).clone();
    doc_there.path = dir.path().join("gone/a.toml");
    let set = PolicySet::compile([Arc::new(doc_there)]);
    let (kept, errors) = set.reloaded(crate::config::load_policies(&dir.path().join("gone")));
    assert_eq!((kept.policies().len(), errors.len()), (1, 1));
}

#[test]
fn services_are_found_by_the_narrowest_address() {
    let set = PolicySet::compile([doc(
        "a",
        "/a",
        &[
            ("net", "\"10.0.0.0/8:5432\", \"[2001:db8::/32]:5432\""),
            ("named", "\"db.acme.test:5432\""),
            ("other-port", "\"10.0.0.0/8:6432\""),
        ],
    )]);
    let now = resolved(&[("db.acme.test", &["10.0.4.7", "2001:db8::7"])], &[]);
    for (dst, name) in [
        ("10.0.4.7:5432", Some("named")),
        ("10.0.4.8:5432", Some("net")),
        ("10.0.4.7:6432", Some("other-port")),
        ("10.0.4.7:1", None),
        ("[::ffff:10.0.4.7]:5432", Some("named")),
        ("[2001:db8::7]:5432", Some("named")),
        ("[2001:db8::8]:5432", Some("net")),
        ("127.0.0.1:5432", None),
        ("192.0.2.1:5432", None),
    ] {
        assert_eq!(service(&set, dst, &now).as_deref(), name, "{dst}");
    }
    // Before the name is resolved, only the network is known.
    assert_eq!(
        service(&set, "10.0.4.7:5432", &Resolved::default()).as_deref(),
        Some("net")
    );
    assert!(
        set.service(PolicyId(9), OriginalDst("10.0.4.7:5432".parse().unwrap()), &now)
            .is_none()
    );
    assert_eq!(set.names().into_iter().collect::<Vec<_>>(), ["db.acme.test"]);
    assert_eq!(
        nets(&set, &now),
        [
            "10.0.0.0/8:5432 net",
            "10.0.0.0/8:6432 other-port",
            "10.0.4.7/32:5432 named",
            "2001:db8::/32:5432 net",
            "2001:db8::7/128:5432 named",
        ]
    );
}

/// A service on the host itself must not be reached past the proxy under another of the host's addresses.
#[test]
fn an_address_of_the_host_stands_for_all_of_them() {
    let set = PolicySet::compile([doc(
        "a",
        "/a",
        &[("local", "\"localhost:5432\""), ("far", "\"192.0.2.1:5432\"")],
    )]);
    let now = resolved(&[("localhost", &["127.0.0.1"])], &["198.51.100.2"]);
    for dst in [
        "127.0.0.1:5432",
        "127.1.2.3:5432",
        "0.0.0.0:5432",
        "0.1.2.3:5432",
        "[::1]:5432",
        "[::]:5432",
        "198.51.100.2:5432",
        "[::ffff:127.0.0.1]:5432",
    ] {
        assert_eq!(service(&set, dst, &now).as_deref(), Some("local"), "{dst}");
        let ip = dst.parse::<SocketAddr>().unwrap().ip().to_canonical();
        assert!(
            set.protected(&now)
                .iter()
                .any(|known| known.net.contains(&ip) && known.port == 5432),
            "{dst} is not protected"
        );
    }
    assert_eq!(service(&set, "192.0.2.1:5432", &now).as_deref(), Some("far"));
    assert_eq!(service(&set, "198.51.100.3:5432", &now), None);

    // The same where the policy names an address that an interface of the host has.
    let set = PolicySet::compile([doc("a", "/a", &[("own", "\"198.51.100.2:5432\"")])]);
    assert_eq!(service(&set, "127.0.0.1:5432", &now).as_deref(), Some("own"));
    assert_eq!(service(&set, "127.0.0.1:5432", &Resolved::default()), None);
}
