//! What a client may send first: `SSLRequest`, `GSSENCRequest`, `CancelRequest`, `StartupMessage` (frontend).
//!
//! Bytes in, packets out. These packets have no type byte: length (itself included), code, body.

use std::fmt;

use super::reply::Fatal;

/// Longest start-up packet, in bytes after its length: `MAX_STARTUP_PACKET_LENGTH` of PostgreSQL.
const LONGEST: u32 = 10_000;
pub(in super::super) const SSL_REQUEST: u32 = 80_877_103;
pub(in super::super) const CANCEL_REQUEST: u32 = 80_877_102;
const GSSENC_REQUEST: u32 = 80_877_104;

/// One packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Packet {
    Ssl,
    Gss,
    Cancel(CancelKey),
    Startup(Startup),
}

/// Names a session for a `CancelRequest`: what `BackendKeyData` gave to the client.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CancelKey {
    /// Process id that the client was told.
    pub process: u32,
    /// Secret that the client was told.
    pub secret: [u8; 4],
}

impl fmt::Debug for CancelKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Whoever has both may cancel.
        f.debug_struct("CancelKey")
            .field("process", &self.process)
            .finish_non_exhaustive()
    }
}

/// `StartupMessage`, as the client sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Startup {
    /// `user`: for the record alone.
    pub user: String,
    /// `database`, where the client named one.
    pub database: Option<String>,
    /// `options`: command-line switches for the server process.
    pub options: Option<String>,
    /// Every other parameter, in order: settings of the session.
    pub settings: Vec<(String, String)>,
    /// Minor version of the protocol asked for; 0 is the one spoken.
    pub minor: u16,
    /// Protocol options (`_pq_.…`) asked for; none is known here.
    pub extensions: Vec<String>,
}

impl Startup {
    /// The database that the client means: PostgreSQL's default is the one named like the user.
    pub fn database(&self) -> &str {
        self.database.as_deref().unwrap_or(&self.user)
    }

    /// Whether the client has to be told with `NegotiateProtocolVersion` that it gets less than it asked for.
    pub fn asks_for_more(&self) -> bool {
        self.minor > 0 || !self.extensions.is_empty()
    }
}

/// A protocol that is not PostgreSQL's, known by its first four bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Foreign {
    /// TLS from the first byte on.
    Tls,
    /// SSH.
    Ssh,
    /// HTTP.
    Http,
}

/// Why a start-up packet is refused. The client's fault, or something that is not done here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PacketError {
    /// Another protocol.
    #[error("{} arrived on a PostgreSQL port: check the address that the client was given", match .0 {
        Foreign::Tls => "TLS from the first byte on (sslnegotiation=direct)",
        Foreign::Ssh => "SSH",
        Foreign::Http => "HTTP",
    })]
    Foreign(Foreign),
    /// A length that no start-up packet has.
    #[error("invalid length of startup packet: {0}")]
    Length(i32),
    /// The body is not what the length or the code promises.
    #[error("invalid startup packet layout: {0}")]
    Layout(&'static str),
    /// A protocol version that is not spoken.
    #[error("unsupported frontend protocol {major}.{minor}: server supports 3.0 to 3.0")]
    Version {
        /// Major version asked for.
        major: u16,
        /// Minor version asked for.
        minor: u16,
    },
    /// No user.
    #[error("no PostgreSQL user name specified in startup packet")]
    NoUser,
    /// A parameter is not UTF-8.
    #[error("a name or value in the startup packet is not valid UTF-8")]
    Encoding,
    /// A parameter is there twice.
    #[error("parameter \"{0}\" is in the startup packet twice")]
    Twice(String),
    /// A connection for replication.
    #[error("replication is not supported in this version of tollgate")]
    Replication,
    /// `replication` is neither a boolean nor `database`.
    #[error("invalid value for parameter \"replication\": \"{0}\"")]
    BadReplication(String),
}

impl PacketError {
    /// What the client is told; `None`: it would not understand it.
    pub(super) fn to_client(&self) -> Option<Fatal> {
        let (code, hint) = match self {
            Self::Foreign(Foreign::Tls) => return None,
            Self::Foreign(_) | Self::Length(_) | Self::Layout(_) | Self::Twice(_) => ("08P01", None),
            Self::Version { .. } => ("0A000", None),
            Self::NoUser => ("28000", None),
            Self::Encoding => ("22021", Some("Use names and settings in UTF-8.")),
            Self::Replication => (
                "0A000",
                Some(
                    "Leave the parameter \"replication\" out; pg_basebackup and logical replication cannot pass here.",
                ),
            ),
            Self::BadReplication(_) => ("22023", None),
        };
        let mut fatal = Fatal::new(code, self.to_string());
        fatal.hint = hint.map(str::to_owned);
        Some(fatal)
    }
}

