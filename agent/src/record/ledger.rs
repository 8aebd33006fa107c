//! The host's ledger: every session that was begun, how it ended, and every change of the signing key, each entry
//! signed and chained to all before it.
//!
//! It is also the log of keys: a change of key is an entry that the old key signs, after entries that fix how far
//! each open session had come. So an old key, once erased, protects all that stands before its end.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::RecordError;
use super::block::{Chain, PublicKey, is_signed};
use super::wire::{Fields, join};
use crate::model::SessionId;

pub(super) const LEDGER_HEADER: usize = 64;
pub(super) const ENTRY: usize = 144;

const MAGIC: &[u8; 8] = b"TGLEDGER";
const VERSION: u16 = 1;
const DOMAIN: &[u8; 32] = b"tollgate ledger entry v1\0\0\0\0\0\0\0\0";
const UNSIGNED_PART: usize = ENTRY - 64;
const CRASHED: u8 = 1;

/// What an entry says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EntryKind {
    /// A session began. Value: BLAKE3 of its Open frame's JSON.
    Open = 1,
    /// A session ended. Value: its final chain. Count: its frames.
    Close = 2,
    /// How far an open session has come. Value: its chain behind block number Count.
    Mark = 3,
    /// The key changes. Value: the public key of the next epoch. Count: its number. Signed by the old key.
    Rollover = 4,
    /// The agent removed a session's files after they were shipped. Value: its final chain.
    Pruned = 5,
}

/// An entry of the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) kind: EntryKind,
    /// For a Close: the session was sealed after a crash of the agent.
    pub(super) crashed: bool,
    pub(super) epoch: u32,
    pub(super) number: u64,
    /// Unix time in nanoseconds.
    pub(super) time: i64,
    /// Zeros for a Rollover.
    pub(super) session: SessionId,
    pub(super) value: [u8; 32],
    pub(super) count: u64,
    pub(super) signature: [u8; 64],
}

impl Entry {
    pub(super) fn encode(&self) -> [u8; ENTRY] {
        join(&[&self.unsigned(), &self.signature])
    }

    fn unsigned(&self) -> [u8; UNSIGNED_PART] {
        join(&[
            &[self.kind as u8, u8::from(self.crashed) * CRASHED, 0, 0],
            &self.epoch.to_le_bytes(),
            &self.number.to_le_bytes(),
            &self.time.to_le_bytes(),
            self.session.0.as_bytes(),
            &self.value,
            &self.count.to_le_bytes(),
        ])
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        let kind = match fields.u8()? {
            1 => EntryKind::Open,
            2 => EntryKind::Close,
            3 => EntryKind::Mark,
            4 => EntryKind::Rollover,
            5 => EntryKind::Pruned,
            _ => return None,
        };
        let crashed = match fields.u8()? {
            0 => false,
            CRASHED => true,
            _ => return None,
        };
        fields.zero::<2>()?;
        let entry = Self {
            kind,
            crashed,
            epoch: fields.u32()?,
            number: fields.u64()?,
            time: fields.i64()?,
            session: SessionId(uuid::Uuid::from_bytes(fields.array()?)),
            value: fields.array()?,
            count: fields.u64()?,
            signature: fields.array()?,
        };
        fields.end()?;
        Some(entry)
    }

    pub(super) fn message(&self, chain: &Chain) -> Vec<u8> {
        [DOMAIN, chain.as_slice(), &self.unsigned()].concat()
    }

    pub(super) fn extend(&self, chain: &Chain) -> Chain {
        let mut hasher = blake3::Hasher::new();
        hasher.update(chain);
        hasher.update(&self.encode());
        *hasher.finalize().as_bytes()
    }
}

/// Header of the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LedgerHeader {
    /// Unix time in nanoseconds of the host's first start.
    pub(super) created: i64,
    /// Public key of epoch 0: the host's identity.
    pub(super) host: PublicKey,
}

impl LedgerHeader {
    pub(super) fn encode(&self) -> [u8; LEDGER_HEADER] {
        join(&[
            MAGIC,
            &VERSION.to_le_bytes(),
            &[0; 6],
            &self.created.to_le_bytes(),
            &self.host,
            &[0; 8],
        ])
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        (fields.array()? == *MAGIC && fields.u16()? == VERSION).then_some(())?;
        fields.zero::<6>()?;
        let header = Self {
            created: fields.i64()?,
            host: fields.array()?,
        };
        fields.zero::<8>()?;
        fields.end()?;
        Some(header)
    }

    fn chain(&self) -> Chain {
        *blake3::hash(&self.encode()).as_bytes()
    }
}

/// What the ledger says of one session.
#[derive(Clone, Debug, Default)]
pub(super) struct Entered {
    pub(super) open: Option<Entry>,
    pub(super) marks: Vec<Entry>,
    pub(super) close: Option<Entry>,
    pub(super) pruned: Option<Entry>,
}

/// A ledger that was read.
#[derive(Clone, Debug)]
pub(super) struct Ledger {
    pub(super) path: PathBuf,
    pub(super) header: LedgerHeader,
    pub(super) entries: u64,
    pub(super) chain: Chain,
    /// Public keys, by epoch.
    pub(super) keys: Vec<PublicKey>,
    pub(super) sessions: BTreeMap<SessionId, Entered>,
    /// Bytes behind the last whole entry.
    pub(super) torn: usize,
    /// First entry that is wrong, and why. What follows it was not read.
    pub(super) fault: Option<(u64, String)>,
}

