//! A file that is written through a shared mapping, append only: what was stored survives the death of the process.
//!
//! The file's blocks are allocated before the mapping is made, so that a full disk is an error here and never a
//! SIGBUS at a store. One [`Appender`] writes; any thread that holds the [`Committed`] half reads what was committed.
//! What a file holds: 8 bytes, the committed length (little-endian, of the data alone); [`HEADER`] bytes of the
//! owner's; data.
//!
//! Limits: nobody else may write to or cut the file (keep it in a directory of the agent's own); on a copy-on-write
//! file system a rewritten page needs a new block, so allocation promises nothing there ([`prepare_directory`] says
//! which file systems are refused).

use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use nix::sys::statfs::{BTRFS_SUPER_MAGIC, statfs};

/// Bytes at the start of the file that belong to the owner, after the committed length.
pub const HEADER: usize = 120;

/// Offset of the data in the file: the committed length, then the header.
pub const DATA: usize = COMMITTED + HEADER;

const COMMITTED: usize = size_of::<u64>();

/// Why a mapping could not be made.
#[derive(Debug, thiserror::Error)]
pub enum MappingError {
    /// A system call failed. ENOSPC and EDQUOT: the disk is full.
    #[error("cannot {call} {path}")]
    Call {
        /// What was tried.
        call: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The file system rewrites blocks elsewhere, so that space once allocated is no promise.
    #[error(
        "{path} is on a copy-on-write file system ({name}), where allocated space can still run out; \
         use a directory on ext4, xfs or tmpfs"
    )]
    CopyOnWrite {
        /// The directory.
        path: PathBuf,
        /// Name of the file system.
        name: &'static str,
    },
}

/// A mapped file that holds nothing yet.
#[derive(Debug)]
pub struct Blank(Region);

/// The half that writes. There is one of it for each file.
#[derive(Debug)]
pub struct Appender {
    region: Arc<Region>,
    /// Bytes of data written, committed or not.
    staged: usize,
}

/// The half that reads what was committed.
#[derive(Debug)]
pub struct Committed {
    region: Arc<Region>,
}

/// Makes sure that allocated space is a promise in `directory`: on btrfs new files in it are not copied on write,
/// other file systems that copy on write are refused.
pub fn prepare_directory(directory: &Path) -> Result<(), MappingError> {
    const ZFS: i64 = 0x2fc1_2fc1;
    const BCACHEFS: i64 = 0xca45_1a4e;
    let kind = statfs(directory).map_err(|errno| failed("inspect the file system of", directory, errno))?;
    if kind.filesystem_type() == BTRFS_SUPER_MAGIC {
        return set_no_copy_on_write(directory);
    }
    let refused = match kind.filesystem_type().0 {
        ZFS => Some("zfs"),
        BCACHEFS => Some("bcachefs"),
        _ => None,
    };
    match refused {
        Some(name) => Err(MappingError::CopyOnWrite {
            path: directory.to_owned(),
            name,
        }),
        None => Ok(()),
    }
}

impl Blank {
    /// Makes `path`, which must not exist, readable by its owner alone, with room for `capacity` bytes of data.
    ///
    /// # Errors
    /// The file exists, cannot be made, or the disk has not this much room; nothing is left of it then.
    pub fn create(path: &Path, capacity: usize) -> Result<Self, MappingError> {
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(|source| MappingError::Call {
                call: "create",
                path: path.to_owned(),
                source,
            })?;
        Self::map(file, path, capacity).inspect_err(|_| {
            // A file without its blocks would only be found again by the next start.
            let _ = std::fs::remove_file(path);
        })
    }

    fn map(file: File, path: &Path, capacity: usize) -> Result<Self, MappingError> {
        let too_large = || failed("allocate", path, Errno::EFBIG);
        let len = DATA
            .checked_add(capacity)
            .and_then(NonZeroUsize::new)
            .ok_or_else(too_large)?;
        let size = i64::try_from(len.get()).map_err(|_| too_large())?;
        loop {
            match fallocate(&file, FallocateFlags::empty(), 0, size) {
                Ok(()) => break,
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(failed("allocate", path, errno)),
            }
        }
        let base = map_shared(&file, len).map_err(|errno| failed("map", path, errno))?;
        Ok(Self(Region {
            base,
            len,
            file,
            path: path.to_owned(),
        }))
    }

    /// Begins the file with `header`.
    pub fn start(self, header: &[u8; HEADER]) -> (Appender, Committed) {
        self.0.store(COMMITTED, header);
        let region = Arc::new(self.0);
        (
            Appender {
                region: Arc::clone(&region),
                staged: 0,
            },
            Committed { region },
        )
    }
}

