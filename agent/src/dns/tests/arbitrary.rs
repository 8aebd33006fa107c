//! Whatever bytes come, from a workload or a nameserver.

use hickory_proto::op::Message;
use hickory_proto::rr::rdata::{A, CNAME};
use hickory_proto::rr::{RData, Record, RecordType};
use proptest::prelude::*;

use super::*;
use crate::dns::read;

/// Bytes that are a message but for a few changes: these go deeper than random ones.
fn nearly(message: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6);
    (
        Just(message),
        changes,
        any::<prop::sample::Index>(),
        any::<bool>(),
    )
        .prop_map(|(mut bytes, changes, end, cut)| {
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            if cut {
                bytes.truncate(end.index(bytes.len()));
            }
            bytes
        })
}

fn a_message() -> Vec<u8> {
    let records = vec![
        record("db.acme.test", 60, RData::CNAME(CNAME(wire("x.test")))),
        record("x.test", 60, RData::A(A("10.0.0.1".parse().unwrap()))),
    ];
    with_edns(answer_message("db.acme.test", RecordType::A, records))
        .to_vec()
        .unwrap()
}

fn arbitrary_names() -> impl Strategy<Value = Vec<Record>> {
    let name = prop::sample::select(vec!["db.acme.test", "a.test", "b.test", "c.test", "DB.acme.test"]);
    let link =
        (name.clone(), name.clone()).prop_map(|(from, to)| record(from, 60, RData::CNAME(CNAME(wire(to)))));
    let address =
        (name, any::<[u8; 4]>()).prop_map(|(name, octets)| record(name, 60, RData::A(A(octets.into()))));
    prop::collection::vec(prop_oneof![link, address], 0..12)
}

/// The addresses that glibc would find: it follows the chain from the name that was asked for.
fn followed(records: &[Record]) -> Vec<IpAddr> {
    let mut names = vec![crate::dns::DnsName::new("db.acme.test")];
    for _ in records {
        for record in records {
            if let RData::CNAME(target) = &record.data
                && names.contains(&(&record.name).into())
            {
                names.push((&target.0).into());
            }
        }
        names.sort();
        names.dedup();
    }
    records
        .iter()
        .filter(|record| names.contains(&(&record.name).into()))
        .filter_map(|record| match &record.data {
            RData::A(address) => Some(IpAddr::V4(address.0)),
            _ => None,
        })
        .collect()
}

proptest! {
    #[test]
    fn no_bytes_of_a_nameserver_do_harm(bytes in prop_oneof![
        prop::collection::vec(any::<u8>(), 0..600),
        nearly(a_message()),
    ]) {
        let question = question("db.acme.test", RecordType::A);
        if let Ok(answer) = read(&question, &bytes, |name| Some(name.clone())) {
            // What the workload is given can be read, and is the answer to its question.
            let given = Message::from_vec(&answer.bytes).unwrap();
            prop_assert_eq!(given.metadata.id, 0x1234);
        }
    }

    #[test]
    fn no_bytes_of_a_workload_do_harm(bytes in prop_oneof![
        prop::collection::vec(any::<u8>(), 0..300),
        nearly(with_edns(query_message("db.acme.test", RecordType::A)).to_vec().unwrap()),
    ]) {
        if let Ok(question) = Question::read(&bytes) {
            let terms = terms("deny", &["db.acme.test"], "").unwrap();
            let host = conf(&["10.0.0.2"], &[]);
            // What is asked is one question about a name that may be asked for, and what is refused is an answer.
            match terms.judge(&question, &bytes, ip("10.0.0.2"), views(&host, None)) {
                Ok(words) => {
                    let asked = Message::from_vec(&words).unwrap();
                    prop_assert_eq!(asked.queries.len(), 1);
                    let name = crate::dns::DnsName::from(asked.queries[0].name());
                    prop_assert_eq!(name.host(), crate::dns::DnsName::new("db.acme.test"));
                    prop_assert!(words.len() <= 12 + 259 + 11);
                }
                Err(refusal) => {
                    let reply = question.refusal(refusal.rcode(question.asked.as_ref()), Some((17, "why")));
                    prop_assert_eq!(Message::from_vec(&reply).unwrap().metadata.message_type, MessageType::Response);
                }
            }
        }
    }

    #[test]
    fn every_address_that_a_resolver_could_find_is_protected(records in arbitrary_names()) {
        let message = answer_message("db.acme.test", RecordType::A, records.clone());
        let question = question("db.acme.test", RecordType::A);
        let answer = read(&question, &message.to_vec().unwrap(), |name| {
            (name.as_str() == "db.acme.test").then(|| name.clone())
        }).unwrap();
        for address in followed(&records) {
            prop_assert!(answer.protect.iter().any(|told| told.address == address.to_canonical()));
        }
    }
}
