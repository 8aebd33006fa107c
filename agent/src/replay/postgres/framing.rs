//! Messages out of a stream of bytes. Of a long message the beginning is kept.

/// How much of a message's body is kept, in bytes.
const LONGEST_BODY: usize = 1024 * 1024;

/// Codes of the packets that may come before a startup packet.
const SSL_REQUEST: u32 = 80_877_103;
const GSSENC_REQUEST: u32 = 80_877_104;

/// A message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message<'a> {
    pub(super) tag: u8,
    /// The body, or its beginning.
    pub(super) body: &'a [u8],
    /// Length of the whole body.
    pub(super) length: usize,
}

/// One direction of a connection.
#[derive(Debug, Default)]
pub(super) struct Framing {
    begin: Begin,
    /// Header of the message that is being received, then its body.
    held: Vec<u8>,
    /// What is missing of the body that is being received.
    body: Option<Body>,
}

#[derive(Debug)]
struct Body {
    tag: u8,
    length: usize,
    missing: usize,
}

/// What may stand where a connection begins.
#[derive(Debug, Default, PartialEq, Eq)]
enum Begin {
    /// Packets without a tag: a request for TLS, a startup packet.
    Startup,
    /// One byte that answers a request for TLS.
    Answer,
    /// Messages alone.
    #[default]
    Over,
    /// What came is no message: nothing is read any more.
    Broken,
}

impl Framing {
    pub(super) fn client() -> Self {
        Self {
            begin: Begin::Startup,
            ..Self::default()
        }
    }

    pub(super) fn server() -> Self {
        Self {
            begin: Begin::Answer,
            ..Self::default()
        }
    }

    /// Takes bytes and gives each message that they complete. The error comes once.
    pub(super) fn push(
        &mut self,
        bytes: &[u8],
        mut take: impl FnMut(Message<'_>),
    ) -> Result<(), &'static str> {
        let mut rest = bytes;
        if self.begin == Begin::Answer && !rest.is_empty() {
            match rest {
                // A message's length is never so long at the begin that its first byte is not zero.
                [b'S' | b'N' | b'G'] => return Ok(()),
                [b'S' | b'N' | b'G', first, ..] if *first != 0 => rest = rest.get(1..).unwrap_or_default(),
                _ => self.begin = Begin::Over,
            }
        }
        while !rest.is_empty() && self.begin != Begin::Broken {
            if let Some(body) = &mut self.body {
                let (now, later) = rest.split_at_checked(body.missing).unwrap_or((rest, &[]));
                let room = LONGEST_BODY.saturating_sub(self.held.len());
                self.held.extend_from_slice(now.get(..room).unwrap_or(now));
                body.missing -= now.len();
                rest = later;
            } else {
                rest = self.header(rest)?;
            }
            if let Some(body) = self.body.take_if(|body| body.missing == 0) {
                take(Message {
                    tag: body.tag,
                    body: &self.held,
                    length: body.length,
                });
                self.held.clear();
            }
        }
        Ok(())
    }

    fn header<'b>(&mut self, bytes: &'b [u8]) -> Result<&'b [u8], &'static str> {
        if self.begin == Begin::Startup && self.held.is_empty() && bytes.first().is_some_and(|tag| *tag != 0)
        {
            self.begin = Begin::Over;
        }
        // Startup packets are read with their code, which says whether another follows.
        let size = if self.begin == Begin::Startup { 8 } else { 5 };
        let missing = size - self.held.len();
        let (now, rest) = bytes.split_at_checked(missing).unwrap_or((bytes, &[]));
        self.held.extend_from_slice(now);
        if self.held.len() < size {
            return Ok(rest);
        }
        let (tag, fields) = match self.held.as_slice() {
            [tag, fields @ ..] if size == 5 => (*tag, fields),
            fields => (0, fields),
        };
        let length = fields
            .first_chunk()
            .map_or(0, |length| u32::from_be_bytes(*length));
        if size == 8 {
            let code = fields.last_chunk().map_or(0, |code| u32::from_be_bytes(*code));
            if ![SSL_REQUEST, GSSENC_REQUEST].contains(&code) {
                self.begin = Begin::Over;
            }
        }
        // The length counts itself and, in startup packets, the code that was read with it.
        let done = fields.len();
        self.held.clear();
        match usize::try_from(length)
            .ok()
            .and_then(|length| length.checked_sub(done))
        {
            Some(length) if i32::try_from(length).is_ok() => {
                self.body = Some(Body {
                    tag,
                    length,
                    missing: length,
                });
                Ok(rest)
            }
            _ => {
                self.begin = Begin::Broken;
                Err("from here on these are not messages of PostgreSQL")
            }
        }
    }
}
