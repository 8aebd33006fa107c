//! Records of a host: the directory, the ledger, the keys and the writers.

use std::fs::{self, File, TryLockError};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::layout::Layout;
use super::notary::Notary;
use super::recover::{Recovered, recover};
use super::sealer::{Sealer, Terms};
use super::session::SessionRecord;
use super::writer::{Desk, Live, Pace, run};
use super::{RecordError, now};
use crate::kernel::mapping::prepare_directory;
use crate::model::{Direction, FrameKind, SessionId};

/// What a recorded frame survives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// SIGKILL of the agent. Appends wait for nothing.
    #[default]
    Agent,
    /// Loss of power as well: each append waits for an fdatasync of its journal, however many parts it joins.
    Host,
}

/// How a host's records are kept.
#[derive(Clone, Debug)]
pub struct RecorderOptions {
    /// Where. Made if it does not exist; readable by its owner alone.
    pub directory: PathBuf,
    /// What a recorded frame survives.
    pub durability: Durability,
    /// Stored bytes behind which a segment of a session is ended and can be shipped.
    pub segment_bytes: u64,
    /// Longest time that a frame is in the journal alone.
    pub flush_after: Duration,
    /// Longest time that a block is not signed.
    pub sign_after: Duration,
    /// Blocks that are signed together at the most.
    pub sign_blocks: u32,
    /// How long a signing key is used.
    pub key_lifetime: Duration,
    /// Threads that seal; a session belongs to one of them.
    pub writers: usize,
}

impl RecorderOptions {
    /// The defaults, in `directory`.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            directory: directory.into(),
            durability: Durability::Agent,
            segment_bytes: 64 * 1024 * 1024,
            flush_after: Duration::from_secs(1),
            sign_after: Duration::from_secs(5),
            sign_blocks: 64,
            key_lifetime: Duration::from_hours(1),
            writers: (cores / 4).clamp(1, 8),
        }
    }
}

/// The recorder of a host. Clones are the same recorder.
#[derive(Clone)]
pub struct Recorder {
    inner: Arc<Inner>,
}

struct Inner {
    desk: Arc<Desk>,
    durability: Durability,
    segment_bytes: u64,
    writers: Mutex<Vec<Writer>>,
    next: AtomicUsize,
    recovered: Vec<Recovered>,
    /// Its lock says that an agent is alive.
    _lock: File,
}

struct Writer {
    sessions: SyncSender<Live>,
    thread: JoinHandle<()>,
}

