//! Messages of HTTP/1.1 as bytes, from the workload: where one ends and the next begins, and whether two readers could
//! disagree on that.
//!
//! Sans I/O: bytes go in, and come out only when they are one head that is read in one way alone, or belong to a body whose
//! end is known. The HTTP library behind it is lenient where this is not, so that what it reads is what was read here, and
//! what the target gets is written anew. What is refused is what request smuggling is made of (RFC 9112 §11.2, and "HTTP
//! Desync Attacks"): two lengths, a length beside chunks, lengths and codings that are spelled oddly, bare line feeds,
//! folded lines, spaces before colons, control characters.
//!
//! Known limits: a head has to come whole before any of it passes; chunk extensions are read over and not passed on.

/// A head is at most this long, in bytes.
pub(super) const LONGEST_HEAD: usize = 64 * 1024;
/// Fields that a head may have.
pub(super) const MOST_FIELDS: usize = 200;
/// A line with the size of a chunk, with its extensions.
const LONGEST_CHUNK_LINE: usize = 1024;
/// Trailer fields together.
const LONGEST_TRAILERS: usize = 16 * 1024;

/// Why bytes do not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    /// The head is too long.
    #[error("its head is longer than may be")]
    Long,
    /// Anything else.
    #[error("{0}")]
    Ambiguous(&'static str),
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    Head,
    /// So many bytes more of a body.
    Body(u64),
    ChunkSize,
    /// So many bytes more of a chunk.
    Chunk(u64),
    /// The line end behind a chunk.
    ChunkEnd,
    Trailers,
    /// No HTTP any more.
    Anything,
}

/// Follows the bytes of one connection.
#[derive(Debug)]
pub(super) struct Wire {
    expect: Expect,
}

impl Wire {
    /// At the beginning of a connection.
    pub(super) fn new() -> Self {
        Self { expect: Expect::Head }
    }

    /// From here on the connection speaks something else.
    pub(super) fn upgraded(&mut self) {
        self.expect = Expect::Anything;
    }

    /// Whether a head comes next.
    pub(super) fn is_at_head(&self) -> bool {
        self.expect == Expect::Head
    }

    /// How many bytes of a body may be passed without being looked at.
    pub(super) fn plain(&self) -> u64 {
        match self.expect {
            Expect::Body(left) => left,
            Expect::Anything => u64::MAX,
            _ => 0,
        }
    }

    /// So many bytes of those were passed.
    pub(super) fn passed(&mut self, bytes: u64) {
        if let Expect::Body(left) = &mut self.expect {
            *left = left.saturating_sub(bytes);
            if *left == 0 {
                self.expect = Expect::Head;
            }
        }
    }

    /// How many of `bytes`, which follow on what was passed, may be passed. 0: more are needed.
    pub(super) fn check(&mut self, bytes: &[u8]) -> Result<usize, Fault> {
        let mut passed = 0;
        loop {
            let rest = bytes.get(passed..).unwrap_or_default();
            let taken = self.step(rest)?;
            passed += taken;
            // A head passes alone, so that the one behind it is looked at when the library asks for it.
            if taken == 0 || self.expect == Expect::Head || passed == bytes.len() {
                return Ok(passed);
            }
        }
    }

