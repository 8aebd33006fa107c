//! Who decides, and whether he may.

use std::ffi::CString;

use nix::unistd::{Gid, Group, Uid, User, getgrouplist};

use super::HoldInfo;
use super::registry::DecideError;

/// Whoever sits at the other end of the control socket, as the host's accounts know him.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approver {
    uid: u32,
    user: Option<String>,
    groups: Vec<String>,
}

/// The host's accounts could not be asked.
#[derive(Debug, thiserror::Error)]
#[error(
    "the account of uid {uid} cannot be looked up; check the host's user database (`getent passwd {uid}`)"
)]
pub struct AccountError {
    uid: u32,
    #[source]
    source: nix::Error,
}

impl Approver {
    /// An approver whose accounts are already known.
    pub fn new(uid: u32, user: Option<String>, groups: Vec<String>) -> Self {
        Self { uid, user, groups }
    }

    /// Looks up the user of `uid` and all groups that the user database gives it.
    ///
    /// The groups come from the database and not from the process, so that somebody taken out of a group stops
    /// being an approver at once, also in a shell that was started before. Blocks: the database may be on a network.
    pub fn look_up(uid: u32) -> Result<Self, AccountError> {
        let failed = |source| AccountError { uid, source };
        let Some(user) = User::from_uid(Uid::from_raw(uid)).map_err(failed)? else {
            return Ok(Self::new(uid, None, Vec::new()));
        };
        let name = CString::new(user.name.as_str()).map_err(|_| failed(nix::Error::EINVAL))?;
        let mut groups = Vec::new();
        for gid in getgrouplist(&name, user.gid).map_err(failed)? {
            if let Some(group) = Group::from_gid(Gid::from_raw(gid.as_raw())).map_err(failed)? {
                groups.push(group.name);
            }
        }
        Ok(Self::new(uid, Some(user.name), groups))
    }

    /// The name that stands in the record: the user's, or `uid 1234` where there is no such user.
    pub fn name(&self) -> String {
        self.user.clone().unwrap_or_else(|| format!("uid {}", self.uid))
    }

    /// Whether this approver may decide on `hold`.
    ///
    /// Root may always: it can rewrite the policy. (The control socket refuses root from inside a managed cgroup
    /// before it comes to this.) Anybody else has to be named by the rule, as a user or through a group, and must
    /// not be the one who asks: neither the account that the process runs as, nor the one who logged in to start it.
    pub(super) fn may_decide(&self, hold: &HoldInfo) -> Result<(), DecideError> {
        if self.uid == 0 {
            return Ok(());
        }
        let asks = self.uid == hold.requester.uid || Some(self.uid) == hold.requester.login_uid;
        if asks {
            return Err(DecideError::SelfApproval { user: self.name() });
        }
        if self.is_named(&hold.terms.approvers) {
            Ok(())
        } else {
            Err(DecideError::NotAnApprover {
                user: self.name(),
                approvers: hold.terms.approvers.join(", "),
            })
        }
    }

    /// Whether a rule's approvers name this one, as a user or through a group. Root is always named.
    pub(super) fn is_named(&self, approvers: &[String]) -> bool {
        let names = |approver: &String| {
            self.user.as_ref() == Some(approver) || self.groups.iter().any(|group| group == approver)
        };
        self.uid == 0 || approvers.iter().any(names)
    }
}
