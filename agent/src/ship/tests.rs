//! Shipping to a directory, and to a real S3 server.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::*;
use crate::credential::moto::Moto;
use crate::model::{Direction, FrameKind, SessionId};
use crate::record::{Recorder, RecorderOptions, VerifyOptions, verify};

fn record(recorder: &Recorder) -> SessionId {
    let session = SessionId::new();
    let mut record = recorder.begin(session, &serde_json::json!({})).unwrap();
    let mut noise = vec![0; 100_000];
    rand::RngCore::fill_bytes(&mut rand::rng(), &mut noise);
    record
        .append(FrameKind::ServerBytes, Direction::ToClient, &[&noise])
        .unwrap();
    record.close(&serde_json::json!({})).unwrap();
    session
}

fn ready(recorder: &Recorder, session: SessionId) {
    // Sealed, and its journal is gone: the ledger has its end.
    let layout = recorder.layout();
    while !layout.segment(session, 0, true).exists() || fs::read_dir(layout.journals()).unwrap().count() > 0 {
        std::thread::yield_now();
    }
}

fn options() -> ShipOptions {
    ShipOptions {
        poll: Duration::from_millis(20),
        first_retry: Duration::from_millis(10),
        ..ShipOptions::default()
    }
}

fn directory(path: &Path) -> ShipTarget {
    ShipTarget::parse(&format!("file://{}", path.display()), &S3Options::default()).unwrap()
}

#[tokio::test]
async fn what_is_sealed_is_shipped_once_and_the_ledger_grows_in_parts() {
    let (records, store) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let recorder = Recorder::open(&RecorderOptions::new(records.path())).unwrap();
    let shipper = Shipper::new(directory(store.path()), recorder.clone(), options());
    let first = record(&recorder);
    ready(&recorder, first);
    shipper.ship().await.unwrap();
    let copy = store.path().join("records").join(format!("{first}.tgr"));
    let bytes = fs::read(&copy).unwrap();
    assert!(bytes == fs::read(recorder.layout().segment(first, 0, true)).unwrap());
    // A mark is what keeps it from being shipped again, also after a restart.
    fs::remove_file(&copy).unwrap();
    let second = record(&recorder);
    ready(&recorder, second);
    let shipper = Shipper::new(directory(store.path()), recorder.clone(), options());
    shipper.ship().await.unwrap();
    assert!(!copy.exists());
    assert!(
        store
            .path()
            .join("records")
            .join(format!("{second}.tgr"))
            .exists()
    );
    assert_eq!(shipper.backlog().borrow().bytes, 0);

    let parts = store.path().join("ledger");
    assert_eq!(fs::read_dir(&parts).unwrap().count(), 2);
    let against = VerifyOptions {
        against: Some(parts.clone()),
        ..VerifyOptions::default()
    };
    assert!(verify(records.path(), &against).unwrap().is_good());
    // The copy alone is enough to check what was shipped.
    let mut names: Vec<_> = fs::read_dir(&parts)
        .unwrap()
        .map(|part| part.unwrap().path())
        .collect();
    names.sort();
    let joined: Vec<u8> = names.iter().flat_map(|part| fs::read(part).unwrap()).collect();
    fs::write(store.path().join("records").join("ledger.tgl"), joined).unwrap();
    fs::write(&copy, bytes).unwrap();
    let report = verify(&store.path().join("records"), &VerifyOptions::default()).unwrap();
    assert!(report.is_good() && report.sessions.len() == 2, "{report:?}");
}

