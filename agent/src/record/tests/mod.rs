//! Records as a user, a crash and an attacker see them.

mod full;
mod kill;
mod python;
mod tamper;

use std::path::Path;

use serde_json::json;

use super::meta::{CloseMeta, OpenMeta};
use super::*;
use crate::model::{Direction, FrameKind, SessionId};

/// A recorder in a directory of its own.
struct Host {
    dir: tempfile::TempDir,
}

impl Host {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn options(&self) -> RecorderOptions {
        RecorderOptions::new(self.path())
    }

    fn open(&self) -> Recorder {
        Recorder::open(&self.options()).unwrap()
    }

    /// A sealed session with one data block for each of `texts`.
    fn record(&self, texts: &[&str]) -> SessionId {
        let recorder = Recorder::open(&RecorderOptions {
            flush_after: std::time::Duration::ZERO,
            ..self.options()
        })
        .unwrap();
        let session = SessionId::new();
        let mut record = recorder.begin(session, &open_meta(session)).unwrap();
        wait_for_blocks(&recorder, session, 1);
        for (sealed, text) in (2..).zip(texts) {
            record
                .append(FrameKind::ClientBytes, Direction::ToServer, &[text.as_bytes()])
                .unwrap();
            wait_for_blocks(&recorder, session, sealed);
        }
        record.close(&json!(CloseMeta::default())).unwrap();
        recorder.shutdown().unwrap();
        session
    }

    fn sealed(&self, session: SessionId) -> std::path::PathBuf {
        Layout::new(self.path()).segment(session, 0, true)
    }

    fn verify(&self) -> Report {
        verify(self.path(), &VerifyOptions::default()).unwrap()
    }

    fn frames(&self, session: SessionId) -> Vec<Frame> {
        Reader::open(self.path(), session)
            .unwrap()
            .map(Result::unwrap)
            .collect()
    }
}

/// Waits until so many frames are in blocks.
fn wait_for_blocks(recorder: &Recorder, session: SessionId, frames: u64) {
    let path = recorder.layout().segment(session, 0, false);
    let sealed = || {
        let Ok(Some(mut scan)) = scan::Scan::open(&path) else {
            return 0;
        };
        let mut sealed = 0;
        while let Ok(scan::Next::Block(block)) = scan.next() {
            sealed += u64::from(block.header.frames);
        }
        sealed
    };
    while sealed() < frames {
        std::thread::yield_now();
    }
}

fn open_meta(session: SessionId) -> serde_json::Value {
    json!(OpenMeta {
        session,
        started: chrono::Utc::now(),
        host: "build-7".into(),
        workload: "ci-report".into(),
        service: "orders-db".into(),
        protocol: "postgres".into(),
        policy_hash: "00".repeat(32),
        client: "127.0.0.1:40000".into(),
        original_destination: "10.0.4.7:5432".into(),
        identity: json!({"summary": "report-1.service /usr/bin/psql"}),
        mode: "enforce".into(),
    })
}

#[test]
fn a_record_comes_back_as_it_was_written() {
    let host = Host::new();
    let recorder = host.open();
    let session = SessionId::new();
    let mut record = recorder.begin(session, &open_meta(session)).unwrap();
    let large: Vec<u8> = (0..3_000_000u32)
        .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect();
    record
        .append(
            FrameKind::ClientBytes,
            Direction::ToServer,
            &[b"select ", b"", b"1"],
        )
        .unwrap();
    record
        .append(
            FrameKind::ServerBytes,
            Direction::ToClient,
            &[&large[..1_000_001], &large[1_000_001..]],
        )
        .unwrap();
    record
        .append(FrameKind::ServerBytes, Direction::ToClient, &[])
        .unwrap();
    let command = format!("{{\"number\":1,\"text\":\"{}\"}}", "x".repeat(200_000));
    record
        .append(FrameKind::Command, Direction::ToServer, &[command.as_bytes()])
        .unwrap();
    let live = host.frames(session);
    assert_eq!(
        live.last().unwrap().bytes,
        command.as_bytes(),
        "a live record is read whole"
    );
    let close = CloseMeta {
        reason: "the client left".into(),
        commands: 1,
        ..CloseMeta::default()
    };
    record.close(&json!(close)).unwrap();
    recorder.shutdown().unwrap();

    let frames = host.frames(session);
    assert_eq!(frames[..live.len()], live[..]);
    assert_eq!(frames[0].kind, FrameKind::Open);
    assert_eq!(frames[1].bytes, &b"select 1"[..]);
    let server: Vec<_> = frames
        .iter()
        .filter(|frame| frame.kind == FrameKind::ServerBytes)
        .collect();
    assert!(
        server
            .iter()
            .map(|frame| &frame.bytes[..])
            .collect::<Vec<_>>()
            .concat()
            == large
    );
    let (empty, pieces) = server.split_last().unwrap();
    assert!(empty.bytes.is_empty() && !empty.continued);
    assert!(pieces.split_last().unwrap().1.iter().all(|piece| piece.continued));
    assert!(
        frames
            .windows(2)
            .all(|pair| pair[0].elapsed <= pair[1].elapsed && pair[0].number < pair[1].number)
    );
    assert_eq!(
        serde_json::from_slice::<CloseMeta>(&frames.last().unwrap().bytes).unwrap(),
        close
    );

    let from = server[40].number;
    let tail: Vec<_> = Reader::open_at(host.path(), session, from)
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert_eq!(
        tail[..],
        frames[frames.iter().position(|frame| frame.number == from).unwrap()..]
    );

    let report = host.verify();
    assert!(report.is_good(), "{report:?}");
    assert_eq!(report.sessions[0].state, SessionState::Closed);
    assert_eq!(report.sessions[0].signed, report.sessions[0].frames);
    assert_eq!(std::fs::read_dir(host.path().join("journal")).unwrap().count(), 0);

    let listed = list(host.path()).unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].state, SessionState::Closed);
    assert_eq!(listed[0].identity, "report-1.service /usr/bin/psql");
    assert_eq!(listed[0].counts, close);
}

