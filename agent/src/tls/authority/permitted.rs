//! The names that an authority may vouch for (name constraints, RFC 5280 §4.2.1.10).
//!
//! A key that is stolen is then good for the names of this host's policies and for no other. Addresses are not constrained:
//! a client may dial a service by any address that its name has, and those change.

use std::collections::BTreeSet;

use rcgen::{GeneralSubtree, NameConstraints};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;

use crate::config::{ClientTls, Endpoint, EndpointHost, Protocol, ServiceDoc};

use super::super::LeafNames;

/// A certificate with more names than this is too large for some clients; the host's authority is not constrained then.
const MOST: usize = 256;

/// The names that an authority may vouch for. What is below a name is included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Permitted {
    /// Every name.
    Any,
    /// These, lower case; none: no name at all, addresses alone.
    Names(BTreeSet<String>),
}

impl Permitted {
    /// The names of the services that a client is shown a certificate for. [`Permitted::Any`] where they cannot be known: a
    /// service that is a network has whatever names its clients give it.
    pub fn of<'a>(services: impl IntoIterator<Item = &'a ServiceDoc>) -> Self {
        let mut names = BTreeSet::new();
        for service in services {
            let shown = match service.protocol {
                Protocol::Postgres => true,
                Protocol::Http => service.client_tls == ClientTls::Terminate,
                Protocol::Opaque => false,
            };
            if !shown {
                continue;
            }
            names.extend(
                service
                    .tls
                    .server_name
                    .iter()
                    .map(|name| name.to_ascii_lowercase()),
            );
            for Endpoint { host, .. } in &service.addresses {
                match host {
                    EndpointHost::Name(name) => {
                        names.insert(name.clone());
                    }
                    EndpointHost::Net(net) if net.addr().is_loopback() => {
                        names.insert("localhost".to_owned());
                    }
                    EndpointHost::Net(_) if service.tls.server_name.is_some() => {}
                    EndpointHost::Net(_) => return Self::Any,
                }
            }
        }
        if names.len() > MOST {
            return Self::Any;
        }
        Self::Names(names)
    }

    /// Whether all of `names` may be vouched for.
    pub(super) fn permits(&self, names: &LeafNames) -> bool {
        names.dns().iter().all(|name| self.has(name))
    }

    /// Whether everything that `other` permits is permitted.
    pub(super) fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, _) => true,
            (Self::Names(_), Self::Any) => false,
            (Self::Names(_), Self::Names(names)) => names.iter().all(|name| self.has(name)),
        }
    }

    fn has(&self, name: &str) -> bool {
        let Self::Names(permitted) = self else {
            return true;
        };
        let name = name.to_ascii_lowercase();
        let mut rest = Some(name.as_str());
        std::iter::from_fn(|| {
            let suffix = rest?;
            rest = suffix.split_once('.').map(|(_, above)| above);
            Some(suffix)
        })
        .any(|suffix| permitted.contains(suffix))
    }

    /// As it stands in a certificate.
    pub(super) fn constraints(&self) -> Option<NameConstraints> {
        let Self::Names(names) = self else {
            return None;
        };
        let names = names
            .iter()
            .cloned()
            .map(GeneralSubtree::DnsName)
            .collect::<Vec<_>>();
        Some(if names.is_empty() {
            // An empty list would permit everything.
            NameConstraints {
                permitted_subtrees: Vec::new(),
                excluded_subtrees: vec![GeneralSubtree::DnsName(String::new())],
            }
        } else {
            NameConstraints {
                permitted_subtrees: names,
                excluded_subtrees: Vec::new(),
            }
        })
    }

    /// As a certificate has it. `None`: it says something that this agent never writes.
    pub fn of_certificate(certificate: &X509Certificate<'_>) -> Option<Self> {
        let Some(found) = certificate.name_constraints().ok()? else {
            return Some(Self::Any);
        };
        let permitted = found.value.permitted_subtrees.iter().flatten();
        let names = permitted.map(|subtree| match subtree.base {
            GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
            _ => None,
        });
        names.collect::<Option<_>>().map(Self::Names)
    }
}

#[cfg(test)]
mod tests {
    use super::{LeafNames, Permitted};

    fn names(names: &[&str]) -> Permitted {
        Permitted::Names(names.iter().map(|name| (*name).to_owned()).collect())
    }

    #[test]
    fn a_name_and_what_is_below_it_is_permitted_and_nothing_that_only_looks_like_it() {
        let permitted = names(&["api.acme.test", "db.acme.test"]);
        for (name, expected) in [
            ("api.acme.test", true),
            ("v2.api.acme.test", true),
            ("API.acme.test", true),
            ("acme.test", false),
            ("evilapi.acme.test", false),
            ("api.acme.test.evil.test", false),
            ("test", false),
        ] {
            let asked = LeafNames::asked(Some(name), &[], [192, 0, 2, 1].into());
            assert_eq!(permitted.permits(&asked), expected, "{name}");
        }
        assert!(Permitted::Any.permits(&LeafNames::asked(Some("any.test"), &[], [192, 0, 2, 1].into())));
        let by_address = LeafNames::asked(None, &[], [192, 0, 2, 1].into());
        assert!(names(&[]).permits(&by_address));
    }

    #[test]
    fn what_covers_what() {
        let (few, more) = (names(&["a.test"]), names(&["a.test", "b.test"]));
        assert!(more.covers(&few) && !few.covers(&more));
        assert!(Permitted::Any.covers(&more) && !more.covers(&Permitted::Any));
        assert!(names(&["test"]).covers(&more));
    }
}
