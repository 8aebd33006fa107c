//! Tokens that do not count any more: revoked by an operator, or denied by a policy.
//!
//! What an operator revokes is kept in a file and counts until it is lifted, over restarts. Sessions that run under such
//! a token are told at once.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::{Identity, TokenClaims};
use crate::config::{ClaimName, ClaimRule, ClaimValue, GlobError, TokenPattern};
use crate::model::WorkloadName;

/// What an operator revoked. Also the form in which it is kept and listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    /// Names it, to lift it again.
    pub id: String,
    /// Which tokens.
    #[serde(flatten)]
    pub which: Which,
    /// Of this issuer alone; `None`: of every one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// Who revoked it.
    pub by: String,
    /// Why, for the author of the job.
    pub reason: String,
    /// When.
    pub at: DateTime<Utc>,
}

/// Which tokens an operator means. Values are patterns, as in policies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Which {
    /// `sub`.
    Subject(String),
    /// A claim, by its name or JSON pointer, and its value.
    Claim {
        /// The claim.
        name: String,
        /// Its value.
        value: String,
    },
    /// The `kid` of the key that signed it.
    Key(String),
}

/// Why the list cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RevocationError {
    /// The file.
    #[error("the list of revoked identities {} cannot be {done}: {source}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// "read", "written".
        done: &'static str,
        /// Why.
        source: io::Error,
    },
    /// Its contents.
    #[error("the list of revoked identities {} cannot be understood ({source}): mend it, or revoke anew after removing it", .path.display())]
    Contents {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// A value that is no pattern.
    #[error("{0}")]
    Pattern(#[from] GlobError),
    /// Nothing of that name.
    #[error("nothing is revoked under the id {0:?}; `tollgate identity revocations` lists the ids")]
    Unknown(String),
}

/// What does not count, now. One for the whole agent.
#[derive(Debug)]
pub struct Revoked {
    path: PathBuf,
    /// Taken while the list is changed and written.
    changing: Mutex<()>,
    now: watch::Sender<Arc<State>>,
}

/// The lists at one moment.
#[derive(Debug)]
pub(super) struct State {
    revoked: Vec<(Revocation, TokenPattern)>,
    denied: Vec<(WorkloadName, TokenPattern)>,
}

impl Revoked {
    /// Reads what was revoked before. A list that cannot be understood is an error: what it had revoked would count.
    pub fn open(path: &Path) -> Result<Self, RevocationError> {
        let revoked = match fs::read(path) {
            Ok(json) => {
                let list: Vec<Revocation> =
                    serde_json::from_slice(&json).map_err(|source| RevocationError::Contents {
                        path: path.to_owned(),
                        source,
                    })?;
                list.into_iter().map(compiled).collect::<Result<_, _>>()?
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(source) => {
                return Err(RevocationError::File {
                    path: path.to_owned(),
                    done: "read",
                    source,
                });
            }
        };
        Ok(Self {
            path: path.to_owned(),
            changing: Mutex::default(),
            now: watch::Sender::new(Arc::new(State {
                revoked,
                denied: Vec::new(),
            })),
        })
    }

    /// What operators revoked, oldest first.
    pub fn list(&self) -> Vec<Revocation> {
        let state = Arc::clone(&self.now.borrow());
        state
            .revoked
            .iter()
            .map(|(revocation, _)| revocation.clone())
            .collect()
    }

    /// Revokes. When this returns, it is kept, and counts. Blocks for the disk.
    pub fn revoke(&self, revocation: Revocation) -> Result<(), RevocationError> {
        let added = compiled(revocation)?;
        self.change(|revoked| {
            revoked.push(added);
            Ok(())
        })
    }

    /// Lifts what was revoked under `id`. Sessions that it ended stay ended.
    pub fn lift(&self, id: &str) -> Result<(), RevocationError> {
        self.change(|revoked| {
            let before = revoked.len();
            revoked.retain(|(revocation, _)| revocation.id != id);
            if revoked.len() == before {
                return Err(RevocationError::Unknown(id.to_owned()));
            }
            Ok(())
        })
    }

    /// Sets what policies deny: all of them, each for its own workload.
    pub fn set_denied(&self, denied: Vec<(WorkloadName, TokenPattern)>) {
        let _changing = self.changing.lock();
        self.now.send_modify(|state| {
            *state = Arc::new(State {
                revoked: state.revoked.clone(),
                denied,
            });
        });
    }

    /// Why `identity` does not count for `workload`; `None`: nothing is against it.
    pub fn against(&self, workload: &WorkloadName, identity: &Identity) -> Option<String> {
        let state = Arc::clone(&self.now.borrow());
        state.against(workload, identity)
    }

    pub(super) fn watch(&self) -> watch::Receiver<Arc<State>> {
        self.now.subscribe()
    }

    fn change(
        &self,
        change: impl FnOnce(&mut Vec<(Revocation, TokenPattern)>) -> Result<(), RevocationError>,
    ) -> Result<(), RevocationError> {
        let _changing = self.changing.lock();
        let before = Arc::clone(&self.now.borrow());
        let mut revoked = before.revoked.clone();
        change(&mut revoked)?;
        let list: Vec<&Revocation> = revoked.iter().map(|(revocation, _)| revocation).collect();
        // Kept first: what counts and is not kept would count again after a restart.
        write(&self.path, &list).map_err(|source| RevocationError::File {
            path: self.path.clone(),
            done: "written",
            source,
        })?;
        self.now.send_replace(Arc::new(State {
            revoked,
            denied: before.denied.clone(),
        }));
        Ok(())
    }
}

impl State {
    pub(super) fn against(&self, workload: &WorkloadName, identity: &Identity) -> Option<String> {
        let token = identity.token.as_ref()?;
        let denied = || {
            let of_workload = self.denied.iter().filter(|(of, _)| of == workload);
            let mut hits = of_workload.filter(|(_, pattern)| token.is(pattern));
            hits.next()
                .map(|(_, pattern)| format!("the policy denies {pattern}"))
        };
        let revoked = || {
            let mut hits = self.revoked.iter().filter(|(revocation, pattern)| {
                let of_issuer = revocation.issuer.as_ref();
                of_issuer.is_none_or(|issuer| *issuer == token.issuer) && token.is(pattern)
            });
            hits.next()
                .map(|(revocation, _)| format!("{} revoked it: {}", revocation.by, revocation.reason))
        };
        revoked().or_else(denied)
    }
}

impl TokenClaims {
    /// Whether it is one of the tokens that `pattern` means.
    fn is(&self, pattern: &TokenPattern) -> bool {
        match pattern {
            TokenPattern::Subject(value) => value.matches(&self.subject),
            TokenPattern::Claim(rule) => self.has(rule),
            TokenPattern::Key(kid) => self.key.as_ref() == Some(kid),
        }
    }
}

fn compiled(revocation: Revocation) -> Result<(Revocation, TokenPattern), GlobError> {
    let pattern = match &revocation.which {
        Which::Subject(pattern) => TokenPattern::Subject(ClaimValue::like(pattern)?),
        Which::Key(kid) => TokenPattern::Key(kid.clone()),
        Which::Claim { name, value } => TokenPattern::Claim(ClaimRule {
            claim: if name.starts_with('/') {
                ClaimName::Pointer(name.clone())
            } else {
                ClaimName::Top(name.clone())
            },
            any_of: vec![ClaimValue::like(value)?],
        }),
    };
    Ok((revocation, pattern))
}

fn write(path: &Path, list: &[&Revocation]) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&beside)?;
    file.write_all(&serde_json::to_vec_pretty(list)?)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    fs::File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use chrono::Utc;

    use super::{Revocation, RevocationError, Revoked, Which};

    fn revocation(id: &str, which: Which) -> Revocation {
        Revocation {
            id: id.to_owned(),
            which,
            issuer: None,
            by: "alice".to_owned(),
            reason: "left the company".to_owned(),
            at: Utc::now(),
        }
    }

    #[test]
    fn what_was_revoked_is_there_after_a_restart_until_it_is_lifted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("revoked.json");
        let all = [
            revocation("r-1", Which::Subject("job-*".into())),
            revocation(
                "r-2",
                Which::Claim {
                    name: "/kubernetes.io/namespace".into(),
                    value: "prod".into(),
                },
            ),
            revocation("r-3", Which::Key("2024".into())),
        ];
        let revoked = Revoked::open(&path).unwrap();
        for one in &all {
            revoked.revoke(one.clone()).unwrap();
        }
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let again = Revoked::open(&path).unwrap();
        assert_eq!(again.list(), all);
        again.lift("r-2").unwrap();
        assert!(matches!(again.lift("r-2"), Err(RevocationError::Unknown(_))));
        let left: Vec<_> = Revoked::open(&path).unwrap().list();
        assert_eq!(
            left.iter().map(|one| one.id.as_str()).collect::<Vec<_>>(),
            ["r-1", "r-3"]
        );
    }

    #[test]
    fn a_list_that_cannot_be_understood_is_an_error_and_not_empty() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("revoked.json");
        fs::write(&path, "[{\"id\":").unwrap();
        assert!(matches!(
            Revoked::open(&path),
            Err(RevocationError::Contents { .. })
        ));
    }

    #[test]
    fn what_cannot_be_kept_does_not_count() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("nowhere/revoked.json");
        let revoked = Revoked::open(&path).unwrap();
        let error = revoked
            .revoke(revocation("r-1", Which::Key("k".into())))
            .unwrap_err();
        assert!(matches!(error, RevocationError::File { done: "written", .. }));
        assert!(revoked.list().is_empty());
        let bad = revocation("r-2", Which::Subject("a[".into()));
        assert!(matches!(revoked.revoke(bad), Err(RevocationError::Pattern(_))));
    }
}
