//! Leaf certificates of the local authority, made when they are asked for. Their keys live in memory alone.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use chrono::{Datelike, Days, NaiveDate};
use parking_lot::Mutex;
use rcgen::{
    CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, SanType,
};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{NoServerSessionStorage, ProducesTickets};

use super::{TlsError, provider};

/// A workload decides which names it asks for, so it decides how many leaves there would be; past this many the
/// cache starts anew.
const MOST_LEAVES: usize = 1024;
/// Days before and after the day of its making on which a leaf is valid: clocks differ, sessions last.
const SLACK: Days = Days::new(1);
const VALID: Days = Days::new(8);

/// The names that a leaf certificate has to be for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LeafNames {
    dns: Vec<String>,
    address: Option<IpAddr>,
}

impl LeafNames {
    /// The names among them.
    pub(super) fn dns(&self) -> &[String] {
        &self.dns
    }

    /// The name asked for with SNI; without SNI, the names that the service is known by, and the address that the
    /// client dialled.
    pub fn asked(sni: Option<&str>, known: &[String], address: IpAddr) -> Self {
        match sni {
            Some(name) => Self {
                dns: vec![name.to_ascii_lowercase()],
                address: None,
            },
            None => Self {
                dns: known.to_vec(),
                address: Some(address.to_canonical()),
            },
        }
    }
}

/// Leaves that were made today.
pub(super) struct Leaves {
    made: Mutex<HashMap<LeafNames, Made>>,
    /// Of all leaves, so that what is kept for resumption does not grow with their number: the client keeps it.
    tickets: Arc<dyn ProducesTickets>,
}

struct Made {
    day: NaiveDate,
    authority: u32,
    config: Arc<ServerConfig>,
}

/// Who signs.
#[derive(Clone, Copy)]
pub(super) struct ServerSide<'a> {
    pub(super) issuer: &'a Issuer<'static, KeyPair>,
    /// Its number among this host's.
    pub(super) authority: u32,
}

impl Leaves {
    pub(super) fn new() -> Result<Self, TlsError> {
        Ok(Self {
            made: Mutex::default(),
            tickets: Ticketer::new().map_err(TlsError::Configure)?,
        })
    }

    /// The configuration with a leaf for `names`, made on `today`.
    pub(super) fn get(
        &self,
        side: ServerSide<'_>,
        names: &LeafNames,
        today: NaiveDate,
    ) -> Result<Arc<ServerConfig>, TlsError> {
        if let Some(made) = self.made.lock().get(names)
            && made.day == today
            && made.authority == side.authority
        {
            return Ok(Arc::clone(&made.config));
        }
        // Made outside the lock: two sessions that ask at once make two, and both are good.
        let mut config = configure(side.issuer, names, today)?;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = Arc::clone(&self.tickets);
        let config = Arc::new(config);
        let mut made = self.made.lock();
        if made.len() >= MOST_LEAVES {
            made.clear();
        }
        made.insert(
            names.clone(),
            Made {
                day: today,
                authority: side.authority,
                config: Arc::clone(&config),
            },
        );
        Ok(config)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.made.lock().len()
    }
}

fn configure(
    issuer: &Issuer<'static, KeyPair>,
    names: &LeafNames,
    today: NaiveDate,
) -> Result<ServerConfig, TlsError> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(TlsError::Make)?;
    let mut params = CertificateParams::new(names.dns.clone()).map_err(TlsError::Make)?;
    params
        .subject_alt_names
        .extend(names.address.map(SanType::IpAddress));
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::OrganizationName, "Tollgate");
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let (first, last) = (today - SLACK, today + VALID);
    params.not_before = rcgen::date_time_ymd(first.year(), month(first), day(first));
    params.not_after = rcgen::date_time_ymd(last.year(), month(last), day(last));
    let certificate = params.signed_by(&key, issuer).map_err(TlsError::Make)?;
    ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Configure)?
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
        )
        .map_err(TlsError::Configure)
}

pub(super) fn month(date: NaiveDate) -> u8 {
    u8::try_from(date.month()).unwrap_or(1)
}

pub(super) fn day(date: NaiveDate) -> u8 {
    u8::try_from(date.day()).unwrap_or(1)
}
