//! The local certificate authority: made on first start, kept under the state directory.
//!
//! `ca.key` is for the agent's user alone (0600); `ca.pem` is for everybody: clients that verify have to trust it.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::{Datelike, Days, NaiveDate, Utc};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256,
};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use zeroize::Zeroizing;

use super::leaf::{Leaves, day, month};
use super::{LeafNames, TlsError, provider};

const KEY_FILE: &str = "ca.key";
const CERTIFICATE_FILE: &str = "ca.pem";
/// Ten years: it has to be distributed by hand.
const VALID: Days = Days::new(3652);

/// The local certificate authority, with the leaves that it has made.
pub struct LocalCa {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    path: PathBuf,
    leaves: Leaves,
}

impl fmt::Debug for LocalCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalCa")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl LocalCa {
    /// Opens the authority in `dir`, or makes it there on first start. The directory is made where it is missing.
    ///
    /// Two agents that start at once end with the same authority. A start that was cut off between the key and the
    /// certificate is finished.
    ///
    /// # Errors
    /// The files cannot be read or written, the key can be read by others, or the two do not belong together.
    pub fn open_or_create(dir: &Path) -> Result<Self, TlsError> {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o755);
        builder.create(dir).map_err(failed("make the directory", dir))?;
        let (key_path, path) = (dir.join(KEY_FILE), dir.join(CERTIFICATE_FILE));

        let key = match read_key(&key_path)? {
            Some(key) => key,
            None if path.exists() => return Err(TlsError::KeyMissing { path: key_path }),
            None => {
                let made = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(TlsError::Make)?;
                let pem = Zeroizing::new(made.serialize_pem());
                place(&key_path, pem.as_bytes(), 0o600)?;
                // Read back, whoever's file it is by now.
                read_key(&key_path)?.ok_or(TlsError::KeyMissing { path: key_path })?
            }
        };
        let pair = KeyPair::from_pem(&key).map_err(|_| TlsError::NotAnAuthority { path: path.clone() })?;
        if !path.exists() {
            let certificate = self_signed(&pair, Utc::now().date_naive())?;
            place(&path, certificate.as_bytes(), 0o644)?;
        }
        let pem = fs::read(&path).map_err(failed("read", &path))?;
        Self::assemble(&key, pair, &pem, path)
    }

    /// Where the certificate is that clients have to trust.
    pub fn certificate_path(&self) -> &Path {
        &self.path
    }

    /// The certificate that clients have to trust.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The server side of TLS with a certificate for `names`, made now or earlier today.
    pub fn server_config(&self, names: &LeafNames) -> Result<Arc<ServerConfig>, TlsError> {
        self.leaves.get(&self.issuer, names, Utc::now().date_naive())
    }

    fn assemble(key: &str, pair: KeyPair, certificate: &[u8], path: PathBuf) -> Result<Self, TlsError> {
        let wrong = || TlsError::NotAnAuthority { path: path.clone() };
        let certificate = CertificateDer::from_pem_slice(certificate).map_err(|_| wrong())?;
        let private = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|_| wrong())?;
        // Compares the public key in the certificate with the private one.
        CertifiedKey::from_der(vec![certificate.clone()], private, &provider()).map_err(|_| wrong())?;
        let issuer = Issuer::from_ca_cert_der(&certificate, pair).map_err(|_| wrong())?;
        Ok(Self {
            issuer,
            certificate,
            path,
            leaves: Leaves::default(),
        })
    }
}

fn self_signed(key: &KeyPair, today: NaiveDate) -> Result<String, TlsError> {
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::OrganizationName, "Tollgate");
    params.distinguished_name.push(
        DnType::CommonName,
        format!("Tollgate local authority of {}", host.trim()),
    );
    // It signs leaves and nothing else: no authority below it.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let (first, last) = (today - Days::new(1), today + VALID);
    params.not_before = rcgen::date_time_ymd(first.year(), month(first), day(first));
    params.not_after = rcgen::date_time_ymd(last.year(), month(last), day(last));
    Ok(params.self_signed(key).map_err(TlsError::Make)?.pem())
}

fn read_key(path: &Path) -> Result<Option<Zeroizing<String>>, TlsError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("read", path)(error)),
    };
    let mode = file.metadata().map_err(failed("read", path))?.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(TlsError::LooseKey {
            path: path.to_owned(),
            mode,
        });
    }
    let pem = io::read_to_string(file).map_err(failed("read", path))?;
    Ok(Some(Zeroizing::new(pem)))
}

/// Puts a complete file at `path`, with its mode from the first byte on; a file that is there already stays.
fn place(path: &Path, bytes: &[u8], mode: u32) -> Result<(), TlsError> {
    let draft = path.with_extension(format!("new-{}", uuid::Uuid::now_v7().simple()));
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&draft)
        .and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        })
        .and_then(|()| match fs::hard_link(&draft, path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            linked => linked,
        });
    // What was linked has its own name now; what was not is of no use.
    let removed = fs::remove_file(&draft);
    written.and(removed).map_err(failed("write", path))
}

fn failed<'a>(doing: &'static str, path: &'a Path) -> impl Fn(io::Error) -> TlsError + 'a {
    move |source| TlsError::File {
        doing,
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests;
