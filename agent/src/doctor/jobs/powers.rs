//! What gets a process around its policy, and what closes it.
//!
//! A new way is one line in [`POWERS`].

use std::collections::BTreeSet;
use std::fs;

use nix::unistd::{Uid, User};

use super::process::Process;

/// A way around.
pub(super) struct Power {
    /// What processes hold or reach.
    pub(super) what: &'static str,
    /// What they can do with it.
    pub(super) means: &'static str,
    /// What closes it.
    pub(super) closes: &'static str,
    /// Whether programs on security hooks close it.
    pub(super) closed_by_security_hooks: bool,
    /// Whether a process has it.
    pub(super) has: fn(&Process, &Host) -> bool,
}

/// What of the host matters for that.
pub(super) struct Host {
    /// Names of running programs.
    daemons: BTreeSet<String>,
}

impl Host {
    pub(super) fn look() -> Self {
        let daemons = super::process::all()
            .into_iter()
            .map(|process| process.name)
            .collect();
        Self { daemons }
    }

    fn runs(&self, names: &[&str]) -> bool {
        names.iter().any(|name| self.daemons.contains(*name))
    }
}

const fn capability(
    what: &'static str,
    means: &'static str,
    closed_by_security_hooks: bool,
    has: fn(&Process, &Host) -> bool,
) -> Power {
    Power {
        what,
        means,
        closes: "Run the job without root, or take it away: `CapabilityBoundingSet=` in its unit, `--cap-drop` for a container",
        closed_by_security_hooks,
        has,
    }
}

/// Numbers of capabilities: linux/capability.h.
pub(super) const POWERS: &[Power] = &[
    capability(
        "holds CAP_BPF",
        "It can detach programs and change their maps",
        true,
        |process, _| process.holds(39),
    ),
    capability(
        "holds CAP_SYS_ADMIN",
        "It can do what CAP_BPF can, mount the cgroup tree anew, and enter other namespaces",
        true,
        |process, _| process.holds(21),
    ),
    capability(
        "holds CAP_NET_ADMIN",
        "It can change routes and addresses, and so where a destination is",
        false,
        |process, _| process.holds(12),
    ),
    capability(
        "holds CAP_NET_RAW",
        "It can write packets of its own with packet sockets, which no cgroup program sees",
        true,
        |process, _| process.holds(13),
    ),
    capability(
        "holds CAP_SYS_PTRACE",
        "It can take connected sockets from processes outside, and have them connect for it",
        true,
        |process, _| process.holds(19),
    ),
    capability(
        "holds CAP_DAC_READ_SEARCH",
        "It can read any file, the secrets of the policies and the records among them",
        false,
        |process, _| process.holds(2),
    ),
    Power {
        what: "can write to the cgroup tree",
        means: "It can move itself out of its cgroup, through cgroup.procs",
        closes: "Run the job without root; `ProtectControlGroups=yes` in its unit, or a read-only /sys/fs/cgroup in its container",
        closed_by_security_hooks: true,
        has: |process, _| {
            process
                .writable_cgroup2
                .as_ref()
                .is_some_and(|mount| process.can_write(&mount.join("cgroup.procs").to_string_lossy()))
        },
    },
    Power {
        what: "reaches a container engine's socket",
        means: "It can start a container outside its cgroup that connects for it",
        closes: "Take its user out of the group that may use the socket (docker, podman), and do not mount it into its container",
        closed_by_security_hooks: false,
        has: |process, _| {
            [
                "/run/docker.sock",
                "/run/podman/podman.sock",
                "/run/containerd/containerd.sock",
                "/run/crio/crio.sock",
            ]
            .iter()
            .any(|socket| process.can_write(socket))
        },
    },
    Power {
        what: "can have systemd start units",
        means: "`systemd-run` starts what it likes outside its cgroup",
        closes: "Run the job without root; `InaccessiblePaths=/run/systemd/private /run/dbus` in its unit",
        closed_by_security_hooks: false,
        has: |process, host| {
            let reaches =
                process.can_write("/run/systemd/private") || process.can_write("/run/dbus/system_bus_socket");
            process.uid == 0 && host.runs(&["systemd"]) && reaches
        },
    },
    Power {
        what: "has a systemd of its user's own",
        means: "`systemd-run --user` starts what it likes outside its cgroup",
        closes: "`loginctl disable-linger` for its user, who should have no login; `InaccessiblePaths=/run/user` in its unit",
        closed_by_security_hooks: false,
        has: |process, _| {
            process.uid != 0
                && ["systemd/private", "bus"]
                    .iter()
                    .any(|socket| process.can_write(&format!("/run/user/{}/{socket}", process.uid)))
        },
    },
    Power {
        what: "may use cron",
        means: "cron runs what it likes outside its cgroup",
        closes: "Name its user in /etc/cron.deny, or those who may in /etc/cron.allow",
        closed_by_security_hooks: false,
        has: |process, host| {
            host.runs(&["cron", "crond"])
                && (process.can_write("/etc/cron.d") || allowed(process.uid, "cron", Unlisted::Allowed))
        },
    },
    Power {
        what: "may use at",
        means: "at runs what it likes outside its cgroup",
        closes: "Name its user in /etc/at.deny, or those who may in /etc/at.allow",
        closed_by_security_hooks: false,
        has: |process, host| host.runs(&["atd"]) && allowed(process.uid, "at", Unlisted::Refused),
    },
    Power {
        what: "can log in to this host over SSH",
        means: "`ssh localhost` runs what it likes outside its cgroup, if it has a key that is authorised",
        closes: "No authorized_keys for its user; `DenyUsers` in sshd_config",
        closed_by_security_hooks: false,
        has: |process, host| {
            let home = User::from_uid(Uid::from_raw(process.uid)).ok().flatten();
            host.runs(&["sshd"]) && home.is_some_and(|user| user.dir.join(".ssh/authorized_keys").exists())
        },
    },
];

