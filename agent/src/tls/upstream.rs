//! TLS towards a target, as its service asks for.

use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{CertificateError, ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::config::{EndpointHost, TlsMode, TlsSpec};

use super::alert::is_about_client_certificate;
use super::client_identity::{ClientIdentity, Shown};
use super::unverified::Unverified;
use super::{TlsError, provider};

/// The target's end of a connection.
pub type TargetTls<S> = TlsStream<S>;

/// What the agent offers to a target.
#[derive(Clone, Debug, Default)]
pub struct Offer<'a> {
    /// Protocols to be spoken inside, the best first; none: ALPN is not mentioned.
    pub alpn: Vec<Vec<u8>>,
    /// What it shows to a target that asks for a certificate.
    pub identity: Option<&'a ClientIdentity>,
}

/// A connection to a target that was verified.
#[derive(Debug)]
pub struct Secured<S> {
    /// The connection.
    pub stream: TargetTls<S>,
    /// Whether the target asked for a certificate and got none.
    pub without_certificate: bool,
}

/// How the targets of one service are spoken to. Made once a policy, shared by its sessions.
#[derive(Clone, Debug)]
pub struct Upstream {
    mode: TlsMode,
    config: Option<Arc<ClientConfig>>,
    server_name: Option<ServerName<'static>>,
}

impl Upstream {
    /// Reads the authorities that `spec` names, or the system's.
    ///
    /// # Errors
    /// The CA file cannot be read or holds no certificate, the system has none, or `server_name` is not a name.
    pub fn from_spec(spec: &TlsSpec) -> Result<Self, TlsError> {
        let config = match spec.upstream {
            TlsMode::Disable => None,
            TlsMode::Require => Some(unverified()?),
            TlsMode::VerifyFull => Some(verifying(match &spec.ca {
                Some(path) => roots_of_file(path)?,
                None => roots_of_system()?,
            })?),
        };
        Ok(Self {
            mode: spec.upstream,
            config: config.map(Arc::new),
            server_name: spec.server_name.as_deref().map(parse_name).transpose()?,
        })
    }

    /// What the service asks for.
    pub fn mode(&self) -> TlsMode {
        self.mode
    }

    /// The name that the target's certificate has to be for: `tls.server_name`, else the endpoint's name, else its
    /// address.
    pub fn name(&self, host: &EndpointHost, address: IpAddr) -> Result<ServerName<'static>, TlsError> {
        match (&self.server_name, host) {
            (Some(name), _) => Ok(name.clone()),
            (None, EndpointHost::Name(name)) => parse_name(name),
            (None, EndpointHost::Net(_)) => Ok(ServerName::IpAddress(address.to_canonical().into())),
        }
    }

    /// As [`Upstream::name`], for a client that asks for a server by itself (SNI). What it asks for counts only where nothing
    /// is verified and the policy has no name: a server that is told none may not know which certificate to show.
    pub fn asked(
        &self,
        host: &EndpointHost,
        address: IpAddr,
        sni: Option<&str>,
    ) -> Result<ServerName<'static>, TlsError> {
        match (&self.server_name, host, self.mode, sni) {
            (None, EndpointHost::Net(_), TlsMode::Require, Some(sni)) => parse_name(sni),
            _ => self.name(host, address),
        }
    }

    /// Shakes hands as a client, and verifies as the service asks for.
    ///
    /// # Errors
    /// The handshake fails, or the certificate does not stand; also where the mode is [`TlsMode::Disable`]: whoever
    /// calls this has to have looked.
    pub async fn connect<S>(&self, name: ServerName<'static>, stream: S) -> Result<TlsStream<S>, TlsError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let shown = name.to_str().into_owned();
        TlsConnector::from(self.config()?)
            .connect(name, stream)
            .await
            .map_err(|error| explain(error, shown))
    }

    /// As [`Upstream::connect`], with what is offered.
    ///
    /// # Errors
    /// As there, and where the target wants a certificate, or another one, and says so before the handshake is over (TLS 1.2).
    pub async fn connect_offering<S>(
        &self,
        name: ServerName<'static>,
        offer: Offer<'_>,
        stream: S,
    ) -> Result<Secured<S>, TlsError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut config = ClientConfig::clone(self.config()?.as_ref());
        config.alpn_protocols = offer.alpn;
        if let Some(identity) = offer.identity {
            config.resumption = identity.resumption.clone();
        }
        let shown = Arc::new(Shown::new(offer.identity.cloned()));
        config.client_auth_cert_resolver = shown.clone();
        let text = name.to_str().into_owned();
        let connected = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
        match connected {
            Ok(stream) => Ok(Secured {
                stream,
                without_certificate: shown.was_asked() && offer.identity.is_none(),
            }),
            Err(error) if shown.was_asked() && wants_certificate(&error) => {
                Err(TlsError::ClientCertificate {
                    name: text,
                    shown: offer.identity.is_some(),
                })
            }
            Err(error) => Err(explain(error, text)),
        }
    }

    fn config(&self) -> Result<Arc<ClientConfig>, TlsError> {
        self.config
            .clone()
            .ok_or(TlsError::Configure(rustls::Error::General(
                "TLS is disabled for this service".to_owned(),
            )))
    }
}

