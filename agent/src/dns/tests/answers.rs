use std::collections::BTreeSet;

use hickory_proto::op::{Message, OpCode, ResponseCode};
use hickory_proto::rr::rdata::svcb::{Alpn, EchConfigList, IpHint, Mandatory, SvcParamKey, SvcParamValue};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, HTTPS, NULL, SVCB};
use hickory_proto::rr::{RData, Record, RecordType};

use super::*;
use crate::dns::{Answer, DnsName, NoAnswer, read};

fn a(name: &str, address: &str) -> Record {
    record(name, 60, RData::A(A(address.parse().unwrap())))
}

fn aaaa(name: &str, address: &str) -> Record {
    record(name, 60, RData::AAAA(AAAA(address.parse().unwrap())))
}

fn cname(name: &str, target: &str) -> Record {
    record(name, 60, RData::CNAME(CNAME(wire(target))))
}

fn read_for(protected: &[&str], message: &Message) -> Result<Answer, NoAnswer> {
    let query = &message.queries[0];
    let question = question(&query.name().to_ascii(), query.query_type());
    read(&question, &message.to_vec().unwrap(), |name| {
        protected.contains(&name.as_str()).then(|| name.clone())
    })
}

fn protects(answer: &Answer) -> BTreeSet<(String, String)> {
    answer
        .protect
        .iter()
        .map(|told| (told.name.to_string(), told.address.to_string()))
        .collect()
}

fn pairs(pairs: &[(&str, &str)]) -> BTreeSet<(String, String)> {
    pairs
        .iter()
        .map(|(name, address)| ((*name).to_owned(), (*address).to_owned()))
        .collect()
}

#[test]
fn every_way_from_a_protected_name_to_an_address_is_seen() {
    for (what, asked, records, expected) in [
        (
            "its own",
            "DB.acme.test",
            vec![a("db.ACME.test", "10.0.0.1"), a("db.acme.test", "10.0.0.2")],
            vec![("db.acme.test", "10.0.0.1"), ("db.acme.test", "10.0.0.2")],
        ),
        (
            "IPv6, and an IPv4 address in its clothes",
            "db.acme.test",
            vec![
                aaaa("db.acme.test", "2001:db8::1"),
                aaaa("db.acme.test", "::ffff:10.0.0.1"),
            ],
            vec![("db.acme.test", "2001:db8::1"), ("db.acme.test", "10.0.0.1")],
        ),
        (
            "a chain from it",
            "db.acme.test",
            vec![
                cname("db.acme.test", "x.test"),
                cname("x.test", "y.test"),
                a("y.test", "10.0.0.1"),
            ],
            vec![("db.acme.test", "10.0.0.1")],
        ),
        (
            "a chain in another order",
            "db.acme.test",
            vec![
                a("y.test", "10.0.0.1"),
                cname("x.test", "y.test"),
                cname("db.acme.test", "x.test"),
            ],
            vec![("db.acme.test", "10.0.0.1")],
        ),
        (
            "an alias that leads to it",
            "alias.test",
            vec![cname("alias.test", "db.acme.test"), a("db.acme.test", "10.0.0.1")],
            vec![("db.acme.test", "10.0.0.1")],
        ),
        (
            "two protected names in one chain",
            "db.acme.test",
            vec![
                cname("db.acme.test", "other.acme.test"),
                a("other.acme.test", "10.0.0.1"),
            ],
            vec![("db.acme.test", "10.0.0.1"), ("other.acme.test", "10.0.0.1")],
        ),
        (
            "a record of another name, which musl takes for the answer",
            "db.acme.test",
            vec![a("elsewhere.test", "10.0.0.1")],
            vec![("db.acme.test", "10.0.0.1")],
        ),
        (
            "a chain that bites its tail",
            "db.acme.test",
            vec![
                cname("db.acme.test", "x.test"),
                cname("x.test", "db.acme.test"),
                a("x.test", "10.0.0.1"),
            ],
            vec![("db.acme.test", "10.0.0.1")],
        ),
        (
            "another name",
            "open.test",
            vec![a("open.test", "10.0.0.1")],
            vec![],
        ),
    ] {
        let message = answer_message(asked, RecordType::A, records);
        let answer = read_for(&["db.acme.test", "other.acme.test"], &message).unwrap();
        assert_eq!(protects(&answer), pairs(&expected), "{what}");
        assert_eq!(
            answer.bytes,
            message.to_vec().unwrap(),
            "{what}: passes as it came"
        );
    }
}

#[test]
fn addresses_beside_the_answer_are_seen_too() {
    let mut message = answer_message("open.test", RecordType::SRV, Vec::new());
    message.add_additional(a("db.acme.test", "10.0.0.1"));
    let answer = read_for(&["db.acme.test"], &message).unwrap();
    assert_eq!(protects(&answer), pairs(&[("db.acme.test", "10.0.0.1")]));
}

