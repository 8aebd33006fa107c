//! What an attacker does to records, and that it is found.

use std::fs;
use std::path::Path;

use super::*;
use crate::record::block::{BLOCK_HEADER, BlockHeader, BlockKind, HASH, SEGMENT_HEADER, extend};
use crate::record::scan::{Next, Scan};

fn first(report: &Report) -> &Problem {
    report.problems.first().expect("it went unseen")
}

/// Bounds of each block of a segment, and its header.
fn blocks(path: &Path) -> Vec<(std::ops::Range<usize>, BlockHeader)> {
    let mut scan = Scan::open(path).unwrap().unwrap();
    let mut blocks = Vec::new();
    while let Next::Block(block) = scan.next().unwrap() {
        let start = usize::try_from(block.offset).unwrap();
        blocks.push((
            start..start + BLOCK_HEADER + block.stored.len() + HASH,
            block.header,
        ));
    }
    blocks
}

/// Computes all hashes anew, as an attacker without a key can.
fn rechain(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let mut chain = *blake3::hash(&bytes[..SEGMENT_HEADER]).as_bytes();
    for (range, _) in blocks(path) {
        let head: [u8; BLOCK_HEADER] = bytes[range.start..range.start + BLOCK_HEADER].try_into().unwrap();
        chain = extend(
            &chain,
            &head,
            &bytes[range.start + BLOCK_HEADER..range.end - HASH],
        );
        bytes[range.end - HASH..range.end].copy_from_slice(&chain);
    }
    fs::write(path, bytes).unwrap();
}

#[test]
fn every_byte_of_a_record_and_of_the_ledger_counts() {
    let host = Host::new();
    let session = host.record(&["select 1"]);
    assert!(host.verify().is_good());
    for path in [host.sealed(session), host.path().join("ledger.tgl")] {
        let good = fs::read(&path).unwrap();
        for position in 0..good.len() {
            let mut bad = good.clone();
            bad[position] ^= 1 << (position % 8);
            fs::write(&path, &bad).unwrap();
            let report = host.verify();
            assert!(
                !report.is_good(),
                "byte {position} of {} changed unseen",
                path.display()
            );
        }
        fs::write(&path, &good).unwrap();
    }
    assert!(host.verify().is_good());
}

#[test]
fn a_record_cut_anywhere_is_seen() {
    let host = Host::new();
    let session = host.record(&["select 1", "select 2"]);
    let path = host.sealed(session);
    let good = fs::read(&path).unwrap();
    for length in 0..good.len() {
        fs::write(&path, &good[..length]).unwrap();
        let report = host.verify();
        let problem = first(&report);
        if length >= SEGMENT_HEADER {
            assert_eq!(problem.kind, ProblemKind::Cut, "{length}: {problem:?}");
        }
    }
    fs::write(&path, [&good[..], b"more"].concat()).unwrap();
    assert_eq!(first(&host.verify()).kind, ProblemKind::Edited);
}

#[test]
fn an_edited_frame_is_named() {
    let host = Host::new();
    let session = host.record(&["select 1", "select 2", "select 3"]);
    let path = host.sealed(session);
    let mut bytes = fs::read(&path).unwrap();
    let at = memchr::memmem::find(&bytes, b"select 2").unwrap();
    bytes[at] = b'S';
    fs::write(&path, bytes).unwrap();
    let report = host.verify();
    let problem = first(&report);
    assert_eq!(
        (problem.kind, problem.frame),
        (ProblemKind::Edited, Some(2)),
        "{problem:?}"
    );
    let (block, _) = &blocks(&path)[2];
    assert_eq!(problem.offset, Some(block.start as u64));
    assert!(
        Reader::open(host.path(), session)
            .unwrap()
            .any(|frame| frame.is_err()),
        "the reader does not give out what was edited"
    );
    // With all hashes made anew the signature is what is left.
    rechain(&path);
    let report = host.verify();
    let problem = first(&report);
    assert_eq!(problem.kind, ProblemKind::Edited, "{problem:?}");
}

