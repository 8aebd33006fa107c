use hickory_proto::op::{Message, OpCode, ResponseCode};
use hickory_proto::rr::{DNSClass, RecordType};

use super::*;
use crate::dns::{DnsName, Refusal, Unreadable};

#[test]
fn a_policy_that_neither_names_nor_refuses_leaves_dns_alone() {
    assert!(terms("allow", &["10.0.0.1"], "").is_none());
    assert!(terms("allow", &["db.acme.test"], "").is_some());
    assert!(terms("deny", &["10.0.0.1"], "").is_some());
    assert!(terms("observe", &["10.0.0.1"], "").is_some());
}

#[test]
fn where_nothing_is_denied_a_query_is_asked_as_it_came() {
    let terms = terms("allow", &["db.acme.test"], "").unwrap();
    let host = conf(&["10.0.0.2"], &[]);
    for (name, kind) in [
        ("x.tunnel.test", RecordType::TXT),
        ("db.acme.test", RecordType::A),
    ] {
        let bytes = with_edns(query_message(name, kind)).to_vec().unwrap();
        let question = Question::read(&bytes).unwrap();
        let words = terms.judge(&question, &bytes, ip("192.0.2.9"), views(&host, None));
        assert_eq!(words, Ok(bytes));
    }
}

#[test]
fn where_egress_is_denied_only_some_names_are_asked_of_some_nameservers() {
    use Refusal::{Kind, Name, Nameserver};
    let terms = terms(
        "deny",
        &["db.acme.test", "short"],
        "[dns]\nallow = [\"*.debian.org\", \"**.cdn.test\", \"4.3.2.1.in-addr.arpa\"]",
    )
    .unwrap();
    let host = conf(&["10.0.0.2", "::1"], &["corp.test"]);
    let own = conf(&["10.0.0.3"], &["acme.test"]);
    for (nameserver, name, kind, expected) in [
        ("10.0.0.2", "db.acme.test", RecordType::A, Ok(())),
        ("10.0.0.2", "DB.Acme.Test", RecordType::AAAA, Ok(())),
        ("10.0.0.3", "db.acme.test", RecordType::A, Ok(())),
        ("::1", "db.acme.test", RecordType::HTTPS, Ok(())),
        ("::", "db.acme.test", RecordType::A, Ok(())),
        ("10.0.0.4", "db.acme.test", RecordType::A, Err(Nameserver)),
        ("10.0.0.2", "_5432._tcp.db.acme.test", RecordType::SRV, Ok(())),
        ("10.0.0.2", "db.acme.test", RecordType::TXT, Err(Kind)),
        ("10.0.0.2", "db.acme.test", RecordType::ANY, Err(Kind)),
        ("10.0.0.2", "db.acme.test", RecordType::NULL, Err(Kind)),
        // A short name with the suffixes of a search list, the host's or the workload's own.
        ("10.0.0.2", "short", RecordType::A, Ok(())),
        ("10.0.0.2", "short.corp.test", RecordType::A, Ok(())),
        ("10.0.0.2", "short.acme.test", RecordType::A, Ok(())),
        ("10.0.0.2", "db.acme.test.corp.test", RecordType::A, Ok(())),
        ("10.0.0.2", "short.other.test", RecordType::A, Err(Name)),
        ("10.0.0.2", "data.db.acme.test", RecordType::A, Err(Name)),
        ("10.0.0.2", "secret.tunnel.test", RecordType::TXT, Err(Name)),
        ("10.0.0.2", "deb.debian.org", RecordType::A, Ok(())),
        ("10.0.0.2", "debian.org", RecordType::A, Err(Name)),
        ("10.0.0.2", "a.deb.debian.org", RecordType::A, Err(Name)),
        ("10.0.0.2", "a.b.cdn.test", RecordType::A, Ok(())),
        ("10.0.0.2", "4.3.2.1.in-addr.arpa", RecordType::PTR, Ok(())),
        ("10.0.0.2", "5.3.2.1.in-addr.arpa", RecordType::PTR, Err(Name)),
    ] {
        let bytes = query_message(name, kind).to_vec().unwrap();
        let question = Question::read(&bytes).unwrap();
        let judged = terms.judge(&question, &bytes, ip(nameserver), views(&host, Some(&own)));
        assert_eq!(judged.map(drop), expected, "{name} {kind} of {nameserver}");
    }
}

