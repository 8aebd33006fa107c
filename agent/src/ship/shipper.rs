//! The task that ships.

use std::collections::BTreeMap;
use std::fs;
use std::future::Future;
use std::io::SeekFrom;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use object_store::ObjectStoreExt;
use object_store::buffered::BufWriter;
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};
use tokio::sync::watch;

use super::spool::{Mark, Spool, failed};
use super::{ShipError, ShipTarget};
use crate::model::SessionId;
use crate::record::{Recorder, SegmentFile, whole_entries};

/// How records are shipped.
#[derive(Clone, Debug)]
pub struct ShipOptions {
    /// Longest time between two looks; what is sealed is shipped at once.
    pub poll: Duration,
    /// Pause after a failure; doubled with each that follows.
    pub first_retry: Duration,
    /// Longest pause after a failure.
    pub longest_retry: Duration,
    /// How long the end of the agent waits for what is still to be shipped.
    pub grace: Duration,
    /// Bytes of sealed segments that may be in the records directory. Above it, sessions that were shipped are removed,
    /// the oldest first; where that does not suffice, [`Backlog::full`] is set. `None`: nothing is removed.
    pub spool_bytes: Option<u64>,
}

impl Default for ShipOptions {
    fn default() -> Self {
        Self {
            poll: Duration::from_secs(10),
            first_retry: Duration::from_secs(1),
            longest_retry: Duration::from_mins(2),
            grace: Duration::from_secs(5),
            spool_bytes: None,
        }
    }
}

/// What waits to be shipped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Bytes that wait.
    pub bytes: u64,
    /// The spool's bound is reached by what is not shipped: no further session should begin.
    pub full: bool,
    /// Why the last attempt failed; `None`: it did not.
    pub error: Option<String>,
}

/// Ships the records of one recorder.
#[derive(Debug)]
pub struct Shipper {
    target: ShipTarget,
    recorder: Recorder,
    spool: Spool,
    options: ShipOptions,
    backlog: watch::Sender<Backlog>,
}

impl Shipper {
    /// A shipper for the records of `recorder`.
    pub fn new(target: ShipTarget, recorder: Recorder, options: ShipOptions) -> Self {
        Self {
            spool: Spool::new(recorder.layout().clone()),
            target,
            recorder,
            options,
            backlog: watch::Sender::default(),
        }
    }

    /// What waits, as it changes.
    pub fn backlog(&self) -> watch::Receiver<Backlog> {
        self.backlog.subscribe()
    }

    /// Ships until `shutdown` resolves, and then, for the grace at most, what was sealed meanwhile. What is left is
    /// shipped by the next start.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        tokio::pin!(shutdown);
        let mut pause = self.options.first_retry;
        loop {
            let attempt = tokio::select! {
                () = &mut shutdown => break,
                attempt = self.ship() => attempt,
            };
            let wait = match attempt {
                Ok(()) => {
                    pause = self.options.first_retry;
                    self.options.poll
                }
                Err(error) => {
                    tracing::warn!(target_url = self.target.url(), %error, retry_in = ?pause, "records cannot be shipped");
                    let wait = pause;
                    pause = (pause * 2).min(self.options.longest_retry);
                    wait
                }
            };
            // After a failure only the pause counts: a busy host must not hammer a store that is down.
            let failing = self.backlog.borrow().error.is_some();
            tokio::select! {
                () = &mut shutdown => break,
                () = self.recorder.sealed(), if !failing => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
        match tokio::time::timeout(self.options.grace, self.ship()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "records that were not shipped wait for the next start"),
            Err(_) => tracing::warn!("records that were not shipped in time wait for the next start"),
        }
    }

    /// Ships everything that waits, once.
    ///
    /// # Errors
    /// The first failure; what was shipped before it is marked.
    pub async fn ship(&self) -> Result<(), ShipError> {
        let result = self.attempt().await;
        let bytes = self.spool.backlog().unwrap_or_default();
        self.backlog.send_replace(Backlog {
            bytes,
            full: self.options.spool_bytes.is_some_and(|limit| bytes >= limit),
            error: result.as_ref().err().map(ToString::to_string),
        });
        result
    }

    async fn attempt(&self) -> Result<(), ShipError> {
        // The ledger first: it is small, and it is what shows that a session was removed before it could be shipped.
        self.ship_ledger().await?;
        for segment in self.spool.waiting()? {
            self.ship_segment(&segment).await?;
        }
        self.prune()?;
        self.ship_ledger().await
    }