impl Appender {
    /// Bytes of data that still fit.
    pub fn vacant(&self) -> usize {
        self.region.capacity() - self.staged
    }

    /// Puts `bytes` behind what was written. Readers do not see them before [`Appender::commit`].
    /// `false`, and nothing done, where they do not fit.
    #[must_use]
    pub fn write(&mut self, bytes: &[u8]) -> bool {
        if bytes.len() > self.vacant() {
            return false;
        }
        self.region.store(DATA + self.staged, bytes);
        self.staged += bytes.len();
        true
    }

    /// Lets readers, and whoever opens the file after this process has died, see all that was written.
    pub fn commit(&mut self) {
        self.region
            .committed()
            .store((self.staged as u64).to_le(), Ordering::Release);
    }

    /// Takes back what was written since the last commit.
    pub fn roll_back(&mut self) {
        self.staged = self.region.committed_len();
    }

    /// Waits until the file, with all that was committed, is on stable storage (`fdatasync`, which writes the pages
    /// that are dirty through the mapping too).
    pub fn sync(&self) -> Result<(), MappingError> {
        self.region.file.sync_data().map_err(|source| MappingError::Call {
            call: "write to stable storage",
            path: self.region.path.clone(),
            source,
        })
    }
}

impl Committed {
    /// Bytes of data that were committed.
    pub fn len(&self) -> usize {
        self.region.committed_len()
    }

    /// Whether nothing was committed.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Committed data. `None` where the range reaches past what was committed.
    pub fn bytes(&self, range: Range<usize>) -> Option<&[u8]> {
        if range.start > range.end || range.end > self.len() {
            return None;
        }
        Some(self.region.load(DATA + range.start, range.end - range.start))
    }

    /// Path of the file.
    pub fn path(&self) -> &Path {
        &self.region.path
    }

    /// Empties the file, to be used again: its pages are mapped and its blocks are there already.
    ///
    /// # Errors
    /// The writing half still exists: `self` is given back.
    pub fn recycle(self) -> Result<Blank, Committed> {
        match Arc::try_unwrap(self.region) {
            Ok(region) => {
                region.committed().store(0, Ordering::Release);
                Ok(Blank(region))
            }
            Err(region) => Err(Committed { region }),
        }
    }
}

fn failed(call: &'static str, path: &Path, errno: Errno) -> MappingError {
    MappingError::Call {
        call,
        path: path.to_owned(),
        source: errno.into(),
    }
}

/// The mapping itself.
///
/// Invariant, on which every `unsafe` below rests: `base` points to `len` mapped bytes, page-aligned, until drop; the
/// first 8 are only accessed as an atomic; data below the committed length is never written while a [`Committed`]
/// exists, and data above it, and the header, are only accessed by the one [`Blank`] or [`Appender`]. The file is
/// never cut: this module does not, and its directory is the agent's alone.
#[derive(Debug)]
struct Region {
    base: NonNull<u8>,
    len: NonZeroUsize,
    file: File,
    path: PathBuf,
}

impl Region {
    fn capacity(&self) -> usize {
        self.len.get() - DATA
    }

    #[expect(unsafe_code, reason = "an atomic in the mapping")]
    fn committed(&self) -> &AtomicU64 {
        // SAFETY: page-aligned, 8 bytes of the mapping, accessed as this atomic alone, mapped as long as `self` lives.
        unsafe { AtomicU64::from_ptr(self.base.as_ptr().cast()) }
    }

    fn committed_len(&self) -> usize {
        let committed = u64::from_le(self.committed().load(Ordering::Acquire));
        usize::try_from(committed).map_or(0, |len| len.min(self.capacity()))
    }

    /// Copies `bytes` to `offset`. Only the owner of the unpublished part calls it.
    #[expect(unsafe_code, reason = "a store into the mapping")]
    fn store(&self, offset: usize, bytes: &[u8]) {
        assert!(
            offset >= COMMITTED && bytes.len() <= self.len.get().saturating_sub(offset),
            "a store outside the mapping"
        );
        // SAFETY: inside the mapping by the assertion, and unpublished: nobody reads or writes it now (invariant).
        unsafe {
            let target = self.base.as_ptr().add(offset);
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), target, bytes.len());
        }
    }

    #[expect(unsafe_code, reason = "a slice of the mapping")]
    fn load(&self, offset: usize, len: usize) -> &[u8] {
        assert!(
            len <= self.len.get().saturating_sub(offset),
            "a load outside the mapping"
        );
        // SAFETY: inside the mapping by the assertion, and committed: nobody writes it while a `Committed` is borrowed.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr().add(offset), len) }
    }
}

