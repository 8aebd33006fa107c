//! Reading, judging and remembering, without a network.

mod answers;
mod arbitrary;
mod judging;
mod remembering;

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use super::{Question, ResolvConf, Terms, Views};
use crate::config::parse_policy;
use crate::model::PolicyId;
use crate::policy::PolicySet;

/// The number of the policy of [`terms`].
fn policy() -> PolicyId {
    PolicyId::of(&"job".into())
}

/// Terms of a policy with these names for a service, and this text for `[dns]`.
fn terms(egress: &str, names: &[&str], dns: &str) -> Option<Terms> {
    let addresses: Vec<String> = names.iter().map(|name| format!("\"{name}:5432\"")).collect();
    let text = format!(
        "[workload]\nname = \"job\"\ncgroup = [\"/job\"]\negress = \"{egress}\"\n{dns}\n\
         [[service]]\nname = \"db\"\nprotocol = \"opaque\"\naddress = [{}]\n",
        addresses.join(", ")
    );
    let doc = parse_policy(Path::new("/etc/p.d/job.toml"), &text).unwrap_or_else(|errors| panic!("{errors}"));
    let set = PolicySet::compile([Arc::new(doc)]);
    Terms::of(set.policies().first().unwrap())
}

fn conf(nameservers: &[&str], search: &[&str]) -> ResolvConf {
    ResolvConf {
        nameservers: nameservers.iter().map(|text| text.parse().unwrap()).collect(),
        search: search.iter().map(|text| super::DnsName::new(text)).collect(),
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn wire(name: &str) -> Name {
    Name::from_ascii(name).unwrap()
}

fn query_message(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(0x1234, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(wire(name), kind));
    message
}

fn with_edns(mut message: Message) -> Message {
    let mut edns = Edns::new();
    edns.set_max_payload(1400).set_dnssec_ok(true);
    message.set_edns(edns);
    message
}

fn question(name: &str, kind: RecordType) -> Question {
    Question::read(&query_message(name, kind).to_vec().unwrap()).unwrap()
}

fn record(name: &str, ttl: u32, data: RData) -> Record {
    let mut record = Record::from_rdata(wire(name), ttl, data);
    record.dns_class = DNSClass::IN;
    record
}

fn answer_message(name: &str, kind: RecordType, records: Vec<Record>) -> Message {
    let mut message = query_message(name, kind);
    message.metadata.message_type = MessageType::Response;
    message.metadata.authentic_data = true;
    message.insert_answers(records);
    message
}

fn views<'a>(host: &'a ResolvConf, own: Option<&'a ResolvConf>) -> Views<'a> {
    Views { host, own }
}
