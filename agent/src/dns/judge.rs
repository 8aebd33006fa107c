//! Whether a workload's query is asked, and in which words.
//!
//! Which answer a refusal is, was found out with real resolvers. A nameserver that a workload may not ask says REFUSED:
//! glibc then asks the next one, and musl, which asks all at once, goes on waiting for the others; NXDOMAIN would have
//! won that race. A name that it may not ask for does not exist, NXDOMAIN: glibc and musl then go on with the next suffix
//! of their search list and fail at once after the last, whereas REFUSED ends glibc's search, and lets musl wait for
//! five seconds. Questions that no stub resolver asks for a connection (TXT, ANY, …) are REFUSED.

use std::collections::BTreeSet;
use std::net::IpAddr;

use hickory_proto::op::OpCode;
use hickory_proto::rr::{DNSClass, RecordType};

use super::name::DnsName;
use super::question::{Asked, Question};
use super::resolv_conf::{ResolvConf, effective};
use crate::config::{Egress, EndpointHost, Glob};
use crate::model::{PolicyId, WorkloadName};
use crate::policy::WorkloadPolicy;

/// What a policy says about DNS.
#[derive(Debug)]
pub struct Terms {
    /// The policy's number.
    pub policy: PolicyId,
    /// Whose it is.
    pub workload: WorkloadName,
    /// Whether only some nameservers and names may be asked (`egress = "deny"`).
    strict: bool,
    names: BTreeSet<DnsName>,
    allowed: Vec<Glob>,
    resolvers: Option<Vec<IpAddr>>,
}

/// Where the one who asks stands: which nameservers its system would ask, and what it adds to names.
#[derive(Clone, Copy, Debug)]
pub struct Views<'a> {
    /// The host's own.
    pub host: &'a ResolvConf,
    /// The workload's, where it can be believed.
    pub own: Option<&'a ResolvConf>,
}

/// Why a query is not asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The nameserver is none of the configured.
    #[error("this nameserver is none of those that the policy lets it ask")]
    Nameserver,
    /// The name is in no service and no allow-list.
    #[error("no service and no allow-list of its policy has this name")]
    Name,
    /// The name may be asked for, but not this.
    #[error("its policy lets it ask for addresses alone")]
    Kind,
    /// No ordinary question.
    #[error("it is no question that its policy lets it ask")]
    Form,
}

const REFUSED: u8 = 5;
const NXDOMAIN: u8 = 3;

impl Refusal {
    /// RCODE of the answer (RFC 1035 §4.1.1).
    pub fn rcode(self, asked: Option<&Asked>) -> u8 {
        match (self, asked) {
            (Self::Name, Some(asked)) if asked.is_for_a_connection() => NXDOMAIN,
            _ => REFUSED,
        }
    }

    /// INFO-CODE of the extended error (RFC 8914 §4.16, §4.18).
    pub fn extended(self) -> u16 {
        const BLOCKED: u16 = 15;
        const FILTERED: u16 = 17;
        match self {
            Self::Nameserver => BLOCKED,
            Self::Name | Self::Kind | Self::Form => FILTERED,
        }
    }
}

impl Asked {
    /// Whether resolvers ask this to connect.
    fn is_for_a_connection(&self) -> bool {
        matches!(
            self.kind,
            RecordType::A | RecordType::AAAA | RecordType::HTTPS | RecordType::SVCB
        )
    }
}

impl Terms {
    /// What `policy` says; `None` if the workload's DNS is nothing to it.
    pub fn of(policy: &WorkloadPolicy) -> Option<Self> {
        let names: BTreeSet<DnsName> = policy
            .services
            .iter()
            .flat_map(|service| &service.doc.addresses)
            .filter_map(|endpoint| match &endpoint.host {
                EndpointHost::Name(name) => Some(DnsName::new(name)),
                EndpointHost::Net(_) => None,
            })
            .collect();
        let workload = &policy.doc.workload;
        if names.is_empty() && workload.egress == Egress::Allow {
            return None;
        }
        let dns = &policy.doc.dns;
        Some(Self {
            policy: policy.id,
            workload: workload.name.clone(),
            strict: workload.egress == Egress::Deny,
            names,
            allowed: dns
                .allow
                .iter()
                .filter_map(|glob| Glob::path(&as_levels(glob)).ok())
                .collect(),
            resolvers: (!dns.resolvers.is_empty()).then(|| dns.resolvers.clone()),
        })
    }

    /// The words in which the query is asked, or why it is not. Where only some names may be asked for, a query is asked
    /// anew in the agent's words, so that nothing else in it leaves.
    pub fn judge(
        &self,
        question: &Question,
        original: &[u8],
        nameserver: IpAddr,
        views: Views<'_>,
    ) -> Result<Vec<u8>, Refusal> {
        if !self.strict {
            return Ok(original.to_vec());
        }
        if !self.may_ask(nameserver, views) {
            return Err(Refusal::Nameserver);
        }
        let asked = match &question.asked {
            Some(asked) if question.op_code == OpCode::Query && asked.class == DNSClass::IN => asked,
            _ => return Err(Refusal::Form),
        };
        if self.protected(&asked.name, views).is_none() && !self.allows(&asked.name) {
            return Err(Refusal::Name);
        }
        let sensible = asked.is_for_a_connection()
            || matches!(asked.kind, RecordType::CNAME | RecordType::SRV | RecordType::PTR);
        if !sensible {
            return Err(Refusal::Kind);
        }
        Ok(question.bare())
    }

    /// The name of the policy that `name` is, by itself or with a suffix of a search list: whoever asks for `db` in a
    /// system that searches `acme.test` asks for `db.acme.test`, and means what the policy calls `db`.
    pub fn protected(&self, name: &DnsName, views: Views<'_>) -> Option<&DnsName> {
        let host = name.host();
        if let Some(known) = self.names.get(&host) {
            return Some(known);
        }
        let suffixes = views
            .own
            .iter()
            .chain([&views.host])
            .flat_map(|view| &view.search);
        for suffix in suffixes {
            if let Some(known) = host.before(suffix).and_then(|short| self.names.get(&short)) {
                return Some(known);
            }
        }
        None
    }

    /// Whether the answers of `nameserver`, asked from the host's own network namespace, are to be believed as much as
    /// those to the agent itself.
    pub fn trusts(&self, nameserver: IpAddr, host: &ResolvConf) -> bool {
        host.names(nameserver)
            || self
                .resolvers
                .as_ref()
                .is_some_and(|resolvers| has(resolvers, nameserver))
    }

    fn may_ask(&self, nameserver: IpAddr, views: Views<'_>) -> bool {
        match &self.resolvers {
            Some(resolvers) => has(resolvers, nameserver),
            None => views.host.names(nameserver) || views.own.is_some_and(|own| own.names(nameserver)),
        }
    }

    fn allows(&self, name: &DnsName) -> bool {
        let host = name.host();
        self.allowed
            .iter()
            .any(|glob| glob.matches(&as_levels(host.as_str())))
    }
}

fn has(resolvers: &[IpAddr], nameserver: IpAddr) -> bool {
    resolvers
        .iter()
        .any(|resolver| effective(*resolver) == effective(nameserver))
}

/// Globs of names go by label as those of paths go by level.
fn as_levels(name: &str) -> String {
    name.replace('.', "/")
}
