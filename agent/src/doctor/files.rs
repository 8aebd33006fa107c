//! Files, pins and the control socket: who could read or change them besides those who should.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::unistd::{Gid, Group as UserGroup};

use super::{Check, Group, State};
use crate::config::{AgentConfig, PolicyDoc};

/// Permissions of others than the owner.
const OTHERS: u32 = 0o077;
const OTHERS_WRITE: u32 = 0o022;

/// Everything of the agent's that is there.
pub(super) fn examine(config: &AgentConfig, policies: &[PolicyDoc]) -> Vec<Check> {
    let changes = "whoever can change it decides what workloads may do: `chown root` and `chmod go-w` it";
    let mut checks = Vec::new();
    let own_file = Path::new(AgentConfig::DEFAULT_PATH);
    checks.extend(guarded(own_file, "the agent's own file", OTHERS_WRITE, changes));
    checks.extend(guarded(
        &config.policy_dir,
        "the policies' folder",
        OTHERS_WRITE,
        changes,
    ));
    for policy in policies {
        let what = format!("policy {}", policy.workload.name);
        checks.extend(guarded(&policy.path, &what, OTHERS_WRITE, changes));
        for secret in secrets(policy) {
            checks.extend(guarded(
                secret,
                "a secret",
                OTHERS,
                "others could read it, and the agent refuses to use it: `chown root` and `chmod 0400` it, and change the secret",
            ));
        }
    }
    for (path, what) in [
        (config.state_dir.join("records"), "records"),
        (config.state_dir.join("ca/ca.key"), "the local authority's key"),
        (config.state_dir.join("mask.key"), "the key of masks"),
    ] {
        let advice = "others could read what clients saw, pretend to be a database, or find masked values by guessing: \
                      `chown root` it and `chmod go=` it";
        checks.extend(guarded(&path, what, OTHERS, advice));
    }
    let advice = "others could open the maps and change what is managed: `chmod 0700` it";
    checks.extend(guarded(&config.pin_dir, "pins", OTHERS, advice));
    checks.extend(control_socket(&config.control_socket));
    if checks.is_empty() {
        checks.push(Check::new(
            Group::Files,
            "the agent's files",
            State::Skipped,
            "there are none yet",
        ));
    }
    checks
}

fn secrets(policy: &PolicyDoc) -> impl Iterator<Item = &Path> {
    policy
        .services
        .iter()
        .filter_map(|service| service.credential.as_ref())
        .flat_map(|credential| credential.kind.sources())
        .filter_map(|(_, source)| source.secret_file())
}

/// Bad if it is not root's, or others have permissions of `forbidden`; `None` if it is not there.
fn guarded(path: &Path, what: &str, forbidden: u32, advice: &str) -> Option<Check> {
    let found = fs::metadata(path).ok()?;
    let good = found.uid() == 0 && found.mode() & forbidden == 0;
    let check = Check::new(
        Group::Files,
        format!("{what}: {}", path.display()),
        if good { State::Good } else { State::Bad },
        permissions(&found),
    );
    Some(if good { check } else { check.advise(advice) })
}

fn permissions(found: &Metadata) -> String {
    let owner = nix::unistd::User::from_uid(found.uid().into()).ok().flatten();
    let owner = owner.map_or_else(|| found.uid().to_string(), |user| user.name);
    format!("{:04o}, of {owner}", found.mode() & 0o7777)
}

/// Who can ask the agent: status, approvals and decisions on them.
fn control_socket(path: &Path) -> Option<Check> {
    let found = fs::metadata(path).ok()?;
    let title = format!("the control socket: {}", path.display());
    if found.mode() & 0o002 != 0 {
        return Some(
            Check::new(Group::Files, title, State::Bad, "everybody can connect").advise(
                "anybody on this host can see what waits for approval: restart the agent, which makes it anew",
            ),
        );
    }
    let group = UserGroup::from_gid(Gid::from_raw(found.gid())).ok().flatten();
    let who = match group.filter(|_| found.mode() & 0o020 != 0) {
        Some(group) if group.gid.as_raw() != 0 => {
            let members = match group.mem.as_slice() {
                [] => "nobody is in it".to_owned(),
                members => members.join(", "),
            };
            format!("root, and the group {} ({members})", group.name)
        }
        _ => "root alone".to_owned(),
    };
    Some(Check::new(Group::Files, title, State::Good, who))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_others_can_change_or_read_is_bad() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("policy.toml");
        fs::write(&file, "").unwrap();
        let state = |mode, forbidden| {
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            let check = guarded(&file, "policy", forbidden, "do something").unwrap();
            assert_eq!(check.advice.is_empty(), check.state == State::Good);
            check.state
        };
        let good = if fs::metadata(dir.path()).unwrap().uid() == 0 {
            State::Good
        } else {
            State::Bad
        };
        assert_eq!(state(0o644, OTHERS_WRITE), good);
        assert_eq!(state(0o664, OTHERS_WRITE), State::Bad);
        assert_eq!(state(0o600, OTHERS), good);
        assert_eq!(state(0o640, OTHERS), State::Bad);
        assert!(guarded(&dir.path().join("missing"), "policy", OTHERS, "").is_none());
    }
}
