//! Files with the authorities that a command is to trust, and the variables that name them.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use rustls::pki_types::CertificateDer;

use crate::tls::trust::{JKS_PASSWORD, bundle, certificates_of, jks};
use crate::tls::{pem, replace};

/// Variables that name a PEM file which takes the place of what the client trusts otherwise.
const BUNDLES: &[&str] = &[
    "SSL_CERT_FILE",
    "CURL_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "PIP_CERT",
    "GIT_SSL_CAINFO",
    "AWS_CA_BUNDLE",
    "CARGO_HTTP_CAINFO",
    "npm_config_cafile",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
    "NIX_SSL_CERT_FILE",
];
/// Variables that name a PEM file which is trusted besides.
const BESIDES: &[&str] = &["NODE_EXTRA_CA_CERTS", "DENO_CERT"];
const JAVA: &str = "JAVA_TOOL_OPTIONS";

/// The files, removed when dropped.
pub(super) struct Trust {
    dir: PathBuf,
}

impl Trust {
    /// Writes them into a folder of their own that everybody can read: the command may be another user.
    pub(super) fn write(run_dir: &Path, own: Vec<CertificateDer<'static>>) -> Result<Self, String> {
        let name = format!("run-{}", uuid::Uuid::now_v7().simple());
        let make = |parent: &Path| {
            let dir = parent.join(&name);
            fs::DirBuilder::new().mode(0o755).create(&dir).map(|()| dir)
        };
        let dir = make(run_dir)
            .or_else(|_| make(&env::temp_dir()))
            .map_err(|error| format!("no folder can be made for certificates: {error}"))?;
        let trust = Self { dir };
        let named = BUNDLES.iter().chain(BESIDES).filter_map(env::var_os);
        let more: Vec<_> = named.flat_map(|file| certificates_of(Path::new(&file))).collect();
        let all = bundle(own.into_iter().chain(more));
        for (path, bytes) in [
            (trust.bundle(), pem(&all).into_bytes()),
            (trust.java(), jks(&all)),
        ] {
            replace(&path, &bytes).map_err(|error| error.to_string())?;
        }
        Ok(trust)
    }

    fn bundle(&self) -> PathBuf {
        self.dir.join("ca-bundle.pem")
    }

    fn java(&self) -> PathBuf {
        self.dir.join("truststore.jks")
    }

    pub(super) fn variables(&self) -> Vec<(&'static str, OsString)> {
        let files = BUNDLES.iter().chain(BESIDES);
        let mut variables: Vec<_> = files
            .map(|name| (*name, self.bundle().into_os_string()))
            .collect();
        let mut java = env::var_os(JAVA).unwrap_or_default();
        if !java.is_empty() {
            java.push(" ");
        }
        java.push("-Djavax.net.ssl.trustStore=");
        java.push(self.java());
        java.push(format!(
            " -Djavax.net.ssl.trustStoreType=JKS -Djavax.net.ssl.trustStorePassword={JKS_PASSWORD}"
        ));
        variables.push((JAVA, java));
        variables
    }
}

impl Drop for Trust {
    fn drop(&mut self) {
        // Nobody reads it any more; what cannot be removed is no secret.
        let _ = fs::remove_dir_all(&self.dir);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::Trust;
    use crate::tls::LocalCa;
    use crate::tls::trust::certificates_of;

    #[test]
    fn every_file_that_a_variable_names_has_the_authority_and_is_gone_afterwards() {
        let dir = tempfile::tempdir().unwrap();
        let authority = LocalCa::open_or_create(&dir.path().join("ca")).unwrap();
        let trust = Trust::write(dir.path(), vec![authority.certificate()]).unwrap();
        let variables = trust.variables();
        for name in ["SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS", "GIT_SSL_CAINFO"] {
            let (_, file) = variables.iter().find(|(known, _)| *known == name).unwrap();
            assert!(
                certificates_of(file.as_ref()).contains(&authority.certificate()),
                "{name}"
            );
        }
        let (_, java) = variables
            .iter()
            .find(|(known, _)| *known == "JAVA_TOOL_OPTIONS")
            .unwrap();
        let java = java.to_str().unwrap();
        assert!(java.contains(trust.java().to_str().unwrap()), "{java}");
        let (store, certificate) = (fs::read(trust.java()).unwrap(), authority.certificate());
        assert!(
            store
                .windows(certificate.len())
                .any(|part| part == certificate.as_ref())
        );
        let left = trust.dir.clone();
        drop(trust);
        assert!(!left.exists());
    }
}
