//! Cookies: one of them taken out, one put in, the others as they are.

use http::header::COOKIE;
use http::request::Parts;
use zeroize::Zeroizing;

use super::{InjectError, value};

/// Takes out every cookie for which `keep` says no; it is asked for name and value. Where none has to go nothing is changed.
pub(super) fn retain(parts: &mut Parts, mut keep: impl FnMut(&[u8], &[u8]) -> bool) {
    let mut kept: Vec<Vec<u8>> = Vec::new();
    let mut gone = false;
    for field in parts.headers.get_all(COOKIE) {
        let mut line: Vec<&[u8]> = Vec::new();
        // A comma parted cookies once (RFC 2965), and does for some servers.
        for pair in field.as_bytes().split(|byte| *byte == b';') {
            let all_kept = pair.split(|byte| *byte == b',').all(|piece| {
                let (name, value) = parted(piece);
                keep(name, value)
            });
            // Whatever shares its pair with the credential goes with it: nobody can tell where one of them ends.
            if all_kept {
                line.push(pair.trim_ascii());
            } else {
                gone = true;
            }
        }
        line.retain(|pair| !pair.is_empty());
        if !line.is_empty() {
            kept.push(line.join(&b"; "[..]));
        }
    }
    if !gone {
        return;
    }
    parts.headers.remove(COOKIE);
    for line in kept {
        if let Ok(line) = value(&line) {
            parts.headers.append(COOKIE, line);
        }
    }
}

/// Name and value, without the blanks and quotes around them.
pub(super) fn parted(pair: &[u8]) -> (&[u8], &[u8]) {
    let at = pair.iter().position(|byte| *byte == b'=');
    let (name, value) = at.map_or((pair, &b""[..]), |at| {
        let (name, rest) = pair.split_at(at);
        (name, rest.get(1..).unwrap_or_default())
    });
    let value = value.trim_ascii();
    let bare = value
        .strip_prefix(b"\"")
        .and_then(|value| value.strip_suffix(b"\""));
    (name.trim_ascii(), bare.unwrap_or(value))
}

/// Puts a cookie behind the others, in one field with them: HTTP/1.1 allows one alone (RFC 6265 §5.4).
pub(super) fn append(parts: &mut Parts, name: &str, secret: &[u8]) -> Result<(), InjectError> {
    let fits = secret
        .iter()
        .all(|byte| matches!(byte, 0x21 | 0x23..=0x2b | 0x2d..=0x3a | 0x3c..=0x5b | 0x5d..=0x7e));
    if !fits {
        return Err(InjectError::NoCookie);
    }
    let mut line = Zeroizing::new(Vec::with_capacity(secret.len() + 256));
    for field in parts.headers.get_all(COOKIE) {
        line.extend_from_slice(field.as_bytes());
        line.extend_from_slice(b"; ");
    }
    line.extend_from_slice(name.as_bytes());
    line.push(b'=');
    line.extend_from_slice(secret);
    parts.headers.insert(COOKIE, value(&line)?);
    Ok(())
}
