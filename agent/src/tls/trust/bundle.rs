//! A bundle: the system's authorities and more, in one PEM file, as most clients take it.

use std::collections::BTreeSet;
use std::path::Path;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// The certificates of a PEM file, as far as there are any that can be read.
pub fn certificates_of(path: &Path) -> Vec<CertificateDer<'static>> {
    std::fs::read(path)
        .map(|pem| CertificateDer::pem_slice_iter(&pem).flatten().collect::<Vec<_>>())
        .unwrap_or_default()
}

/// The system's authorities and `more`, each once.
pub fn bundle(more: impl IntoIterator<Item = CertificateDer<'static>>) -> Vec<CertificateDer<'static>> {
    let mut seen = BTreeSet::new();
    let all = rustls_native_certs::load_native_certs()
        .certs
        .into_iter()
        .chain(more);
    all.filter(|certificate| seen.insert(certificate.to_vec()))
        .collect()
}
