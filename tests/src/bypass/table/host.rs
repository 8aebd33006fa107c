//! Work handed to somebody on this host who is not managed.

use super::super::vector::Outcome::{Open, Proxied, Stopped};
use super::super::vector::Vector;
use super::by;

/// The first kernel with programs on connections to unix sockets.
const UNIX: (u32, u32) = (6, 7);
const NO_UNIX: &str = "kernels before 6.7 have no programs on connections to unix sockets";
const NO_PERMISSION: &str =
    "no permission on the socket for the job's user; `InaccessiblePaths=/run/postgresql`";

const SOMEBODY_ELSE: &str =
    "whoever does the work is not managed, and is asked for it in a way that is not Tollgate's to judge";

pub(super) const VECTORS: &[Vector] = &[
    Vector::new(
        "host/unix_socket",
        "the unix socket that a service has on its own host",
        Proxied,
    )
    .before(UNIX, Open, Stopped(by::SECURITY))
    .because(NO_UNIX, NO_PERMISSION),
    Vector::new(
        "host/unix_spelling",
        "the same by another spelling of its path",
        Stopped(by::UNIX),
    )
    .before(UNIX, Open, Stopped(by::SECURITY))
    .because(NO_UNIX, NO_PERMISSION),
    Vector::open(
        "host/unix_link",
        "the same by a symbolic link of another name",
        "programs on cgroups see the path that is asked for, and not where it leads",
        NO_PERMISSION,
    )
    .with_lsm(Stopped(by::SECURITY)),
    Vector::open(
        "host/ssh_localhost",
        "`ssh localhost`, with a key that lets it in",
        SOMEBODY_ELSE,
        "name `127.0.0.1:22` as a service, or `egress = \"deny\"`; no keys in the job's reach",
    )
    .needs("an SSH server"),
    Vector::open(
        "host/ssh_jump",
        "a host that may be reached by ssh, as a way to one that may not (`ProxyJump`)",
        "to the network it is a connection to the ssh server alone",
        "name the ssh server as a service; `AllowTcpForwarding no` there",
    )
    .needs("an SSH server"),
    Vector::open(
        "host/container_engine",
        "a container on the host's network, by docker.sock",
        SOMEBODY_ELSE,
        "keep the job's user out of the group `docker`; `InaccessiblePaths=/run/docker.sock /run/podman`",
    )
    .needs("podman or docker"),
    Vector::open("host/at", "`at now`", SOMEBODY_ELSE, "the job's user in `/etc/at.deny`").needs("at"),
    Vector::open(
        "host/cron",
        "a line in its crontab, which runs unmanaged",
        SOMEBODY_ELSE,
        "the job's user in `/etc/cron.deny`; for root `ProtectSystem=strict`, `InaccessiblePaths=/var/spool/cron`",
    )
    .needs("cron"),
    Vector::open(
        "host/systemd_run",
        "`systemd-run`: a unit of its own, asked for over D-Bus",
        SOMEBODY_ELSE,
        "run jobs without root; `InaccessiblePaths=/run/dbus /run/systemd/private`",
    )
    .root_only("the right to start units (polkit)")
    .needs("systemd as the first process"),
    Vector::open(
        "host/systemd_bus",
        "the same by a call of D-Bus alone: `StartTransientUnit`",
        SOMEBODY_ELSE,
        "run jobs without root; `InaccessiblePaths=/run/dbus /run/systemd/private`",
    )
    .root_only("the right to start units (polkit)")
    .needs("systemd as the first process"),
    Vector::open(
        "host/systemd_of_user",
        "`systemd-run --user`: a unit of the user's own systemd",
        SOMEBODY_ELSE,
        "users of jobs without lingering or login: `loginctl disable-linger`, a shell of `/usr/sbin/nologin`",
    )
    .needs("systemd as the first process, with managers for users"),
    Vector::open(
        "host/terminal",
        "typing into the terminal that it shares with a shell (`TIOCSTI`)",
        SOMEBODY_ELSE,
        "start jobs without a terminal, as systemd does; `dev.tty.legacy_tiocsti = 0` from Linux 6.2 on",
    )
    .needs("TIOCSTI, switched on"),
    Vector::open(
        "host/core_pattern",
        "a program that the kernel starts when a process crashes",
        "the kernel starts it outside of every managed cgroup",
        "run jobs without root; `ProtectKernelTunables=yes`",
    )
    .root_only("the right to write to /proc/sys"),
];
