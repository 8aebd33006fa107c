//! Writing "newc" cpio archives, the format of an initramfs (linux/Documentation/driver-api/early-userspace/buffer-format.rst).
//!
//! Several archives one after the other are one initramfs: later entries come on top of earlier ones. Hard links are
//! written as files of their own, extended attributes not at all.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const CHARACTER_DEVICE: u32 = 0o020_000;
const SYMBOLIC_LINK: u32 = 0o120_000;

/// An archive that is being written.
pub(super) struct Cpio<W: Write> {
    out: W,
    inode: u32,
}

struct Entry<'a> {
    name: &'a [u8],
    mode: u32,
    owner: (u32, u32),
    device: (u32, u32),
    /// Seconds since 1970. Python, for one, goes by it whether what it has compiled is still good.
    changed: u32,
    content: &'a [u8],
}

impl Cpio<BufWriter<File>> {
    /// A new archive in a file.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        Ok(Self::new(BufWriter::new(File::create(path)?)))
    }
}

impl<W: Write> Cpio<W> {
    fn new(out: W) -> Self {
        Self { out, inode: 0 }
    }

    /// A directory of root's that everybody may enter.
    pub(super) fn directory(&mut self, name: &str) -> io::Result<()> {
        self.entry(&Entry {
            name: name.as_bytes(),
            mode: DIRECTORY | 0o755,
            owner: (0, 0),
            device: (0, 0),
            changed: 0,
            content: &[],
        })
    }

    /// A file of root's that everybody may read, and run if `executable`.
    pub(super) fn file(&mut self, name: &str, content: &[u8], executable: bool) -> io::Result<()> {
        self.entry(&Entry {
            name: name.as_bytes(),
            mode: REGULAR | if executable { 0o755 } else { 0o644 },
            owner: (0, 0),
            device: (0, 0),
            changed: 0,
            content,
        })
    }

    /// A symbolic link.
    pub(super) fn link(&mut self, name: &str, to: &str) -> io::Result<()> {
        self.entry(&Entry {
            name: name.as_bytes(),
            mode: SYMBOLIC_LINK | 0o777,
            owner: (0, 0),
            device: (0, 0),
            changed: 0,
            content: to.as_bytes(),
        })
    }

    /// A character device of root's.
    pub(super) fn device(&mut self, name: &str, major: u32, minor: u32) -> io::Result<()> {
        self.entry(&Entry {
            name: name.as_bytes(),
            mode: CHARACTER_DEVICE | 0o600,
            owner: (0, 0),
            device: (major, minor),
            changed: 0,
            content: &[],
        })
    }

    /// Everything below `directory`, as below `at`, except what `skipped` says of a name there.
    pub(super) fn tree(
        &mut self,
        directory: &Path,
        at: &Path,
        skipped: &dyn Fn(&Path) -> bool,
    ) -> io::Result<()> {
        let mut entries = fs::read_dir(directory)?.collect::<io::Result<Vec<_>>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let name = at.join(entry.file_name());
            if skipped(&name) {
                continue;
            }
            let meta = entry.metadata()?;
            let kind = meta.file_type();
            let content = if kind.is_symlink() {
                fs::read_link(entry.path())?.as_os_str().as_bytes().to_owned()
            } else if kind.is_file() {
                fs::read(entry.path())?
            } else {
                Vec::new()
            };
            if kind.is_socket() || kind.is_fifo() {
                continue;
            }
            self.entry(&Entry {
                name: name.as_os_str().as_bytes(),
                mode: meta.mode(),
                owner: (meta.uid(), meta.gid()),
                device: (0, 0),
                changed: u32::try_from(meta.mtime()).unwrap_or(0),
                content: &content,
            })?;
            if kind.is_dir() {
                self.tree(&entry.path(), &name, skipped)?;
            }
        }
        Ok(())
    }

    /// Ends the archive.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.entry(&Entry {
            name: b"TRAILER!!!",
            mode: 0,
            owner: (0, 0),
            device: (0, 0),
            changed: 0,
            content: &[],
        })?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn entry(&mut self, entry: &Entry<'_>) -> io::Result<()> {
        let size = u32::try_from(entry.content.len())
            .map_err(|_| io::Error::new(io::ErrorKind::FileTooLarge, "cpio holds files below 4 GiB"))?;
        let name_size = u32::try_from(entry.name.len() + 1).map_err(io::Error::other)?;
        self.inode += 1;
        let fields = [
            self.inode,
            entry.mode,
            entry.owner.0,
            entry.owner.1,
            1, // links
            entry.changed,
            size,
            0, // device that the file lies on
            0,
            entry.device.0,
            entry.device.1,
            name_size,
            0, // checksum, of another variant
        ];
        self.out.write_all(b"070701")?;
        for field in fields {
            write!(self.out, "{field:08x}")?;
        }
        self.out.write_all(entry.name)?;
        self.out.write_all(&[0])?;
        // 6 bytes of magic and 13 fields of 8.
        self.pad(110 + entry.name.len() + 1)?;
        self.out.write_all(entry.content)?;
        self.pad(entry.content.len())
    }

    /// Header with name, and content, end at multiples of four.
    fn pad(&mut self, written: usize) -> io::Result<()> {
        let zeros = [0; 3];
        let missing = written.next_multiple_of(4) - written;
        self.out.write_all(zeros.get(..missing).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn the_archive_is_what_cpio_reads() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("inner")).unwrap();
        let mut odd = File::create(dir.path().join("inner/odd")).unwrap();
        odd.write_all(b"12345").unwrap();
        odd.set_modified(UNIX_EPOCH + Duration::from_secs(1_234_567))
            .unwrap();
        std::os::unix::fs::symlink("odd", dir.path().join("inner/link")).unwrap();
        fs::write(dir.path().join("left-out"), "x").unwrap();
        let mut cpio = Cpio::new(Vec::new());
        cpio.directory("made").unwrap();
        cpio.file("made/run", b"#!/bin/sh\n", true).unwrap();
        cpio.tree(dir.path(), Path::new(""), &|name| name == Path::new("left-out"))
            .unwrap();
        let archive = cpio.finish().unwrap();
        assert_eq!(archive.len() % 4, 0);

        // The kernel's own documentation of the format, in a few lines of Python.
        let reader = r"
import sys
data, at = sys.stdin.buffer.read(), 0
while True:
    assert data[at:at+6] == b'070701', at
    fields = [int(data[at+6+8*i:at+14+8*i], 16) for i in range(13)]
    mode, changed, size, length = fields[1], fields[5], fields[6], fields[11]
    name = data[at+110:at+110+length-1].decode()
    start = (at + 110 + length + 3) & ~3
    if name == 'TRAILER!!!': break
    print(name, oct(mode), data[start:start+size], *[changed] * name.endswith('odd'))
    at = (start + size + 3) & ~3
";
        let mut python = Command::new("python3")
            .args(["-c", reader])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        python.stdin.take().unwrap().write_all(&archive).unwrap();
        let read = python.wait_with_output().unwrap();
        assert!(read.status.success());
        assert_eq!(
            String::from_utf8(read.stdout).unwrap(),
            "made 0o40755 b''\nmade/run 0o100755 b'#!/bin/sh\\n'\ninner 0o40755 b''\ninner/link 0o120777 b'odd'\n\
             inner/odd 0o100644 b'12345' 1234567\n"
        );
    }
}
