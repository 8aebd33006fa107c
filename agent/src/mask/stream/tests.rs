use proptest::prelude::*;

use super::super::Masks;
use super::super::detect::tests::{AWS_ID, AWS_SECRET, JWT, PEM, assembled, everything, ranges};
use super::*;

/// What the stream has to make of `text`, by the hits that the whole value has.
fn overwritten(masks: &Masks, text: &[u8]) -> (u32, Vec<u8>) {
    let mut out = text.to_vec();
    let ranges = ranges(masks, text);
    for (start, end) in &ranges {
        out[*start..*end].fill(b'*');
    }
    (u32::try_from(ranges.len()).unwrap(), out)
}

fn streamed(masks: &Masks, text: &[u8], mut cut: impl FnMut() -> usize) -> (u32, Vec<u8>) {
    let mut stream = masks.stream();
    let mut out = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (piece, later) = rest.split_at(cut().clamp(1, rest.len()));
        stream.push(piece, &mut out);
        rest = later;
        assert!(
            text.len() - rest.len() - out.len() <= 64 * 1024,
            "holds back too much"
        );
    }
    let hits = stream.finish(&mut out);
    (hits, out)
}

#[test]
fn a_stream_finds_a_hit_at_every_place_of_a_block() {
    let masks = everything();
    // Long hits and short ones, moved over the place where a block of the stream ends.
    let long = PEM.replace("MII", &"MIIA".repeat(9_000));
    let token = format!("{JWT}{}", "x".repeat(30_000));
    for (value, step) in [
        ("4111 1111 1111 1111", 3),
        (AWS_ID, 5),
        (&*long, 1_111),
        (&*token, 1_111),
    ] {
        let ends = 48 * 1024 - AHEAD;
        let mut at = ends.saturating_sub(value.len() + 30);
        while at < ends + 30 {
            let text = format!(
                "{}{value} and {AWS_SECRET}\n{}",
                ". ".repeat(at / 2),
                "z ".repeat(30_000)
            );
            assert_eq!(
                streamed(&masks, text.as_bytes(), || 10_000),
                overwritten(&masks, text.as_bytes())
            );
            at += step;
        }
    }
}

#[test]
fn a_stream_without_detectors_holds_nothing_back() {
    let masks = Masks::compile(&[], [0; 32]);
    let mut stream = masks.stream();
    let mut out = Vec::new();
    stream.push(b"4111111111111111", &mut out);
    assert_eq!(out, b"4111111111111111");
    assert_eq!(stream.finish(&mut out), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn a_stream_gives_what_the_whole_value_gives_however_it_is_cut(
        text in assembled(),
        cuts in proptest::collection::vec(1usize..20_000, 1..8),
    ) {
        let masks = everything();
        let mut cuts = cuts.iter().copied().cycle();
        prop_assert_eq!(
            streamed(&masks, &text, || cuts.next().unwrap()),
            overwritten(&masks, &text)
        );
    }
}
