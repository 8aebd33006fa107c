//! Local certificate authority, leaf certificates, upstream verification.
//!
//! Knows certificates and handshakes; does not know which protocol is spoken inside, nor when TLS starts in it.
//! One cryptographic provider, aws-lc-rs, named in each configuration, so that no process-wide default decides.
//!
//! Known limits: certificates of targets are not checked for revocation (no CRL, no OCSP); clients' certificates are
//! not asked for; an authority is valid for ten years and is not renewed by itself.

mod alert;
mod authority;
mod client_identity;
mod hello;
mod intercept;
mod leaf;
mod opening;
mod prefixed;
mod stream;
pub mod trust;
mod unverified;
mod upstream;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

pub use alert::Alert;
pub use authority::{AuthorityView, GRACE, LocalCa, Permitted, pem, replace};
pub use client_identity::ClientIdentity;
pub use hello::{ClientHello, HelloError, HelloReader};
pub use intercept::{Intercepted, NotIntercepted, Terms, Why, intercept};
pub use leaf::LeafNames;
pub use opening::{ClientFault, Hello, Opening, TerminateError, WorkloadTls, closed_without_a_word};
pub use prefixed::Prefixed;
pub use stream::MaybeTls;
pub use upstream::{Offer, Secured, TargetTls, Upstream};

/// Why TLS cannot be had. Each sentence says what to do.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file of the local authority, or a CA file of a policy, cannot be used.
    #[error("cannot {doing} {}; check that it exists and that the agent's user may do so", path.display())]
    File {
        /// What was tried.
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The authority's key can be read by others, so anybody may have made certificates with it.
    #[error(
        "{} can be read by others (mode {mode:03o}): remove this file and ca.pem beside it, so that a new authority is \
         made at the next start, and distribute the new ca.pem", path.display()
    )]
    LooseKey {
        /// The key file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The certificate is there and its key is not.
    #[error(
        "{} is missing, but ca.pem beside it is there: put the key back, or remove ca.pem, so that a new authority is \
         made, and distribute the new one", path.display()
    )]
    KeyMissing {
        /// The key file.
        path: PathBuf,
    },
    /// Key and certificate do not belong together, or are not what they should be.
    #[error(
        "{} and its key are not a certificate authority: restore both, or remove both, so that a new authority is \
         made, and distribute the new one", path.display()
    )]
    NotAnAuthority {
        /// The certificate file.
        path: PathBuf,
    },
    /// A certificate could not be made.
    #[error("cannot make a certificate; this is a fault of the agent: please report it")]
    Make(#[source] rcgen::Error),
    /// A configuration could not be made.
    #[error("cannot configure TLS; this is a fault of the agent: please report it")]
    Configure(#[source] rustls::Error),
    /// No certificate authority is known by which a target could be verified.
    #[error(
        "this system has no certificate authorities: install ca-certificates, or name a file in tls.ca of the service"
    )]
    NoRoots,
    /// A CA file holds no usable certificate.
    #[error("{} holds no certificate that could verify a server: it has to be PEM, with at least one CERTIFICATE", path.display())]
    NotACa {
        /// The CA file.
        path: PathBuf,
    },
    /// The name to verify is not a name.
    #[error(
        "\"{name}\" cannot be verified as the name of a server: set tls.server_name of the service to the name in its certificate"
    )]
    BadName {
        /// The name, as the policy has it.
        name: String,
    },
    /// The target's certificate has expired or is not valid yet.
    #[error(
        "the certificate of {name} has expired or is not valid yet: renew it on the server, and check the clocks of both hosts"
    )]
    Expired {
        /// The name that was verified.
        name: String,
    },
    /// No known authority vouches for the target.
    #[error(
        "the certificate of {name} was issued by an authority that is not trusted: name the file of the right authority in tls.ca of the service"
    )]
    UnknownAuthority {
        /// The name that was verified.
        name: String,
    },
    /// The certificate is for another name.
    #[error(
        "the certificate of the server is not for {name}: set tls.server_name of the service to a name in it, or have it issued for this one"
    )]
    WrongName {
        /// The name that was verified.
        name: String,
    },
    /// An authority's own certificate is used as a server's.
    #[error(
        "the server {name} uses the certificate of an authority (CA:TRUE) as its own: issue it a certificate of its own, signed by that authority"
    )]
    AuthorityAsServer {
        /// The name that was verified.
        name: String,
    },
    /// The certificate is unusable for another reason.
    #[error("the certificate of {name} cannot be used; the reason is in the agent's log: issue a new one")]
    BadCertificate {
        /// The name that was verified.
        name: String,
        /// What rustls says.
        #[source]
        source: rustls::Error,
    },
    /// A certificate and key that the agent should show do not belong together, or are none.
    #[error(
        "the credential is no certificate with its key: it has to hold both in PEM, the key unencrypted, and the certificates \
         of authorities in between after the certificate"
    )]
    NotAnIdentity,
    /// The target insists on a certificate of its clients.
    #[error(
        "{name} asks its clients for a certificate{}: give the service a credential with inject = \"tls\", or make it protocol = \
         \"opaque\", so that the client shows its own",
        if *.shown { ", and does not accept the one that it was shown" } else { "" }
    )]
    ClientCertificate {
        /// The target.
        name: String,
        /// Whether it was shown one.
        shown: bool,
    },
    /// The peer does not speak TLS as it should, or refuses what is offered.
    #[error(
        "no TLS connection could be agreed on with the peer: TLS 1.2 or 1.3 with a modern cipher is needed on both sides"
    )]
    Handshake(#[source] io::Error),
}

impl TlsError {
    /// Whether the agent or its configuration is at fault, and not the peer.
    pub fn is_ours(&self) -> bool {
        match self {
            Self::File { .. }
            | Self::LooseKey { .. }
            | Self::KeyMissing { .. }
            | Self::NotAnAuthority { .. }
            | Self::Make(_)
            | Self::Configure(_)
            | Self::NoRoots
            | Self::NotACa { .. }
            | Self::NotAnIdentity
            | Self::BadName { .. } => true,
            Self::Expired { .. }
            | Self::UnknownAuthority { .. }
            | Self::WrongName { .. }
            | Self::AuthorityAsServer { .. }
            | Self::BadCertificate { .. }
            | Self::ClientCertificate { .. }
            | Self::Handshake(_) => false,
        }
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}
