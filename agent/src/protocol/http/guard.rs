//! Whether a request is for this connection, whatever version of HTTP it came in: what it names as its host has to be what the
//! connection was made for.

use http::header::HOST;
use http::request::Parts;
use http::uri::Authority;
use http::{Method, Version};

use crate::config::{Endpoint, EndpointHost};
use crate::model::Place;

/// For whom a connection is.
#[derive(Clone, Debug)]
pub(super) struct Names {
    /// The server that the client asked for in TLS.
    sni: Option<String>,
    /// Names that the service has on the port.
    known: Vec<String>,
    /// The address that the client dialled, without brackets.
    address: Option<String>,
    port: Option<u16>,
}

/// Why a request does not pass.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Misfit {
    /// It can be read in two ways, or in none.
    #[error("{0}")]
    Malformed(&'static str),
    /// It is for somebody else.
    #[error("{0}")]
    Misdirected(String),
}

impl Names {
    /// `endpoints`: of the service; `at`: what the client dialled.
    pub(super) fn of(endpoints: &[Endpoint], at: &Place) -> Self {
        let (address, port) = match at {
            Place::Network(at) => (Some(at.ip().to_canonical().to_string()), Some(at.port())),
            Place::Unix(_) => (None, None),
        };
        let on_port = |endpoint: &&Endpoint| port.is_none_or(|port| port == endpoint.port);
        let known = endpoints
            .iter()
            .filter(on_port)
            .filter_map(|endpoint| match &endpoint.host {
                EndpointHost::Name(name) => Some(name.clone()),
                EndpointHost::Net(_) => None,
            });
        Self {
            sni: None,
            known: known.collect(),
            address,
            port,
        }
    }

    /// The same for a client that asked for `sni`. `None`: the service has no such name here.
    pub(super) fn asked(mut self, sni: Option<&str>) -> Option<Self> {
        if let Some(sni) = sni {
            if !self.known.is_empty() && !self.known.iter().any(|known| same(known, sni)) {
                return None;
            }
            self.sni = Some(sni.to_owned());
        }
        Some(self)
    }

    /// Names that the service is known by, for clients that name none.
    pub(super) fn known(&self) -> &[String] {
        &self.known
    }

    /// Whether `parts` is a request for one of these.
    pub(super) fn fits(&self, parts: &Parts) -> Result<(), Misfit> {
        let mut hosts = parts.headers.get_all(HOST).iter();
        let host = hosts.next();
        if hosts.next().is_some() {
            return Err(Misfit::Malformed("it names two hosts"));
        }
        let host = host
            .map(|host| Authority::try_from(host.as_bytes()))
            .transpose()
            .map_err(|_| Misfit::Malformed("its host is no name"))?;
        let authority = parts.uri.authority();
        if let (Some(host), Some(authority)) = (&host, authority)
            && host != authority
        {
            return Err(Misfit::Malformed("its target and its host name two servers"));
        }
        let Some(named) = authority.or(host.as_ref()) else {
            // Only HTTP/1.0 lets it be left out.
            return if parts.version == Version::HTTP_10 && self.sni.is_none() {
                Ok(())
            } else {
                Err(Misfit::Malformed("it names no host"))
            };
        };
        if named.as_str().contains('@') {
            return Err(Misfit::Malformed("its host has a user in it"));
        }
        if parts.method == Method::CONNECT {
            // Where it wants to be connected to is judged.
            return Ok(());
        }
        if let (Some(port), Some(ours)) = (named.port(), self.port)
            && port.as_str().parse() != Ok(ours)
        {
            return Err(Misfit::Misdirected(format!(
                "it asks for port {port}, and its connection was made to port {ours}"
            )));
        }
        let name = named.host().trim_start_matches('[').trim_end_matches(']');
        let fits = match &self.sni {
            Some(sni) => same(sni, name),
            None => {
                self.known.is_empty()
                    || self.known.iter().any(|known| same(known, name))
                    || self.address.as_deref() == Some(name)
            }
        };
        if fits {
            return Ok(());
        }
        Err(Misfit::Misdirected(match &self.sni {
            Some(sni) => format!(
                "it asks for {}, and its connection was made for {sni}",
                shown(name)
            ),
            None => format!(
                "it asks for {}, and no service of the policy has this name here",
                shown(name)
            ),
        }))
    }
}

