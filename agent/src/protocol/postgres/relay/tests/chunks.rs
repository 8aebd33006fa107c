//! However the bytes of both sides are cut into pieces, the outputs are the same.

use std::sync::Arc;

use proptest::prelude::*;

use super::fixture::{bind, describe, execute, extended, parse, query, sync};
use super::script::{Script, complete, error, from_server, ready};
use super::{Batches, TestMasks, batch, copying};
use crate::model::Effect;
use crate::protocol::postgres::catalog::Relation;
use crate::protocol::sql::CopyFormat;

fn masks() -> TestMasks {
    TestMasks {
        columns: vec![("t", "c")],
        detect: true,
    }
}

/// Two columns, the second masked by its origin.
fn description() -> Vec<u8> {
    let body = b"\0\x02a\0\0\0\0\x07\0\x01\0\0\0\x19\xff\xff\0\0\0\0\0\0c\0\0\0\0\x07\0\x02\0\0\0\x19\xff\xff\0\0\0\0\0\0";
    from_server(b'T', body)
}

fn row(first: &str, second: &str) -> Vec<u8> {
    let mut body = vec![0, 2];
    for value in [first, second] {
        body.extend_from_slice(&i32::try_from(value.len()).unwrap().to_be_bytes());
        body.extend_from_slice(value.as_bytes());
    }
    from_server(b'D', &body)
}

fn conversation(long: usize) -> (Vec<u8>, Vec<u8>) {
    let client = [
        query("SELECT * FROM t"),
        parse("s", "SELECT * FROM t"),
        describe(b'S', "s"),
        bind("", "s", &["1"], &[]),
        execute("", 0),
        sync(),
        query("forbidden"),
        query("COPY t TO STDOUT"),
        extended("SELECT * FROM t", &["2"]),
        parse("", "forbidden"),
        execute("", 0),
        sync(),
    ];
    let long = format!("{}SECRET{}", "x".repeat(long), "y".repeat(long));
    let server = [
        description(),
        row("a SECRET", "masked"),
        row(&long, &long),
        from_server(b'S', b"session_authorization\0injected\0"),
        complete("SELECT 2"),
        ready(b'I'),
        from_server(b'1', &[]),
        from_server(b't', &[0, 0]),
        description(),
        from_server(b'2', &[]),
        // Of the portal, which the relay asks for where the client has only had that of the statement.
        description(),
        row("b", "masked"),
        complete("SELECT 1"),
        ready(b'I'),
        error("22P02"),
        ready(b'I'),
        from_server(b'H', &[0, 0, 2, 0, 0, 0, 0]),
        from_server(b'd', b"a\\tSECRET\tmasked\nb\tmas"),
        from_server(b'd', b"ked\n"),
        from_server(b'c', &[]),
        complete("COPY 2"),
        ready(b'I'),
        from_server(b'1', &[]),
        from_server(b'2', &[]),
        description(),
        row("c", "masked"),
        complete("SELECT 1"),
        error("22P02"),
        ready(b'I'),
    ];
    (client.concat(), server.concat())
}

/// Runs a conversation with both sides cut at these places; gives what went to the server, to the client, and to
/// the record.
fn run(long: usize, client_cuts: &[usize], server_cuts: &[usize]) -> [Vec<u8>; 3] {
    let masks = masks();
    let copy = "COPY t TO STDOUT";
    let format = CopyFormat::Text { delimiter: b'\t' };
    let batches = Batches::default().with(
        copy,
        batch(copy, &[Effect::BulkExport], vec![copying("t", None, format)]),
    );
    let mut script = Script::new(&masks, batches);
    let columns = (1..).zip(["a", "c"].map(Into::into)).collect();
    let (schema, name) = ("public".into(), "t".into());
    script.relations = vec![Arc::new(Relation {
        oid: 7,
        schema,
        name,
        columns,
        ..Relation::default()
    })];
    let (client, server) = conversation(long);
    for piece in pieces(&client, client_cuts) {
        script.run_client(piece).unwrap();
    }
    for piece in pieces(&server, server_cuts) {
        script.run_server(piece).unwrap();
    }
    let (to_server, to_client, record) = script.outputs();
    assert_eq!(record, client);
    [to_server, to_client, record].map(<[u8]>::to_vec)
}

