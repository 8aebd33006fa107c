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

use super::unverified::Unverified;
use super::{TlsError, provider};

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

    /// Shakes hands as a client, and verifies as the service asks for.
    ///
    /// # Errors
    /// The handshake fails, or the certificate does not stand; also where the mode is [`TlsMode::Disable`]: whoever
    /// calls this has to have looked.
    pub async fn connect<S>(&self, name: ServerName<'static>, stream: S) -> Result<TlsStream<S>, TlsError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let config = self
            .config
            .clone()
            .ok_or(TlsError::Configure(rustls::Error::General(
                "TLS is disabled for this service".to_owned(),
            )))?;
        let shown = name.to_str().into_owned();
        TlsConnector::from(config)
            .connect(name, stream)
            .await
            .map_err(|error| explain(error, shown))
    }
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
