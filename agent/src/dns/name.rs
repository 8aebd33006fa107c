//! Names of DNS as they are compared: without regard to case, without the final dot.

use std::fmt;
use std::sync::Arc;

use hickory_proto::rr::Name;

/// A name, lower case, labels joined by dots: `db.acme.test`; the root is empty. Bytes that are no letter, digit, `-` or
/// `_` stand as `\DDD` (RFC 1035 §5.1), so that a dot inside a label is not taken for one between two.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DnsName(Arc<str>);

impl DnsName {
    /// A name as a person writes it, such as that of a policy: case and a final dot do not matter.
    pub fn new(text: &str) -> Self {
        Self(text.trim_end_matches('.').to_ascii_lowercase().into())
    }

    /// The name as it is compared.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What is before the labels of `suffix`, if the name ends in them and has more.
    pub fn before(&self, suffix: &Self) -> Option<Self> {
        let rest = self.0.strip_suffix(&*suffix.0)?;
        let rest = if suffix.0.is_empty() {
            rest
        } else {
            rest.strip_suffix('.')?
        };
        (!rest.is_empty()).then(|| Self(rest.into()))
    }

    /// Whether the name begins with the labels of `prefix` and has more.
    pub fn begins_with(&self, prefix: &Self) -> bool {
        !prefix.0.is_empty()
            && self
                .0
                .strip_prefix(&*prefix.0)
                .is_some_and(|rest| rest.starts_with('.'))
    }

    /// The host that a name of a service is about: `_5432._tcp.db.acme.test` is about `db.acme.test` (RFC 2782, RFC 9460
    /// §2.3). At most two labels, of the form that service names and ports have (RFC 6335 §5.1).
    #[must_use]
    pub fn host(&self) -> Self {
        let mut rest = &*self.0;
        for _ in 0..2 {
            match rest.split_once('.') {
                Some((label, after)) if is_service_label(label) => rest = after,
                _ => break,
            }
        }
        Self(rest.into())
    }
}

fn is_service_label(label: &str) -> bool {
    label.strip_prefix('_').is_some_and(|name| {
        (1..=15).contains(&name.len())
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    })
}

impl From<&Name> for DnsName {
    fn from(name: &Name) -> Self {
        let mut text = String::with_capacity(name.len());
        for label in name {
            if !text.is_empty() {
                text.push('.');
            }
            for byte in label {
                match byte.to_ascii_lowercase() {
                    plain @ (b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_') => text.push(char::from(plain)),
                    other => {
                        text.push('\\');
                        for digit in [other / 100, other / 10 % 10, other % 10] {
                            text.push(char::from(b'0' + digit));
                        }
                    }
                }
            }
        }
        Self(text.into())
    }
}

impl fmt::Display for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "." } else { &self.0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_same_in_any_case() {
        let wire = Name::from_labels([&b"DB"[..], b"Acme", b"TEST"]).unwrap();
        assert_eq!(DnsName::from(&wire), DnsName::new("db.ACME.test."));
        assert_eq!(DnsName::from(&Name::root()), DnsName::new("."));
    }

    #[test]
    fn a_dot_in_a_label_is_no_end_of_it() {
        let trick = Name::from_labels([&b"db.acme"[..], b"test"]).unwrap();
        assert_eq!(DnsName::from(&trick).as_str(), "db\\046acme.test");
        assert_ne!(DnsName::from(&trick), DnsName::new("db.acme.test"));
    }

    #[test]
    fn suffixes_and_prefixes_are_whole_labels() {
        let name = DnsName::new("db.acme.test");
        assert_eq!(name.before(&DnsName::new("test")), Some(DnsName::new("db.acme")));
        assert_eq!(name.before(&DnsName::new(".")), Some(name.clone()));
        for no in ["cme.test", "db.acme.test", "x.db.acme.test"] {
            assert_eq!(name.before(&DnsName::new(no)), None, "{no}");
        }
        assert!(name.begins_with(&DnsName::new("db")));
        for no in ["d", "db.acme.test", ""] {
            assert!(!name.begins_with(&DnsName::new(no)), "{no}");
        }
    }

    #[test]
    fn a_services_name_is_about_its_host() {
        for (name, host) in [
            ("_5432._tcp.db.acme.test", "db.acme.test"),
            ("_8443._https.db.acme.test", "db.acme.test"),
            ("db.acme.test", "db.acme.test"),
            ("_a._b._c.db.acme.test", "_c.db.acme.test"),
            (
                "_much-too-long-for-a-service.db.acme.test",
                "_much-too-long-for-a-service.db.acme.test",
            ),
        ] {
            assert_eq!(DnsName::new(name).host(), DnsName::new(host));
        }
    }
}