/// `mode` is about commands; connections to what no service names are refused in it as well.
#[test]
fn observe_mode_opens_no_way_out() {
    let terms = terms("deny\"\nmode = \"observe", &["db.acme.test"], "").unwrap();
    let host = conf(&["10.0.0.2"], &[]);
    let bytes = query_message("secret.tunnel.test", RecordType::TXT)
        .to_vec()
        .unwrap();
    let question = Question::read(&bytes).unwrap();
    let judged = terms.judge(&question, &bytes, ip("10.0.0.2"), views(&host, None));
    assert_eq!(judged, Err(Refusal::Name));
}

#[test]
fn nameservers_that_a_policy_names_are_the_only_ones() {
    let terms = terms("deny", &["db.acme.test"], "[dns]\nresolvers = [\"10.0.0.9\"]").unwrap();
    let host = conf(&["10.0.0.2"], &[]);
    let bytes = query_message("db.acme.test", RecordType::A).to_vec().unwrap();
    let question = Question::read(&bytes).unwrap();
    let judge = |at: &str| {
        terms
            .judge(&question, &bytes, ip(at), views(&host, None))
            .map(drop)
    };
    assert_eq!(judge("10.0.0.9"), Ok(()));
    assert_eq!(judge("::ffff:10.0.0.9"), Ok(()));
    assert_eq!(judge("10.0.0.2"), Err(Refusal::Nameserver));
    assert!(terms.trusts(ip("10.0.0.9"), &host) && terms.trusts(ip("10.0.0.2"), &host));
    assert!(!terms.trusts(ip("10.0.0.3"), &host));
}

#[test]
fn what_is_no_ordinary_question_is_refused() {
    let terms = terms("deny", &["db.acme.test"], "").unwrap();
    let host = conf(&["10.0.0.2"], &[]);
    let mut update = query_message("db.acme.test", RecordType::SOA);
    update.metadata.op_code = OpCode::Update;
    let mut two = query_message("db.acme.test", RecordType::A);
    two.add_query(two.queries[0].clone());
    let mut chaos = query_message("db.acme.test", RecordType::A);
    chaos.queries[0].set_query_class(DNSClass::CH);
    for message in [update, two, chaos] {
        let bytes = message.to_vec().unwrap();
        let question = Question::read(&bytes).unwrap();
        let judged = terms.judge(&question, &bytes, ip("10.0.0.2"), views(&host, None));
        assert_eq!(judged, Err(Refusal::Form));
    }
}

/// What a workload writes into a query besides the question does not leave the host.
#[test]
fn a_query_is_asked_anew_without_what_does_not_belong_in_it() {
    let terms = terms("deny", &["db.acme.test"], "").unwrap();
    let host = conf(&["10.0.0.2"], &[]);
    let mut message = with_edns(query_message("dB.aCmE.tEsT", RecordType::A));
    let secret = hickory_proto::rr::rdata::opt::EdnsOption::Unknown(65001, b"secret".to_vec());
    message.edns.as_mut().unwrap().options_mut().insert(secret);
    message.add_additional(record("secret.test", 1, RData::A("192.0.2.1".parse().unwrap())));
    message.metadata.checking_disabled = true;
    let mut bytes = message.to_vec().unwrap();
    bytes.extend(b"secret at the end");
    let question = Question::read(&bytes).unwrap();
    let words = terms
        .judge(&question, &bytes, ip("10.0.0.2"), views(&host, None))
        .unwrap();
    assert!(!words.windows(6).any(|window| window == b"secret"), "{words:?}");
    // The spelling stays: resolvers that guard against spoofing compare it.
    assert!(words.windows(5).any(|window| window == b"\x04aCmE"));
    let asked = Message::from_vec(&words).unwrap();
    assert_eq!(asked.metadata.id, 0x1234);
    assert!(asked.metadata.recursion_desired && asked.metadata.checking_disabled);
    assert!(asked.additionals.is_empty());
    let edns = asked.edns.unwrap();
    assert_eq!((edns.max_payload(), edns.flags().dnssec_ok), (1400, true));
    assert!(edns.options().as_ref().is_empty());
    // Without EDNS none is added: an old server would not answer.
    let plain = question_of("db.acme.test").bare();
    assert!(Message::from_vec(&plain).unwrap().edns.is_none());
}