#[test]
fn moved_and_removed_blocks_are_seen() {
    let host = Host::new();
    let session = host.record(&["select 1", "select 2", "select 3"]);
    let path = host.sealed(session);
    let good = fs::read(&path).unwrap();
    let ranges: Vec<_> = blocks(&path).into_iter().map(|(range, _)| range).collect();
    let (one, two) = (ranges[1].clone(), ranges[2].clone());
    for anew in [false, true] {
        let swapped = [
            &good[..one.start],
            &good[two.clone()],
            &good[one.clone()],
            &good[two.end..],
        ]
        .concat();
        fs::write(&path, swapped).unwrap();
        if anew {
            rechain(&path);
        }
        assert!(!host.verify().is_good());
        fs::write(&path, [&good[..one.start], &good[one.end..]].concat()).unwrap();
        if anew {
            rechain(&path);
        }
        let report = host.verify();
        assert_eq!(
            (first(&report).kind, first(&report).frame),
            (ProblemKind::Cut, Some(1))
        );
        fs::write(
            &path,
            [&good[..two.start], &good[one.clone()], &good[two.start..]].concat(),
        )
        .unwrap();
        if anew {
            rechain(&path);
        }
        assert_eq!(first(&host.verify()).kind, ProblemKind::Reordered);
    }
}

#[test]
fn a_block_of_another_session_is_seen() {
    let host = Host::new();
    let (victim, donor) = (host.record(&["select 1"]), host.record(&["select 2"]));
    let (into, from) = (host.sealed(victim), host.sealed(donor));
    let (good, other) = (fs::read(&into).unwrap(), fs::read(&from).unwrap());
    let (range, header) = blocks(&into)[1].clone();
    let (donated, donated_header) = blocks(&from)[1].clone();
    assert_eq!(
        (header.kind, donated_header.kind),
        (BlockKind::Data, BlockKind::Data)
    );
    fs::write(
        &into,
        [&good[..range.start], &other[donated], &good[range.end..]].concat(),
    )
    .unwrap();
    let report = host.verify();
    assert_eq!(report.problems.len(), 1);
    assert_eq!(
        (first(&report).kind, first(&report).session),
        (ProblemKind::Spliced, Some(victim))
    );
    rechain(&into);
    assert_eq!(first(&host.verify()).kind, ProblemKind::Spliced);
    // The other's whole file, under this name.
    fs::write(&into, &other).unwrap();
    assert_eq!(first(&host.verify()).kind, ProblemKind::Spliced);
}

#[test]
fn swapped_and_missing_segments_are_seen() {
    let host = Host::new();
    let recorder = Recorder::open(&RecorderOptions {
        segment_bytes: 1,
        ..host.options()
    })
    .unwrap();
    let session = SessionId::new();
    let mut record = recorder.begin(session, &open_meta(session)).unwrap();
    for _ in 0..20 {
        record
            .append(FrameKind::ServerBytes, Direction::ToClient, &[&vec![7; 60_000]])
            .unwrap();
    }
    record.close(&serde_json::json!({})).unwrap();
    recorder.shutdown().unwrap();
    let layout = recorder.layout();
    assert!(host.verify().is_good());
    let (one, two) = (layout.segment(session, 1, true), layout.segment(session, 2, true));
    let (first_bytes, second) = (fs::read(&one).unwrap(), fs::read(&two).unwrap());
    fs::write(&one, &second).unwrap();
    fs::write(&two, &first_bytes).unwrap();
    assert_eq!(first(&host.verify()).kind, ProblemKind::Reordered);
    fs::write(&one, first_bytes).unwrap();
    fs::remove_file(&two).unwrap();
    assert_eq!(first(&host.verify()).kind, ProblemKind::Cut);
}

#[test]
fn a_removed_session_is_missed() {
    let host = Host::new();
    let (gone, kept) = (host.record(&["select 1"]), host.record(&["select 2"]));
    fs::remove_file(host.sealed(gone)).unwrap();
    let report = host.verify();
    assert_eq!(report.problems.len(), 1);
    assert_eq!(
        (first(&report).kind, first(&report).session),
        (ProblemKind::Missing, Some(gone))
    );
    assert!(
        report
            .sessions
            .iter()
            .any(|session| session.session == kept && session.good)
    );
}

