//! The second reader, in Python and made from the format's description alone, agrees with the first.
//!
//! Needs `pip install blake3 cryptography zstandard`, for the interpreter that `TOLLGATE_TEST_PYTHON` names.

use std::process::{Command, Output};

use super::*;

/// `None`: its modules are not installed. Fails where `CI` is set.
fn python() -> Option<String> {
    let python = std::env::var("TOLLGATE_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let imports = Command::new(&python)
        .args(["-c", "import blake3, cryptography, zstandard"])
        .output();
    if imports.is_ok_and(|output| output.status.success()) {
        return Some(python);
    }
    let missing = format!("{python} has not all of: pip install blake3 cryptography zstandard");
    assert!(std::env::var_os("CI").is_none(), "{missing}");
    eprintln!("NOT RUN: {missing}");
    None
}

fn read(python: &str, directory: &Path, session: Option<SessionId>) -> Output {
    let reader = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/reader/tollgate_record.py");
    Command::new(python)
        .arg(reader)
        .arg(directory)
        .args(session.map(|session| session.to_string()))
        .output()
        .unwrap()
}

#[test]
fn the_second_reader_reads_the_same_and_finds_the_same() {
    let Some(python) = python() else { return };
    let host = Host::new();
    let session = host.record(&["select 1", "select 2"]);
    let recorder = Recorder::open(&RecorderOptions {
        segment_bytes: 100_000,
        sign_blocks: 1,
        ..host.options()
    })
    .unwrap();
    let long = SessionId::new();
    let mut record = recorder.begin(long, &open_meta(long)).unwrap();
    for round in 0..6u8 {
        let mut noise = vec![round; 200_000];
        rand::RngCore::fill_bytes(&mut rand::rng(), &mut noise[50_000..]);
        record
            .append(FrameKind::ServerBytes, Direction::ToClient, &[&noise])
            .unwrap();
        recorder.change_key().unwrap();
    }
    record.close(&json!(CloseMeta::default())).unwrap();
    recorder.shutdown().unwrap();
    assert!(host.verify().is_good());

    let all = read(&python, host.path(), None);
    assert!(all.status.success(), "{}", String::from_utf8(all.stderr).unwrap());
    let pieces = |session| {
        let output = read(&python, host.path(), Some(session));
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8(output.stderr).unwrap()
        );
        let lines = String::from_utf8(output.stdout).unwrap();
        lines
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
            .collect::<Vec<_>>()
    };
    for session in [session, long] {
        let (ours, theirs) = (host.frames(session), pieces(session));
        assert_eq!(ours.len(), theirs.len());
        for (ours, theirs) in ours.iter().zip(&theirs) {
            assert_eq!(theirs["number"], ours.number);
            assert_eq!(theirs["elapsed_ns"], ours.elapsed);
            assert_eq!(theirs["unix_ns"], ours.time.timestamp_nanos_opt().unwrap());
            assert_eq!(theirs["kind"], json!(ours.kind));
            assert_eq!(theirs["direction"], json!(ours.direction));
            assert_eq!(theirs["continued"], ours.continued);
            if let Some(bytes) = theirs["base64"].as_str() {
                use base64::Engine;
                assert!(base64::engine::general_purpose::STANDARD.decode(bytes).unwrap() == ours.bytes);
            } else {
                assert_eq!(
                    theirs["json"],
                    serde_json::from_slice::<serde_json::Value>(&ours.bytes).unwrap()
                );
            }
        }
    }

    let path = host.sealed(session);
    let mut bytes = std::fs::read(&path).unwrap();
    let at = memchr::memmem::find(&bytes, b"select 2").unwrap();
    bytes[at] = b'S';
    std::fs::write(&path, bytes).unwrap();
    let edited = read(&python, host.path(), None);
    assert_eq!(edited.status.code(), Some(1));
    let named = String::from_utf8(edited.stderr).unwrap();
    assert!(
        named.contains(&format!("{session}: first bad frame 2:")),
        "{named}"
    );
}
