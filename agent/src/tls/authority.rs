//! The local certificate authority: made on first start, kept under the state directory.
//!
//! Keys are for the agent's user alone (0600). Certificates are for everybody: clients that verify have to trust them.
//!
//! There can be several at a time. Another is made when `tollgate ca rotate` asks for it, and when the policies have names
//! that those which are there may not vouch for ([`Permitted`]). It signs in the place of those before it after a time of
//! grace, in which it can be distributed, and until then only for names that they may not vouch for. So whoever trusts one
//! of them goes on, and whoever trusts all of them notices nothing. What does not sign any more is removed, key and all.
//!
//! Known limit: a client that trusts only a retired authority is refused its connection by itself; which clients those are
//! shows in the log when it happens.

mod pair;
mod permitted;

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;

use pair::{Number, Pair, failed};
pub use permitted::Permitted;

use super::leaf::{Leaves, ServerSide};
use super::{LeafNames, TlsError};

/// For how long an authority is only trusted before it signs, where nobody says otherwise.
pub const GRACE: Duration = Duration::from_hours(7 * 24);
/// How often the files are looked at for another authority.
const LOOK: Duration = Duration::from_secs(1);

/// The local certificate authority, with the leaves that it has made.
pub struct LocalCa {
    dir: PathBuf,
    state: Mutex<State>,
    leaves: Leaves,
}

/// An authority, as people are shown it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorityView {
    /// Its certificate's file.
    pub path: PathBuf,
    /// The certificate.
    pub certificate: CertificateDer<'static>,
    /// What it may vouch for.
    pub permitted: Permitted,
    /// From when on it signs in the place of those before it.
    pub from: DateTime<Utc>,
    /// Whether it is the one that signs now.
    pub signs: bool,
}

struct State {
    /// Ascending; at least one.
    pairs: Vec<Arc<Pair>>,
    looked: Instant,
}

impl fmt::Debug for LocalCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalCa")
            .field("dir", &self.dir)
            .finish_non_exhaustive()
    }
}

impl LocalCa {
    /// Opens the authority in `dir`, or makes it there on first start, for every name. The directory is made where it is
    /// missing.
    ///
    /// Two agents that start at once end with the same authority. A start that was cut off between the key and the
    /// certificate is finished.
    ///
    /// # Errors
    /// The files cannot be read or written, the key can be read by others, or the two do not belong together.
    pub fn open_or_create(dir: &Path) -> Result<Self, TlsError> {
        Self::open_for(dir, &Permitted::Any)
    }

