//! The pen of one session: copies frames into its journal, where they survive the death of the agent.
//!
//! No thread hop, no system call and no allocation for a frame that fits in the journal at hand. A full window stalls
//! the session until the writer has made room; nothing is ever dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::Thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use ringbuf::HeapProd;
use ringbuf::traits::{Observer, Producer};

use super::frame::{FRAME_HEADER, FrameHeader, MAX_PAYLOAD, Run, Seed};
use super::journal::JournalHeader;
use super::keys::sync_directory;
use super::layout::Layout;
use super::{Durability, RecordError};
use crate::kernel::mapping::{Appender, Blank, Committed};
use crate::model::{Direction, FrameKind, SessionId};

/// Descriptors between a session and its writer. A wake-up is due at half of it.
pub(super) const RING: usize = 1024;

/// Bytes of data in a session's first journal file, and in each further one.
const FIRST_JOURNAL: usize = 256 * 1024;
const NEXT_JOURNAL: usize = 1024 * 1024;

/// Journal files of one session that may be in use at a time.
const WINDOW: usize = 4;

/// Kept free in each journal for what says why a record ends.
const RESERVE: usize = 4096;

/// Unsealed bytes at which the writer is woken; below that it comes by on its own.
const WAKE_BYTES: usize = 128 * 1024;

/// How long a session waits for room. A disk that hangs longer ends it.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the session tells its writer.
pub(super) enum Descriptor {
    /// So many bytes more are a frame, in the journal at hand.
    Frame(usize),
    /// The next frames are in this journal.
    Next(Committed),
}

/// What session and writer share besides the ring.
#[derive(Debug, Default)]
pub(super) struct Shared {
    room: Mutex<Room>,
    waiting: Condvar,
    notify: tokio::sync::Notify,
    /// A failure is in `room`.
    failed: AtomicBool,
    /// No frame will follow.
    closed: AtomicBool,
}

#[derive(Debug, Default)]
struct Room {
    /// Journals that are sealed and can be used again.
    blanks: Vec<Blank>,
    /// Journal files in existence.
    slots: usize,
    failure: Option<RecordError>,
}

impl Shared {
    /// Gives back a journal whose frames are all sealed.
    pub(super) fn give_back(&self, blank: Blank) {
        self.room.lock().blanks.push(blank);
        self.signal();
    }

    /// The ring has room again.
    pub(super) fn signal(&self) {
        self.waiting.notify_all();
        self.notify.notify_one();
    }

    /// The record cannot be written, for now.
    pub(super) fn fail(&self, error: RecordError) {
        self.room.lock().failure = Some(error);
        self.failed.store(true, Ordering::Release);
        self.signal();
    }

    /// It can be written again.
    pub(super) fn recover(&self) {
        self.failed.store(false, Ordering::Release);
        self.room.lock().failure = None;
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Journal files that exist, to be removed when the record is sealed.
    pub(super) fn slots(&self) -> usize {
        self.room.lock().slots
    }

    fn check(&self) -> Result<(), RecordError> {
        if self.failed.load(Ordering::Acquire) {
            self.room.lock().failure.clone().map_or(Ok(()), Err)
        } else {
            Ok(())
        }
    }
}

/// The record of one open session.
///
/// Dropped without [`SessionRecord::close`] it is sealed as it stands, and readers are told that it has no end.
pub struct SessionRecord {
    layout: Layout,
    seed: Seed,
    /// Header of the journal at hand.
    journal: JournalHeader,
    base: Instant,
    frames: u64,
    appender: Appender,
    ring: HeapProd<Descriptor>,
    /// Bytes since the writer was last woken.
    unsealed: usize,
    /// A frame was lost: nothing may follow as if it had not been.
    broken: bool,
    /// Since when there has been no room.
    stalled: Option<Instant>,
    durability: Durability,
    shared: Arc<Shared>,
    writer: Thread,
}

/// What [`SessionRecord::create`] leaves for the writer.
pub(super) struct Begun {
    pub(super) ring: ringbuf::HeapCons<Descriptor>,
    pub(super) shared: Arc<Shared>,
    pub(super) journal: Committed,
}

impl SessionRecord {
    pub(super) fn create(
        layout: &Layout,
        session: SessionId,
        started: i64,
        durability: Durability,
        writer: Thread,
    ) -> Result<(Self, Begun), RecordError> {
        let blank = Blank::create(&layout.journal(session, 0), FIRST_JOURNAL)?;
        if durability == Durability::Host {
            sync_directory(&layout.journals())?;
        }
        let journal = JournalHeader {
            session,
            sequence: 0,
            first_frame: 0,
            started,
        };
        let (appender, committed) = blank.start(&journal.encode());
        let shared = Arc::new(Shared::default());
        shared.room.lock().slots = 1;
        let (ring, descriptors) = ringbuf::traits::Split::split(ringbuf::HeapRb::new(RING));
        let record = Self {
            layout: layout.clone(),
            seed: Seed::new(session),
            journal,
            base: Instant::now(),
            frames: 0,
            appender,
            ring,
            unsealed: 0,
            broken: false,
            stalled: None,
            durability,
            shared: Arc::clone(&shared),
            writer,
        };
        let begun = Begun {
            ring: descriptors,
            shared,
            journal: committed,
        };
        Ok((record, begun))
    }

