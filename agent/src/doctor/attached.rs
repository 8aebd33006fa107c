//! Whether the programs that an agent attached are still there.

use std::path::Path;

use super::{Check, DoctorError, Group, State};
use crate::kernel::{self, Hook};

/// Whether every program on a security hook is attached; false where there is none.
pub(super) fn security_hooks(pin_dir: &Path) -> Result<bool, DoctorError> {
    let links = kernel::own_links(pin_dir)?;
    let mut hooks = links
        .iter()
        .filter(|link| matches!(link.hook, Hook::Lsm(_)))
        .peekable();
    Ok(hooks.peek().is_some() && hooks.all(|link| link.attached.is_some()))
}

/// One line a program that should be attached; none where no agent has any.
pub(super) fn programs(pin_dir: &Path) -> Result<Vec<Check>, DoctorError> {
    let links = kernel::own_links(pin_dir)?;
    Ok(links
        .into_iter()
        .map(|link| {
            let check = match (link.attached, link.optional) {
                (None, _) if link.hook == Hook::SockOps => {
                    Check::new(Group::Attached, link.program, State::Good, "attached when it is needed")
                }
                (Some(id), _) => Check::new(
                    Group::Attached,
                    link.program,
                    State::Good,
                    format!("attached, as program {id}"),
                ),
                (None, true) => Check::new(Group::Attached, link.program, State::Skipped, "not attached")
                    .advise("the agent does without it where the kernel refuses it"),
                (None, false) => Check::new(Group::Attached, link.program, State::Bad, "NOT ATTACHED").advise(
                    format!(
                        "somebody detached it or removed its link ({}): managed cgroups may be open. Find out who; \
                         `systemctl restart tollgate` attaches it again",
                        link.pin.display()
                    ),
                ),
            };
            check.of_programs(&[link.program])
        })
        .collect())
}
