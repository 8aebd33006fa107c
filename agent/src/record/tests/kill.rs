//! SIGKILL at any moment loses nothing that was acknowledged.
//!
//! A child process records; the parent kills it at random and reads what is left. `TOLLGATE_KILL_ROUNDS` sets how often.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use rand::Rng;

use super::*;

const DIRECTORY: &str = "TOLLGATE_TEST_RECORDS";
const ROUNDS: &str = "TOLLGATE_KILL_ROUNDS";

/// Frames of a session are a function of their number, so that the parent can tell what the child wrote.
fn payload(number: u64) -> Vec<u8> {
    let length = match number % 13 {
        0 => 0,
        5 => 90_000,
        n => usize::try_from(n * number.wrapping_mul(37) % 3000).unwrap(),
    };
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[0]
        })
        .collect()
}

#[test]
#[ignore = "the child of the test below, which runs it"]
fn child() {
    let Ok(directory) = std::env::var(DIRECTORY) else {
        return;
    };
    let recorder = Recorder::open(&RecorderOptions {
        segment_bytes: 500_000,
        flush_after: std::time::Duration::from_millis(2),
        sign_after: std::time::Duration::from_millis(5),
        sign_blocks: 2,
        key_lifetime: std::time::Duration::from_millis(20),
        ..RecorderOptions::new(directory)
    })
    .unwrap();
    let mut out = std::io::stdout();
    let mut say = |line: String| out.write_all(line.as_bytes()).and_then(|()| out.flush()).unwrap();
    loop {
        let session = SessionId::new();
        let mut record = recorder.begin(session, &open_meta(session)).unwrap();
        say(format!("ack {session} begun\n"));
        for number in 0..60 {
            record
                .append(FrameKind::ServerBytes, Direction::ToClient, &[&payload(number)])
                .unwrap();
            say(format!("ack {session} {number}\n"));
        }
        record.close(&json!(CloseMeta::default())).unwrap();
        say(format!("ack {session} closed\n"));
    }
}

#[derive(Default)]
struct Acknowledged {
    frames: u64,
    closed: bool,
}

/// Runs the child until it has acknowledged `limit` times, kills it, gives what it acknowledged in all.
fn run_and_kill(directory: &Path, limit: usize) -> BTreeMap<SessionId, Acknowledged> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "record::tests::kill::child",
            "--exact",
            "--ignored",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(DIRECTORY, directory)
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut acknowledged: BTreeMap<SessionId, Acknowledged> = BTreeMap::new();
    let mut count = 0;
    while let Some(Ok(line)) = lines.next() {
        // libtest's own line comes before the first, on the same line.
        let Some((_, line)) = line.split_once("ack ") else {
            continue;
        };
        let (session, what) = line.split_once(' ').unwrap();
        let entry = acknowledged
            .entry(SessionId(session.parse().unwrap()))
            .or_default();
        match what {
            "begun" => {}
            "closed" => entry.closed = true,
            number => entry.frames = number.parse::<u64>().unwrap() + 1,
        }
        count += 1;
        if count == limit {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    assert!(count >= limit, "the child ended by itself");
    acknowledged
}

fn check(directory: &Path, session: SessionId, acknowledged: &Acknowledged) {
    let frames: Vec<_> = Reader::open(directory, session)
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert_eq!(frames[0].kind, FrameKind::Open);
    let mut written = Vec::new();
    let mut whole = true;
    for frame in frames.iter().filter(|frame| frame.kind == FrameKind::ServerBytes) {
        if whole {
            written.push(Vec::new());
        }
        written.last_mut().unwrap().extend_from_slice(&frame.bytes);
        whole = !frame.continued;
    }
    assert!(
        written.len() as u64 >= acknowledged.frames,
        "an acknowledged frame is lost"
    );
    for (number, bytes) in (0..).zip(&written) {
        let expected = payload(number);
        if number < acknowledged.frames || whole {
            assert!(
                *bytes == expected,
                "frame {number} of {session} is not what was written"
            );
        } else {
            assert!(expected.starts_with(bytes));
        }
    }
    let last = frames.last().unwrap();
    assert_eq!(last.kind, FrameKind::Close);
    let close: CloseMeta = serde_json::from_slice(&last.bytes).unwrap();
    if acknowledged.closed {
        assert_eq!(close.reason, "");
    } else if written.len() < 60 {
        assert_eq!(close.reason, CloseMeta::KILLED);
    }
}

#[test]
fn a_kill_loses_nothing_that_was_acknowledged() {
    let rounds: usize = std::env::var(ROUNDS).map_or(40, |rounds| rounds.parse().expect(ROUNDS));
    // One directory for many crashes, so that a crash comes on top of others; not one for all, because it is verified
    // as a whole.
    for done in (0..rounds).step_by(40) {
        crashes(rounds.saturating_sub(done).min(40));
    }
}

fn crashes(rounds: usize) {
    let host = Host::new();
    let mut sessions = 0;
    for round in 0..rounds {
        let limit = rand::rng().random_range(1..200);
        let acknowledged = run_and_kill(host.path(), limit);
        // What is left can be read and checked before the next start, too.
        if round % 8 == 0 {
            let report = host.verify();
            assert!(report.is_good(), "before the next start: {:?}", report.problems);
        }
        let recorder = host.open();
        assert!(
            recorder
                .recovered()
                .iter()
                .all(|recovered| recovered.damaged.is_none())
        );
        drop(recorder);
        for (session, acknowledged) in &acknowledged {
            check(host.path(), *session, acknowledged);
        }
        sessions += acknowledged.len();
    }
    let report = host.verify();
    assert!(report.is_good(), "{:?}", report.problems);
    assert!(report.sessions.len() >= sessions);
    assert_eq!(std::fs::read_dir(host.path().join("journal")).unwrap().count(), 0);
}
