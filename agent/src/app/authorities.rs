//! The host's authority: for the names of the policies, and where workloads find it.

use std::io;
use std::path::Path;

use crate::policy::PolicySet;
use crate::tls::{LocalCa, Permitted, TlsError};

use super::state::StateDir;

/// Below `run_dir`: what clients have to trust, for everybody to read.
pub const TRUSTED: &str = "ca.pem";

/// Opens the authority, or makes it, and makes another where the policies have names that it may not vouch for.
pub(super) fn open(state: &StateDir, run_dir: &Path, set: &PolicySet) -> Result<LocalCa, TlsError> {
    let wanted = wanted(set);
    let authority = LocalCa::open_for(&state.authority(), &wanted)?;
    if authority.extend(&wanted)? {
        tell();
    }
    authority.publish(&run_dir.join(TRUSTED))?;
    Ok(authority)
}

/// As at the start, when the policies are others. The agent goes on where that fails.
pub(super) fn follow(authority: &LocalCa, run_dir: &Path, set: &PolicySet) -> Result<(), String> {
    let done = authority.extend(&wanted(set)).and_then(|made| {
        if made {
            tell();
        }
        authority.publish(&run_dir.join(TRUSTED))
    });
    done.map_err(|error| format!("{error}; clients that verify refuse names that are new in the policies"))
}

/// Takes away what [`open`] put where workloads find it. The authority itself stays with the records.
pub(super) fn withdraw(run_dir: &Path) -> io::Result<()> {
    match std::fs::remove_file(run_dir.join(TRUSTED)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The names of all services of all policies.
fn wanted(set: &PolicySet) -> Permitted {
    let services = set.policies().iter().flat_map(|policy| &policy.services);
    Permitted::of(services.map(|service| &service.doc))
}

fn tell() {
    tracing::warn!(
        "the policies have names that this host's authority may not vouch for, so there is another one, which signs for them: \
         `tollgate ca` shows both; install them where clients verify (`tollgate ca install`), and `tollgate run` does so by itself"
    );
}