fn question_of(name: &str) -> Question {
    question(name, RecordType::A)
}

#[test]
fn a_refusal_says_why_and_repeats_the_question() {
    let bytes = with_edns(query_message("Secret.Tunnel.Test", RecordType::TXT))
        .to_vec()
        .unwrap();
    let question = Question::read(&bytes).unwrap();
    let refusal = Refusal::Name;
    let rcode = refusal.rcode(question.asked.as_ref());
    let reply = question.refusal(rcode, Some((refusal.extended(), "policy job says so")));
    let message = Message::from_vec(&reply).unwrap();
    assert_eq!(message.metadata.response_code, ResponseCode::Refused);
    assert_eq!(message.metadata.id, 0x1234);
    assert!(message.metadata.recursion_desired && message.metadata.recursion_available);
    assert_eq!(message.queries[0].name().to_ascii(), "Secret.Tunnel.Test.");
    // OPTION-CODE 15, INFO-CODE 17 (RFC 8914 §2, §4.18).
    let option = [&[0, 15, 0, 20, 0, 17][..], b"policy job says so"].concat();
    assert!(reply.windows(option.len()).any(|window| window == option));
    let plain = question_of("x.test").refusal(5, Some((17, "no room")));
    assert!(Message::from_vec(&plain).unwrap().edns.is_none());
}

#[test]
fn a_name_that_may_not_be_asked_for_does_not_exist_and_other_refusals_are_refusals() {
    let rcode = |refusal: Refusal, kind| refusal.rcode(question("x.test", kind).asked.as_ref());
    for kind in [RecordType::A, RecordType::AAAA, RecordType::HTTPS] {
        assert_eq!(rcode(Refusal::Name, kind), 3, "{kind}");
        assert_eq!(rcode(Refusal::Nameserver, kind), 5, "{kind}");
    }
    assert_eq!(rcode(Refusal::Name, RecordType::TXT), 5);
    assert_eq!(Refusal::Form.rcode(None), 5);
}

#[test]
fn what_is_no_query_gets_no_answer() {
    let answer = answer_message("x.test", RecordType::A, Vec::new())
        .to_vec()
        .unwrap();
    for bytes in [&b""[..], &[0; 11], &answer] {
        assert_eq!(Question::read(bytes).unwrap_err(), Unreadable::NoQuery);
    }
    let mut cut = query_message("x.test", RecordType::A).to_vec().unwrap();
    cut.truncate(15);
    assert_eq!(Question::read(&cut).unwrap_err(), Unreadable::Malformed(0x1234));
}

#[test]
fn a_protected_name_is_known_by_its_short_forms_and_its_services() {
    let terms = terms("allow", &["db.acme.test", "db"], "").unwrap();
    let host = conf(&["10.0.0.2"], &["corp.test"]);
    for (name, expected) in [
        ("db.acme.test", Some("db.acme.test")),
        ("_8443._https.db.acme.test", Some("db.acme.test")),
        ("db.corp.test", Some("db")),
        ("db.other.test", None),
        ("acme.test", None),
    ] {
        let found = terms
            .protected(&DnsName::new(name), views(&host, None))
            .map(DnsName::as_str);
        assert_eq!(found, expected, "{name}");
    }
}
