//! Java's trust store, in the format that every version of Java reads (JKS, version 2).
//!
//! All numbers are big-endian; texts are their length in two bytes and then UTF-8. At its end stands SHA-1 over the password,
//! a fixed phrase and everything before it: a check against damage, and no secret.

use aws_lc_rs::digest;
use rustls::pki_types::CertificateDer;

/// The password of every trust store that Java comes with.
pub const JKS_PASSWORD: &str = "changeit";
const MAGIC: u32 = 0xfeed_feed;
const VERSION: u32 = 2;
const TRUSTED: u32 = 2;
const PHRASE: &[u8] = b"Mighty Aphrodite";

/// A trust store with these certificates.
pub fn jks(certificates: &[CertificateDer<'static>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let count = u32::try_from(certificates.len()).unwrap_or(u32::MAX);
    for number in [MAGIC, VERSION, count] {
        bytes.extend(number.to_be_bytes());
    }
    for (index, certificate) in certificates.iter().enumerate() {
        bytes.extend(TRUSTED.to_be_bytes());
        text(&mut bytes, &format!("ca-{index}"));
        // When it was added: of no account.
        bytes.extend(0_u64.to_be_bytes());
        text(&mut bytes, "X.509");
        bytes.extend(u32::try_from(certificate.len()).unwrap_or(u32::MAX).to_be_bytes());
        bytes.extend_from_slice(certificate);
    }
    let mut hash = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    for unit in JKS_PASSWORD.encode_utf16() {
        hash.update(&unit.to_be_bytes());
    }
    hash.update(PHRASE);
    hash.update(&bytes);
    bytes.extend(hash.finish().as_ref());
    bytes
}

fn text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend(u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes());
    bytes.extend(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::CertificateDer;

    use super::jks;

    #[test]
    fn a_store_is_laid_out_as_java_reads_it() {
        let bytes = jks(&[CertificateDer::from(vec![0x30, 0x00])]);
        let expected = [
            &[0xfe, 0xed, 0xfe, 0xed, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2][..],
            b"\0\x04ca-0",
            &[0; 8],
            b"\0\x05X.509",
            &[0, 0, 0, 2, 0x30, 0x00],
        ]
        .concat();
        assert_eq!(bytes.get(..expected.len()), Some(expected.as_slice()));
        assert_eq!(bytes.len(), expected.len() + 20);
    }
}