// SAFETY: the pointer is to a mapping of the process, not of a thread; what may be accessed when is the invariant.
#[expect(unsafe_code, reason = "a raw pointer is not Send by itself")]
unsafe impl Send for Region {}
// SAFETY: as above; shared access is to the atomic and to committed, unchanging bytes.
#[expect(unsafe_code, reason = "a raw pointer is not Sync by itself")]
unsafe impl Sync for Region {}

impl Drop for Region {
    #[expect(unsafe_code, reason = "munmap")]
    fn drop(&mut self) {
        // SAFETY: mapped by `map_shared` with this length, unmapped once; no slice outlives `self`.
        let _ = unsafe { munmap(self.base.cast(), self.len.get()) };
    }
}

#[expect(unsafe_code, reason = "mmap")]
fn map_shared(file: &File, len: NonZeroUsize) -> Result<NonNull<u8>, Errno> {
    let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    // SAFETY: a new mapping where the kernel likes, of a file that is as long; nothing existing is replaced.
    let base = unsafe { mmap(None, len, access, MapFlags::MAP_SHARED, file, 0) }?;
    Ok(base.cast())
}

/// `chattr +C`: files made in the directory from now on are rewritten in place.
#[expect(unsafe_code, reason = "ioctl")]
fn set_no_copy_on_write(directory: &Path) -> Result<(), MappingError> {
    const FS_NOCOW_FL: libc::c_long = 0x0080_0000;
    const CALL: &str = "switch copy-on-write off for";
    let file = File::open(directory).map_err(|source| MappingError::Call {
        call: "open",
        path: directory.to_owned(),
        source,
    })?;
    let done = |result: libc::c_int| Errno::result(result).map_err(|errno| failed(CALL, directory, errno));
    let mut flags: libc::c_long = 0;
    // SAFETY: the descriptor is open, and the pointer is to a `long`, as this request asks.
    done(unsafe { libc::ioctl(file.as_raw_fd(), libc::FS_IOC_GETFLAGS, &raw mut flags) })?;
    flags |= FS_NOCOW_FL;
    // SAFETY: as above.
    done(unsafe { libc::ioctl(file.as_raw_fd(), libc::FS_IOC_SETFLAGS, &raw const flags) })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blank(dir: &tempfile::TempDir, capacity: usize) -> Blank {
        Blank::create(&dir.path().join("journal"), capacity).unwrap()
    }

    #[test]
    fn readers_see_committed_bytes_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (mut appender, committed) = blank(&dir, 64).start(&[7; HEADER]);
        assert!(appender.write(b"one"));
        assert_eq!(committed.bytes(0..3), None);
        appender.commit();
        assert!(appender.write(b"two"));
        assert_eq!(committed.bytes(0..3), Some(&b"one"[..]));
        assert_eq!(committed.bytes(0..6), None);
        appender.roll_back();
        assert!(appender.write(b"2"));
        appender.commit();
        assert_eq!(committed.bytes(0..4), Some(&b"one2"[..]));
        let file = std::fs::read(committed.path()).unwrap();
        assert_eq!(file[..8], 4u64.to_le_bytes());
        assert_eq!(file[8..DATA], [7; HEADER]);
        assert_eq!(&file[DATA..DATA + 4], b"one2");
    }

    #[test]
    fn what_does_not_fit_is_not_written() {
        let dir = tempfile::tempdir().unwrap();
        let (mut appender, _committed) = blank(&dir, 4).start(&[0; HEADER]);
        assert!(!appender.write(b"12345"));
        assert!(appender.write(b"1234"));
        assert_eq!(appender.vacant(), 0);
        assert!(!appender.write(b"5"));
    }

    #[test]
    fn recycling_waits_for_the_writing_half() {
        let dir = tempfile::tempdir().unwrap();
        let (mut appender, committed) = blank(&dir, 8).start(&[0; HEADER]);
        assert!(appender.write(b"old"));
        appender.commit();
        let committed = committed.recycle().expect_err("the appender lives");
        drop(appender);
        let (mut appender, committed) = committed.recycle().unwrap().start(&[1; HEADER]);
        assert!(committed.is_empty());
        assert!(appender.write(b"new"));
        appender.commit();
        assert_eq!(committed.bytes(0..3), Some(&b"new"[..]));
    }

    #[test]
    fn a_file_that_exists_is_not_taken_over() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("journal"), b"mine").unwrap();
        assert!(Blank::create(&dir.path().join("journal"), 8).is_err());
        assert_eq!(std::fs::read(dir.path().join("journal")).unwrap(), b"mine");
    }

    #[test]
    fn more_than_the_disk_has_is_an_error_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        assert!(Blank::create(&path, 1 << 50).is_err());
        assert!(!path.exists());
    }
}