#[test]
fn a_session_removed_from_the_ledger_too_is_missed_against_a_shipped_copy() {
    let host = Host::new();
    host.record(&["select 1"]);
    let ledger = host.path().join("ledger.tgl");
    let before = fs::read(&ledger).unwrap();
    let removed = host.record(&["select 2"]);
    let shipped = host.path().join("shipped.copy");
    fs::copy(&ledger, &shipped).unwrap();
    fs::write(&ledger, before).unwrap();
    // A record that stays is unknown to the cut ledger …
    assert_eq!(first(&host.verify()).kind, ProblemKind::NotInLedger);
    // … and one that is removed is not, without the copy.
    fs::remove_file(host.sealed(removed)).unwrap();
    let options = VerifyOptions {
        against: Some(shipped),
        ..VerifyOptions::default()
    };
    let report = verify(host.path(), &options).unwrap();
    assert_eq!(first(&report).kind, ProblemKind::Missing);
}

#[test]
fn a_record_made_with_another_hosts_key_is_seen() {
    let (host, attacker) = (Host::new(), Host::new());
    let session = host.record(&["delete from orders"]);
    let recorder = attacker.open();
    let identity = host.open().identity();
    let mut forged = recorder.begin(session, &open_meta(session)).unwrap();
    forged
        .append(FrameKind::ClientBytes, Direction::ToServer, &[b"select 1"])
        .unwrap();
    forged.close(&serde_json::json!({})).unwrap();
    recorder.shutdown().unwrap();
    fs::copy(attacker.sealed(session), host.sealed(session)).unwrap();
    assert_eq!(first(&host.verify()).kind, ProblemKind::WrongKey);
    // With the attacker's ledger as well, only the identity that was noted tells.
    fs::copy(attacker.path().join("ledger.tgl"), host.path().join("ledger.tgl")).unwrap();
    assert!(host.verify().is_good());
    let options = VerifyOptions {
        host: Some(hex::decode(identity).unwrap().try_into().unwrap()),
        ..VerifyOptions::default()
    };
    assert_eq!(
        first(&verify(host.path(), &options).unwrap()).kind,
        ProblemKind::WrongKey
    );
}

/// The thief has everything on the host, the signing key of now included, and rewrites a session of an earlier epoch.
#[test]
fn a_stolen_key_does_not_rewrite_the_past() {
    use crate::record::block::{Checkpoint, SegmentHeader};
    use ed25519_dalek::{Signer, SigningKey};

    let host = Host::new();
    let session = host.record(&["delete from orders"]);
    drop(host.open());
    let layout = Layout::new(host.path());
    let stolen = fs::read(layout.signing_key()).unwrap();
    let key = SigningKey::from_bytes(stolen[16..].try_into().unwrap());
    let epoch = u32::from_le_bytes(stolen[8..12].try_into().unwrap());
    assert!(epoch > 0);

    let path = host.sealed(session);
    let good = fs::read(&path).unwrap();
    let honest = Checkpoint::decode(&good[good.len() - HASH - 112..good.len() - HASH]).unwrap();
    for claim in [epoch, honest.epoch] {
        let mut bytes = good.clone();
        let header = SegmentHeader::decode(&bytes[..SEGMENT_HEADER]).unwrap();
        let mut chain = header.chain();
        for (range, block) in blocks(&path) {
            let stored = range.start + BLOCK_HEADER..range.end - HASH;
            if block.kind != BlockKind::Data {
                let mut checkpoint = Checkpoint {
                    epoch: claim,
                    key: key.verifying_key().to_bytes(),
                    ..Checkpoint::decode(&bytes[stored.clone()]).unwrap()
                };
                let message = checkpoint.message(session, 0, &block, &chain);
                checkpoint.signature = key.sign(&message).to_bytes();
                bytes[stored.clone()].copy_from_slice(&checkpoint.encode());
            }
            chain = extend(&chain, &block.encode(), &bytes[stored.clone()]);
            bytes[stored.end..range.end].copy_from_slice(&chain);
        }
        fs::write(&path, bytes).unwrap();
        assert_eq!(first(&host.verify()).kind, ProblemKind::WrongKey);
    }
}

#[test]
fn a_changed_ledger_stops_the_agent() {
    let host = Host::new();
    host.record(&["select 1"]);
    let ledger = host.path().join("ledger.tgl");
    let mut bytes = fs::read(&ledger).unwrap();
    bytes[100] ^= 1;
    fs::write(&ledger, bytes).unwrap();
    assert!(Recorder::open(&host.options()).is_err());
}
