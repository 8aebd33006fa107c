//! Paths of unix sockets.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Path of a unix socket of this host: from `/`, at most 108 bytes, without `//`, `.` and `..`, not ending in `/`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SocketPath(Arc<str>);

/// Bytes of `sun_path` (unix(7)).
const LONGEST: usize = 108;

/// Directories that most systems have under two names: the file hierarchy standard has the first, Debian's libraries ask
/// for the second.
const TWO_NAMES: [(&str, &str); 2] = [("/run/", "/var/run/"), ("/run/lock/", "/var/lock/")];

impl SocketPath {
    /// `text` as a path; `None` if it is none that a socket can have, or not in its shortest form.
    pub fn parse(text: &str) -> Option<Self> {
        let plain = text
            .strip_prefix('/')?
            .split('/')
            .all(|part| !part.is_empty() && part != "." && part != "..");
        let fits = plain && text.len() <= LONGEST && !text.contains('\0');
        fits.then(|| Self(text.into()))
    }

    /// The path.
    pub fn as_path(&self) -> &Path {
        Path::new(&*self.0)
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What follows the last slash.
    pub fn last_component(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }

    /// A number that follows from the path alone: the first eight bytes of its BLAKE3 hash.
    pub fn slot(&self) -> u64 {
        let hash = blake3::hash(self.0.as_bytes());
        let first = hash.as_bytes().first_chunk().copied();
        u64::from_le_bytes(first.unwrap_or_default())
    }

    /// The path, and what else it is called where `/var/run` is a link to `/run`.
    pub fn names(&self) -> Vec<String> {
        let mut names = vec![self.as_str().to_owned()];
        for (one, other) in TWO_NAMES
            .into_iter()
            .flat_map(|(one, other)| [(one, other), (other, one)])
        {
            if let Some(rest) = self.0.strip_prefix(one) {
                let name = format!("{other}{rest}");
                if name.len() <= LONGEST {
                    names.push(name);
                }
            }
        }
        names
    }
}

impl fmt::Display for SocketPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unix:{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::SocketPath;

    #[test]
    fn a_path_has_one_form() {
        for path in ["/run/postgresql/.s.PGSQL.5432", "/a", "/a/..b/.c"] {
            assert_eq!(SocketPath::parse(path).unwrap().as_str(), path);
        }
        let long = format!("/{}", "x".repeat(107));
        assert!(SocketPath::parse(&long).is_some());
        for path in [
            "",
            "/",
            "run/x",
            "./x",
            "/run//x",
            "/run/./x",
            "/run/../x",
            "/run/x/",
            "@name",
            "/a\0b",
            &format!("{long}x"),
        ] {
            assert_eq!(SocketPath::parse(path), None, "{path:?}");
        }
    }

    #[test]
    fn run_is_also_var_run() {
        let names = |path: &str| SocketPath::parse(path).unwrap().names();
        assert_eq!(names("/run/a/b"), ["/run/a/b", "/var/run/a/b"]);
        assert_eq!(names("/var/run/a"), ["/var/run/a", "/run/a"]);
        assert_eq!(names("/tmp/run/a"), ["/tmp/run/a"]);
    }
}
