//! A disk that is full ends the session with a clear error; nothing acknowledged is lost.

use std::process::Command;

use super::*;

/// A small file system of its own, gone when dropped.
struct Disk {
    dir: tempfile::TempDir,
}

impl Disk {
    /// `None`: it cannot be mounted here. Fails where `CI` is set, so that the test is never left out unseen there.
    fn new() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=4m,mode=700", "tollgate-test"])
            .arg(dir.path())
            .output()
            .unwrap();
        if mounted.status.success() {
            return Some(Self { dir });
        }
        let why = String::from_utf8(mounted.stderr).unwrap();
        assert!(
            std::env::var_os("CI").is_none(),
            "a tmpfs is needed for this test: {why}"
        );
        eprintln!("NOT RUN: a tmpfs is needed for this test, as root: {why}");
        None
    }

    /// Leaves `bytes` free.
    fn fill(&self, bytes: u64) {
        let free = nix::sys::statvfs::statvfs(self.dir.path()).unwrap();
        let free = free.blocks_available() * free.fragment_size();
        let size = i64::try_from(free - bytes).unwrap();
        let filler = std::fs::File::create(self.dir.path().join("filler")).unwrap();
        nix::fcntl::fallocate(&filler, nix::fcntl::FallocateFlags::empty(), 0, size).unwrap();
    }

    fn free(&self) {
        std::fs::remove_file(self.dir.path().join("filler")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a child that another test is just starting holds everything open until it execs.
        let unmounted = Command::new("umount")
            .arg("-l")
            .arg(self.dir.path())
            .status()
            .unwrap();
        assert!(unmounted.success() || std::thread::panicking());
    }
}

/// Records noise, which does not compress, until that fails.
fn record_until_full(recorder: &Recorder, session: SessionId) -> (SessionRecord, Vec<u8>, RecordError) {
    let mut record = recorder.begin(session, &open_meta(session)).unwrap();
    let mut acknowledged = Vec::new();
    let mut noise = vec![0; 10_000];
    loop {
        rand::RngCore::fill_bytes(&mut rand::rng(), &mut noise);
        match record.append(FrameKind::ServerBytes, Direction::ToClient, &[&noise]) {
            Ok(()) => acknowledged.extend_from_slice(&noise),
            Err(error) => return (record, acknowledged, error),
        }
    }
}

fn server_bytes(directory: &Path, session: SessionId) -> Vec<u8> {
    Reader::open(directory, session)
        .unwrap()
        .map(Result::unwrap)
        .filter(|frame| frame.kind == FrameKind::ServerBytes)
        .flat_map(|frame| frame.bytes.to_vec())
        .collect()
}

#[test]
fn a_full_disk_ends_the_session_and_loses_nothing() {
    // Room for the first journal alone, and for some of the sealed blocks.
    for room in [300_000, 700_000] {
        let Some(disk) = Disk::new() else { return };
        let directory = disk.dir.path().join("records");
        let recorder = Recorder::open(&RecorderOptions::new(&directory)).unwrap();
        disk.fill(room);
        let session = SessionId::new();
        let (mut record, acknowledged, error) = record_until_full(&recorder, session);
        assert!(matches!(error, RecordError::DiskFull { .. }), "{error}");
        assert!(error.to_string().contains("is full"), "{error}");
        assert!(!acknowledged.is_empty());
        let after = record.append(FrameKind::ClientBytes, Direction::ToServer, &[b"x"]);
        assert!(
            after.is_err(),
            "nothing follows a lost frame as if it had not been lost"
        );
        // There is room to say why.
        let why = json!({"fault": "agent", "message": error.to_string()}).to_string();
        record
            .append(FrameKind::Error, Direction::ToClient, &[why.as_bytes()])
            .unwrap();
        record.close(&json!(CloseMeta::default())).unwrap();
        assert!(server_bytes(&directory, session).starts_with(&acknowledged));
        recorder.shutdown().unwrap();
        drop(recorder);
        assert!(server_bytes(&directory, session).starts_with(&acknowledged));

        disk.free();
        let recorder = Recorder::open(&RecorderOptions::new(&directory)).unwrap();
        assert!(server_bytes(&directory, session).starts_with(&acknowledged));
        let frames: Vec<_> = Reader::open(&directory, session)
            .unwrap()
            .map(Result::unwrap)
            .collect();
        let [.., error, close] = &frames[..] else {
            panic!("too few frames")
        };
        assert_eq!((error.kind, close.kind), (FrameKind::Error, FrameKind::Close));
        let report = verify(&directory, &VerifyOptions::default()).unwrap();
        assert!(report.is_good(), "{:?}", report.problems);
        drop(recorder);
    }
}

#[test]
fn no_session_begins_on_a_full_disk() {
    let Some(disk) = Disk::new() else { return };
    let directory = disk.dir.path().join("records");
    let recorder = Recorder::open(&RecorderOptions::new(&directory)).unwrap();
    disk.fill(100_000);
    let session = SessionId::new();
    let begun = recorder.begin(session, &open_meta(session));
    assert!(matches!(begun, Err(RecordError::DiskFull { .. })), "{begun:?}");
    disk.free();
    let mut record = recorder.begin(session, &open_meta(session)).unwrap();
    record
        .append(FrameKind::ClientBytes, Direction::ToServer, &[b"x"])
        .unwrap();
    record.close(&json!(CloseMeta::default())).unwrap();
    recorder.shutdown().unwrap();
    assert!(verify(&directory, &VerifyOptions::default()).unwrap().is_good());
}

/// Observe mode goes on after a loss, but states it.
#[test]
fn a_gap_is_stated_and_the_record_goes_on() {
    let Some(disk) = Disk::new() else { return };
    let directory = disk.dir.path().join("records");
    let recorder = Recorder::open(&RecorderOptions::new(&directory)).unwrap();
    disk.fill(900_000);
    let session = SessionId::new();
    let (mut record, _, error) = record_until_full(&recorder, session);
    assert!(matches!(error, RecordError::DiskFull { .. }), "{error}");
    disk.free();
    let late = record.append(FrameKind::ClientBytes, Direction::ToServer, &[b"x"]);
    assert!(
        matches!(late, Err(RecordError::Broken | RecordError::DiskFull { .. })),
        "{late:?}"
    );
    record
        .append(
            FrameKind::Gap,
            Direction::ToClient,
            &[br#"{"reason":"the disk was full"}"#],
        )
        .unwrap();
    // The writer may have failed too; then it notices within a second that it can go on.
    while record
        .append(FrameKind::ClientBytes, Direction::ToServer, &[b"on"])
        .is_err()
    {
        std::thread::yield_now();
        record
            .append(FrameKind::Gap, Direction::ToClient, &[b"{}"])
            .expect("a gap can be stated");
    }
    record.close(&json!(CloseMeta::default())).unwrap();
    recorder.shutdown().unwrap();
    let kinds: Vec<_> = Reader::open(&directory, session)
        .unwrap()
        .map(|frame| frame.unwrap().kind)
        .collect();
    assert!(kinds.contains(&FrameKind::Gap));
    assert!(verify(&directory, &VerifyOptions::default()).unwrap().is_good());
}
