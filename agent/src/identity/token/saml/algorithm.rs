//! Algorithms by their names in XML (RFC 9231; XML Signature 1.1 §6), and keys of metadata.
//!
//! SHA-1, DSA, HMAC and keys of RSA under 2048 bits are not here, whatever a document asks for.

use aws_lc_rs::digest;
use aws_lc_rs::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use x509_parser::prelude::{FromDer, X509Certificate};

/// How a signature is verified.
#[derive(Clone, Copy)]
pub(super) struct SignatureMethod(&'static dyn VerificationAlgorithm);

impl SignatureMethod {
    pub(super) fn named(uri: &str) -> Option<Self> {
        SIGNATURES
            .iter()
            .find(|(name, _)| *name == uri)
            .map(|(_, algorithm)| Self(*algorithm))
    }
}

/// How a digest is made.
#[derive(Clone, Copy)]
pub(super) struct DigestMethod(&'static digest::Algorithm);

impl DigestMethod {
    pub(super) fn named(uri: &str) -> Option<Self> {
        DIGESTS
            .iter()
            .find(|(name, _)| *name == uri)
            .map(|(_, algorithm)| Self(algorithm))
    }

    pub(super) fn is_of(self, octets: &[u8], digest: &[u8]) -> bool {
        digest::digest(self.0, octets).as_ref() == digest
    }
}

/// A public key that an identity provider's metadata lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    /// X.509 `SubjectPublicKeyInfo`, DER.
    public: Vec<u8>,
    /// SHA-256 of the certificate, lower-case hex: how people name it.
    pub(super) fingerprint: String,
}

impl Key {
    /// The key in a certificate (DER). The certificate carries it and says no more: its dates, names and issuer have no
    /// meaning in SAML metadata, whose own place and validity count.
    pub(super) fn of_certificate(der: &[u8]) -> Option<Self> {
        let (rest, certificate) = X509Certificate::from_der(der).ok()?;
        rest.is_empty().then(|| Self {
            public: certificate.public_key().raw.to_vec(),
            fingerprint: hex::encode(digest::digest(&digest::SHA256, der)),
        })
    }

    pub(super) fn made(&self, method: SignatureMethod, octets: &[u8], value: &[u8]) -> bool {
        UnparsedPublicKey::new(method.0, &self.public)
            .verify(octets, value)
            .is_ok()
    }
}

const SIGNATURES: &[(&str, &dyn VerificationAlgorithm)] = &[
    (
        "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256",
        &signature::RSA_PKCS1_2048_8192_SHA256,
    ),
    (
        "http://www.w3.org/2001/04/xmldsig-more#rsa-sha384",
        &signature::RSA_PKCS1_2048_8192_SHA384,
    ),
    (
        "http://www.w3.org/2001/04/xmldsig-more#rsa-sha512",
        &signature::RSA_PKCS1_2048_8192_SHA512,
    ),
    (
        "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256",
        &signature::ECDSA_P256_SHA256_FIXED,
    ),
    (
        "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384",
        &signature::ECDSA_P384_SHA384_FIXED,
    ),
    (
        "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha512",
        &signature::ECDSA_P521_SHA512_FIXED,
    ),
];

const DIGESTS: &[(&str, &digest::Algorithm)] = &[
    ("http://www.w3.org/2001/04/xmlenc#sha256", &digest::SHA256),
    ("http://www.w3.org/2001/04/xmldsig-more#sha384", &digest::SHA384),
    ("http://www.w3.org/2001/04/xmlenc#sha512", &digest::SHA512),
];
