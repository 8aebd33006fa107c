//! What a workload asks: a query as it came, read once.

use hickory_proto::op::{Message, MessageType, OpCode};
use hickory_proto::rr::{DNSClass, RecordType};

use super::name::DnsName;

/// A query, read.
#[derive(Clone, Debug)]
pub struct Question {
    /// Its id; the answer has the same.
    pub id: u16,
    /// What it asks for, `QUERY` but for updates and notifications.
    pub op_code: OpCode,
    /// What it asks about; `None` where it does not ask exactly one question.
    pub asked: Option<Asked>,
    /// The largest answer that the client takes in a datagram, bytes (RFC 6891 §6.2.3); 512 without EDNS.
    pub payload: u16,
    /// Whether there is an OPT record.
    pub edns: bool,
    /// Whether the client wants DNSSEC records (RFC 3225).
    pub dnssec_ok: bool,
    /// The header's second word but for what answers alone have: opcode, RD, AD, CD.
    flags: u16,
    /// The question as it stands in the query, for the answer to repeat with its spelling.
    raw: Vec<u8>,
}

/// One question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// About whom.
    pub name: DnsName,
    /// What is asked.
    pub kind: RecordType,
    /// Class, `IN` as good as always.
    pub class: DNSClass,
}

/// Why a query cannot be answered at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// Shorter than a header, or an answer: whoever sent it waits for none.
    #[error("it is no query")]
    NoQuery,
    /// Malformed after a header with this id.
    #[error("it is malformed")]
    Malformed(u16),
}

const HEADER: usize = 12;
const SMALLEST_PAYLOAD: u16 = 512;
/// Largest question: a name of 255 bytes, type and class.
const LONGEST_QUESTION: usize = 255 + 4;
const OPCODE_RD_AD_CD: u16 = 0x7930;

impl Question {
    /// Reads a query.
    pub fn read(bytes: &[u8]) -> Result<Self, Unreadable> {
        let [id_high, id_low, flags_high, flags_low, ..] = *bytes else {
            return Err(Unreadable::NoQuery);
        };
        let id = u16::from_be_bytes([id_high, id_low]);
        if bytes.len() < HEADER {
            return Err(Unreadable::NoQuery);
        }
        let message = Message::from_vec(bytes).map_err(|_| Unreadable::Malformed(id))?;
        if message.metadata.message_type != MessageType::Query {
            return Err(Unreadable::NoQuery);
        }
        let asked = match message.queries.as_slice() {
            [query] => Some(Asked {
                name: DnsName::from(query.name()),
                kind: query.query_type(),
                class: query.query_class(),
            }),
            _ => None,
        };
        let raw = match &asked {
            Some(_) => raw_question(bytes).ok_or(Unreadable::Malformed(id))?,
            None => Vec::new(),
        };
        let edns = message.edns.as_ref();
        Ok(Self {
            id,
            op_code: message.metadata.op_code,
            asked,
            payload: edns.map_or(SMALLEST_PAYLOAD, |edns| edns.max_payload().max(SMALLEST_PAYLOAD)),
            edns: edns.is_some(),
            dnssec_ok: edns.is_some_and(|edns| edns.flags().dnssec_ok),
            flags: u16::from_be_bytes([flags_high, flags_low]) & OPCODE_RD_AD_CD,
            raw,
        })
    }

    /// A query that asks the same and says nothing else: no options, nothing after the question but what EDNS needs.
    pub fn bare(&self) -> Vec<u8> {
        let mut bytes = self.header(self.flags, u16::from(self.edns));
        if self.edns {
            let mut flags = [0; 2];
            if self.dnssec_ok {
                flags = [0x80, 0];
            }
            opt(&mut bytes, self.payload, flags, 0, &[]);
        }
        bytes
    }

    /// An answer without records, with `rcode`; the reason in words goes along where the client takes it (RFC 8914).
    pub fn refusal(&self, rcode: u8, reason: Option<(u16, &str)>) -> Vec<u8> {
        const ANSWER: u16 = 0x8000;
        const RECURSION_AVAILABLE: u16 = 0x0080;
        const EXTENDED_ERROR: u16 = 15;
        let opcode_rd_cd = self.flags & 0x7910;
        let flags = ANSWER | RECURSION_AVAILABLE | opcode_rd_cd | u16::from(rcode & 0x0f);
        let mut bytes = self.header(flags, u16::from(self.edns));
        if self.edns {
            let mut option = Vec::new();
            if let Some((code, text)) = reason {
                let text = text.get(..text.len().min(200)).unwrap_or_default();
                option.extend(EXTENDED_ERROR.to_be_bytes());
                option.extend(u16::try_from(text.len() + 2).unwrap_or(2).to_be_bytes());
                option.extend(code.to_be_bytes());
                option.extend(text.as_bytes());
            }
            opt(
                &mut bytes,
                1232,
                [if self.dnssec_ok { 0x80 } else { 0 }, 0],
                0,
                &option,
            );
        }
        bytes
    }

    fn header(&self, flags: u16, additionals: u16) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER + self.raw.len() + 32);
        bytes.extend(self.id.to_be_bytes());
        bytes.extend(flags.to_be_bytes());
        bytes.extend(u16::from(self.asked.is_some()).to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend(additionals.to_be_bytes());
        bytes.extend(&self.raw);
        bytes
    }
}

/// An answer to a query that could not be read: FORMERR, with nothing but the id.
pub(super) fn malformed(id: u16) -> Vec<u8> {
    const FORMERR: u16 = 0x8001;
    let mut bytes = Vec::with_capacity(HEADER);
    bytes.extend(id.to_be_bytes());
    bytes.extend(FORMERR.to_be_bytes());
    bytes.extend([0; 8]);
    bytes
}

/// An OPT record (RFC 6891 §6.1.2).
fn opt(bytes: &mut Vec<u8>, payload: u16, flags: [u8; 2], rcode_high: u8, options: &[u8]) {
    const OPT: u16 = 41;
    bytes.push(0);
    bytes.extend(OPT.to_be_bytes());
    bytes.extend(payload.to_be_bytes());
    bytes.extend([rcode_high, 0]);
    bytes.extend(flags);
    bytes.extend(u16::try_from(options.len()).unwrap_or(0).to_be_bytes());
    bytes.extend(options);
}

/// The bytes of the one question. A name in it is not compressed: nothing is before it that it could point to.
fn raw_question(bytes: &[u8]) -> Option<Vec<u8>> {
    let rest = bytes.get(HEADER..)?;
    let mut at = 0;
    loop {
        let length = usize::from(*rest.get(at)?);
        at += 1;
        match length {
            0 => break,
            1..=63 => at += length,
            _ => return None,
        }
    }
    let raw = rest.get(..at + 4)?;
    (raw.len() <= LONGEST_QUESTION).then(|| raw.to_vec())
}