    /// The session.
    pub fn session(&self) -> SessionId {
        self.journal.session
    }

    /// Records `parts`, joined, as one frame (more than [`MAX_PAYLOAD`] bytes: as several, marked as belonging
    /// together). When this returns, they survive the death of the agent; with [`Durability::Host`], of the host.
    ///
    /// Copies `parts` once, does not allocate, and blocks only where the writer has to make room (see
    /// [`SessionRecord::ready`]) or, with [`Durability::Host`], for the disk.
    ///
    /// # Errors
    /// The frame is not recorded, and must not be forwarded. Nothing can be recorded from then on, but
    /// [`FrameKind::Error`] and [`FrameKind::Close`], for which some room is kept, and [`FrameKind::Gap`], which
    /// states what is missing and lets the record go on.
    pub fn append(
        &mut self,
        kind: FrameKind,
        direction: Direction,
        parts: &[&[u8]],
    ) -> Result<(), RecordError> {
        let last_words = matches!(kind, FrameKind::Error | FrameKind::Gap | FrameKind::Close);
        if !last_words {
            if self.broken {
                return Err(RecordError::Broken);
            }
            self.shared.check().inspect_err(|_| self.broken = true)?;
        }
        let elapsed = u64::try_from(self.base.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let mut rest = Run::new(parts);
        loop {
            let payload = rest.split_to(MAX_PAYLOAD);
            let header = FrameHeader {
                len: u32::try_from(payload.len()).unwrap_or(u32::MAX),
                elapsed,
                kind,
                direction,
                continued: rest.len() > 0,
            };
            self.put(&header, &payload, last_words)
                .inspect_err(|_| self.broken = true)?;
            if rest.len() == 0 {
                break;
            }
        }
        if self.durability == Durability::Host {
            self.appender.sync().inspect_err(|_| self.broken = true)?;
        }
        if kind == FrameKind::Gap {
            self.broken = false;
        }
        Ok(())
    }

    /// Resolves when the next append of up to 64 KiB will not have to wait for the writer. Call it before an append
    /// in async code, so that a slow disk holds back the session and not its thread.
    ///
    /// # Errors
    /// As for [`SessionRecord::append`].
    pub async fn ready(&mut self) -> Result<(), RecordError> {
        while let Some(room) = self.room()? {
            room.await;
        }
        Ok(())
    }

    /// `None`: the next append of up to 64 KiB will not have to wait for the writer. Otherwise what to wait for before this is
    /// asked again; it is not bound to the record.
    ///
    /// # Errors
    /// As for [`SessionRecord::append`].
    pub fn room(&mut self) -> Result<Option<impl Future<Output = ()> + Send + use<>>, RecordError> {
        self.shared.check()?;
        if self.has_room() {
            self.stalled = None;
            return Ok(None);
        }
        self.writer.unpark();
        let left = PATIENCE.saturating_sub(self.stalled.get_or_insert_with(Instant::now).elapsed());
        if left.is_zero() {
            return Err(RecordError::Stalled { waited: PATIENCE });
        }
        let shared = Arc::clone(&self.shared);
        Ok(Some(async move {
            // The writer signals after it made room; the time-out covers a signal that came before the wait, or that
            // another exchange of the session has taken.
            let signalled = shared.notify.notified();
            let _ = tokio::time::timeout(left.min(Duration::from_millis(100)), signalled).await;
        }))
    }

    /// Ends the record with a Close frame and hands it to the writer, which seals it.
    ///
    /// # Errors
    /// The Close frame could not be recorded. What was recorded before is sealed all the same.
    pub fn close(mut self, close: &serde_json::Value) -> Result<(), RecordError> {
        let json = close.to_string();
        self.append(FrameKind::Close, Direction::ToClient, &[json.as_bytes()])
    }

    fn put(&mut self, header: &FrameHeader, payload: &Run<'_>, last_words: bool) -> Result<(), RecordError> {
        let len = FRAME_HEADER + payload.len();
        self.make_room(len + if last_words { 0 } else { RESERVE }, last_words)?;
        let head = header.encode(self.seed, self.frames, payload.clone());
        let whole = self.appender.write(&head) && payload.clone().all(|piece| self.appender.write(piece));
        if !whole {
            self.appender.roll_back();
            return Err(RecordError::Stalled {
                waited: Duration::ZERO,
            });
        }
        self.appender.commit();
        self.frames += 1;
        self.tell(Descriptor::Frame(len))?;
        self.unsealed += len;
        if self.unsealed >= WAKE_BYTES || self.ring.vacant_len() < RING / 2 {
            self.unsealed = 0;
            self.writer.unpark();
        }
        Ok(())
    }

    /// Makes sure that the ring takes two descriptors and the journal `len` bytes.
    fn make_room(&mut self, len: usize, last_words: bool) -> Result<(), RecordError> {
        if self.ring.vacant_len() < 2 {
            let (shared, ring) = (&self.shared, &self.ring);
            shared.wait(&self.writer, last_words, |_| {
                (ring.vacant_len() >= 2).then_some(())
            })?;
        }
        if self.appender.vacant() >= len {
            return Ok(());
        }
        let slot = self.shared.wait(&self.writer, last_words, |room| {
            if let Some(blank) = room.blanks.pop() {
                return Some(Slot::Used(blank));
            }
            (room.slots < WINDOW).then_some(Slot::New(room.slots))
        })?;
        let blank = match slot {
            Slot::Used(blank) => blank,
            Slot::New(number) => {
                let path = self.layout.journal(self.journal.session, number);
                let blank = Blank::create(&path, NEXT_JOURNAL)?;
                if self.durability == Durability::Host {
                    sync_directory(&self.layout.journals())?;
                }
                self.shared.room.lock().slots += 1;
                blank
            }
        };
        let next = JournalHeader {
            sequence: self.journal.sequence + 1,
            first_frame: self.frames,
            ..self.journal
        };
        let (appender, committed) = blank.start(&next.encode());
        if appender.vacant() < len {
            return Err(RecordError::Stalled {
                waited: Duration::ZERO,
            });
        }
        self.journal = next;
        // Dropped before the writer is told, which waits for this half to be gone before it uses the file again.
        self.appender = appender;
        self.tell(Descriptor::Next(committed))
    }

    /// Room in the ring was made before.
    fn tell(&mut self, descriptor: Descriptor) -> Result<(), RecordError> {
        self.ring.try_push(descriptor).map_err(|_| RecordError::Stalled {
            waited: Duration::ZERO,
        })
    }

    fn has_room(&self) -> bool {
        let room = self.shared.room.lock();
        self.ring.vacant_len() >= 4
            && (self.appender.vacant() >= 2 * (FRAME_HEADER + MAX_PAYLOAD) + RESERVE
                || !room.blanks.is_empty()
                || room.slots < WINDOW)
    }
}

enum Slot {
    Used(Blank),
    New(usize),
}

impl Shared {
    /// Waits until `attempt` succeeds.
    fn wait<T>(
        &self,
        writer: &Thread,
        last_words: bool,
        mut attempt: impl FnMut(&mut Room) -> Option<T>,
    ) -> Result<T, RecordError> {
        let begun = Instant::now();
        loop {
            let mut room = self.room.lock();
            if let Some(done) = attempt(&mut room) {
                return Ok(done);
            }
            // A writer that fails may recover, but a session is not kept waiting for that.
            if let Some(failure) = room.failure.clone() {
                return Err(failure);
            }
            if begun.elapsed() >= PATIENCE || last_words && begun.elapsed() >= PATIENCE / 30 {
                return Err(RecordError::Stalled {
                    waited: begun.elapsed(),
                });
            }
            writer.unpark();
            // The ring has no lock of its own: its signal can come between the attempt and the wait.
            let _ = self.waiting.wait_for(&mut room, Duration::from_millis(5));
        }
    }
}

impl Drop for SessionRecord {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::Release);
        self.writer.unpark();
    }
}

impl std::fmt::Debug for SessionRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionRecord")
            .field("session", &self.journal.session)
            .field("frames", &self.frames)
            .finish_non_exhaustive()
    }
}
