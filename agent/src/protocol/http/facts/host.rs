//! The host that a request is for.

use std::sync::Arc;

use http::HeaderMap;
use http::header::HOST;
use http::uri::{Authority, Uri};

/// Host and port as the request names them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Named {
    /// Lower case, without brackets and final dot.
    pub(super) host: Arc<str>,
    pub(super) port: Option<u16>,
    /// Why another server could be meant.
    pub(super) doubt: Option<&'static str>,
}

/// The host of the target and of every `Host` header, which have to be one.
pub(super) fn read(uri: &Uri, headers: &HeaderMap) -> Named {
    let mut named: Option<(String, Option<u16>)> = None;
    let mut doubt = None;
    let target = uri.authority().map(|authority| Some(authority.as_str()));
    let hosts = headers.get_all(HOST).iter().map(|value| value.to_str().ok());
    for text in target.into_iter().chain(hosts) {
        let Some(one) = text.and_then(parsed) else {
            doubt = Some("the host is no name and no address");
            continue;
        };
        match &named {
            Some(other) if *other != one => doubt = Some("the request names two hosts"),
            Some(_) => {}
            None => named = Some(one),
        }
    }
    let (host, port) = named.unwrap_or_default();
    if host.is_empty() {
        doubt.get_or_insert("the request names no host");
    }
    Named {
        host: host.into(),
        port,
        doubt,
    }
}

fn parsed(text: &str) -> Option<(String, Option<u16>)> {
    let authority: Authority = text.parse().ok()?;
    if authority.as_str().contains('@') {
        return None;
    }
    let port = match authority.port() {
        Some(port) => Some(port.as_str().parse().ok()?),
        None => None,
    };
    // `host:` has no port, and nobody means it.
    if port.is_none() && authority.as_str().ends_with(':') {
        return None;
    }
    let host = authority.host();
    let host = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    let spelt = host
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"-_.:".contains(&b));
    (spelt && !host.is_empty() && !host.contains("..")).then_some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(uri: &str, hosts: &[&str]) -> Named {
        let mut headers = HeaderMap::new();
        for host in hosts {
            headers.append(HOST, host.parse().unwrap());
        }
        read(&uri.parse().unwrap(), &headers)
    }

    #[test]
    fn one_host_has_one_name() {
        for (uri, hosts, host, port) in [
            ("/x", &["API.acme.test."][..], "api.acme.test", None),
            ("/x", &["api.acme.test:8443"], "api.acme.test", Some(8443)),
            ("http://a.test/x", &["A.test"], "a.test", None),
            ("/x", &["[::1]:80"], "::1", Some(80)),
            ("https://a.test:1/x", &[], "a.test", Some(1)),
        ] {
            let named = of(uri, hosts);
            assert_eq!(
                (&*named.host, named.port, named.doubt),
                (host, port, None),
                "{uri} {hosts:?}"
            );
        }
    }

    #[test]
    fn two_hosts_or_odd_ones_are_in_doubt() {
        for (uri, hosts) in [
            ("/x", &[][..]),
            ("/x", &["a.test", "b.test"]),
            ("http://a.test/x", &["b.test"]),
            ("http://a.test/x", &["a.test:81"]),
            ("/x", &["user@a.test"]),
            ("/x", &["a.test:"]),
            ("/x", &["a..test"]),
            ("/x", &["a.test/b"]),
            ("/x", &["a%2etest"]),
        ] {
            assert!(of(uri, hosts).doubt.is_some(), "{uri} {hosts:?}");
        }
    }
}