    /// As [`LocalCa::open_or_create`]; what is made is for `wanted` alone.
    pub fn open_for(dir: &Path, wanted: &Permitted) -> Result<Self, TlsError> {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o755);
        builder.create(dir).map_err(failed("make the directory", dir))?;
        if numbers(dir)?.is_empty() {
            Pair::make(dir, Number(1), wanted, None)?;
        }
        Ok(Self {
            dir: dir.to_owned(),
            state: Mutex::new(State {
                pairs: open(dir)?,
                looked: Instant::now(),
            }),
            leaves: Leaves::new()?,
        })
    }

    /// Makes another authority where those that are there may not vouch for all of `wanted`. Whether it did.
    ///
    /// # Errors
    /// The files cannot be written.
    pub fn extend(&self, wanted: &Permitted) -> Result<bool, TlsError> {
        self.retire(Utc::now())?;
        let covered = self.pairs().iter().any(|pair| pair.permitted.covers(wanted));
        if covered {
            return Ok(false);
        }
        self.rotate(wanted, GRACE)?;
        Ok(true)
    }

    /// Makes another authority, for `wanted` alone, that signs in the place of those that are there after `grace`.
    ///
    /// # Errors
    /// The files cannot be written.
    pub fn rotate(&self, wanted: &Permitted, grace: Duration) -> Result<AuthorityView, TlsError> {
        self.retire(Utc::now())?;
        let last = numbers(&self.dir)?
            .into_iter()
            .max()
            .map_or(0, |Number(number)| number);
        let number = Number(last + 1);
        Pair::make(&self.dir, number, wanted, Some(Utc::now() + grace))?;
        self.read()?;
        let views = self.list();
        let path = number.certificate(&self.dir);
        let made = views.into_iter().find(|view| view.path == path);
        made.ok_or(TlsError::NotAnAuthority { path })
    }

    /// All that are there, in the order in which they sign.
    pub fn list(&self) -> Vec<AuthorityView> {
        let pairs = self.pairs();
        let signing = signing(&pairs, Utc::now());
        pairs
            .iter()
            .enumerate()
            .map(|(index, pair)| AuthorityView {
                path: pair.number.certificate(&self.dir),
                certificate: pair.certificate.clone(),
                permitted: pair.permitted.clone(),
                from: pair.from,
                signs: index == signing,
            })
            .collect()
    }

    /// The certificate of the authority that signs.
    pub fn certificate(&self) -> CertificateDer<'static> {
        let pairs = self.pairs();
        let signing = pairs.get(signing(&pairs, Utc::now()));
        signing.map_or_else(
            || CertificateDer::from(Vec::new()),
            |pair| pair.certificate.clone(),
        )
    }

    /// Where the certificate of the authority that signs is.
    pub fn certificate_path(&self) -> PathBuf {
        let pairs = self.pairs();
        let signing = pairs.get(signing(&pairs, Utc::now()));
        signing.map_or_else(|| self.dir.clone(), |pair| pair.number.certificate(&self.dir))
    }

    /// What clients have to trust: the certificates of all authorities, PEM.
    pub fn trusted_pem(&self) -> String {
        pem(self.list().iter().map(|view| &view.certificate))
    }

    /// Writes [`LocalCa::trusted_pem`] to `path`, for everybody to read, if that is not what is there.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn publish(&self, path: &Path) -> Result<(), TlsError> {
        let wanted = self.trusted_pem();
        if fs::read_to_string(path).is_ok_and(|there| there == wanted) {
            return Ok(());
        }
        replace(path, wanted.as_bytes())
    }

    /// The server side of TLS with a certificate for `names`, made now or earlier today.
    pub fn server_config(&self, names: &LeafNames) -> Result<Arc<ServerConfig>, TlsError> {
        self.look();
        let now = Utc::now();
        let pairs = self.pairs();
        let signing = signing(&pairs, now);
        let able = || {
            pairs
                .iter()
                .skip(signing)
                .find(|pair| pair.permitted.permits(names))
        };
        // A client that does not verify gets along with a certificate that its authority may not make.
        let Some(pair) = able().or_else(|| pairs.get(signing)) else {
            return Err(TlsError::KeyMissing {
                path: self.dir.clone(),
            });
        };
        let side = ServerSide {
            issuer: &pair.issuer,
            authority: pair.number.0,
        };
        self.leaves.get(side, names, now.date_naive())
    }

    fn pairs(&self) -> Vec<Arc<Pair>> {
        self.state.lock().pairs.clone()
    }

    /// Reads the files again where another authority is there, or one is gone; at most once in [`LOOK`].
    fn look(&self) {
        {
            let mut state = self.state.lock();
            if state.looked.elapsed() < LOOK {
                return;
            }
            state.looked = Instant::now();
        }
        let known: Vec<Number> = self.pairs().iter().map(|pair| pair.number).collect();
        let changed = numbers(&self.dir).map(|numbers| numbers != known);
        let read = match changed {
            Ok(true) => self.read(),
            Ok(false) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = read {
            tracing::error!("the authorities from before go on: {error}");
        }
    }

    fn read(&self) -> Result<(), TlsError> {
        let pairs = open(&self.dir)?;
        self.state.lock().pairs = pairs;
        Ok(())
    }

    /// Removes what does not sign any more.
    fn retire(&self, now: DateTime<Utc>) -> Result<(), TlsError> {
        self.read()?;
        let pairs = self.pairs();
        let signing = signing(&pairs, now);
        for pair in pairs.iter().take(signing) {
            Pair::retire(&self.dir, pair.number)?;
        }
        if signing > 0 {
            self.read()?;
        }
        Ok(())
    }

    /// As if the last look had been long ago.
    #[cfg(test)]
    fn forget_the_look(&self) {
        if let Some(before) = Instant::now().checked_sub(LOOK) {
            self.state.lock().looked = before;
        }
    }

    #[cfg(test)]
    fn leaves(&self) -> usize {
        self.leaves.len()
    }
}

/// The last whose time has come.
fn signing(pairs: &[Arc<Pair>], now: DateTime<Utc>) -> usize {
    pairs
        .iter()
        .rposition(|pair| pair.from <= now)
        .unwrap_or_default()
}

/// Those whose certificates are there, ascending.
fn numbers(dir: &Path) -> Result<Vec<Number>, TlsError> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed("read", dir))? {
        let name = entry.map_err(failed("read", dir))?.file_name();
        numbers.extend(name.to_str().and_then(Number::of_certificate));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

fn open(dir: &Path) -> Result<Vec<Arc<Pair>>, TlsError> {
    let pairs = numbers(dir)?
        .into_iter()
        .map(|number| Pair::open(dir, number).map(Arc::new));
    pairs.collect()
}

/// Certificates as text that clients read.
pub fn pem<'a>(certificates: impl IntoIterator<Item = &'a CertificateDer<'static>>) -> String {
    use base64::Engine as _;
    let mut text = String::new();
    for certificate in certificates {
        let encoded = base64::engine::general_purpose::STANDARD.encode(certificate);
        text.push_str("-----BEGIN CERTIFICATE-----\n");
        let mut rest = encoded.as_str();
        while !rest.is_empty() {
            // Base64 is ASCII, so that every place is one between letters.
            let (line, after) = rest.split_at(rest.len().min(64));
            text.push_str(line);
            text.push('\n');
            rest = after;
        }
        text.push_str("-----END CERTIFICATE-----\n");
    }
    text
}

/// Puts a complete file at `path`, for everybody to read, in place of what was there.
///
/// # Errors
/// It cannot be written.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), TlsError> {
    let draft = path.with_extension(format!("new-{}", uuid::Uuid::now_v7().simple()));
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o644)
        .open(&draft)
        .and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        })
        .and_then(|()| fs::rename(&draft, path));
    if written.is_err() {
        // It may not even be there.
        let _ = fs::remove_file(&draft);
    }
    written.map_err(failed("write", path))
}

#[cfg(test)]
mod tests;
