//! Names of roles and users: `tollgate_HOST_RANDOM`. They say what made them and which host, so that another host can clean up.

use std::fmt::Write as _;
use std::sync::LazyLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What every name begins with.
pub(in crate::credential) const PREFIX: &str = "tollgate_";
/// Letters of the host's name that are kept: with everything else a role's name has to fit into 63 bytes.
const LONGEST_NAME: usize = 24;
/// Bytes of the random part.
const RANDOM: usize = 10;
/// Bytes of it that are none where the name says when its account ends: seconds since 1970.
const EXPIRY: usize = 4;

/// What this host is called in names: its name, and six hex digits that follow from its machine id, since many hosts may
/// have one name.
pub fn host_id() -> &'static str {
    static ID: LazyLock<String> = LazyLock::new(|| {
        let name = nix::sys::utsname::uname()
            .map(|name| name.nodename().to_string_lossy().into_owned())
            .unwrap_or_default();
        let machine = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
        id(&name, machine.trim())
    });
    &ID
}

fn id(name: &str, machine: &str) -> String {
    let mut id: String = name
        .chars()
        .take(LONGEST_NAME)
        .map(|letter| match letter.to_ascii_lowercase() {
            // The underscore is what parts are told apart by.
            letter if letter.is_ascii_alphanumeric() || letter == '.' => letter,
            _ => '-',
        })
        .collect();
    // The machine id itself is not for others to see: machine-id(5).
    let hash = blake3::derive_key(
        "tollgate host id in names of roles",
        &[name.as_bytes(), &[0], machine.as_bytes()].concat(),
    );
    let [a, b, c, ..] = hash;
    // Writing to a String cannot fail.
    let _infallible = write!(id, "-{a:02x}{b:02x}{c:02x}");
    id
}

/// A new name. `expires`: for a server that does not keep when an account ends.
pub(in crate::credential) fn new(expires: Option<SystemTime>) -> String {
    let mut random = rand::random::<[u8; RANDOM]>();
    let seconds = expires.and_then(|expires| expires.duration_since(UNIX_EPOCH).ok());
    if let Some(seconds) = seconds.and_then(|since| u32::try_from(since.as_secs()).ok())
        && let Some(front) = random.first_chunk_mut::<EXPIRY>()
    {
        *front = seconds.to_be_bytes();
    }
    format!("{PREFIX}{}_{}", host_id(), hex::encode(random))
}

/// When an account ends whose name was made with that.
pub(in crate::credential) fn expiry_of(name: &str) -> Option<SystemTime> {
    host_of(name)?;
    let (_, random) = name.rsplit_once('_')?;
    let seconds = u32::from_str_radix(random.get(..2 * EXPIRY)?, 16).ok()?;
    Some(UNIX_EPOCH + Duration::from_secs(seconds.into()))
}

/// The host that a role of this name was made by; `None`: it is no name of ours.
pub(in crate::credential) fn host_of(role: &str) -> Option<&str> {
    let (host, random) = role.strip_prefix(PREFIX)?.split_once('_')?;
    let ours = !host.is_empty()
        && random.len() == 2 * RANDOM
        && random
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    ours.then_some(host)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::{expiry_of, host_id, host_of, id, new};

    #[test]
    fn a_name_says_which_host_made_it_and_fits() {
        let until = UNIX_EPOCH + Duration::from_secs(1_795_600_801);
        for name in [new(None), new(Some(until))] {
            assert!(name.len() <= 63, "{name}");
            assert_eq!(host_of(&name), Some(host_id()));
            assert_ne!(new(Some(until)), name);
        }
        assert_eq!(expiry_of(&new(Some(until))), Some(until));
        assert_eq!(expiry_of("tollgate_admin"), None);
        let long = id(&"Runner_7.".repeat(9), "4d1f");
        assert!(long.len() <= 31 && !long.contains('_'), "{long}");
        assert!(long.starts_with("runner-7.runner-7."), "{long}");
    }

    #[test]
    fn hosts_of_one_name_are_told_apart_and_the_machine_id_is_not_shown() {
        let (one, other) = (id("runner", "0123456789abcdef"), id("runner", "fedcba9876543210"));
        assert_ne!(one, other);
        assert_eq!(one, id("runner", "0123456789abcdef"));
        assert!(!one.contains("0123456789"));
    }

    #[test]
    fn only_names_of_ours_have_a_host() {
        for name in [
            "postgres",
            "tollgate_admin",
            "tollgate_",
            "tollgate__0123456789abcdef0123",
            "tollgate_runner_0123",
            "tollgate_runner_0123456789ABCDEF0123",
            "tollgate_runner_0123456789abcdef0123_",
            "x_tollgate_runner_0123456789abcdef0123",
        ] {
            assert_eq!(host_of(name), None, "{name}");
        }
        assert_eq!(host_of("tollgate_runner_0123456789abcdef0123"), Some("runner"));
    }
}