impl Recorder {
    /// Opens the directory, seals what an agent that was killed left, changes the signing key, starts the writers.
    ///
    /// # Errors
    /// Another agent works in the directory; its file system cannot hold journals; ledger and key do not fit; the
    /// disk is full.
    pub fn open(options: &RecorderOptions) -> Result<Self, RecordError> {
        let layout = Layout::new(&options.directory);
        for directory in [layout.directory(), &layout.journals(), &layout.shipped()] {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(directory)
                .map_err(|error| RecordError::io("create", directory, error))?;
        }
        let lock = lock(&layout)?;
        prepare_directory(&layout.journals())?;
        let durable = options.durability == Durability::Host;
        let (mut notary, ledger) = Notary::open(&layout, options.key_lifetime, durable)?;
        let first_start = ledger.entries == 0;
        drop(ledger);
        let host = notary.host();
        if !first_start {
            notary.roll()?;
        }
        let notary = Arc::new(Mutex::new(notary));
        let terms = Terms {
            session: SessionId(uuid::Uuid::nil()),
            started: now(),
            host,
            segment_bytes: options.segment_bytes,
            durable,
        };
        let recovered = recover(&layout, &notary, terms)?;
        let desk = Arc::new(Desk {
            layout,
            notary,
            pace: Pace {
                flush: options.flush_after,
                sign: options.sign_after,
                sign_blocks: options.sign_blocks,
            },
            stop: AtomicBool::new(false),
            sealed: tokio::sync::Notify::new(),
        });
        let writers = (0..options.writers.max(1))
            .map(|number| start_writer(&desk, number))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            inner: Arc::new(Inner {
                desk,
                durability: options.durability,
                segment_bytes: options.segment_bytes,
                writers: Mutex::new(writers),
                next: AtomicUsize::new(0),
                recovered,
                _lock: lock,
            }),
        })
    }

    /// Begins the record of a session. `open` is an [`OpenMeta`](super::meta::OpenMeta); it becomes the first frame.
    /// When this returns, the ledger names the session.
    ///
    /// # Errors
    /// The record cannot be begun, and the session must not be.
    pub fn begin(&self, session: SessionId, open: &serde_json::Value) -> Result<SessionRecord, RecordError> {
        let inner = &self.inner;
        let desk = &inner.desk;
        let (sessions, thread) = {
            let writers = inner.writers.lock();
            let index = inner.next.fetch_add(1, Ordering::Relaxed) % writers.len().max(1);
            let writer = writers.get(index).ok_or(RecordError::Stopped)?;
            (writer.sessions.clone(), writer.thread.thread().clone())
        };
        let started = now();
        let (mut record, begun) =
            SessionRecord::create(&desk.layout, session, started, inner.durability, thread.clone())?;
        let json = open.to_string();
        // The journal comes before the ledger: a kill between them leaves a session that the next start enters, not an
        // entry whose session seems to have been removed.
        let entered = record
            .append(FrameKind::Open, Direction::ToServer, &[json.as_bytes()])
            .and_then(|()| {
                let hash = *blake3::hash(json.as_bytes()).as_bytes();
                desk.notary.lock().opened(session, hash)
            });
        if let Err(error) = entered {
            super::journal::remove(&desk.layout, session)?;
            return Err(error);
        }
        let terms = Terms {
            session,
            started,
            host: desk.notary.lock().host(),
            segment_bytes: inner.segment_bytes,
            durable: inner.durability == Durability::Host,
        };
        let live = Live::new(session, begun, Sealer::new(&desk.layout, terms));
        sessions.send(live).map_err(|_| RecordError::Stopped)?;
        thread.unpark();
        Ok(record)
    }

    /// What was found of an agent that was killed, and sealed at the start.
    pub fn recovered(&self) -> &[Recovered] {
        &self.inner.recovered
    }

    /// The files.
    pub fn layout(&self) -> &Layout {
        &self.inner.desk.layout
    }

    /// Public key of the host's identity in lower-case hex: what an auditor notes when the host is set up.
    pub fn identity(&self) -> String {
        hex::encode(self.inner.desk.notary.lock().host())
    }

    /// Changes the signing key now.
    pub fn change_key(&self) -> Result<(), RecordError> {
        self.inner.desk.notary.lock().roll()
    }

    /// Resolves when something was sealed since the last call.
    pub async fn sealed(&self) {
        self.inner.desk.sealed.notified().await;
    }

    /// Enters in the ledger that the files of a session, whose final hash is `hash`, are removed on purpose. Call it
    /// before they are removed. `false`, and nothing entered: the session is not closed.
    pub fn pruned(&self, session: SessionId, hash: [u8; 32]) -> Result<bool, RecordError> {
        let mut notary = self.inner.desk.notary.lock();
        if notary.knows(session) {
            return Ok(false);
        }
        notary.pruned(session, hash)?;
        Ok(true)
    }

    /// Seals every session that has ended, and stops. A session that is still open can record nothing more; the
    /// next start seals it.
    ///
    /// # Errors
    /// A writer died.
    pub fn shutdown(&self) -> Result<(), RecordError> {
        self.inner.stop()
    }
}

impl Inner {
    fn stop(&self) -> Result<(), RecordError> {
        self.desk.stop.store(true, Ordering::Release);
        let writers: Vec<_> = self.writers.lock().drain(..).collect();
        let mut result = Ok(());
        for writer in writers {
            writer.thread.thread().unpark();
            if writer.thread.join().is_err() {
                result = Err(RecordError::Stopped);
            }
        }
        result
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if self.stop().is_err() {
            tracing::error!("a writer of records died");
        }
    }
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recorder")
            .field("directory", &self.layout().directory())
            .finish_non_exhaustive()
    }
}

fn start_writer(desk: &Arc<Desk>, number: usize) -> Result<Writer, RecordError> {
    let (sessions, receiver) = sync_channel(256);
    let thread = std::thread::Builder::new()
        .name(format!("record-{number}"))
        .spawn({
            let desk = Arc::clone(desk);
            move || run(&desk, &receiver, number == 0)
        });
    let thread =
        thread.map_err(|error| RecordError::io("start a writer for", desk.layout.directory(), error))?;
    Ok(Writer { sessions, thread })
}

/// Takes the directory for this agent. Waits a moment, because a reader that asks whether an agent is alive holds the
/// lock while it asks.
fn lock(layout: &Layout) -> Result<File, RecordError> {
    let path = layout.lock();
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(|error| RecordError::io("open", &path, error))?;
    let begun = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if begun.elapsed() < Duration::from_secs(1) => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(TryLockError::WouldBlock) => {
                return Err(RecordError::InUse {
                    directory: layout.directory().to_owned(),
                });
            }
            Err(TryLockError::Error(error)) => return Err(RecordError::io("lock", &path, error)),
        }
    }
}

/// Whether an agent works in the directory now.
pub(super) fn is_alive(layout: &Layout) -> bool {
    File::open(layout.lock())
        .is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}