/// Who may, where neither list is there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unlisted {
    Allowed,
    Refused,
}

/// crontab(1), at.allow(5): the allow-list counts alone if it is there, else the deny-list; root always may.
fn allowed(uid: u32, service: &str, unlisted: Unlisted) -> bool {
    let list = |kind: &str| fs::read_to_string(format!("/etc/{service}.{kind}")).ok();
    let name = User::from_uid(Uid::from_raw(uid))
        .ok()
        .flatten()
        .map(|user| user.name);
    judge(
        uid,
        name.as_deref(),
        list("allow").as_deref(),
        list("deny").as_deref(),
        unlisted,
    )
}

fn judge(uid: u32, name: Option<&str>, allow: Option<&str>, deny: Option<&str>, unlisted: Unlisted) -> bool {
    let names = |list: &str| list.lines().any(|line| Some(line.trim()) == name);
    match (uid, allow, deny) {
        (0, _, _) => true,
        (_, Some(allow), _) => names(allow),
        (_, None, Some(deny)) => name.is_some() && !names(deny),
        (_, None, None) => name.is_some() && unlisted == Unlisted::Allowed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_of_cron_and_at_are_read_as_they_read_them() {
        use Unlisted::{Allowed, Refused};
        let me = Some("ci");
        for (uid, allow, deny, unlisted, expected) in [
            (0, Some(""), None, Refused, true),
            (7, Some("ci\n"), Some("ci\n"), Refused, true),
            (7, Some("other\n"), None, Allowed, false),
            (7, None, Some("ci\n"), Allowed, false),
            (7, None, Some("other\n"), Refused, true),
            (7, None, None, Allowed, true),
            (7, None, None, Refused, false),
        ] {
            assert_eq!(
                judge(uid, me, allow, deny, unlisted),
                expected,
                "{uid} {allow:?} {deny:?}"
            );
        }
        assert!(
            !judge(7, None, None, None, Allowed),
            "cron knows users by their names"
        );
    }

    #[test]
    fn a_capability_is_a_way_around() {
        let host = Host {
            daemons: BTreeSet::new(),
        };
        let ways = |process: &Process| -> Vec<&str> {
            let powers = POWERS.iter().filter(|power| power.what.starts_with("holds"));
            powers
                .filter(|power| (power.has)(process, &host))
                .map(|power| power.what)
                .collect()
        };
        assert_eq!(ways(&Process::test(1, 1000, 0)), Vec::<&str>::new());
        assert_eq!(ways(&Process::test(1, 1000, 1 << 39)), ["holds CAP_BPF"]);
        assert_eq!(ways(&Process::test(1, 0, u64::MAX)).len(), 6);
    }
}