/// How much of a ledger is checked while it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Check {
    /// Every signature: for verifying.
    Everything,
    /// Order, and the signatures of key changes and of the last entry: for a start, which must not take minutes.
    Ends,
}

impl Ledger {
    /// Reads `path`. `Ok(None)`: there is none.
    pub(super) fn read(path: &Path, check: Check) -> Result<Option<Self>, RecordError> {
        if !path.exists() {
            return Ok(None);
        }
        Self::decode(path, &read_joined(path)?, check).map(Some)
    }

    pub(super) fn decode(path: &Path, bytes: &[u8], check: Check) -> Result<Self, RecordError> {
        let (header, entries) = bytes
            .split_at_checked(LEDGER_HEADER)
            .and_then(|(header, entries)| Some((LedgerHeader::decode(header)?, entries)))
            .ok_or_else(|| RecordError::damaged(path, "its header is not that of a ledger, version 1"))?;
        let mut ledger = Self::new(path, header);
        let entries = entries.chunks_exact(ENTRY);
        ledger.torn = entries.remainder().len();
        let last = entries.len().saturating_sub(1);
        for (index, bytes) in entries.enumerate() {
            let signatures = check == Check::Everything || index == last;
            if let Err(message) = ledger.add(bytes, signatures) {
                ledger.fault = Some((ledger.entries, message));
                break;
            }
        }
        Ok(ledger)
    }

    pub(super) fn new(path: &Path, header: LedgerHeader) -> Self {
        Self {
            path: path.to_owned(),
            header,
            entries: 0,
            chain: header.chain(),
            keys: vec![header.host],
            sessions: BTreeMap::new(),
            torn: 0,
            fault: None,
        }
    }

    /// Number of the epoch that signs now.
    pub(super) fn epoch(&self) -> u32 {
        u32::try_from(self.keys.len().saturating_sub(1)).unwrap_or(u32::MAX)
    }

    /// The key that signs now.
    pub(super) fn key(&self) -> PublicKey {
        self.keys.last().copied().unwrap_or(self.header.host)
    }

    fn add(&mut self, bytes: &[u8], signature: bool) -> Result<(), String> {
        let entry = Entry::decode(bytes).ok_or("it is not an entry")?;
        if entry.number != self.entries {
            return Err(format!(
                "it says that it is number {}: an entry was removed, or moved here",
                entry.number
            ));
        }
        if entry.epoch != self.epoch() {
            return Err(format!(
                "it says that it is of epoch {} in epoch {}",
                entry.epoch,
                self.epoch()
            ));
        }
        let signature = signature || entry.kind == EntryKind::Rollover;
        if signature && !is_signed(&self.key(), &entry.message(&self.chain), &entry.signature) {
            return Err(format!(
                "its signature is not that of epoch {}: it or what stands before it was changed, or another key signed",
                entry.epoch
            ));
        }
        self.accept(entry)
    }

    /// Takes in an entry that is genuine.
    pub(super) fn accept(&mut self, entry: Entry) -> Result<(), String> {
        if entry.kind == EntryKind::Rollover {
            if u32::try_from(entry.count) != Ok(entry.epoch.saturating_add(1)) {
                return Err("it does not lead to the next epoch".to_owned());
            }
            self.keys.push(entry.value);
        } else {
            let entered = self.sessions.entry(entry.session).or_default();
            let (open, over) = (entered.open.is_some(), entered.close.is_some());
            match entry.kind {
                EntryKind::Open if !open => entered.open = Some(entry),
                EntryKind::Close if open && !over => entered.close = Some(entry),
                EntryKind::Mark if open && !over => entered.marks.push(entry),
                EntryKind::Pruned if over && entered.pruned.is_none() => entered.pruned = Some(entry),
                _ => {
                    return Err(format!(
                        "it does not fit what stands before it of session {}",
                        entry.session
                    ));
                }
            }
        }
        self.chain = entry.extend(&self.chain);
        self.entries += 1;
        Ok(())
    }
}

/// How many of a ledger's first `length` bytes are its header and whole entries.
pub fn whole_entries(length: u64) -> u64 {
    let entries = length.saturating_sub(LEDGER_HEADER as u64) / ENTRY as u64;
    if length < LEDGER_HEADER as u64 {
        0
    } else {
        LEDGER_HEADER as u64 + entries * ENTRY as u64
    }
}

/// The bytes of a ledger: of one file, or of its shipped parts in the order of their names.
pub(super) fn read_joined(path: &Path) -> Result<Vec<u8>, RecordError> {
    let read = |path: &Path| fs::read(path).map_err(|error| RecordError::io("read", path, error));
    if !path.is_dir() {
        return read(path);
    }
    let failed = |error| RecordError::io("list", path, error);
    let mut parts = fs::read_dir(path)
        .map_err(failed)?
        .map(|entry| entry.map(|entry| entry.path()).map_err(failed))
        .collect::<Result<Vec<_>, _>>()?;
    parts.retain(|part| part.extension().is_some_and(|extension| extension == "tgl"));
    parts.sort();
    let mut joined = Vec::new();
    for part in parts {
        joined.extend(read(&part)?);
    }
    Ok(joined)
}
