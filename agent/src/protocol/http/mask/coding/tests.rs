use super::*;
use std::io::{Read, Write};

const ALL: [Coding; 4] = [Coding::Gzip, Coding::Deflate, Coding::Brotli, Coding::Zstd];

/// `length` bytes that compress, but not to nothing.
fn text(length: usize) -> Vec<u8> {
    let mut number: u32 = 7;
    let mut out = Vec::with_capacity(length + 16);
    while out.len() < length {
        number = number.wrapping_mul(1_103_515_245).wrapping_add(12345);
        out.extend_from_slice(format!("word {} ", number >> 20).as_bytes());
    }
    out.truncate(length);
    out
}

fn encoded(coding: Coding, text: &[u8], piece: usize) -> Vec<u8> {
    let mut encoder = Encoder::new(coding);
    let mut out = Vec::new();
    for piece in text.chunks(piece) {
        encoder.push(piece, &mut out).unwrap();
    }
    encoder.finish(&mut out).unwrap();
    out
}

fn decoded(coding: Coding, coded: &[u8], piece: usize) -> Result<Vec<u8>, Unmaskable> {
    let mut decoder = Decoder::new(coding);
    let mut out = Vec::new();
    for piece in coded.chunks(piece) {
        decoder.push(piece, &mut |block| {
            assert!(block.len() <= BLOCK);
            out.extend_from_slice(block);
            Ok(())
        })?;
    }
    decoder.finish()?;
    Ok(out)
}

#[test]
fn what_is_applied_is_undone_wherever_it_is_cut() {
    for coding in ALL {
        for length in [1, 500, 300_000] {
            let text = text(length);
            let coded = encoded(coding, &text, 7_777);
            for piece in [1, 2, 3, 1_000, usize::MAX] {
                if piece < 3 && length > 1_000 {
                    continue;
                }
                assert_eq!(
                    decoded(coding, &coded, piece).unwrap(),
                    text,
                    "{coding:?} {length} {piece}"
                );
            }
        }
    }
}

#[test]
fn other_implementations_read_what_is_written() {
    let text = text(100_000);
    let mut out = Vec::new();
    let coded = encoded(Coding::Gzip, &text, 9_999);
    flate2::read::GzDecoder::new(&*coded)
        .read_to_end(&mut out)
        .unwrap();
    assert_eq!(out, text);
    out.clear();
    let coded = encoded(Coding::Deflate, &text, 9_999);
    flate2::read::ZlibDecoder::new(&*coded)
        .read_to_end(&mut out)
        .unwrap();
    assert_eq!(out, text);
    let coded = encoded(Coding::Zstd, &text, 9_999);
    assert_eq!(::zstd::decode_all(&*coded).unwrap(), text);
    out.clear();
    let coded = encoded(Coding::Brotli, &text, 9_999);
    ::brotli::Decompressor::new(&*coded, 4096)
        .read_to_end(&mut out)
        .unwrap();
    assert_eq!(out, text);
}

#[test]
fn deflate_is_read_with_and_without_its_wrapping() {
    let text = text(70_000);
    let mut raw = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
    raw.write_all(&text).unwrap();
    let raw = raw.finish().unwrap();
    for piece in [1, 50, usize::MAX] {
        assert_eq!(decoded(Coding::Deflate, &raw, piece).unwrap(), text);
    }
}

#[test]
fn members_and_frames_follow_one_another() {
    for coding in [Coding::Gzip, Coding::Zstd] {
        let mut coded = encoded(coding, b"one ", 100);
        coded.extend(encoded(coding, b"two", 100));
        for piece in [1, 5, usize::MAX] {
            assert_eq!(decoded(coding, &coded, piece).unwrap(), b"one two", "{coding:?}");
        }
    }
}

#[test]
fn what_is_cut_short_or_goes_on_is_refused() {
    for coding in ALL {
        let coded = encoded(coding, &text(5_000), 5_000);
        let (short, _) = coded.split_at(coded.len() - 3);
        assert_eq!(
            decoded(coding, short, 100),
            Err(Unmaskable::Truncated(coding.shown())),
            "{coding:?}"
        );
        let mut longer = coded.clone();
        longer.extend_from_slice(b"and more");
        assert!(
            matches!(
                decoded(coding, &longer, 100),
                Err(Unmaskable::Malformed { .. } | Unmaskable::Truncated(_))
            ),
            "{coding:?}"
        );
        assert!(
            decoded(coding, b"\x78this is no coding at all", 4).is_err(),
            "{coding:?}"
        );
    }
}

#[test]
fn what_is_flushed_can_be_read_at_once() {
    for coding in ALL {
        let mut encoder = Encoder::new(coding);
        let mut decoder = Decoder::new(coding);
        for event in [&b"data: one\n\n"[..], b"data: two\n\n"] {
            let mut coded = Vec::new();
            encoder.push(event, &mut coded).unwrap();
            encoder.flush(&mut coded).unwrap();
            let mut seen = Vec::new();
            decoder
                .push(&coded, &mut |block| {
                    seen.extend_from_slice(block);
                    Ok(())
                })
                .unwrap();
            assert_eq!(seen, event, "{coding:?}");
        }
    }
}

#[test]
fn a_large_expansion_comes_in_blocks() {
    let zeros = vec![0_u8; 1 << 20];
    for coding in ALL {
        let mut encoder = Encoder::new(coding);
        let mut coded = Vec::new();
        for _ in 0..20 {
            encoder.push(&zeros, &mut coded).unwrap();
        }
        encoder.finish(&mut coded).unwrap();
        let mut blocks = 0;
        let mut total = 0;
        let mut decoder = Decoder::new(coding);
        decoder
            .push(&coded, &mut |block| {
                blocks += 1;
                total += block.len();
                Ok(())
            })
            .unwrap();
        decoder.finish().unwrap();
        assert_eq!(total, 20 << 20, "{coding:?}");
        assert!(blocks >= 320, "{coding:?}");
    }
}