fn same(one: &str, other: &str) -> bool {
    let bare = |name: &str| name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    bare(one) == bare(other)
}

/// It comes from the client and goes to terminals.
fn shown(name: &str) -> String {
    name.chars().take(128).collect()
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::{Misfit, Names};
    use crate::config::{Endpoint, EndpointHost};
    use crate::model::Place;

    fn names(endpoints: &[&str], sni: Option<&str>) -> Option<Names> {
        let endpoints: Vec<Endpoint> = endpoints
            .iter()
            .map(|name| Endpoint {
                host: name
                    .parse()
                    .map_or_else(|_| EndpointHost::Name((*name).to_owned()), EndpointHost::Net),
                port: 443,
            })
            .collect();
        Names::of(&endpoints, &Place::Network("192.0.2.7:443".parse().unwrap())).asked(sni)
    }

    fn fits(names: &Names, target: &str, hosts: &[&str]) -> Result<(), Misfit> {
        let mut request = Request::builder().uri(target);
        for host in hosts {
            request = request.header("host", *host);
        }
        names.fits(&request.body(()).unwrap().into_parts().0)
    }

    #[test]
    fn a_request_is_for_the_name_that_its_connection_was_made_for() {
        let asked = names(&["api.acme.test", "www.acme.test"], Some("api.acme.test")).unwrap();
        for host in [
            "api.acme.test",
            "API.acme.test",
            "api.acme.test.",
            "api.acme.test:443",
        ] {
            assert_eq!(fits(&asked, "/", &[host]), Ok(()), "{host}");
        }
        for host in [
            "www.acme.test",
            "192.0.2.7",
            "api.acme.test:8443",
            "apixacme.test",
            "admin.acme.test",
        ] {
            assert!(
                matches!(fits(&asked, "/", &[host]), Err(Misfit::Misdirected(_))),
                "{host}"
            );
        }
        let nameless = names(&["api.acme.test"], None).unwrap();
        assert_eq!(fits(&nameless, "/", &["api.acme.test"]), Ok(()));
        assert_eq!(fits(&nameless, "/", &["192.0.2.7:443"]), Ok(()));
        assert!(matches!(
            fits(&nameless, "/", &["admin.acme.test"]),
            Err(Misfit::Misdirected(_))
        ));
        let network = names(&["192.0.2.0/24"], Some("any.acme.test")).unwrap();
        assert_eq!(fits(&network, "/", &["any.acme.test"]), Ok(()));
        assert!(matches!(
            fits(&network, "/", &["other.acme.test"]),
            Err(Misfit::Misdirected(_))
        ));
    }

    #[test]
    fn a_name_that_the_service_has_not_gets_no_connection() {
        assert!(names(&["api.acme.test"], Some("admin.acme.test")).is_none());
        assert!(names(&["api.acme.test"], Some("API.ACME.TEST")).is_some());
        assert!(names(&["192.0.2.0/24"], Some("admin.acme.test")).is_some());
    }

    #[test]
    fn what_names_two_servers_or_none_is_malformed() {
        let asked = names(&["api.acme.test"], Some("api.acme.test")).unwrap();
        assert_eq!(
            fits(&asked, "https://api.acme.test/x", &["api.acme.test"]),
            Ok(())
        );
        for (target, hosts) in [
            ("https://www.acme.test/x", &["api.acme.test"][..]),
            ("/", &["api.acme.test", "api.acme.test"]),
            ("/", &[]),
            ("/", &["user@api.acme.test"]),
            ("/", &["api.acme.test/x"]),
            ("/", &[""]),
        ] {
            assert!(
                matches!(fits(&asked, target, hosts), Err(Misfit::Malformed(_))),
                "{target} {hosts:?}"
            );
        }
    }
}
