//! From the body of a `ClientHello` to its facts.

use super::{ClientHello, HelloError};

const SERVER_NAME: u16 = 0;
const SIGNATURE_ALGORITHMS: u16 = 13;
const ALPN: u16 = 16;
const SUPPORTED_VERSIONS: u16 = 43;
/// RFC 9849 §5.
const ENCRYPTED_CLIENT_HELLO: u16 = 0xfe0d;
/// Longest name in DNS, as text.
const LONGEST_NAME: usize = 253;

pub(super) fn parse(body: &[u8]) -> Result<ClientHello, HelloError> {
    let mut hello = Bytes(body);
    let legacy_version = hello.u16()?;
    hello.take(32)?;
    if hello.vector8()?.len() > 32 {
        return malformed("its session id is too long");
    }
    let suites = hello.vector16()?;
    if suites.is_empty() || !suites.len().is_multiple_of(2) {
        return malformed("its cipher suites are no list");
    }
    if hello.vector8()?.is_empty() {
        return malformed("it has no compression method, not even none");
    }
    let mut facts = ClientHello::default();
    // TLS 1.2 allows a message without extensions.
    if !hello.is_empty() {
        let mut extensions = Bytes(hello.vector16()?);
        if !hello.is_empty() {
            return malformed("something follows its extensions");
        }
        let mut seen = Vec::new();
        while !extensions.is_empty() {
            let kind = extensions.u16()?;
            if seen.contains(&kind) {
                return malformed("it has an extension twice");
            }
            seen.push(kind);
            extension(kind, extensions.vector16()?, &mut facts)?;
        }
    }
    if facts.versions.is_empty() {
        facts.versions.push(legacy_version);
    }
    Ok(facts)
}

fn extension(kind: u16, content: &[u8], facts: &mut ClientHello) -> Result<(), HelloError> {
    let mut content = Bytes(content);
    match kind {
        SERVER_NAME => {
            let mut names = Bytes(content.vector16()?);
            // The RFC has a list, of one kind of name, of which there can be one.
            if names.u8()? != 0 {
                return malformed("it asks for a server by something else than a name");
            }
            let name = names.vector16()?;
            if !names.is_empty() {
                return malformed("it asks for several servers");
            }
            facts.name = server_name(name)?;
        }
        ALPN => {
            let mut protocols = Bytes(content.vector16()?);
            if protocols.is_empty() {
                return malformed("its list of protocols is empty");
            }
            while !protocols.is_empty() {
                let protocol = protocols.vector8()?;
                if protocol.is_empty() {
                    return malformed("it offers a protocol without a name");
                }
                facts.alpn.push(protocol.to_vec());
            }
        }
        SUPPORTED_VERSIONS => {
            facts.versions = numbers(content.vector8()?)?;
        }
        SIGNATURE_ALGORITHMS => {
            facts.signatures = numbers(content.vector16()?)?;
        }
        // Its content cannot be read by anybody but the server that has the key.
        ENCRYPTED_CLIENT_HELLO => {
            facts.encrypted = true;
            return Ok(());
        }
        _ => return Ok(()),
    }
    if content.is_empty() {
        Ok(())
    } else {
        malformed("an extension is longer than its content")
    }
}

/// A name of DNS in lower case. An address is not a name (RFC 6066 §3), but clients send it: as if there were none.
fn server_name(bytes: &[u8]) -> Result<Option<String>, HelloError> {
    let Some(text) = std::str::from_utf8(bytes).ok().filter(|text| text.is_ascii()) else {
        return malformed("the name that it asks for is not ASCII");
    };
    if text.parse::<std::net::IpAddr>().is_ok() {
        return Ok(None);
    }
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    if text.len() > LONGEST_NAME || !text.split('.').all(label) {
        return malformed("the name that it asks for is no name of DNS");
    }
    Ok(Some(text.to_ascii_lowercase()))
}

fn numbers(bytes: &[u8]) -> Result<Vec<u16>, HelloError> {
    let (pairs, rest) = bytes.as_chunks::<2>();
    if pairs.is_empty() || !rest.is_empty() {
        return malformed("a list of numbers is cut off");
    }
    Ok(pairs.iter().map(|pair| u16::from_be_bytes(*pair)).collect())
}

fn malformed<T>(why: &'static str) -> Result<T, HelloError> {
    Err(HelloError::Malformed(why))
}

/// What is left to read.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], HelloError> {
        let Some((taken, rest)) = self.0.split_at_checked(length) else {
            return malformed("it is cut off");
        };
        self.0 = rest;
        Ok(taken)
    }

    fn u8(&mut self) -> Result<u8, HelloError> {
        let Some((first, rest)) = self.0.split_first() else {
            return malformed("it is cut off");
        };
        self.0 = rest;
        Ok(*first)
    }

    fn u16(&mut self) -> Result<u16, HelloError> {
        let Some((first, rest)) = self.0.split_first_chunk::<2>() else {
            return malformed("it is cut off");
        };
        self.0 = rest;
        Ok(u16::from_be_bytes(*first))
    }

    /// As long as its first byte says.
    fn vector8(&mut self) -> Result<&'a [u8], HelloError> {
        let length = self.u8()?;
        self.take(length.into())
    }

    /// As long as its first two bytes say.
    fn vector16(&mut self) -> Result<&'a [u8], HelloError> {
        let length = self.u16()?;
        self.take(length.into())
    }
}
