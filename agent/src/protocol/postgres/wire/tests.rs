//! Each message: one example by hand from the protocol's documentation, and what is no such message.

use proptest::prelude::*;

use super::*;

fn body(make: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    make(&mut out);
    let header = Header::peek(&out).unwrap().unwrap();
    assert_eq!(header.size(), out.len());
    out[Header::SIZE..].to_vec()
}

#[test]
fn a_header_is_a_tag_and_a_length_of_four_or_more() {
    type Peeked = Result<Option<Header>, WireError>;
    let cases: [(&[u8], Peeked); 7] = [
        (b"", Ok(None)),
        (b"Q\0\0\0", Ok(None)),
        (b"Q\0\0\0\x04", Ok(Some(Header { tag: b'Q', body: 0 }))),
        (b"Q\0\0\x01\x04rest", Ok(Some(Header { tag: b'Q', body: 256 }))),
        (b"Q\0\0\0\x03", Err(WireError::Length { tag: b'Q', length: 3 })),
        (
            b"d\xff\xff\xff\xff",
            Err(WireError::Length {
                tag: b'd',
                length: -1,
            }),
        ),
        (
            b"d\x80\0\0\0",
            Err(WireError::Length {
                tag: b'd',
                length: i32::MIN,
            }),
        ),
    ];
    for (input, expected) in cases {
        assert_eq!(Header::peek(input), expected, "{input:?}");
    }
    let header = Header { tag: b'Q', body: 2 };
    assert_eq!(
        header.whole(b"Q\0\0\0\x06a\0more"),
        Some((&b"Q\0\0\0\x06a\0"[..], &b"a\0"[..]))
    );
    assert_eq!(header.whole(b"Q\0\0\0\x06a"), None);
}

#[test]
fn query_and_parse() {
    let query = Query { text: b"SELECT 1" };
    assert_eq!(Query::decode(&body(|out| query.encode(out))), Ok(query));
    let parse = Parse {
        name: b"s",
        text: b"SELECT $1",
        types: &[0, 0, 0, 23, 0, 0, 0, 25],
    };
    assert_eq!(
        body(|out| parse.encode(out)),
        b"s\0SELECT $1\0\0\x02\0\0\0\x17\0\0\0\x19"
    );
    assert_eq!(Parse::decode(&body(|out| parse.encode(out))), Ok(parse));
    for wrong in [&b"s\0SELECT"[..], b"s\0x\0\0\x01\0\0\0", b"s\0x\0\0\0more", b""] {
        assert!(Parse::decode(wrong).is_err(), "{wrong:?}");
    }
    assert!(
        Query::decode(b"two\0texts\0").is_err(),
        "what follows the text would be run by nobody knows whom"
    );
}

#[test]
fn bind() {
    let bytes = b"p\0s\0\0\x01\0\x01\0\x03\0\0\0\x02ab\xff\xff\xff\xff\0\0\0\0\0\x02\0\0\0\x01";
    let bind = Bind::decode(bytes).unwrap();
    assert_eq!(
        (bind.portal, bind.statement, bind.count),
        (&b"p"[..], &b"s"[..], 3)
    );
    assert_eq!(
        bind.values().collect::<Vec<_>>(),
        [Some(&b"ab"[..]), None, Some(b"")]
    );
    assert!(
        bind.is_binary(0) && bind.is_binary(2),
        "one format stands for all"
    );
    assert_eq!(bind.results, [0, 0, 0, 1]);
    assert_eq!(Bind::names(b"p\0s\0cut off he"), Ok((&b"p"[..], &b"s"[..])));
    for end in 0..bytes.len() {
        assert!(Bind::decode(&bytes[..end]).is_err(), "cut at {end}");
    }
    assert!(
        Bind::decode(b"\0\0\0\0\0\x01\xff\xff\xff\xfe\0\0").is_err(),
        "a length of -2"
    );
}

#[test]
fn describe_close_and_execute() {
    let cases = [(Target::Statement, &b"Sname\0"[..]), (Target::Portal, b"Pname\0")];
    for (target, bytes) in cases {
        let described = Described {
            target,
            name: b"name",
        };
        assert_eq!(Described::decode(bytes), Ok(described));
        assert_eq!(body(|out| described.encode(Described::CLOSE, out)), bytes);
    }
    assert!(Described::decode(b"Xname\0").is_err());
    assert_eq!(
        Execute::decode(b"p\0\0\0\0\x05"),
        Ok(Execute {
            portal: b"p",
            rows: 5
        })
    );
    assert!(Execute::decode(b"p\0\0\0\0").is_err());
}

