//! The private keys on the disk: made, read, replaced, erased.
//!
//! Limit: erasing overwrites a key's file before removing it. Flash translation, snapshots and backups of the
//! directory may keep an old copy; do not back `keys/` up.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use ed25519_dalek::SigningKey;
use zeroize::Zeroizing;

use super::RecordError;
use super::layout::Layout;
use super::wire::{Fields, join};

const MAGIC: &[u8; 8] = b"TGEPOCH1";
const SIZE: usize = 48;

pub(super) fn generate() -> SigningKey {
    let mut seed = Zeroizing::new([0; 32]);
    rand::RngCore::fill_bytes(&mut rand::rng(), seed.as_mut_slice());
    SigningKey::from_bytes(&seed)
}

pub(super) fn write(path: &Path, epoch: u32, key: &SigningKey) -> Result<(), RecordError> {
    erase(path)?;
    let bytes: Zeroizing<[u8; SIZE]> =
        Zeroizing::new(join(&[MAGIC, &epoch.to_le_bytes(), &[0; 4], key.as_bytes()]));
    write_whole(path, bytes.as_slice(), 0o600)
}

pub(super) fn read(path: &Path) -> Result<Option<(u32, SigningKey)>, RecordError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => Zeroizing::new(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(RecordError::io("read", path, error)),
    };
    let mut fields = Fields(&bytes);
    let decoded = (|| {
        (fields.array()? == *MAGIC).then_some(())?;
        let epoch = fields.u32()?;
        fields.zero::<4>()?;
        let seed = Zeroizing::new(fields.array()?);
        fields.end()?;
        Some((epoch, SigningKey::from_bytes(&seed)))
    })();
    Ok(decoded)
}

/// Puts the next key in the place of the old one, which is overwritten first.
pub(super) fn replace(layout: &Layout) -> Result<(), RecordError> {
    let (path, next) = (layout.signing_key(), layout.next_signing_key());
    erase(&path)?;
    fs::rename(&next, &path).map_err(|error| RecordError::io("replace", &path, error))?;
    path.parent().map_or(Ok(()), sync_directory)
}

/// Overwrites and removes a key; nothing happens where there is none.
pub(super) fn erase(path: &Path) -> Result<(), RecordError> {
    let erased = File::options().write(true).open(path).and_then(|mut file| {
        file.write_all(&[0; SIZE])?;
        file.sync_data()?;
        fs::remove_file(path)
    });
    match erased {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result.map_err(|error| RecordError::io("erase", path, error)),
    }
}

pub(super) fn write_whole(path: &Path, bytes: &[u8], mode: u32) -> Result<(), RecordError> {
    File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(path)
        .and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_data()
        })
        .map_err(|error| RecordError::io("write", path, error))
}

/// Puts a directory's names on stable storage.
pub(super) fn sync_directory(path: &Path) -> Result<(), RecordError> {
    File::open(path)
        .and_then(|directory| directory.sync_all())
        .map_err(|error| RecordError::io("write to stable storage", path, error))
}
