//! Signs: holds the key of the epoch and the pen of the ledger.
//!
//! The key ratchets. At each start, and then once an epoch, a new key is made, the old one signs the new one's public
//! half into the ledger behind marks of all open sessions, and is erased. Whoever steals the key of an epoch can
//! sign in its name from then on, but cannot rewrite what stands before its begin.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::time::{Duration, Instant};

use ed25519_dalek::{Signer, SigningKey};

use super::block::{BlockHeader, Chain, Checkpoint, PublicKey};
use super::layout::Layout;
use super::ledger::{Check, ENTRY, Entry, EntryKind, LEDGER_HEADER, Ledger, LedgerHeader};
use super::{RecordError, keys, now};
use crate::model::SessionId;

/// The signing key, and the ledger open for writing.
#[derive(Debug)]
pub(super) struct Notary {
    layout: Layout,
    file: File,
    header: LedgerHeader,
    entries: u64,
    chain: Chain,
    epoch: u32,
    key: SigningKey,
    since: Instant,
    /// The key that signs is still in the place of the next one.
    unsettled: bool,
    lifetime: Duration,
    /// Whether each entry is put on stable storage before it counts.
    durable: bool,
    /// Open sessions, and how far the last checkpoint covers them where no mark says so yet.
    open: BTreeMap<SessionId, Option<(u64, Chain)>>,
}

impl Notary {
    /// Opens the ledger and its key; makes both on the first start.
    ///
    /// # Errors
    /// The ledger is damaged, or the key is not the one that the ledger ends with: both mean that the directory was
    /// tampered with or restored in part, and nothing may be added to it.
    pub(super) fn open(
        layout: &Layout,
        lifetime: Duration,
        durable: bool,
    ) -> Result<(Self, Ledger), RecordError> {
        let path = layout.ledger();
        let (ledger, key) = match Ledger::read(&path, Check::Ends)? {
            Some(ledger) => {
                if let Some((entry, message)) = &ledger.fault {
                    return Err(RecordError::damaged(&path, format!("entry {entry}: {message}")));
                }
                let key = current_key(layout, &ledger)?;
                (ledger, key)
            }
            None => first_start(layout)?,
        };
        let file = File::options()
            .write(true)
            .open(&path)
            .map_err(|error| RecordError::io("open", &path, error))?;
        let notary = Self {
            layout: layout.clone(),
            file,
            header: ledger.header,
            entries: ledger.entries,
            chain: ledger.chain,
            epoch: ledger.epoch(),
            key,
            since: Instant::now(),
            unsettled: false,
            lifetime,
            durable,
            open: ledger
                .sessions
                .iter()
                .filter(|(_, entered)| entered.close.is_none())
                .map(|(session, _)| (*session, None))
                .collect(),
        };
        // An entry that was cut off by a kill was not acknowledged to anybody.
        notary.cut()?;
        Ok((notary, ledger))
    }

    /// Public key of epoch 0: the host's identity.
    pub(super) fn host(&self) -> PublicKey {
        self.header.host
    }

    /// Enters the begin of a session, whose Open frame's JSON has this hash.
    pub(super) fn opened(&mut self, session: SessionId, open: [u8; 32]) -> Result<(), RecordError> {
        self.enter(EntryKind::Open, session, open, 0, false)?;
        self.open.insert(session, None);
        Ok(())
    }

    /// Whether the session was entered and is not closed.
    pub(super) fn knows(&self, session: SessionId) -> bool {
        self.open.contains_key(&session)
    }

    /// Signs a block of a session: where it stands, and the chain before it.
    pub(super) fn sign(
        &self,
        session: SessionId,
        segment: u32,
        header: &BlockHeader,
        chain: &Chain,
    ) -> Checkpoint {
        let mut checkpoint = Checkpoint {
            epoch: self.epoch,
            time: now(),
            key: self.key.verifying_key().to_bytes(),
            signature: [0; 64],
        };
        let message = checkpoint.message(session, segment, header, chain);
        checkpoint.signature = self.key.sign(&message).to_bytes();
        checkpoint
    }

    /// Notes that a session's block `number`, behind which its chain is `chain`, is written.
    pub(super) fn covered(&mut self, session: SessionId, number: u64, chain: Chain) {
        if let Some(mark) = self.open.get_mut(&session) {
            *mark = Some((number, chain));
        }
    }

    /// Enters the end of a session.
    pub(super) fn closed(
        &mut self,
        session: SessionId,
        chain: Chain,
        frames: u64,
        crashed: bool,
    ) -> Result<(), RecordError> {
        self.enter(EntryKind::Close, session, chain, frames, crashed)?;
        self.open.remove(&session);
        Ok(())
    }

    /// Enters that a session's files are removed on purpose, after they were shipped.
    pub(super) fn pruned(&mut self, session: SessionId, chain: Chain) -> Result<(), RecordError> {
        self.enter(EntryKind::Pruned, session, chain, 0, false)
    }

    /// Changes the key when its time has come.
    pub(super) fn roll_if_due(&mut self) -> Result<(), RecordError> {
        if self.since.elapsed() >= self.lifetime {
            self.roll()
        } else {
            self.settle()
        }
    }

