//! What a nameserver answers, read before the workload reads it: whether it is the answer, which addresses it gives to
//! names that are protected, and what has to be taken out of it.
//!
//! Taken out are, of the HTTPS and SVCB records of protected names, `ech` and the `h3` protocols (RFC 9460, RFC 9848):
//! a client that followed them would hide from the proxy whom it speaks to, or come by QUIC, which is refused. The
//! signatures over such records go with them, and so does the AD bit; a workload that validates DNSSEC by itself takes
//! the record for bogus then and does without it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::SVCB;
use hickory_proto::rr::rdata::svcb::{SvcParamKey, SvcParamValue};
use hickory_proto::rr::{RData, Record, RecordType};

use super::name::DnsName;
use super::question::Question;

/// An answer, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What the workload is given: the bytes as they came, unless something had to be taken out.
    pub bytes: Vec<u8>,
    /// Addresses of protected names.
    pub protect: Vec<Told>,
    /// Other names that protected names lead to. Whoever asks for them asks for the protected ones.
    pub aliases: Vec<Alias>,
    /// Every address, and the name that was asked for.
    pub told: Vec<(IpAddr, DnsName)>,
}

/// An address that a protected name has.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Told {
    /// The name, as the policy has it.
    pub name: DnsName,
    /// The address; never a v4-mapped one.
    pub address: IpAddr,
    /// How long it stands, seconds.
    pub ttl: u32,
}

/// A name that a protected one leads to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Alias {
    /// The protected name, as the policy has it.
    pub name: DnsName,
    /// Where it leads to.
    pub alias: DnsName,
    /// How long that stands, seconds.
    pub ttl: u32,
}

/// Why a datagram or message is not given to the workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    /// It answers another query; the right answer may still come.
    #[error("it answers another query")]
    Another,
    /// It cannot be read.
    #[error("it is malformed")]
    Malformed,
}

/// Reads an answer to `question`. `protected` gives the policy's name of a name that is protected.
pub fn read(
    question: &Question,
    bytes: &[u8],
    protected: impl Fn(&DnsName) -> Option<DnsName>,
) -> Result<Answer, NoAnswer> {
    match bytes {
        [high, low, ..] if u16::from_be_bytes([*high, *low]) == question.id => {}
        _ => return Err(NoAnswer::Another),
    }
    let mut message = Message::from_vec(bytes).map_err(|_| NoAnswer::Malformed)?;
    if !is_to(question, &message) {
        return Err(NoAnswer::Another);
    }
    if question.op_code != OpCode::Query {
        return Ok(Answer {
            bytes: bytes.to_vec(),
            protect: Vec::new(),
            aliases: Vec::new(),
            told: Vec::new(),
        });
    }
    let whose = Whose::find(&message, protected)?;
    let mut answer = Answer {
        protect: whose.protect(&message),
        aliases: whose.aliases(&message),
        told: told(question, &message),
        bytes: Vec::new(),
    };
    answer.bytes = if strip(&mut message, &whose) {
        message.to_vec().map_err(|_| NoAnswer::Malformed)?
    } else {
        bytes.to_vec()
    };
    Ok(answer)
}

/// Whether it is an answer, and to this question. Servers that do not understand a query may leave the question out.
fn is_to(question: &Question, message: &Message) -> bool {
    if message.metadata.message_type != MessageType::Response || message.metadata.op_code != question.op_code
    {
        return false;
    }
    match (&question.asked, message.queries.as_slice()) {
        (Some(asked), [query]) => {
            DnsName::from(query.name()) == asked.name
                && query.query_type() == asked.kind
                && query.query_class() == asked.class
        }
        (_, []) => {
            question.op_code != OpCode::Query
                || (message.metadata.response_code != ResponseCode::NoError && message.answers.is_empty())
        }
        (None, _) => true,
        (Some(_), _) => false,
    }
}

/// Which protected names each name in an answer belongs to: by itself, or because they lead to it.
struct Whose {
    whose: BTreeMap<DnsName, BTreeSet<DnsName>>,
    /// Those that were asked for. musl takes every address in an answer for theirs, whatever name the record has.
    asked: BTreeSet<DnsName>,
}