    fn step(&mut self, rest: &[u8]) -> Result<usize, Fault> {
        match self.expect {
            Expect::Anything => Ok(rest.len()),
            Expect::Head => self.head(rest),
            Expect::Body(left) | Expect::Chunk(left) => {
                let taken = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                let left = left - taken as u64;
                self.expect = match (self.expect, left) {
                    (Expect::Body(_), 0) => Expect::Head,
                    (Expect::Body(_), _) => Expect::Body(left),
                    (_, 0) => Expect::ChunkEnd,
                    (_, _) => Expect::Chunk(left),
                };
                Ok(taken)
            }
            Expect::ChunkEnd => {
                if rest.len() < 2 {
                    return Ok(0);
                }
                if !rest.starts_with(b"\r\n") {
                    return Err(Fault::Ambiguous("a chunk of it is not as long as it says"));
                }
                self.expect = Expect::ChunkSize;
                Ok(2)
            }
            Expect::ChunkSize => {
                let Some(line) = line(
                    rest,
                    LONGEST_CHUNK_LINE,
                    Fault::Ambiguous("a chunk of it has no size"),
                )?
                else {
                    return Ok(0);
                };
                let size = chunk_size(line)?;
                self.expect = if size == 0 {
                    Expect::Trailers
                } else {
                    Expect::Chunk(size)
                };
                Ok(line.len() + 2)
            }
            Expect::Trailers => {
                let mut taken = 0;
                loop {
                    let rest = rest.get(taken..).unwrap_or_default();
                    let Some(line) = line(rest, LONGEST_TRAILERS, Fault::Long)? else {
                        return Ok(0);
                    };
                    taken += line.len() + 2;
                    if taken > LONGEST_TRAILERS {
                        return Err(Fault::Long);
                    }
                    if line.is_empty() {
                        self.expect = Expect::Head;
                        return Ok(taken);
                    }
                    let (name, _) = field(line)?;
                    if forbidden_in_trailers(name) {
                        return Err(Fault::Ambiguous("a field behind its body belongs before it"));
                    }
                }
            }
        }
    }

    fn head(&mut self, rest: &[u8]) -> Result<usize, Fault> {
        if rest.is_empty() {
            return Ok(0);
        }
        let Some(end) = memchr::memmem::find(
            rest.get(..LONGEST_HEAD.min(rest.len())).unwrap_or_default(),
            b"\r\n\r\n",
        ) else {
            if rest.len() >= LONGEST_HEAD {
                return Err(Fault::Long);
            }
            // Told at once: nothing that follows would make it right, and a client that ends its lines so waits.
            bare_line_feed(rest)?;
            return Ok(0);
        };
        let head = rest.get(..end + 2).unwrap_or_default();
        self.expect = framing(head)?;
        Ok(end + 4)
    }
}

/// The line that `rest` begins with, without its end; `None`: it is not there yet.
fn line(rest: &[u8], longest: usize, fault: Fault) -> Result<Option<&[u8]>, Fault> {
    let Some(at) = memchr::memchr(b'\n', rest.get(..longest.min(rest.len())).unwrap_or_default()) else {
        return if rest.len() >= longest {
            Err(fault)
        } else {
            Ok(None)
        };
    };
    match rest.get(..at).and_then(|line| line.strip_suffix(b"\r")) {
        Some(line) => Ok(Some(line)),
        None => Err(Fault::Ambiguous("a line of it ends with a bare line feed")),
    }
}

fn bare_line_feed(bytes: &[u8]) -> Result<(), Fault> {
    for at in memchr::memchr_iter(b'\n', bytes) {
        if at.checked_sub(1).and_then(|before| bytes.get(before)) != Some(&b'\r') {
            return Err(Fault::Ambiguous("a line of it ends with a bare line feed"));
        }
    }
    Ok(())
}

/// What follows a head: `head` ends with the end of its last field's line.
fn framing(head: &[u8]) -> Result<Expect, Fault> {
    let mut rest = head;
    let mut next = || -> Result<Option<&[u8]>, Fault> {
        let found = line(rest, usize::MAX, Fault::Long)?;
        if let Some(line) = found {
            rest = rest.get(line.len() + 2..).unwrap_or_default();
        }
        Ok(found)
    };
    let first = next()?.unwrap_or_default();
    let old = request_line(first)?;
    let (mut length, mut chunked, mut hosts, mut fields) = (None, false, 0, 0);
    while let Some(line) = next()? {
        fields += 1;
        if fields > MOST_FIELDS {
            return Err(Fault::Long);
        }
        let (name, value) = field(line)?;
        if name.eq_ignore_ascii_case(b"content-length") {
            if length.is_some() {
                return Err(Fault::Ambiguous("it has two lengths"));
            }
            length = Some(decimal(value)?);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Fault::Ambiguous("its transfer coding is not just \"chunked\""));
            }
            chunked = true;
        } else if name.eq_ignore_ascii_case(b"host") {
            hosts += 1;
        }
    }
    match (length, chunked) {
        (Some(_), true) => Err(Fault::Ambiguous("it has a length and a transfer coding")),
        (_, true) if old => Err(Fault::Ambiguous("a transfer coding needs HTTP/1.1")),
        _ if hosts > 1 => Err(Fault::Ambiguous("it names two hosts")),
        _ if hosts == 0 && !old => Err(Fault::Ambiguous("it names no host")),
        (_, true) => Ok(Expect::ChunkSize),
        (None | Some(0), false) => Ok(Expect::Head),
        (Some(length), false) => Ok(Expect::Body(length)),
    }
}