    async fn ship_segment(&self, segment: &SegmentFile) -> Result<(), ShipError> {
        let length = fs::metadata(&segment.path)
            .map_err(|error| failed("read", &segment.path, error))?
            .len();
        let name = segment
            .path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        let mark = self
            .upload(&segment.path, 0, length, &format!("records/{name}"))
            .await?;
        self.spool.set_mark(&segment.path, &mark)
    }

    async fn ship_ledger(&self) -> Result<(), ShipError> {
        let path = self.spool.ledger();
        let length = fs::metadata(&path)
            .map_err(|error| failed("read", &path, error))?
            .len();
        let (from, to) = (
            self.spool.mark(&path)?.map_or(0, |mark| mark.size),
            whole_entries(length),
        );
        if to < from {
            return Err(ShipError::Short {
                object: path.display().to_string(),
                found: to,
                sent: from,
            });
        }
        if to == from {
            return Ok(());
        }
        let mark = self
            .upload(&path, from, to, &format!("ledger/{from:020}.tgl"))
            .await?;
        self.spool.set_mark(&path, &Mark { size: to, ..mark })
    }

    /// Puts bytes `from` to `to` of a file into the store and makes sure that they are all there.
    async fn upload(&self, path: &Path, from: u64, to: u64, name: &str) -> Result<Mark, ShipError> {
        let object = self.target.object(name);
        let read = |error| failed("read", path, error);
        let write = |source: object_store::Error| ShipError::Store {
            action: format!("store {object}"),
            source: Arc::new(source),
        };
        // The writer wraps the store's errors.
        let refused = |error: std::io::Error| {
            write(object_store::Error::Generic {
                store: "upload",
                source: error.into(),
            })
        };
        let mut file = tokio::fs::File::open(path).await.map_err(read)?;
        file.seek(SeekFrom::Start(from)).await.map_err(read)?;
        let mut file = file.take(to - from);
        let mut writer = BufWriter::new(Arc::clone(self.target.store()), object.clone());
        let mut hasher = blake3::Hasher::new();
        let mut buffer = vec![0; 256 * 1024];
        loop {
            let count = file.read(&mut buffer).await.map_err(read)?;
            let chunk = buffer.get(..count).unwrap_or_default();
            if chunk.is_empty() {
                break;
            }
            hasher.update(chunk);
            writer.write_all(chunk).await.map_err(refused)?;
        }
        writer.shutdown().await.map_err(refused)?;
        let found = self.target.store().head(&object).await.map_err(write)?.size;
        let sent = to - from;
        if found != sent {
            return Err(ShipError::Short {
                object: object.to_string(),
                found,
                sent,
            });
        }
        Ok(Mark {
            object: format!("{} {object}", self.target.url()),
            size: sent,
            blake3: hasher.finalize().to_hex().to_string(),
        })
    }

    /// Removes sessions that were shipped until the spool is in its bound. The ledger says so, before it is done.
    fn prune(&self) -> Result<(), ShipError> {
        let Some(limit) = self.options.spool_bytes else {
            return Ok(());
        };
        let mut sessions: BTreeMap<SessionId, Vec<SegmentFile>> = BTreeMap::new();
        let mut total = 0;
        for file in self.recorder.layout().segments()? {
            total += fs::metadata(&file.path).map_or(0, |metadata| metadata.len());
            sessions.entry(file.session).or_default().push(file);
        }
        // Ids sort by time of start.
        for (session, files) in sessions {
            if total <= limit {
                break;
            }
            total -= self.prune_session(session, &files)?;
        }
        Ok(())
    }

    /// Removes a session if all of it was shipped and it is over; gives the bytes that were freed.
    fn prune_session(&self, session: SessionId, files: &[SegmentFile]) -> Result<u64, ShipError> {
        let shipped = files
            .iter()
            .map(|file| Ok(file.sealed && self.spool.mark(&file.path)?.is_some()))
            .collect::<Result<Vec<_>, ShipError>>()?;
        let Some(last) = files.last().filter(|_| shipped.iter().all(|shipped| *shipped)) else {
            return Ok(0);
        };
        let bytes = fs::read(&last.path).map_err(|error| failed("read", &last.path, error))?;
        let Some((_, hash)) = bytes.split_last_chunk::<32>() else {
            return Ok(0);
        };
        if !self.recorder.pruned(session, *hash)? {
            return Ok(0);
        }
        let mut freed = 0;
        for file in files {
            freed += fs::metadata(&file.path).map_or(0, |metadata| metadata.len());
            fs::remove_file(&file.path).map_err(|error| failed("remove", &file.path, error))?;
            self.spool.remove_mark(&file.path)?;
        }
        Ok(freed)
    }
}