impl TlsError {
    /// What a target means that ends a connection after the handshake, where that is about a certificate of the client:
    /// TLS 1.3 has no earlier time for it. `None`: it is about something else.
    pub fn of_target(error: &io::Error, name: &str, shown: bool) -> Option<Self> {
        wants_certificate(error).then(|| Self::ClientCertificate {
            name: name.to_owned(),
            shown,
        })
    }
}

fn wants_certificate(error: &io::Error) -> bool {
    let cause = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(cause, Some(rustls::Error::AlertReceived(alert)) if is_about_client_certificate(*alert))
}

fn parse_name(name: &str) -> Result<ServerName<'static>, TlsError> {
    ServerName::try_from(name.to_owned()).map_err(|_| TlsError::BadName {
        name: name.to_owned(),
    })
}

fn unverified() -> Result<ClientConfig, TlsError> {
    let provider = provider();
    Ok(ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Configure)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Unverified::new(provider)))
        .with_no_client_auth())
}

fn verifying(roots: RootCertStore) -> Result<ClientConfig, TlsError> {
    Ok(ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Configure)?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

fn roots_of_file(path: &Path) -> Result<RootCertStore, TlsError> {
    let pem = std::fs::read(path).map_err(|source| TlsError::File {
        doing: "read",
        path: path.to_owned(),
        source,
    })?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        // One bad certificate in a bundle would mean that some server is refused without a reason that anybody
        // could see, so it spoils the file.
        certificate
            .ok()
            .and_then(|certificate| roots.add(certificate).ok())
            .ok_or_else(|| TlsError::NotACa {
                path: path.to_owned(),
            })?;
    }
    if roots.is_empty() {
        return Err(TlsError::NotACa {
            path: path.to_owned(),
        });
    }
    Ok(roots)
}

fn roots_of_system() -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    // Unlike a file that a policy names, the system's store is known to hold certificates that cannot be parsed.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(TlsError::NoRoots);
    }
    Ok(roots)
}

fn explain(error: io::Error, name: String) -> TlsError {
    let cause = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>())
        .cloned();
    let Some(cause) = cause else {
        return TlsError::Handshake(error);
    };
    let rustls::Error::InvalidCertificate(certificate) = &cause else {
        return TlsError::Handshake(error);
    };
    match certificate {
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => TlsError::Expired { name },
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            TlsError::UnknownAuthority { name }
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            TlsError::WrongName { name }
        }
        // rustls has no variant of its own for webpki's CaUsedAsEndEntity.
        CertificateError::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => {
            TlsError::AuthorityAsServer { name }
        }
        _ => TlsError::BadCertificate { name, source: cause },
    }
}

#[cfg(test)]
mod tests;