    /// Changes the key and erases the old one. Can be repeated after a failure.
    pub(super) fn roll(&mut self) -> Result<(), RecordError> {
        self.settle()?;
        let marks: Vec<_> = self
            .open
            .iter()
            .filter_map(|(session, mark)| Some((*session, (*mark)?)))
            .collect();
        for (session, (number, chain)) in marks {
            self.enter(EntryKind::Mark, session, chain, number, false)?;
        }
        let next = keys::generate();
        let epoch = self.epoch + 1;
        keys::write(&self.layout.next_signing_key(), epoch, &next)?;
        let public = next.verifying_key().to_bytes();
        let none = SessionId(uuid::Uuid::nil());
        self.enter(EntryKind::Rollover, none, public, epoch.into(), false)?;
        // From the entry on nothing else is valid, whatever fails behind it. The old key wipes its memory as it goes.
        self.key = next;
        self.epoch = epoch;
        self.since = Instant::now();
        self.unsettled = true;
        for mark in self.open.values_mut() {
            *mark = None;
        }
        self.settle()
    }

    /// Puts the key that signs in the place of the old one, where that is still to be done.
    fn settle(&mut self) -> Result<(), RecordError> {
        if self.unsettled {
            let ledger = self.layout.ledger();
            self.file
                .sync_data()
                .map_err(|error| RecordError::io("write to stable storage", &ledger, error))?;
            keys::replace(&self.layout)?;
            self.unsettled = false;
        }
        Ok(())
    }

    fn enter(
        &mut self,
        kind: EntryKind,
        session: SessionId,
        value: [u8; 32],
        count: u64,
        crashed: bool,
    ) -> Result<(), RecordError> {
        let mut entry = Entry {
            kind,
            crashed,
            epoch: self.epoch,
            number: self.entries,
            time: now(),
            session,
            value,
            count,
            signature: [0; 64],
        };
        entry.signature = self.key.sign(&entry.message(&self.chain)).to_bytes();
        let path = self.layout.ledger();
        let written = self
            .file
            .write_all_at(&entry.encode(), self.len())
            .and_then(|()| {
                if self.durable {
                    self.file.sync_data()
                } else {
                    Ok(())
                }
            });
        if let Err(error) = written {
            // Half an entry must not stay; if it does, the next start cuts it off.
            let _ = self.cut();
            return Err(RecordError::io("write", &path, error));
        }
        self.chain = entry.extend(&self.chain);
        self.entries += 1;
        Ok(())
    }

    fn len(&self) -> u64 {
        LEDGER_HEADER as u64 + self.entries * ENTRY as u64
    }

    fn cut(&self) -> Result<(), RecordError> {
        let path = self.layout.ledger();
        self.file
            .set_len(self.len())
            .map_err(|error| RecordError::io("cut", &path, error))
    }
}

/// Makes the first key and an empty ledger.
fn first_start(layout: &Layout) -> Result<(Ledger, SigningKey), RecordError> {
    if let Some(found) = layout.segments()?.first() {
        return Err(RecordError::Keys(format!(
            "{} holds records ({}) but no ledger: somebody removed it; put it back, or start with an empty directory",
            layout.directory().display(),
            found.path.display()
        )));
    }
    let path = layout.signing_key();
    if let Some(keys) = path.parent() {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(keys)
            .map_err(|error| RecordError::io("create", keys, error))?;
    }
    // A start that died between the two leaves a key of epoch 0 that nothing was signed with.
    keys::erase(&path)?;
    let key = keys::generate();
    keys::write(&path, 0, &key)?;
    let header = LedgerHeader {
        created: now(),
        host: key.verifying_key().to_bytes(),
    };
    let path = layout.ledger();
    let temporary = path.with_extension("tgl.new");
    keys::write_whole(&temporary, &header.encode(), 0o600)?;
    fs::rename(&temporary, &path).map_err(|error| RecordError::io("create", &path, error))?;
    keys::sync_directory(layout.directory())?;
    Ok((Ledger::new(&path, header), key))
}

/// The key that the ledger ends with, finishing a change of keys that a kill interrupted.
fn current_key(layout: &Layout, ledger: &Ledger) -> Result<SigningKey, RecordError> {
    let fits = |found: Option<(u32, SigningKey)>| {
        found
            .filter(|(epoch, key)| *epoch == ledger.epoch() && key.verifying_key().to_bytes() == ledger.key())
            .map(|(_, key)| key)
    };
    if let Some(key) = fits(keys::read(&layout.signing_key())?) {
        keys::erase(&layout.next_signing_key())?;
        return Ok(key);
    }
    if let Some(key) = fits(keys::read(&layout.next_signing_key())?) {
        keys::replace(layout)?;
        return Ok(key);
    }
    Err(RecordError::Keys(format!(
        "the signing key in {} is not the one that the ledger ends with (epoch {}): one of them was removed, cut or \
         restored from elsewhere; verify the records, then start with an empty directory",
        layout.signing_key().display(),
        ledger.epoch()
    )))
}
