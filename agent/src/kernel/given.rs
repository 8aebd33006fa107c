//! Descriptors that this process was started with: by an agent that executed this one in its place, or by the service
//! manager.
#![expect(
    unsafe_code,
    reason = "a descriptor that is known by its number alone is taken into possession"
)]

use std::os::fd::{FromRawFd as _, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// Names the descriptors that an agent leaves to the one that it executes:
/// `PID;LOCK;LOCK;POLICIES;SOCKET,SOCKET,…;LOGINS`. The pid is that of both, so that a child that inherits the variable does not
/// take its own descriptors for these.
pub const HANDOVER: &str = "TOLLGATE_HANDOVER";

/// What names begin with under which the service manager keeps what jobs have logged in with.
pub const LOGINS: &str = "logins-";

/// What the process was given.
#[derive(Debug, Default)]
pub struct Given {
    /// Listening sockets and sockets for DNS, if they are the agent's: that is still to be seen.
    pub sockets: Vec<OwnedFd>,
    /// The lock of the run directory, held.
    pub host_lock: Option<OwnedFd>,
    /// The lock of the pins, held.
    pub pin_lock: Option<OwnedFd>,
    /// The policies that counted last.
    pub policies: Option<OwnedFd>,
    /// What jobs have logged in with. Several where an agent was killed while it put one in the place of another.
    pub logins: Vec<OwnedFd>,
}

impl Given {
    /// Takes what there is; a second time there is nothing. To be called before the process has opened anything.
    pub fn take() -> Self {
        static TAKEN: AtomicBool = AtomicBool::new(false);
        if TAKEN.swap(true, Ordering::Relaxed) {
            return Self::default();
        }
        if let Some(handover) = std::env::var(HANDOVER).ok().and_then(|text| parse(&text)) {
            return Self {
                sockets: handover.sockets.into_iter().filter_map(own).collect(),
                host_lock: own(handover.host_lock),
                pin_lock: own(handover.pin_lock),
                policies: own(handover.policies),
                logins: handover.logins.into_iter().filter_map(own).collect(),
            };
        }
        // Of the process that was executed, systemd knows nothing: its descriptors are taken once, above or here.
        let named = sd_notify::listen_fds_with_names().map(Iterator::collect::<Vec<_>>);
        // Names that do not fit are no reason to do without the listeners.
        let nameless = |_: std::io::Error| {
            let numbers = sd_notify::listen_fds()?;
            Ok::<_, std::io::Error>(numbers.map(|number| (number, String::new())).collect())
        };
        match named.or_else(nameless) {
            Ok(numbers) => {
                let (logins, sockets): (Vec<_>, Vec<_>) = numbers
                    .into_iter()
                    .partition(|(_, name)| name.starts_with(LOGINS));
                let owned = |kind: Vec<(RawFd, String)>| kind.into_iter().filter_map(|(fd, _)| own(fd));
                Self {
                    sockets: owned(sockets).collect(),
                    logins: owned(logins).collect(),
                    ..Self::default()
                }
            }
            Err(error) => {
                eprintln!("tollgate: descriptors of the service manager cannot be taken: {error}");
                Self::default()
            }
        }
    }
}

/// What stands in the variable.
#[derive(Debug, PartialEq, Eq)]
struct Numbers {
    host_lock: RawFd,
    pin_lock: RawFd,
    policies: RawFd,
    sockets: Vec<RawFd>,
    /// Agents before this version leave none.
    logins: Option<RawFd>,
}

/// The text for [`HANDOVER`].
pub fn handover(
    host_lock: RawFd,
    pin_lock: RawFd,
    policies: RawFd,
    sockets: &[RawFd],
    logins: RawFd,
) -> String {
    let sockets: Vec<_> = sockets.iter().map(ToString::to_string).collect();
    format!(
        "{};{host_lock};{pin_lock};{policies};{};{logins}",
        std::process::id(),
        sockets.join(",")
    )
}

fn parse(text: &str) -> Option<Numbers> {
    let mut parts = text.split(';');
    let pid: u32 = parts.next()?.parse().ok()?;
    if pid != std::process::id() {
        return None;
    }
    let host_lock = parts.next()?.parse().ok()?;
    let pin_lock = parts.next()?.parse().ok()?;
    let policies = parts.next()?.parse().ok()?;
    let sockets = parts.next()?;
    let sockets = sockets
        .split(',')
        .filter(|number| !number.is_empty())
        .map(|number| number.parse().ok());
    let logins = parts.next().map(str::parse).transpose().ok()?;
    Some(Numbers {
        host_lock,
        pin_lock,
        policies,
        sockets: sockets.collect::<Option<_>>()?,
        logins,
    })
}

/// Takes the descriptor, if it is open. Whatever the process executes later does not inherit it.
fn own(number: RawFd) -> Option<OwnedFd> {
    if number <= libc::STDERR_FILENO {
        return None;
    }
    // SAFETY: sets a flag of a descriptor; of one that is not open, nothing.
    if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return None;
    }
    // SAFETY: it is open, was named by whoever started the process, and is taken once, before the process has opened
    // anything that could have this number.
    Some(unsafe { OwnedFd::from_raw_fd(number) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_handed_over_is_what_is_taken() {
        let text = handover(5, 6, 8, &[7, 12], 9);
        let numbers = Numbers {
            host_lock: 5,
            pin_lock: 6,
            policies: 8,
            sockets: vec![7, 12],
            logins: Some(9),
        };
        assert_eq!(parse(&text), Some(numbers));
        assert_eq!(parse(&handover(5, 6, 8, &[], 9)).unwrap().sockets, [0; 0]);
        let before = text.strip_suffix(";9").unwrap();
        assert_eq!(parse(before).unwrap().logins, None);
        let child = text.replacen(&std::process::id().to_string(), "1", 1);
        for other in [
            "",
            "x",
            &child,
            &text.replace("12", "12x"),
            &text.replace(";7,12;9", ""),
            &text.replace(";9", ";x"),
        ] {
            assert_eq!(parse(other), None, "{other}");
        }
        assert!(own(1).is_none() && own(-1).is_none() && own(1 << 20).is_none());
    }
}
