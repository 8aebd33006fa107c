//! The writer's thread: takes descriptors, seals frames into blocks, signs as the sessions go, ends records.

use std::fs;
use std::io::ErrorKind;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use ringbuf::HeapCons;
use ringbuf::traits::Consumer;

use super::RecordError;
use super::block::BLOCK_BYTES;
use super::layout::Layout;
use super::notary::Notary;
use super::sealer::{Packer, Sealer};
use super::session::{Begun, Descriptor, Shared};
use crate::kernel::mapping::Committed;
use crate::model::SessionId;

/// How often the writer looks at sessions that do not wake it.
const TICK: Duration = Duration::from_millis(50);

/// Pause before a write that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// When blocks and signatures are made at the latest.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// Age of the oldest frame that is in no block.
    pub(super) flush: Duration,
    /// Age of the oldest block that is not signed.
    pub(super) sign: Duration,
    /// Blocks that are not signed.
    pub(super) sign_blocks: u32,
}

/// What all writer threads share.
pub(super) struct Desk {
    pub(super) layout: Layout,
    pub(super) notary: Arc<Mutex<Notary>>,
    pub(super) pace: Pace,
    pub(super) stop: AtomicBool,
    /// Signalled when a segment or a session was sealed.
    pub(super) sealed: tokio::sync::Notify,
}

/// A session that a writer looks after.
pub(super) struct Live {
    session: SessionId,
    ring: HeapCons<Descriptor>,
    shared: Arc<Shared>,
    journal: Committed,
    /// Frames of the journal that are in no block: where they are, how many, since when.
    pending: Range<usize>,
    frames: u32,
    since: Option<Instant>,
    sealer: Sealer,
    unsigned: u32,
    unsigned_since: Option<Instant>,
    retry: Option<Instant>,
}

impl Live {
    pub(super) fn new(session: SessionId, begun: Begun, sealer: Sealer) -> Self {
        Self {
            session,
            ring: begun.ring,
            shared: begun.shared,
            journal: begun.journal,
            pending: 0..0,
            frames: 0,
            since: None,
            sealer,
            unsigned: 0,
            unsigned_since: None,
            retry: None,
        }
    }
}

/// Runs until the recorder stops and every session that ended is sealed. Sessions still open then keep their journal.
pub(super) fn run(desk: &Desk, sessions: &Receiver<Live>, first: bool) {
    let mut packer = match Packer::new() {
        Ok(packer) => packer,
        Err(error) => {
            tracing::error!(%error, "no record can be compressed; sessions will stall and end");
            return;
        }
    };
    let mut live: Vec<Live> = Vec::new();
    loop {
        let stopping = desk.stop.load(Ordering::Acquire);
        live.extend(sessions.try_iter());
        live.retain_mut(|session| session.attend(desk, &mut packer, stopping));
        if stopping {
            for session in &live {
                session.shared.fail(RecordError::Stopped);
            }
            return;
        }
        if first && let Err(error) = desk.notary.lock().roll_if_due() {
            tracing::warn!(%error, "the signing key could not be changed; it will be tried again");
        }
        match live.is_empty() {
            true if !first => std::thread::park(),
            true => std::thread::park_timeout(Duration::from_secs(1)),
            false => std::thread::park_timeout(TICK),
        }
    }
}

impl Live {
    /// Does what is due. `false`: the session is sealed.
    fn attend(&mut self, desk: &Desk, packer: &mut Packer, stopping: bool) -> bool {
        if !stopping && self.retry.is_some_and(|retry| Instant::now() < retry) {
            return true;
        }
        match self.advance(desk, packer, stopping) {
            Ok(sealed) => {
                if self.retry.take().is_some() {
                    tracing::info!(session = %self.session, "the record is written again");
                    self.shared.recover();
                }
                !sealed
            }
            Err(error) => {
                if self.retry.is_none() {
                    tracing::error!(session = %self.session, %error, "the record cannot be written; the session has to end");
                    self.shared.fail(error);
                }
                self.retry = Some(Instant::now() + RETRY);
                true
            }
        }
    }

    fn advance(&mut self, desk: &Desk, packer: &mut Packer, stopping: bool) -> Result<bool, RecordError> {
        // Read before the ring: what was pushed before the end is seen after it.
        let closed = self.shared.is_closed();
        self.drain(desk, packer)?;
        let late = |since: Option<Instant>, limit| since.is_some_and(|since| since.elapsed() >= limit);
        if closed || stopping || late(self.since, desk.pace.flush) {
            self.flush(desk, packer)?;
        }
        if closed {
            self.sealer.finish(&desk.notary, false)?;
            self.remove_journals(desk)?;
            desk.sealed.notify_one();
            return Ok(true);
        }
        if stopping || self.unsigned >= desk.pace.sign_blocks || late(self.unsigned_since, desk.pace.sign) {
            self.sealer.checkpoint(&desk.notary)?;
            self.unsigned = 0;
            self.unsigned_since = None;
        }
        Ok(false)
    }

    fn drain(&mut self, desk: &Desk, packer: &mut Packer) -> Result<(), RecordError> {
        let mut taken = false;
        while let Some(descriptor) = self.ring.try_peek() {
            match descriptor {
                Descriptor::Frame(len) => {
                    let len = *len;
                    if self.pending.len() + len > BLOCK_BYTES && self.frames > 0 {
                        self.flush(desk, packer)?;
                    }
                    self.pending.end += len;
                    self.frames += 1;
                    self.since.get_or_insert_with(Instant::now);
                    self.ring.try_pop();
                }
                Descriptor::Next(_) => {
                    self.flush(desk, packer)?;
                    if let Some(Descriptor::Next(next)) = self.ring.try_pop() {
                        let sealed = std::mem::replace(&mut self.journal, next);
                        self.pending = 0..0;
                        self.use_again(sealed);
                    }
                }
            }
            taken = true;
        }
        if taken {
            self.shared.signal();
        }
        Ok(())
    }

    /// Seals the pending frames. They stay pending until that has succeeded.
    fn flush(&mut self, desk: &Desk, packer: &mut Packer) -> Result<(), RecordError> {
        if self.frames == 0 {
            return Ok(());
        }
        let raw = self
            .journal
            .bytes(self.pending.clone())
            .ok_or_else(|| RecordError::damaged(self.journal.path(), "its committed length went back"))?;
        self.sealer.write(packer, &desk.notary, raw, self.frames)?;
        self.pending.start = self.pending.end;
        self.frames = 0;
        self.since = None;
        self.unsigned += 1;
        self.unsigned_since.get_or_insert_with(Instant::now);
        Ok(())
    }

    fn use_again(&self, sealed: Committed) {
        match sealed.recycle() {
            Ok(blank) => self.shared.give_back(blank),
            Err(_) => {
                tracing::error!(session = %self.session, "a journal that was left is still being written");
            }
        }
    }

    fn remove_journals(&self, desk: &Desk) -> Result<(), RecordError> {
        for slot in 0..self.shared.slots() {
            let path = desk.layout.journal(self.session, slot);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(RecordError::io("remove", &path, error));
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }
}
