//! The one table of the ways round: what the suite expects, and what `docs/threat-model.md` says.

mod agent;
mod host;
mod leave;
mod passed;
mod raw;
mod ring;
mod space;
mod tcp;
mod udp;

use super::vector::Vector;

/// Every vector, in the order of the threat model, by family.
pub const FAMILIES: &[(&str, &[Vector])] = &[
    ("TCP", tcp::VECTORS),
    ("UDP, DNS and ICMP", udp::VECTORS),
    ("Other sockets", raw::VECTORS),
    ("io_uring", ring::VECTORS),
    ("Sockets and processes from outside", passed::VECTORS),
    ("Other cgroups", leave::VECTORS),
    ("Work handed to somebody who is not managed", host::VECTORS),
    ("Namespaces, and the host's network", space::VECTORS),
    ("The agent itself", agent::VECTORS),
];

/// Every vector.
pub fn all() -> impl Iterator<Item = &'static Vector> {
    FAMILIES.iter().flat_map(|(_, vectors)| vectors.iter())
}

/// Programs that stop things, as the kernel side's events name them.
mod by {
    pub(super) const CONNECT: &[&str] = &["connect4/6"];
    pub(super) const DATAGRAM: &[&str] = &["sendmsg4/6"];
    pub(super) const DNS: &[&str] = &["the agent's DNS"];
    pub(super) const PACKET: &[&str] = &["cgroup_skb/egress"];
    /// Connections from before, by who is faster.
    pub(super) const EARLIER: &[&str] = &["sock_diag", "cgroup_skb/egress"];
    /// The same, where the security hooks may have been faster than both.
    pub(super) const EARLIER_OR_USED: &[&str] = &["lsm", "sock_diag", "cgroup_skb/egress"];
    pub(super) const SOCKET: &[&str] = &["sock_create"];
    pub(super) const BIND: &[&str] = &["bind4/6"];
    pub(super) const UNIX: &[&str] = &["connect_unix"];
    pub(super) const SECURITY: &[&str] = &["lsm"];
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::all;
    use crate::bypass::attacks;

    #[test]
    fn every_vector_has_a_name_of_its_own_and_a_reason_where_it_is_open() {
        let mut names = BTreeSet::new();
        for vector in all() {
            assert!(names.insert(vector.name), "{} stands twice", vector.name);
            assert_eq!(vector.is_open(), vector.hole.is_some(), "{}", vector.name);
        }
    }

    #[test]
    fn every_attack_that_is_written_is_run() {
        let tried: BTreeSet<&str> = all()
            .map(|vector| vector.name.trim_end_matches("_under_deny"))
            .collect();
        let mut written = BTreeSet::new();
        for file in std::fs::read_dir(attacks().join("ways")).unwrap() {
            let path = file.unwrap().path();
            if path.extension().is_none_or(|kind| kind != "py") {
                continue;
            }
            let family = path.file_stem().unwrap().to_str().unwrap();
            let text = std::fs::read_to_string(&path).unwrap();
            for (_, after) in text
                .match_indices("\n@way(")
                .map(|(at, mark)| text.split_at(at + mark.len()))
            {
                let (_, name) = after.split_once("\ndef ").unwrap();
                written.insert(format!("{family}/{}", name.split('(').next().unwrap()));
            }
        }
        let written: BTreeSet<&str> = written.iter().map(String::as_str).collect();
        assert_eq!(written, tried);
    }
}