#[test]
fn a_live_record_is_open_and_good() {
    let host = Host::new();
    let recorder = host.open();
    let session = SessionId::new();
    let mut record = recorder.begin(session, &open_meta(session)).unwrap();
    record
        .append(FrameKind::ClientBytes, Direction::ToServer, &[b"x"])
        .unwrap();
    let report = host.verify();
    assert!(report.is_good(), "{report:?}");
    assert_eq!(report.sessions[0].state, SessionState::Open);
    assert_eq!(list(host.path()).unwrap()[0].state, SessionState::Open);
}

#[test]
fn a_long_session_is_segmented_and_stays_whole() {
    let host = Host::new();
    let recorder = Recorder::open(&RecorderOptions {
        segment_bytes: 300_000,
        ..host.options()
    })
    .unwrap();
    let session = SessionId::new();
    let mut record = recorder.begin(session, &open_meta(session)).unwrap();
    let mut noise = vec![0; 50_000];
    let mut sent = Vec::new();
    for _ in 0..60 {
        rand::RngCore::fill_bytes(&mut rand::rng(), &mut noise);
        record
            .append(FrameKind::ServerBytes, Direction::ToClient, &[&noise])
            .unwrap();
        sent.extend_from_slice(&noise);
    }
    record.close(&json!(CloseMeta::default())).unwrap();
    recorder.shutdown().unwrap();
    let segments = recorder.layout().segments_of(session).unwrap();
    assert!(segments.len() > 4 && segments.iter().all(|segment| segment.sealed));
    let read: Vec<u8> = host
        .frames(session)
        .iter()
        .filter(|frame| frame.kind == FrameKind::ServerBytes)
        .flat_map(|frame| frame.bytes.to_vec())
        .collect();
    assert!(read == sent);
    assert!(host.verify().is_good());
    assert_eq!(list(host.path()).unwrap()[0].state, SessionState::Closed);
}

#[tokio::test]
async fn sessions_faster_than_the_writer_stall_and_lose_nothing() {
    let host = Host::new();
    let recorder = host.open();
    let tasks: Vec<_> = (0..3u8)
        .map(|_| {
            let recorder = recorder.clone();
            tokio::spawn(async move {
                let session = SessionId::new();
                let mut record = recorder.begin(session, &open_meta(session)).unwrap();
                for n in 0..40_000u32 {
                    record.ready().await.unwrap();
                    record
                        .append(
                            FrameKind::ClientBytes,
                            Direction::ToServer,
                            &[&n.to_le_bytes(), &[0; 200]],
                        )
                        .unwrap();
                }
                record.close(&json!(CloseMeta::default())).unwrap();
                session
            })
        })
        .collect();
    let mut sessions = Vec::new();
    for task in tasks {
        sessions.push(task.await.unwrap());
    }
    recorder.shutdown().unwrap();
    for session in sessions {
        let numbers: Vec<u32> = host
            .frames(session)
            .iter()
            .filter(|frame| frame.kind == FrameKind::ClientBytes)
            .map(|frame| u32::from_le_bytes(frame.bytes[..4].try_into().unwrap()))
            .collect();
        assert!(numbers.into_iter().eq(0..40_000));
    }
    assert!(host.verify().is_good());
}

