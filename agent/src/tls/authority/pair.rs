//! One authority: a certificate and its key, in two files.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use chrono::{DateTime, Datelike, Days, NaiveDate, Utc};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use zeroize::Zeroizing;

use super::super::leaf::{day, month};
use super::super::{TlsError, provider};
use super::permitted::Permitted;

/// Ten years: it has to be distributed by hand.
const VALID: Days = Days::new(3652);

/// Where an authority's files are. The first is `ca.key` and `ca.pem`; those after it are numbered, and say besides from
/// when on they sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Number(pub(super) u32);

impl Number {
    fn file(self, dir: &Path, extension: &str) -> PathBuf {
        dir.join(match self.0 {
            0 | 1 => format!("ca.{extension}"),
            number => format!("ca-{number}.{extension}"),
        })
    }

    pub(super) fn key(self, dir: &Path) -> PathBuf {
        self.file(dir, "key")
    }

    pub(super) fn certificate(self, dir: &Path) -> PathBuf {
        self.file(dir, "pem")
    }

    /// What the file of a certificate is called; `None`: it is another file.
    pub(super) fn of_certificate(name: &str) -> Option<Self> {
        let number = name.strip_prefix("ca")?.strip_suffix(".pem")?;
        if number.is_empty() {
            return Some(Self(1));
        }
        let number = number.strip_prefix('-')?.parse().ok()?;
        (number > 1).then_some(Self(number))
    }
}

/// An authority that can sign.
pub(super) struct Pair {
    pub(super) number: Number,
    pub(super) issuer: Issuer<'static, KeyPair>,
    pub(super) certificate: CertificateDer<'static>,
    pub(super) permitted: Permitted,
    /// From when on it signs in the place of those before it.
    pub(super) from: DateTime<Utc>,
}

impl Pair {
    /// Opens it.
    pub(super) fn open(dir: &Path, number: Number) -> Result<Self, TlsError> {
        let (key_path, path) = (number.key(dir), number.certificate(dir));
        let key = read_key(&key_path)?.ok_or(TlsError::KeyMissing { path: key_path })?;
        let pem = fs::read(&path).map_err(failed("read", &path))?;
        let wrong = || TlsError::NotAnAuthority { path: path.clone() };
        let pair = KeyPair::from_pem(&key).map_err(|_| wrong())?;
        let certificate = CertificateDer::from_pem_slice(&pem).map_err(|_| wrong())?;
        let private = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|_| wrong())?;
        // Compares the public key in the certificate with the private one.
        CertifiedKey::from_der(vec![certificate.clone()], private, &provider()).map_err(|_| wrong())?;
        let issuer = Issuer::from_ca_cert_der(&certificate, pair).map_err(|_| wrong())?;
        let permitted = {
            let (_, parsed) = x509_parser::parse_x509_certificate(&certificate).map_err(|_| wrong())?;
            Permitted::of_certificate(&parsed).ok_or_else(wrong)?
        };
        let since = number.file(dir, "from");
        let from = match fs::read_to_string(&since) {
            Ok(text) => text
                .trim()
                .parse()
                .map_err(|_| TlsError::NotAnAuthority { path: since })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => DateTime::UNIX_EPOCH,
            Err(error) => return Err(failed("read", &since)(error)),
        };
        Ok(Self {
            number,
            issuer,
            certificate,
            permitted,
            from,
        })
    }

    /// Makes it, where it is not there yet; of two that make it at once one wins, and both end with the same.
    ///
    /// The certificate comes last: it counts when it is there. A start that was cut off before is finished.
    pub(super) fn make(
        dir: &Path,
        number: Number,
        permitted: &Permitted,
        from: Option<DateTime<Utc>>,
    ) -> Result<(), TlsError> {
        let (key_path, path) = (number.key(dir), number.certificate(dir));
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
        if path.exists() {
            return Ok(());
        }
        if let Some(from) = from {
            place(&number.file(dir, "from"), from.to_rfc3339().as_bytes(), 0o644)?;
        }
        let pair = KeyPair::from_pem(&key).map_err(|_| TlsError::NotAnAuthority { path: path.clone() })?;
        let certificate = self_signed(&pair, permitted, Utc::now().date_naive())?;
        place(&path, certificate.as_bytes(), 0o644)
    }

    /// Removes it, its certificate first: without it the rest does not count, and is removed by the next retirement.
    pub(super) fn retire(dir: &Path, number: Number) -> Result<(), TlsError> {
        for path in [number.certificate(dir), number.key(dir), number.file(dir, "from")] {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(failed("remove", &path)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn self_signed(key: &KeyPair, permitted: &Permitted, today: NaiveDate) -> Result<String, TlsError> {
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
    params.name_constraints = permitted.constraints();
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
pub(super) fn place(path: &Path, bytes: &[u8], mode: u32) -> Result<(), TlsError> {
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

pub(super) fn failed<'a>(doing: &'static str, path: &'a Path) -> impl Fn(io::Error) -> TlsError + 'a {
    move |source| TlsError::File {
        doing,
        path: path.to_owned(),
        source,
    }
}
