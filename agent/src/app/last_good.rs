//! The policies that count when another version takes over: a file that becomes bad just then, or is half written, keeps
//! its last good policy, as it does in a reload.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::config::parse_policy;
use crate::policy::PolicySet;

/// Writes the files of `set` where nobody but the version that takes over reads them.
pub(super) fn leave(set: &PolicySet) -> io::Result<OwnedFd> {
    let files: Vec<(&str, &str)> = set
        .policies()
        .iter()
        .filter_map(|policy| Some((policy.doc.path.to_str()?, policy.doc.text.as_str())))
        .collect();
    let mut file = File::from(memfd_create("tollgate-policies", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(&serde_json::to_vec(&files)?)?;
    Ok(file.into())
}

/// Reads what [`leave`] has written. A file that this version does not take is left out.
pub(super) fn found(left: OwnedFd) -> io::Result<PolicySet> {
    let mut file = File::from(left);
    file.rewind()?;
    let mut json = Vec::new();
    file.read_to_end(&mut json)?;
    let files: Vec<(String, String)> = serde_json::from_slice(&json)?;
    let docs = files
        .iter()
        .filter_map(|(path, text)| parse_policy(Path::new(path), text).ok())
        .map(Arc::new);
    Ok(PolicySet::compile(docs))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_found() {
        let text = |name: &str| format!("[workload]\nname = \"{name}\"\ncgroup = [\"/{name}\"]\n");
        let docs = ["a", "b"].map(|name| {
            let path = format!("/etc/p.d/{name}.toml");
            Arc::new(parse_policy(Path::new(&path), &text(name)).unwrap())
        });
        let before = PolicySet::compile(docs);
        let after = found(leave(&before).unwrap()).unwrap();
        let told = |set: &PolicySet| -> Vec<_> {
            let docs = set.policies().iter().map(|policy| &policy.doc);
            docs.map(|doc| (doc.path.clone(), doc.hash.clone())).collect()
        };
        assert_eq!(told(&before), told(&after));
        assert!(found(File::open("/dev/null").unwrap().into()).is_err());
    }
}