#[test]
fn names_that_protected_ones_lead_to_are_told() {
    let records = vec![
        cname("db.acme.test", "x.test"),
        cname("x.test", "y.test"),
        a("y.test", "10.0.0.1"),
    ];
    let answer = read_for(
        &["db.acme.test"],
        &answer_message("db.acme.test", RecordType::A, records),
    )
    .unwrap();
    let aliases: BTreeSet<&str> = answer.aliases.iter().map(|alias| alias.alias.as_str()).collect();
    assert_eq!(aliases, BTreeSet::from(["x.test", "y.test"]));
    assert!(
        answer
            .aliases
            .iter()
            .all(|alias| alias.name == DnsName::new("db.acme.test"))
    );
}

#[test]
fn every_address_is_told_under_the_name_that_was_asked_for() {
    let records = vec![cname("open.test", "x.test"), a("x.test", "10.0.0.1")];
    let answer = read_for(&[], &answer_message("Open.test", RecordType::A, records)).unwrap();
    assert_eq!(answer.told, [(ip("10.0.0.1"), DnsName::new("open.test"))]);
}

fn binding(target: &str, alpn: &[&str], ech: bool, more: Vec<(SvcParamKey, SvcParamValue)>) -> SVCB {
    let mut params = Vec::new();
    if !alpn.is_empty() {
        let alpn = alpn.iter().map(|protocol| (*protocol).to_owned()).collect();
        params.push((SvcParamKey::Alpn, SvcParamValue::Alpn(Alpn(alpn))));
    }
    if ech {
        params.push((
            SvcParamKey::EchConfigList,
            SvcParamValue::EchConfigList(EchConfigList(vec![1, 2, 3])),
        ));
    }
    params.extend(more);
    params.sort_by_key(|(key, _)| u16::from(*key));
    SVCB::new(1, wire(target), params)
}

fn https(name: &str, binding: SVCB) -> Record {
    record(name, 60, RData::HTTPS(HTTPS(binding)))
}

/// An RRSIG over records of `kind`; what follows its first two bytes does not matter here.
fn signature(name: &str, kind: RecordType) -> Record {
    let mut data = u16::from(kind).to_be_bytes().to_vec();
    data.extend([13, 2, 0, 0, 0, 60, 0, 0, 0, 1, 0, 0, 0, 0, 0, 7, 0, 1, 2, 3]);
    record(
        name,
        60,
        RData::Unknown {
            code: RecordType::RRSIG,
            rdata: NULL::with(data),
        },
    )
}

fn bindings(bytes: &[u8]) -> Vec<SVCB> {
    let message = Message::from_vec(bytes).unwrap();
    message
        .all_sections()
        .filter_map(|record| match &record.data {
            RData::HTTPS(binding) => Some(binding.0.clone()),
            RData::SVCB(binding) => Some(binding.clone()),
            _ => None,
        })
        .collect()
}

#[test]
fn what_leads_around_the_proxy_is_taken_out_of_a_protected_names_records() {
    let hints = || {
        vec![
            (SvcParamKey::Port, SvcParamValue::Port(8443)),
            (
                SvcParamKey::Ipv4Hint,
                SvcParamValue::Ipv4Hint(IpHint(vec![A("10.0.0.9".parse().unwrap())])),
            ),
        ]
    };
    let mandatory = |keys: &[SvcParamKey]| {
        (
            SvcParamKey::Mandatory,
            SvcParamValue::Mandatory(Mandatory(keys.to_vec())),
        )
    };
    let no_default = || (SvcParamKey::NoDefaultAlpn, SvcParamValue::NoDefaultAlpn);
    for (what, before, after) in [
        (
            "ech and h3",
            binding(".", &["h3", "h2", "h3-29"], true, hints()),
            binding(".", &["h2"], false, hints()),
        ),
        (
            "nothing but h3",
            binding(".", &["h3"], false, vec![no_default()]),
            binding(".", &[], false, Vec::new()),
        ),
        (
            "ech that is mandatory",
            binding(
                ".",
                &["h2"],
                true,
                vec![mandatory(&[SvcParamKey::Alpn, SvcParamKey::EchConfigList])],
            ),
            binding(".", &["h2"], false, vec![mandatory(&[SvcParamKey::Alpn])]),
        ),
        (
            "ech that alone is mandatory",
            binding(".", &["h2"], true, vec![mandatory(&[SvcParamKey::EchConfigList])]),
            binding(".", &["h2"], false, Vec::new()),
        ),
    ] {
        let mut message = answer_message(
            "www.acme.test",
            RecordType::HTTPS,
            vec![
                https("www.acme.test", before.clone()),
                signature("www.acme.test", RecordType::HTTPS),
                signature("www.acme.test", RecordType::A),
            ],
        );
        message.add_additional(record("www.acme.test", 60, RData::SVCB(before)));
        let answer = read_for(&["www.acme.test"], &message).unwrap();
        assert_eq!(bindings(&answer.bytes), [after.clone(), after], "{what}");
        let given = Message::from_vec(&answer.bytes).unwrap();
        assert!(!given.metadata.authentic_data, "{what}");
        // The signature of what was changed is gone, the other is not.
        assert_eq!(given.answers.len(), 2, "{what}");
        assert_eq!(given.metadata.id, 0x1234);
    }
}

