//! What the host has to have, and which programs its kernel takes.

use std::fs;
use std::path::Path;

use super::{Check, Group, State};
use crate::kernel::cgroup2::Cgroup2;
use crate::kernel::{self, Hook, KernelError, Need, Trial, existing};

/// Each requirement of its own.
pub(super) fn requirements() -> Vec<Check> {
    let mut checks: Vec<Check> = kernel::survey_requirements()
        .into_iter()
        .map(|one| match one.found {
            Ok(found) => Check::new(Group::Host, one.what, State::Good, found),
            Err(error) => Check::new(Group::Host, one.what, State::Bad, "missing").advise(error.to_string()),
        })
        .collect();
    checks.push(bpffs());
    checks.push(security_hooks());
    checks.extend(unix_connect());
    checks.push(connections_from_before());
    checks
}

fn bpffs() -> Check {
    const USUAL: &str = "/sys/fs/bpf";
    let title = "a bpffs for pins";
    match kernel::is_bpffs(Path::new(USUAL)) {
        Ok(true) => Check::new(Group::Host, title, State::Good, format!("mounted at {USUAL}")),
        _ => Check::new(Group::Host, title, State::Warning, format!("none at {USUAL}")).advise(
            "the agent mounts one; it has to share the host's mount namespace for that. systemd mounts it at boot: \
             `mount -t bpf bpf /sys/fs/bpf` does the same",
        ),
    }
}

/// Whether BPF may hang on security hooks, and what is weaker where it may not.
fn security_hooks() -> Check {
    const LIST: &str = "/sys/kernel/security/lsm";
    let title = "BPF among the security modules";
    let active = fs::read_to_string(LIST).unwrap_or_default();
    if active.trim().split(',').any(|module| module == "bpf") {
        return Check::new(Group::Host, title, State::Good, "active");
    }
    Check::new(Group::Host, title, State::Warning, "not active").advise(
        "what is weaker without it stands with each program, below (see docs/threat-model.md). Boot with `lsm=…,bpf` (the \
         kernel's list with bpf at its end) to have it",
    )
}

/// Whether the kernel asks before a unix socket is connected.
fn unix_connect() -> Option<Check> {
    let root = Cgroup2::discover().and_then(|cgroup2| cgroup2.open_root()).ok()?;
    let title = "connections to unix sockets can be steered (Linux 6.7)";
    Some(if kernel::knows(&root, "cgroup/connect_unix") {
        Check::new(Group::Host, title, State::Good, "yes")
    } else {
        Check::new(Group::Host, title, State::Warning, "no").advise(
            "a database's unix socket on this host (/run/postgresql) is open to workloads: give their users no \
             permission on it, or use Linux 6.7 or newer",
        )
    })
}

/// Whether connections from before a destination was protected can be ended.
fn connections_from_before() -> Check {
    let title = "connections from before can be ended (sock_diag)";
    match existing::shortcoming() {
        Ok(None) => Check::new(Group::Host, title, State::Good, "yes"),
        Ok(Some(lack)) => Check::new(Group::Host, title, State::Warning, "not all").advise(lack),
        Err(error) => Check::new(Group::Host, title, State::Warning, "unknown").advise(error.to_string()),
    }
}

/// Each program, loaded for a trial.
pub(super) fn programs(trials: &Result<Vec<Trial>, KernelError>) -> Vec<Check> {
    let trials = match trials {
        Ok(trials) => trials,
        Err(error) => {
            return vec![
                Check::new(Group::Programs, "the eBPF object", State::Bad, "cannot be loaded")
                    .advise(error.to_string()),
            ];
        }
    };
    trials
        .iter()
        .map(|trial| {
            let place = match trial.hook {
                Hook::Cgroup | Hook::SockOps => "on the cgroup root".to_owned(),
                Hook::Unix(hook) => format!("on {hook} of the cgroup root"),
                Hook::Tracepoint(name) => format!("on the tracepoint {name}"),
                Hook::Lsm(name) => format!("on the security hook {name}"),
            };
            let title = format!("{} {place}", trial.program);
            let check = match (&trial.taken, trial.need) {
                (Ok(()), _) => Check::new(Group::Programs, title, State::Good, "the kernel takes it"),
                (Err(reason), Need::Always) => {
                    Check::new(Group::Programs, title, State::Bad, "the kernel refuses it").advise(format!(
                        "the agent cannot start without it: {reason}. Send this line with `uname -r` to the project"
                    ))
                }
                (Err(reason), Need::WhereTheKernelCan) => {
                    let weaker = kernel::weaker_without(trial.program, reason)
                        .map(|weaker| format!(". {weaker}"))
                        .unwrap_or_default();
                    Check::new(Group::Programs, title, State::Warning, "the kernel refuses it")
                        .advise(format!("the agent does without it: {reason}{weaker}"))
                }
            };
            check.of_programs(&[trial.program])
        })
        .collect()
}
