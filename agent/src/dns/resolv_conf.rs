//! Which nameservers a system asks, and what it adds to names: resolv.conf(5).

use std::net::IpAddr;

use super::name::DnsName;

/// What matters here of a resolv.conf.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResolvConf {
    /// `nameserver`, in the order of the file; without the scope of link-local addresses.
    pub nameservers: Vec<IpAddr>,
    /// `search`, or `domain`: the last line of either stands.
    pub search: Vec<DnsName>,
}

/// Lines of one kind that are read: more than any resolver reads.
const MOST: usize = 32;

impl ResolvConf {
    /// Reads the text of the file; what is not understood is passed over, as resolvers do.
    pub fn parse(text: &str) -> Self {
        let mut conf = Self::default();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => {
                    let address = words
                        .next()
                        .and_then(|word| word.split('%').next()?.parse::<IpAddr>().ok());
                    conf.nameservers.extend(
                        address
                            .map(|address| address.to_canonical())
                            .filter(|_| conf.nameservers.len() < MOST),
                    );
                }
                Some("search" | "domain") => conf.search = words.take(MOST).map(DnsName::new).collect(),
                _ => {}
            }
        }
        // Without a line, the nameserver of the host itself is asked.
        if conf.nameservers.is_empty() {
            conf.nameservers.push(IpAddr::from([127, 0, 0, 1]));
        }
        conf
    }

    /// Whether this is one of the nameservers.
    pub fn names(&self, nameserver: IpAddr) -> bool {
        self.nameservers.contains(&effective(nameserver))
            || self
                .nameservers
                .iter()
                .any(|known| effective(*known) == effective(nameserver))
    }
}

/// The unspecified address means the host itself, when it is asked.
pub(super) fn effective(nameserver: IpAddr) -> IpAddr {
    match nameserver.to_canonical() {
        IpAddr::V4(v4) if v4.is_unspecified() => IpAddr::from([127, 0, 0, 1]),
        IpAddr::V6(v6) if v6.is_unspecified() => IpAddr::from(std::net::Ipv6Addr::LOCALHOST),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_that_matter_are_read() {
        let conf = ResolvConf::parse(
            "# comment\n\nnameserver 10.0.0.2\nnameserver\t::ffff:10.0.0.3 trailing\nnameserver fe80::1%eth0\n\
             nameserver nonsense\nsearch old.test\nsearch Corp.Test. acme.test\noptions ndots:5\n",
        );
        let wanted: Vec<IpAddr> = ["10.0.0.2", "10.0.0.3", "fe80::1"]
            .map(|text| text.parse().unwrap())
            .into();
        assert_eq!(conf.nameservers, wanted);
        assert_eq!(
            conf.search,
            [DnsName::new("corp.test"), DnsName::new("acme.test")]
        );
        assert!(conf.names("10.0.0.2".parse().unwrap()));
        assert!(!conf.names("10.0.0.4".parse().unwrap()));
    }

    #[test]
    fn without_nameserver_the_host_itself_is_asked() {
        let conf = ResolvConf::parse("");
        for asked in ["127.0.0.1", "0.0.0.0"] {
            assert!(conf.names(asked.parse().unwrap()), "{asked}");
        }
        assert!(ResolvConf::parse("nameserver 0.0.0.0").names("127.0.0.1".parse().unwrap()));
    }
}