/// How often chains are gone through.
const MOST_ROUNDS: usize = 16;

impl Whose {
    fn find(message: &Message, protected: impl Fn(&DnsName) -> Option<DnsName>) -> Result<Self, NoAnswer> {
        let mut leads: Vec<(DnsName, DnsName)> = Vec::new();
        let mut names: BTreeSet<DnsName> = message.queries.iter().map(|query| query.name().into()).collect();
        for record in message.all_sections() {
            let owner = DnsName::from(&record.name);
            if let Some(target) = leads_to(record) {
                names.insert(target.clone());
                leads.push((owner.clone(), target));
            }
            names.insert(owner);
        }
        let mut whose: BTreeMap<DnsName, BTreeSet<DnsName>> = BTreeMap::new();
        for name in names {
            if let Some(known) = protected(&name) {
                whose.entry(name).or_default().insert(known);
            }
        }
        // A chain in its order is followed in one round; no resolver follows one that takes many. A round in which nothing
        // is new is the last.
        for _ in 0..MOST_ROUNDS {
            let mut changed = false;
            for (owner, target) in &leads {
                let Some(of_owner) = whose.get(owner).cloned() else {
                    continue;
                };
                let of_target = whose.entry(target.clone()).or_default();
                let before = of_target.len();
                of_target.extend(of_owner);
                changed |= of_target.len() != before;
            }
            if !changed {
                let asked = message.queries.iter().map(|query| DnsName::from(query.name()));
                let asked = asked
                    .filter_map(|name| whose.get(&name))
                    .flatten()
                    .cloned()
                    .collect();
                return Ok(Self { whose, asked });
            }
        }
        Err(NoAnswer::Malformed)
    }

    fn of(&self, name: &DnsName) -> impl Iterator<Item = &DnsName> {
        self.whose.get(name).into_iter().flatten()
    }

    fn protect(&self, message: &Message) -> Vec<Told> {
        let mut protect = Vec::new();
        let answers = message.answers.iter().map(|record| (record, Some(&self.asked)));
        let others = message
            .authorities
            .iter()
            .chain(&message.additionals)
            .map(|record| (record, None));
        for (record, asked) in answers.chain(others) {
            let owner = DnsName::from(&record.name);
            let about = leads_to(record).unwrap_or_else(|| owner.clone());
            let asked = asked.into_iter().flatten();
            let names: BTreeSet<&DnsName> = self.of(&owner).chain(self.of(&about)).chain(asked).collect();
            for address in addresses(record) {
                protect.extend(names.iter().map(|name| Told {
                    name: (*name).clone(),
                    address,
                    ttl: record.ttl,
                }));
            }
        }
        protect
    }

    fn aliases(&self, message: &Message) -> Vec<Alias> {
        let mut aliases = Vec::new();
        for record in message.all_sections() {
            let Some(alias) = leads_to(record) else { continue };
            for name in self.of(&alias).filter(|name| **name != alias) {
                aliases.push(Alias {
                    name: name.clone(),
                    alias: alias.clone(),
                    ttl: record.ttl,
                });
            }
        }
        aliases
    }
}

/// The other name that a record sends its owner's clients to.
fn leads_to(record: &Record) -> Option<DnsName> {
    match &record.data {
        RData::CNAME(target) => Some(DnsName::from(&target.0)),
        _ => match service_binding(&record.data) {
            Some(binding) if !binding.target_name.is_root() => Some(DnsName::from(&binding.target_name)),
            _ => None,
        },
    }
}

fn service_binding(data: &RData) -> Option<&SVCB> {
    match data {
        RData::HTTPS(binding) => Some(&binding.0),
        RData::SVCB(binding) => Some(binding),
        _ => None,
    }
}