/// The first packet in `buffer` and its length in bytes; `None`: not whole yet.
pub(super) fn decode(buffer: &[u8]) -> Result<Option<(Packet, usize)>, PacketError> {
    let Some((first, rest)) = buffer.split_first_chunk::<4>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes(*first);
    if !(8..=LONGEST + 4).contains(&length) {
        return Err(foreign(*first).map_or(
            PacketError::Length(i32::from_be_bytes(*first)),
            PacketError::Foreign,
        ));
    }
    let whole = length as usize;
    let Some(packet) = rest.get(..whole - 4) else {
        return Ok(None);
    };
    let Some((code, body)) = packet.split_first_chunk::<4>() else {
        return Err(PacketError::Layout("no protocol version"));
    };
    let packet = match (u32::from_be_bytes(*code), body) {
        (SSL_REQUEST, []) => Packet::Ssl,
        (GSSENC_REQUEST, []) => Packet::Gss,
        (SSL_REQUEST | GSSENC_REQUEST, _) => {
            return Err(PacketError::Layout("an encryption request has no body"));
        }
        (CANCEL_REQUEST, &[p0, p1, p2, p3, ref secret @ ..]) => Packet::Cancel(CancelKey {
            process: u32::from_be_bytes([p0, p1, p2, p3]),
            // Every key given out here has four bytes, so no other can be right.
            secret: secret
                .try_into()
                .map_err(|_| PacketError::Layout("a cancel request has 16 bytes"))?,
        }),
        (CANCEL_REQUEST, _) => return Err(PacketError::Layout("a cancel request has 16 bytes")),
        (version, body) => Packet::Startup(startup(version, body)?),
    };
    Ok(Some((packet, whole)))
}

fn foreign(first: [u8; 4]) -> Option<Foreign> {
    match &first {
        [0x16, 0x03, ..] => Some(Foreign::Tls),
        b"SSH-" => Some(Foreign::Ssh),
        b"GET " | b"HEAD" | b"POST" | b"PUT " | b"DELE" | b"CONN" | b"OPTI" | b"TRAC" | b"PATC" | b"PRI " => {
            Some(Foreign::Http)
        }
        _ => None,
    }
}

fn startup(version: u32, mut body: &[u8]) -> Result<Startup, PacketError> {
    let [m0, m1, n0, n1] = version.to_be_bytes();
    let (major, minor) = (u16::from_be_bytes([m0, m1]), u16::from_be_bytes([n0, n1]));
    if major != 3 {
        return Err(PacketError::Version { major, minor });
    }
    let mut user = None;
    let mut startup = Startup {
        user: String::new(),
        database: None,
        options: None,
        settings: Vec::new(),
        minor,
        extensions: Vec::new(),
    };
    let mut replication = None;
    loop {
        let name = cstring(&mut body)?;
        if name.is_empty() {
            break;
        }
        let value = cstring(&mut body)?;
        let once = |slot: &mut Option<String>| match slot.replace(value.clone()) {
            None => Ok(()),
            Some(_) => Err(PacketError::Twice(name.clone())),
        };
        match name.as_str() {
            "user" => once(&mut user)?,
            "database" => once(&mut startup.database)?,
            "options" => once(&mut startup.options)?,
            "replication" => once(&mut replication)?,
            extension if extension.starts_with("_pq_.") => startup.extensions.push(name),
            _ if startup
                .settings
                .iter()
                .any(|(known, _)| known.eq_ignore_ascii_case(&name)) =>
            {
                return Err(PacketError::Twice(name));
            }
            _ => startup.settings.push((name, value)),
        }
    }
    if !body.is_empty() {
        return Err(PacketError::Layout("expected terminator as last byte"));
    }
    if let Some(value) = replication
        && wants_replication(&value)?
    {
        return Err(PacketError::Replication);
    }
    startup.database = startup.database.filter(|name| !name.is_empty());
    startup.user = user.filter(|name| !name.is_empty()).ok_or(PacketError::NoUser)?;
    Ok(startup)
}

/// PostgreSQL takes `database`, or a boolean by any unambiguous prefix.
fn wants_replication(value: &str) -> Result<bool, PacketError> {
    match value.to_ascii_lowercase().as_str() {
        "database" | "1" | "on" | "t" | "tr" | "tru" | "true" | "y" | "ye" | "yes" => Ok(true),
        "0" | "of" | "off" | "f" | "fa" | "fal" | "fals" | "false" | "n" | "no" => Ok(false),
        _ => Err(PacketError::BadReplication(value.to_owned())),
    }
}

fn cstring(body: &mut &[u8]) -> Result<String, PacketError> {
    let end = memchr::memchr(0, body).ok_or(PacketError::Layout("expected terminator as last byte"))?;
    let (text, rest) = body.split_at(end);
    *body = rest.get(1..).unwrap_or_default();
    String::from_utf8(text.to_vec()).map_err(|_| PacketError::Encoding)
}

#[cfg(test)]
mod tests;