/// Whether the request is of HTTP/1.0.
fn request_line(line: &[u8]) -> Result<bool, Fault> {
    let mut words = line.split(|byte| *byte == b' ');
    let (method, target, version) = (words.next(), words.next(), words.next());
    let (Some(method), Some(target), Some(version), None) = (method, target, version, words.next()) else {
        return Err(Fault::Ambiguous(
            "its first line is no method, target and version",
        ));
    };
    if method.is_empty() || !method.iter().copied().all(is_token) {
        return Err(Fault::Ambiguous("its method is none"));
    }
    if target.is_empty() || !target.iter().all(|byte| (0x21..0x7f).contains(byte)) {
        return Err(Fault::Ambiguous(
            "its target has characters that a target cannot have",
        ));
    }
    match version {
        b"HTTP/1.1" => Ok(false),
        b"HTTP/1.0" => Ok(true),
        _ => Err(Fault::Ambiguous("it is neither HTTP/1.1 nor HTTP/1.0")),
    }
}

/// Name and value of a field, without the spaces around the value.
fn field(line: &[u8]) -> Result<(&[u8], &[u8]), Fault> {
    if line.starts_with(b" ") || line.starts_with(b"\t") {
        return Err(Fault::Ambiguous("a field of it goes on in the next line"));
    }
    let Some(colon) = memchr::memchr(b':', line) else {
        return Err(Fault::Ambiguous("a field of it has no colon"));
    };
    let (name, value) = line.split_at(colon);
    if name.is_empty() || !name.iter().copied().all(is_token) {
        return Err(Fault::Ambiguous(
            "the name of a field has characters that a name cannot have",
        ));
    }
    let value = value.get(1..).unwrap_or_default();
    if value
        .iter()
        .any(|byte| (*byte < 0x20 && *byte != b'\t') || *byte == 0x7f)
    {
        return Err(Fault::Ambiguous("a field of it has control characters"));
    }
    Ok((name, value.trim_ascii()))
}

fn decimal(value: &[u8]) -> Result<u64, Fault> {
    let fault = Fault::Ambiguous("its length is no number");
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(fault);
    }
    std::str::from_utf8(value)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or(fault)
}

fn chunk_size(line: &[u8]) -> Result<u64, Fault> {
    let fault = Fault::Ambiguous("a chunk of it has no size");
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let (size, extension) = line.split_at(digits);
    if size.is_empty() || size.len() > 15 {
        return Err(fault);
    }
    // An extension begins at once: a space before it is what old servers send, and what readers disagree on.
    let sound = extension.first().is_none_or(|first| *first == b';')
        && extension
            .iter()
            .all(|byte| (0x20..0x7f).contains(byte) || *byte == b'\t');
    if !sound {
        return Err(Fault::Ambiguous(
            "the size of a chunk of it can be read in two ways",
        ));
    }
    let size = std::str::from_utf8(size).map_err(|_| fault)?;
    u64::from_str_radix(size, 16).map_err(|_| fault)
}

/// RFC 9110 §5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// What says how a message is framed, routed or let in cannot come behind its body.
fn forbidden_in_trailers(name: &[u8]) -> bool {
    const FORBIDDEN: [&[u8]; 12] = [
        b"authorization",
        b"connection",
        b"content-encoding",
        b"content-length",
        b"content-type",
        b"cookie",
        b"host",
        b"proxy-authorization",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    ];
    FORBIDDEN
        .iter()
        .any(|forbidden| name.eq_ignore_ascii_case(forbidden))
}

#[cfg(test)]
mod tests;