/// Addresses that a record gives, hints of service bindings too.
fn addresses(record: &Record) -> Vec<IpAddr> {
    match &record.data {
        RData::A(address) => vec![IpAddr::V4(address.0)],
        RData::AAAA(address) => vec![IpAddr::V6(address.0).to_canonical()],
        data => service_binding(data)
            .into_iter()
            .flat_map(|binding| &binding.svc_params)
            .flat_map(|(_, value)| match value {
                SvcParamValue::Ipv4Hint(hints) => {
                    hints.0.iter().map(|hint| IpAddr::V4(hint.0)).collect::<Vec<_>>()
                }
                SvcParamValue::Ipv6Hint(hints) => hints
                    .0
                    .iter()
                    .map(|hint| IpAddr::V6(hint.0).to_canonical())
                    .collect(),
                _ => Vec::new(),
            })
            .collect(),
    }
}

/// Every address in the answer section under the name that was asked for.
fn told(question: &Question, message: &Message) -> Vec<(IpAddr, DnsName)> {
    let Some(asked) = &question.asked else {
        return Vec::new();
    };
    message
        .answers
        .iter()
        .flat_map(addresses)
        .map(|address| (address, asked.name.clone()))
        .collect()
}

/// Takes out of the records of protected names what leads around the proxy. Whether anything was.
fn strip(message: &mut Message, whose: &Whose) -> bool {
    let mut changed: BTreeSet<(DnsName, u16)> = BTreeSet::new();
    let sections = [
        &mut message.answers,
        &mut message.authorities,
        &mut message.additionals,
    ];
    for records in sections {
        for record in records.iter_mut() {
            let owner = DnsName::from(&record.name);
            let leads_there = || leads_to(record).is_some_and(|to| whose.of(&to).next().is_some());
            if whose.asked.is_empty() && whose.of(&owner).next().is_none() && !leads_there() {
                continue;
            }
            let kind = u16::from(record.record_type());
            let binding = match &mut record.data {
                RData::HTTPS(binding) => &mut binding.0,
                RData::SVCB(binding) => binding,
                _ => continue,
            };
            if strip_binding(binding) {
                changed.insert((owner, kind));
            }
        }
    }
    if changed.is_empty() {
        return false;
    }
    let sections = [
        &mut message.answers,
        &mut message.authorities,
        &mut message.additionals,
    ];
    for records in sections {
        records.retain(|record| {
            signed_kind(record).is_none_or(|kind| !changed.contains(&(DnsName::from(&record.name), kind)))
        });
    }
    message.metadata.authentic_data = false;
    true
}

/// What an RRSIG signs: the first two bytes of its data (RFC 4034 §3.1).
fn signed_kind(record: &Record) -> Option<u16> {
    match &record.data {
        RData::Unknown {
            code: RecordType::RRSIG,
            rdata,
        } => match rdata.anything.as_slice() {
            [high, low, ..] => Some(u16::from_be_bytes([*high, *low])),
            _ => None,
        },
        _ => None,
    }
}

fn strip_binding(binding: &mut SVCB) -> bool {
    let before = binding.svc_params.clone();
    let params = &mut binding.svc_params;
    params.retain_mut(|(key, value)| match value {
        SvcParamValue::Alpn(protocols) => {
            protocols
                .0
                .retain(|protocol| protocol != "h3" && !protocol.starts_with("h3-"));
            !protocols.0.is_empty()
        }
        _ => *key != SvcParamKey::EchConfigList,
    });
    if *params == before {
        return false;
    }
    let has_alpn = params.iter().any(|(key, _)| *key == SvcParamKey::Alpn);
    // RFC 9460 §7.1.1: `no-default-alpn` has no meaning without `alpn`; §8: `mandatory` names keys that are there.
    params.retain(|(key, _)| has_alpn || *key != SvcParamKey::NoDefaultAlpn);
    let present: BTreeSet<u16> = params.iter().map(|(key, _)| u16::from(*key)).collect();
    params.retain_mut(|(_, value)| match value {
        SvcParamValue::Mandatory(mandatory) => {
            mandatory.0.retain(|key| present.contains(&u16::from(*key)));
            !mandatory.0.is_empty()
        }
        _ => true,
    });
    true
}