#[tokio::test]
async fn a_store_that_is_down_is_tried_again_until_it_is_back() {
    let (records, place) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = place.path().join("store");
    let recorder = Recorder::open(&RecorderOptions::new(records.path())).unwrap();
    let target = directory(&store);
    fs::remove_dir(&store).unwrap();
    fs::write(&store, b"in the way").unwrap();
    let session = record(&recorder);
    ready(&recorder, session);
    let shipper = Shipper::new(target, recorder.clone(), options());
    let mut backlog = shipper.backlog();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let task = tokio::spawn(shipper.run(async {
        let _ = stopped.await;
    }));
    let failing = backlog
        .wait_for(|backlog| backlog.error.is_some())
        .await
        .unwrap()
        .clone();
    assert!(failing.bytes > 100_000, "{failing:?}");
    fs::remove_file(&store).unwrap();
    fs::create_dir(&store).unwrap();
    backlog
        .wait_for(|backlog| backlog.bytes == 0 && backlog.error.is_none())
        .await
        .unwrap();
    assert!(store.join("records").join(format!("{session}.tgr")).exists());
    // What is sealed at the end is shipped in the grace.
    let last = record(&recorder);
    ready(&recorder, last);
    stop.send(()).unwrap();
    task.await.unwrap();
    assert!(store.join("records").join(format!("{last}.tgr")).exists());
}

#[tokio::test]
async fn a_bounded_spool_forgets_what_was_shipped_and_the_ledger_says_so() {
    let (records, store) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let recorder = Recorder::open(&RecorderOptions::new(records.path())).unwrap();
    let bounded = ShipOptions {
        spool_bytes: Some(250_000),
        ..options()
    };
    let shipper = Shipper::new(directory(store.path()), recorder.clone(), bounded);
    let sessions: Vec<_> = (0..4).map(|_| record(&recorder)).collect();
    ready(&recorder, sessions[3]);
    shipper.ship().await.unwrap();
    let layout = recorder.layout();
    let left: Vec<_> = sessions
        .iter()
        .map(|session| layout.segment(*session, 0, true).exists())
        .collect();
    assert_eq!(left, [false, false, true, true]);
    let report = verify(records.path(), &VerifyOptions::default()).unwrap();
    assert!(report.is_good(), "{report:?}");
    assert_eq!(report.notes.len(), 2);
    // One that is removed without the ledger's knowledge is still missed.
    fs::remove_file(layout.segment(sessions[2], 0, true)).unwrap();
    assert!(
        !verify(records.path(), &VerifyOptions::default())
            .unwrap()
            .is_good()
    );
}

#[tokio::test]
async fn a_ledger_shorter_than_what_was_shipped_is_reported() {
    let (records, store) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let recorder = Recorder::open(&RecorderOptions::new(records.path())).unwrap();
    let session = record(&recorder);
    ready(&recorder, session);
    let shipper = Shipper::new(directory(store.path()), recorder.clone(), options());
    shipper.ship().await.unwrap();
    let ledger = fs::File::options()
        .write(true)
        .open(recorder.layout().ledger())
        .unwrap();
    ledger.set_len(64).unwrap();
    assert!(matches!(shipper.ship().await, Err(ShipError::Short { .. })));
}

#[tokio::test]
async fn records_reach_an_s3_bucket() {
    use futures_util::StreamExt;
    let Some(server) = Moto::start() else { return };
    let s3 = S3Options {
        endpoint: Some(server.url.clone()),
        access_key_id: Some("test".into()),
        secret_access_key: Some(crate::model::Secret::new(b"test".to_vec())),
        allow_http: true,
        ..S3Options::default()
    };
    let records = tempfile::tempdir().unwrap();
    let recorder = Recorder::open(&RecorderOptions::new(records.path())).unwrap();
    let target = ShipTarget::parse("s3://records/hosts/build-7", &s3).unwrap();
    let session = record(&recorder);
    ready(&recorder, session);
    let shipper = Shipper::new(target.clone(), recorder.clone(), options());
    let missing = shipper.ship().await.unwrap_err().to_string();
    assert!(
        missing.contains("bucket does not exist") || missing.contains("NoSuchBucket"),
        "{missing}"
    );
    let bucket = reqwest::Client::new()
        .put(format!("{}/records", server.url))
        .send()
        .await
        .unwrap();
    assert!(bucket.status().is_success());
    shipper.ship().await.unwrap();
    let listed: Vec<_> = target
        .store()
        .list(None)
        .map(|object| object.unwrap().location.to_string())
        .collect()
        .await;
    assert!(
        listed.contains(&format!("hosts/build-7/records/{session}.tgr")),
        "{listed:?}"
    );
    assert!(
        listed.contains(&"hosts/build-7/ledger/00000000000000000000.tgl".to_owned()),
        "{listed:?}"
    );
}