#[test]
fn hints_are_addresses_and_targets_are_aliases() {
    let hints = vec![(
        SvcParamKey::Ipv4Hint,
        SvcParamValue::Ipv4Hint(IpHint(vec![A("10.0.0.9".parse().unwrap())])),
    )];
    let message = answer_message(
        "www.acme.test",
        RecordType::HTTPS,
        vec![https(
            "www.acme.test",
            binding("edge.test", &["h2"], false, hints),
        )],
    );
    let answer = read_for(&["www.acme.test"], &message).unwrap();
    assert_eq!(protects(&answer), pairs(&[("www.acme.test", "10.0.0.9")]));
    assert_eq!(answer.aliases[0].alias, DnsName::new("edge.test"));
    assert_eq!(
        answer.bytes,
        message.to_vec().unwrap(),
        "nothing had to be taken out"
    );
}

#[test]
fn records_of_other_names_keep_everything() {
    let records = vec![
        https("open.test", binding(".", &["h3", "h2"], true, Vec::new())),
        signature("open.test", RecordType::HTTPS),
    ];
    let message = answer_message("open.test", RecordType::HTTPS, records);
    let answer = read_for(&["www.acme.test"], &message).unwrap();
    assert_eq!(answer.bytes, message.to_vec().unwrap());
}

#[test]
fn what_does_not_answer_the_question_is_waited_past() {
    let right = answer_message("db.acme.test", RecordType::A, vec![a("db.acme.test", "10.0.0.1")]);
    let question = question("db.acme.test", RecordType::A);
    let judge = |change: &dyn Fn(&mut Message)| {
        let mut message = right.clone();
        change(&mut message);
        read(&question, &message.to_vec().unwrap(), |_| None).map(drop)
    };
    assert_eq!(judge(&|_| {}), Ok(()));
    for (what, change) in [
        (
            "another id",
            &(|m: &mut Message| m.metadata.id = 1) as &dyn Fn(&mut Message),
        ),
        ("a query", &|m| m.metadata.message_type = MessageType::Query),
        ("another operation", &|m| m.metadata.op_code = OpCode::Notify),
        ("another name", &|m| {
            m.queries[0].set_name(wire("evil.test"));
        }),
        ("another kind", &|m| {
            m.queries[0].set_query_type(RecordType::TXT);
        }),
        ("no question", &|m| m.queries.clear()),
    ] {
        assert_eq!(judge(change), Err(NoAnswer::Another), "{what}");
    }
    // A server that did not understand the query leaves it out.
    let error = |m: &mut Message| {
        m.queries.clear();
        m.answers.clear();
        m.metadata.response_code = ResponseCode::FormErr;
    };
    assert_eq!(judge(&error), Ok(()));
    let mut cut = right.to_vec().unwrap();
    cut.truncate(40);
    assert_eq!(read(&question, &cut, |_| None), Err(NoAnswer::Malformed));
}

#[test]
fn an_answer_that_is_cut_short_tells_what_it_has() {
    let mut message = answer_message("db.acme.test", RecordType::A, vec![a("db.acme.test", "10.0.0.1")]);
    message.metadata.truncation = true;
    let answer = read_for(&["db.acme.test"], &message).unwrap();
    assert_eq!(protects(&answer).len(), 1);
    assert!(Message::from_vec(&answer.bytes).unwrap().metadata.truncation);
}

/// Each link could be gone through once for every other: an answer of many must not cost the square of them.
#[test]
fn a_chain_in_reverse_that_no_resolver_follows_is_malformed() {
    let mut records: Vec<Record> = (0..100)
        .map(|number| cname(&format!("n{number}.test"), &format!("n{}.test", number + 1)))
        .collect();
    records.reverse();
    records.push(a("n100.test", "10.0.0.1"));
    let message = answer_message("n0.test", RecordType::A, records);
    assert_eq!(
        read_for(&["n0.test"], &message).map(drop),
        Err(NoAnswer::Malformed)
    );
    assert!(read_for(&["other.test"], &message).is_ok());
}