#[test]
fn row_description_and_data_row() {
    let bytes = b"\0\x02id\0\0\0\x40\0\0\x01\0\0\0\x17\0\x04\xff\xff\xff\xff\0\x01x\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0";
    let description = RowDescription::decode(bytes).unwrap();
    let fields: Vec<_> = description.fields().collect();
    assert_eq!(
        fields,
        [
            FieldDescription {
                label: b"id",
                table: 16384,
                attribute: 1,
                type_oid: 23,
                format: 1
            },
            FieldDescription {
                label: b"x",
                table: 0,
                attribute: 0,
                type_oid: 25,
                format: 0
            },
        ]
    );
    assert!(RowDescription::decode(&bytes[..bytes.len() - 1]).is_err());
    let mut row = DataRow::decode(b"\0\x02\xff\xff\xff\xff\0\0\0\x01a").unwrap();
    assert_eq!(row.next_value(), Ok(Some(None)));
    assert_eq!(row.next_value(), Ok(Some(Some(&b"a"[..]))));
    assert_eq!(row.next_value(), Ok(None));
    let mut row = DataRow::decode(b"\0\x01\0\0\0\x01ab").unwrap();
    assert!(row.next_value().is_ok());
    assert!(row.next_value().is_err(), "bytes that belong to no column");
}

#[test]
fn errors_and_notices() {
    let (severity, code) = ("FATAL", "08P01");
    let error = ErrorResponse {
        severity,
        code,
        message: "a\0b",
        hint: "c",
    };
    let bytes = body(|out| error.encode(out));
    assert_eq!(bytes, b"SFATAL\0VFATAL\0C08P01\0Mab\0Hc\0\0");
    let fields = ErrorFields::decode(&bytes).unwrap();
    assert_eq!(
        (fields.sqlstate(), fields.get(b'M'), fields.get(b'D')),
        (&b"08P01"[..], Some(&b"ab"[..]), None)
    );
    let notice = NoticeResponse {
        message: "m",
        hint: "",
    };
    assert_eq!(
        body(|out| notice.encode(out)),
        b"SNOTICE\0VNOTICE\0C00000\0Mm\0\0"
    );
    assert!(ErrorFields::decode(b"Mno end\0").is_err());
}

#[test]
fn small_messages_of_the_server() {
    let complete = CommandComplete::decode(b"INSERT 0 12\0").unwrap();
    assert_eq!(complete.rows(), Some(12));
    assert_eq!(CommandComplete::decode(b"CREATE TABLE\0").unwrap().rows(), None);
    for (byte, status) in [
        (b'I', TransactionStatus::Idle),
        (b'T', TransactionStatus::Open),
        (b'E', TransactionStatus::Failed),
    ] {
        assert_eq!(ReadyForQuery::decode(&[byte]), Ok(ReadyForQuery { status }));
    }
    assert!(ReadyForQuery::decode(b"X").is_err() && ReadyForQuery::decode(b"II").is_err());
    let status = ParameterStatus {
        name: b"n",
        value: b"v",
    };
    assert_eq!(
        ParameterStatus::decode(&body(|out| status.encode(out))),
        Ok(status)
    );
    assert_eq!(
        CopyResponse::decode(b"\x01\0\x01\0\x01"),
        Ok(CopyResponse {
            binary: true,
            columns: 1
        })
    );
    assert!(CopyResponse::decode(b"\0\0\x02\0\0").is_err());
}

proptest! {
    #[test]
    fn no_bytes_make_a_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let _ = Query::decode(&bytes);
        let _ = Parse::decode(&bytes);
        let _ = Bind::decode(&bytes).map(|bind| (bind.values().count(), bind.is_binary(9)));
        let _ = Described::decode(&bytes);
        let _ = Execute::decode(&bytes);
        let _ = RowDescription::decode(&bytes).map(|description| description.fields().count());
        let _ = ErrorFields::decode(&bytes).map(|fields| fields.iter().count());
        let _ = CommandComplete::decode(&bytes).map(|complete| complete.rows());
        let _ = CopyResponse::decode(&bytes);
        if let Ok(mut row) = DataRow::decode(&bytes) {
            while let Ok(Some(_)) = row.next_value() {}
        }
    }
}