#[test]
fn a_host_durable_record_is_good() {
    let host = Host::new();
    let recorder = Recorder::open(&RecorderOptions {
        durability: Durability::Host,
        ..host.options()
    })
    .unwrap();
    let session = SessionId::new();
    let mut record = recorder.begin(session, &open_meta(session)).unwrap();
    record
        .append(FrameKind::ClientBytes, Direction::ToServer, &[b"x"])
        .unwrap();
    record.close(&json!(CloseMeta::default())).unwrap();
    recorder.shutdown().unwrap();
    assert_eq!(host.frames(session).len(), 3);
    assert!(host.verify().is_good());
}

#[test]
fn a_session_dropped_without_an_end_is_sealed_as_it_stands() {
    let host = Host::new();
    let recorder = host.open();
    let session = SessionId::new();
    let mut record = recorder.begin(session, &open_meta(session)).unwrap();
    record
        .append(FrameKind::ClientBytes, Direction::ToServer, &[b"x"])
        .unwrap();
    drop(record);
    recorder.shutdown().unwrap();
    assert_eq!(host.frames(session).len(), 2);
    assert!(host.verify().is_good());
}

#[test]
fn a_second_agent_is_refused() {
    let host = Host::new();
    let _recorder = host.open();
    let error = Recorder::open(&host.options()).unwrap_err();
    assert!(matches!(error, RecordError::InUse { .. }), "{error}");
}

#[test]
fn nothing_is_recorded_after_the_recorder_has_stopped() {
    let host = Host::new();
    let recorder = host.open();
    let session = SessionId::new();
    let mut record = recorder.begin(session, &open_meta(session)).unwrap();
    recorder.shutdown().unwrap();
    let late = record.append(FrameKind::ClientBytes, Direction::ToServer, &[b"x"]);
    assert!(matches!(late, Err(RecordError::Stopped)), "{late:?}");
    let after = recorder.begin(SessionId::new(), &json!({}));
    assert!(matches!(after, Err(RecordError::Stopped)));
    drop((record, recorder));
    let recorder = host.open();
    assert_eq!(recorder.recovered().len(), 1);
    assert!(host.verify().is_good());
}

#[test]
fn keys_are_the_owners_alone_and_old_ones_are_gone() {
    use std::os::unix::fs::PermissionsExt;
    let host = Host::new();
    let recorder = host.open();
    let path = recorder.layout().signing_key();
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert_eq!(
        std::fs::metadata(path.parent().unwrap())
            .unwrap()
            .permissions()
            .mode()
            & 0o777,
        0o700
    );
    let old = std::fs::read(&path).unwrap();
    recorder.change_key().unwrap();
    let new = std::fs::read(&path).unwrap();
    assert_ne!(old[16..], new[16..]);
    assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    assert!(host.verify().is_good());
}

#[test]
fn a_change_of_keys_that_a_kill_interrupted_is_finished_or_undone() {
    let host = Host::new();
    let session = host.record(&["x"]);
    let layout = Layout::new(host.path());
    let (key, next) = (layout.signing_key(), layout.next_signing_key());
    // Before the ledger named the next key: it is forgotten.
    std::fs::write(&next, [7; 48]).unwrap();
    drop(host.open());
    assert!(!next.exists());
    // After it did, and before the old one was replaced: the next one is taken.
    let old = std::fs::read(&key).unwrap();
    let recorder = host.open();
    recorder.change_key().unwrap();
    drop(recorder);
    std::fs::rename(&key, &next).unwrap();
    std::fs::write(&key, old).unwrap();
    drop(host.open());
    assert!(!next.exists());
    assert!(host.verify().is_good());
    assert_eq!(host.frames(session).len(), 3);
}

#[test]
fn a_ledger_that_does_not_fit_its_key_stops_the_agent() {
    let host = Host::new();
    host.record(&["x"]);
    let ledger = host.path().join("ledger.tgl");
    let bytes = std::fs::read(&ledger).unwrap();
    drop(host.open());
    std::fs::write(&ledger, &bytes).unwrap();
    assert!(matches!(
        Recorder::open(&host.options()),
        Err(RecordError::Keys(_))
    ));
    std::fs::remove_file(&ledger).unwrap();
    assert!(matches!(
        Recorder::open(&host.options()),
        Err(RecordError::Keys(_))
    ));
}
