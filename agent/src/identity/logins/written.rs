//! Logins as bytes, for an agent that goes on in this one's place.
//!
//! The bytes hold tokens in clear. They are for memory that nobody else reads, and for no file.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use zeroize::Zeroizing;

use super::{Login, Logins};
use crate::model::{CgroupId, CgroupPath, Secret};

/// Version of the form.
const FORM: &[u8; 8] = b"logins 1";

/// What was left is not what an agent leaves: of another version, or cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("they are not in the form that this version writes")]
pub struct Unreadable;

impl Logins {
    /// Those that count still: form, and then cgroup, end, path and token of each.
    pub fn written(&self) -> Zeroizing<Vec<u8>> {
        self.prune();
        let kept = self.kept.lock();
        let mut out = Zeroizing::new(Vec::new());
        // As long as it will be: a buffer that grows leaves copies of itself behind.
        let texts = |login: &Login| login.path.as_str().len() + login.token.expose().len();
        out.reserve_exact(FORM.len() + kept.values().map(|login| 24 + texts(login)).sum::<usize>());
        out.extend_from_slice(FORM);
        for (id, login) in &*kept {
            let until = login.until.duration_since(UNIX_EPOCH).unwrap_or_default();
            out.extend_from_slice(&id.0.to_le_bytes());
            out.extend_from_slice(&u64::try_from(until.as_millis()).unwrap_or(u64::MAX).to_le_bytes());
            // Exposed to be handed over, in memory alone.
            for text in [login.path.as_str().as_bytes(), login.token.expose()] {
                // Both were bounded when they came.
                out.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
                out.extend_from_slice(text);
            }
        }
        out
    }

    /// Takes what [`Logins::written`] gave: those that have not ended, of cgroups that are there still. Gives how many.
    pub fn take_over(&self, written: &[u8]) -> Result<usize, Unreadable> {
        let mut rest = written.strip_prefix(FORM).ok_or(Unreadable)?;
        let mut found = Vec::new();
        while !rest.is_empty() {
            let id = CgroupId(number(&mut rest)?);
            let until = UNIX_EPOCH
                .checked_add(Duration::from_millis(number(&mut rest)?))
                .ok_or(Unreadable)?;
            let path = std::str::from_utf8(text(&mut rest)?).map_err(|_| Unreadable)?;
            let path = CgroupPath(path.into());
            let token = Secret::new(text(&mut rest)?.to_vec());
            found.push((id, Login { path, token, until }));
        }
        let now = SystemTime::now();
        let mut kept = self.kept.lock();
        for (id, login) in found {
            if login.until > now && (self.path_of)(id).as_ref() == Some(&login.path) {
                kept.insert(id, login);
            }
        }
        Ok(kept.len())
    }
}

fn number(rest: &mut &[u8]) -> Result<u64, Unreadable> {
    let (first, after) = rest.split_first_chunk().ok_or(Unreadable)?;
    *rest = after;
    Ok(u64::from_le_bytes(*first))
}

fn text<'b>(rest: &mut &'b [u8]) -> Result<&'b [u8], Unreadable> {
    let (length, after) = rest.split_first_chunk().ok_or(Unreadable)?;
    let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| Unreadable)?;
    let (text, after) = after.split_at_checked(length).ok_or(Unreadable)?;
    *rest = after;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::tests::{HOUR, found, path, register, stand};
    use super::{FORM, Unreadable};
    use crate::model::CgroupId;

    #[test]
    fn what_counts_is_taken_over_and_what_has_ended_is_not() {
        let (before, there) = stand();
        register(&before, 1, "/ci/job-1", "outer", HOUR);
        register(&before, 2, "/ci/job-1/sub", "ended", Duration::ZERO);
        register(&before, 3, "/ci/job-1/sub/deep", "deep", HOUR);
        register(&before, 4, "/ci/job-10", "gone", HOUR);
        let written = before.written();
        assert!(!written.windows(5).any(|bytes| bytes == b"ended"));
        there.lock().insert(CgroupId(4), path("/ci/renamed"));
        let (after, _) = stand();
        let with_these = super::Logins::new(move |id| there.lock().get(&id).cloned());
        assert_eq!(with_these.take_over(&written), Ok(2));
        assert_eq!(found(&with_these, 2, "/ci/job-1/sub").as_deref(), Some("outer"));
        assert_eq!(
            found(&with_these, 3, "/ci/job-1/sub/deep").as_deref(),
            Some("deep")
        );
        assert_eq!(found(&with_these, 4, "/ci/job-10"), None);
        assert_eq!(after.take_over(FORM), Ok(0));
    }

    #[test]
    fn what_is_cut_or_of_another_form_is_taken_in_no_part() {
        let (before, _) = stand();
        register(&before, 1, "/ci/job-1", "token", HOUR);
        let written = before.written();
        for end in (0..written.len()).filter(|end| *end != FORM.len()) {
            let (after, _) = stand();
            assert_eq!(after.take_over(&written[..end]), Err(Unreadable), "{end}");
            assert_eq!(found(&after, 1, "/ci/job-1"), None);
        }
        let (after, _) = stand();
        assert_eq!(after.take_over(b"logins 2"), Err(Unreadable));
        assert_eq!(after.take_over(&[&written[..], b"x"].concat()), Err(Unreadable));
        assert_eq!(found(&after, 1, "/ci/job-1"), None);
    }
}
