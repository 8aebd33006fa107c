//! Alerts of TLS (RFC 8446 §6): what a client is told whose connection does not come about, and what its own mean.

use rustls::AlertDescription;

/// Why a connection does not come about, in the words that TLS has for it. Sent before anything is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alert {
    /// The policy does not want it (`access_denied`).
    Refused,
    /// It asks for a server that the policy does not have at this address (`unrecognized_name`).
    UnknownName,
    /// None of the protocols that it offers is spoken (`no_application_protocol`).
    NoProtocol,
    /// Only versions that are not secure any more (`protocol_version`).
    OldVersion,
    /// Its message cannot be read (`decode_error`).
    Malformed,
    /// The target, or the agent, is at fault (`internal_error`).
    Failed,
}

impl Alert {
    /// Its record. Version 1.2, as in every record of TLS 1.2 and 1.3.
    pub(super) fn record(self) -> [u8; 7] {
        let description = match self {
            Self::Refused => 49,
            Self::UnknownName => 112,
            Self::NoProtocol => 120,
            Self::OldVersion => 70,
            Self::Malformed => 50,
            Self::Failed => 80,
        };
        [21, 3, 3, 0, 2, 2, description]
    }
}

/// Whether a client says by this alert that it does not accept the certificate it was shown.
pub(super) fn is_distrust(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateRevoked
            | AlertDescription::AccessDenied
    )
}

/// Whether a target says by this alert that it wants a certificate of the client, or another one.
pub(super) fn is_about_client_certificate(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::HandshakeFailure
            | AlertDescription::AccessDenied
    )
}
