//! The system's store of trusted authorities.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustls::pki_types::CertificateDer;

use super::super::TlsError;
use super::super::authority::{pem, replace};

/// What the files are called in it; numbered, since some stores take one certificate a file.
const NAME: &str = "tollgate-local-authority";
/// More than are ever trusted at a time.
const MOST: usize = 16;

/// A kind of store: where its certificates are, and what has it read them.
struct Kind {
    distribution: &'static str,
    directory: &'static str,
    extension: &'static str,
    program: &'static [&'static str],
}

/// In this order: some distributions have the directory of another, empty.
const KINDS: &[Kind] = &[
    Kind {
        distribution: "Red Hat, Fedora and their kin",
        directory: "etc/pki/ca-trust/source/anchors",
        extension: "pem",
        program: &["update-ca-trust", "extract"],
    },
    Kind {
        distribution: "SUSE",
        directory: "etc/pki/trust/anchors",
        extension: "pem",
        program: &["update-ca-certificates"],
    },
    Kind {
        distribution: "Arch",
        directory: "etc/ca-certificates/trust-source/anchors",
        extension: "crt",
        program: &["update-ca-trust"],
    },
    Kind {
        distribution: "Debian, Ubuntu, Alpine and their kin",
        directory: "usr/local/share/ca-certificates",
        extension: "crt",
        program: &["update-ca-certificates"],
    },
];

/// Why the system's store was not changed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No store that is known.
    #[error(
        "this system has none of the stores that are known ({}): have its own tool trust the certificate that \
         `tollgate ca --pem` prints, or start jobs with `tollgate run`",
        KINDS.iter().map(|kind| kind.distribution).collect::<Vec<_>>().join("; ")
    )]
    Unknown,
    /// A file cannot be written or removed.
    #[error("cannot change {}: {source}; become root", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The certificate cannot be written.
    #[error(transparent)]
    Write(#[from] TlsError),
    /// The program that has the store read its files failed.
    #[error(
        "`{program}` failed: {why}; the certificate is in its place, so that it counts when that program succeeds"
    )]
    Program {
        /// What was run.
        program: String,
        /// Why.
        why: String,
    },
}

/// The system's store, found.
pub struct SystemStore {
    directory: PathBuf,
    kind: &'static Kind,
}

impl SystemStore {
    /// The store below `root`, which is `/` but in tests.
    ///
    /// # Errors
    /// There is none that is known.
    pub fn find(root: &Path) -> Result<Self, StoreError> {
        let kind = KINDS.iter().find(|kind| root.join(kind.directory).is_dir());
        kind.map(|kind| Self {
            directory: root.join(kind.directory),
            kind,
        })
        .ok_or(StoreError::Unknown)
    }

    /// Has the system trust exactly `certificates` of this host's authorities. Where they are now.
    ///
    /// # Errors
    /// It cannot be written, or the system's program fails.
    pub fn install(&self, certificates: &[CertificateDer<'static>]) -> Result<Vec<PathBuf>, StoreError> {
        let mut places = Vec::new();
        for (index, certificate) in certificates.iter().enumerate().take(MOST) {
            let place = self.place(index);
            replace(&place, pem([certificate]).as_bytes())?;
            places.push(place);
        }
        self.remove_from(certificates.len())?;
        self.read()?;
        Ok(places)
    }

    /// Has the system trust none of them. Whether there was one.
    ///
    /// # Errors
    /// As [`SystemStore::install`].
    pub fn uninstall(&self) -> Result<bool, StoreError> {
        let found = self.remove_from(0)?;
        if found {
            self.read()?;
        }
        Ok(found)
    }

    fn place(&self, index: usize) -> PathBuf {
        self.directory
            .join(format!("{NAME}-{}.{}", index + 1, self.kind.extension))
    }

    fn remove_from(&self, first: usize) -> Result<bool, StoreError> {
        let mut found = false;
        for index in first..MOST {
            let path = self.place(index);
            match fs::remove_file(&path) {
                Ok(()) => found = true,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(StoreError::File { path, source }),
            }
        }
        Ok(found)
    }

    fn read(&self) -> Result<(), StoreError> {
        let Some((program, arguments)) = self.kind.program.split_first() else {
            return Ok(());
        };
        let failed = |why| StoreError::Program {
            program: self.kind.program.join(" "),
            why,
        };
        let output = Command::new(program)
            .args(arguments)
            .output()
            .map_err(|error| failed(error.to_string()))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.lines().last().unwrap_or_default();
        Err(failed(format!("{} {last}", output.status)))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{KINDS, StoreError, SystemStore};

    #[test]
    fn each_distribution_is_known_by_where_its_store_is() {
        for kind in KINDS {
            let root = tempfile::tempdir().unwrap();
            fs::create_dir_all(root.path().join(kind.directory)).unwrap();
            let store = SystemStore::find(root.path()).unwrap();
            assert_eq!(store.kind.distribution, kind.distribution);
            assert!(store.place(0).starts_with(root.path().join(kind.directory)));
        }
    }

    #[test]
    fn a_system_without_a_known_store_is_told_what_to_do_instead() {
        let root = tempfile::tempdir().unwrap();
        let error = SystemStore::find(root.path()).err().unwrap();
        assert!(matches!(error, StoreError::Unknown));
        assert!(error.to_string().contains("tollgate ca --pem"), "{error}");
    }
}