fn pieces<'a>(mut bytes: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut all = Vec::new();
    for cut in cuts {
        let (piece, rest) = bytes.split_at(cut % (bytes.len() + 1));
        all.push(piece);
        bytes = rest;
    }
    all.push(bytes);
    all
}

#[test]
fn nothing_masked_is_in_the_output() {
    for long in [10, 700_000] {
        let [to_server, to_client, _] = run(long, &[], &[]);
        assert!(memchr::memmem::find(&to_client, b"SECRET").is_none());
        assert!(memchr::memmem::find(&to_client, b"masked").is_none());
        assert!(memchr::memmem::find(&to_client, b"injected").is_none());
        assert!(memchr::memmem::find(&to_server, b"forbidden").is_none());
    }
}

#[test]
fn a_byte_at_a_time_gives_the_same() {
    let one = vec![1; 10_000];
    assert_eq!(run(10, &one, &one), run(10, &[], &[]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_cut_gives_the_same(client in prop::collection::vec(0_usize..200, 0..20), server in prop::collection::vec(0_usize..300, 0..20)) {
        prop_assert_eq!(run(10, &client, &server), run(10, &[], &[]));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]

    #[test]
    fn any_cut_of_a_long_row_gives_the_same(server in prop::collection::vec(0_usize..300_000, 0..12)) {
        prop_assert!(run(700_000, &[], &server) == run(700_000, &[], &[]));
    }
}

/// Messages of any type with bodies of any bytes, as either side might send them.
fn noise(tags: &'static [u8]) -> impl Strategy<Value = Vec<u8>> {
    let body = prop::collection::vec(prop_oneof![Just(0_u8), Just(1), any::<u8>()], 0..24);
    let message = (prop::sample::select(tags), body).prop_map(|(tag, body)| from_server(tag, &body));
    prop::collection::vec(message, 0..12).prop_map(|messages| messages.concat())
}

proptest! {
    #[test]
    fn no_bytes_of_either_side_make_it_panic_or_stop_for_ever(
        client in noise(b"QPBEDCHSdcfFX"),
        server in noise(b"123ACDEGHINSTZcdnst"),
    ) {
        let masks = masks();
        let mut script = Script::new(&masks, Batches::default());
        let _ = script.run_client(&query("SELECT * FROM t"));
        let _ = script.run_client(&client);
        let _ = script.run_server(&description());
        let _ = script.run_server(&server);
        // Whatever happened, nothing was passed on that was refused.
        prop_assert!(memchr::memmem::find(script.outputs().0, b"forbidden").is_none());
    }
}

#[test]
fn a_value_of_a_hundred_megabytes_passes_in_constant_memory() {
    use super::super::Turn;
    let masks = TestMasks {
        detect: false,
        ..masks()
    };
    let mut script = Script::new(&masks, Batches::default());
    let columns = (1..).zip(["a", "c"].map(Into::into)).collect();
    let (schema, name) = ("public".into(), "t".into());
    script.relations = vec![Arc::new(Relation {
        oid: 7,
        schema,
        name,
        columns,
        ..Relation::default()
    })];
    script.run_client(&query("SELECT * FROM t")).unwrap();
    script.run_server(&description()).unwrap();
    let size = 100_i32 << 20;
    let piece = vec![b'v'; 1 << 16];
    let header = |value: i32| {
        [
            &b"D"[..],
            &(4 + 2 + 8 + value + 1).to_be_bytes(),
            &[0, 2],
            &value.to_be_bytes(),
        ]
        .concat()
    };
    let mut turn = Turn::default();
    let start = header(size);
    script.relay.server(&start, &mut turn).unwrap();
    assert_eq!(turn.consumed, start.len());
    for _ in 0..size >> 16 {
        script.relay.server(&piece, &mut turn).unwrap();
        assert_eq!((turn.consumed, turn.out.len()), (piece.len(), piece.len()));
        // Passed on as it is: not even copied.
        assert!(turn.out.parts(&piece).all(|part| part.as_ptr() == piece.as_ptr()));
    }
    let end = [&[0, 0, 0, 1][..], b"s", &complete("SELECT 1")].concat();
    script.relay.server(&end, &mut turn).unwrap();
    let out: Vec<u8> = turn.out.parts(&end).collect::<Vec<_>>().concat();
    assert!(out.starts_with(&[0, 0, 0, 1, b'*', b'C']));
}
