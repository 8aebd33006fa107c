//! Rows of COPY data in text and CSV format, field by field, whatever the pieces that they come in.
//!
//! Source: PostgreSQL documentation, COPY, "File Formats"; only what a server writes is read, so a row ends with
//! a line feed, and a backslash stands before a character or before one of `b f n r t v`.

use crate::protocol::sql::CopyFormat;

/// What the next byte is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// A character of the field's value.
    Value(u8),
    /// A part of how the value is written.
    Writing,
    /// The delimiter: the field ends.
    FieldEnd,
    /// The line feed: field and row end.
    RowEnd,
}

/// A reader of one of the two formats.
#[derive(Debug)]
pub(super) struct Fields {
    dialect: Dialect,
    state: State,
    /// The field so far is written with quotes: it is not NULL.
    quoted: bool,
}

#[derive(Clone, Copy, Debug)]
enum Dialect {
    Text { delimiter: u8 },
    Csv { delimiter: u8, quote: u8, escape: u8 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Plain,
    /// Behind the backslash of the text format.
    Escaped,
    Quoted,
    /// Behind an escape character within quotes that is not the quote itself.
    QuotedEscaped,
    /// Behind a quote within quotes: its end, or the first of two.
    QuoteSeen,
}

impl Fields {
    /// A reader of `format`; `None` where it is neither text nor CSV.
    pub(super) fn of(format: CopyFormat) -> Option<Self> {
        let dialect = match format {
            CopyFormat::Text { delimiter } => Dialect::Text { delimiter },
            CopyFormat::Csv {
                delimiter,
                quote,
                escape,
                ..
            } => Dialect::Csv {
                delimiter,
                quote,
                escape,
            },
            CopyFormat::Binary | CopyFormat::Other => return None,
        };
        Some(Self {
            dialect,
            state: State::Plain,
            quoted: false,
        })
    }

    /// Takes the next byte.
    pub(super) fn next(&mut self, byte: u8) -> Piece {
        match self.dialect {
            Dialect::Text { delimiter } => self.text(byte, delimiter),
            Dialect::Csv {
                delimiter,
                quote,
                escape,
            } => self.csv(byte, delimiter, quote, escape),
        }
    }

    fn text(&mut self, byte: u8, delimiter: u8) -> Piece {
        if self.state == State::Escaped {
            self.state = State::Plain;
            return Piece::Value(match byte {
                b'b' => 8,
                b'f' => 12,
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                b'v' => 11,
                other => other,
            });
        }
        match byte {
            b'\\' => {
                self.state = State::Escaped;
                Piece::Writing
            }
            b'\n' => Piece::RowEnd,
            byte if byte == delimiter => Piece::FieldEnd,
            byte => Piece::Value(byte),
        }
    }

    fn csv(&mut self, byte: u8, delimiter: u8, quote: u8, escape: u8) -> Piece {
        match self.state {
            State::QuotedEscaped => {
                self.state = State::Quoted;
                return Piece::Value(byte);
            }
            State::Quoted if byte == escape && escape != quote => {
                self.state = State::QuotedEscaped;
                return Piece::Writing;
            }
            State::Quoted if byte == quote => {
                self.state = if escape == quote {
                    State::QuoteSeen
                } else {
                    State::Plain
                };
                return Piece::Writing;
            }
            State::Quoted => return Piece::Value(byte),
            State::QuoteSeen if byte == quote => {
                self.state = State::Quoted;
                return Piece::Value(byte);
            }
            State::QuoteSeen | State::Plain | State::Escaped => self.state = State::Plain,
        }
        match byte {
            b'\n' => Piece::RowEnd,
            byte if byte == delimiter => Piece::FieldEnd,
            byte if byte == quote => {
                self.state = State::Quoted;
                self.quoted = true;
                Piece::Writing
            }
            byte => Piece::Value(byte),
        }
    }

    /// Whether a field that was written as `raw` is NULL. Also begins the next field.
    pub(super) fn end_field(&mut self, raw: &[u8]) -> bool {
        let quoted = std::mem::take(&mut self.quoted);
        match self.dialect {
            Dialect::Text { .. } => raw == b"\\N",
            Dialect::Csv { .. } => raw.is_empty() && !quoted,
        }
    }

    /// Appends NULL.
    pub(super) fn write_null(&self, out: &mut Vec<u8>) {
        if let Dialect::Text { .. } = self.dialect {
            out.extend_from_slice(b"\\N");
        }
    }

    /// Appends what stands before a value: CSV values that are changed are quoted.
    pub(super) fn open(&self, out: &mut Vec<u8>) {
        if let Dialect::Csv { quote, .. } = self.dialect {
            out.push(quote);
        }
    }

    /// Appends a part of a value.
    pub(super) fn write(&self, value: &[u8], out: &mut Vec<u8>) {
        match self.dialect {
            Dialect::Text { delimiter } => {
                for byte in value.iter().copied() {
                    let (escaped, byte) = match byte {
                        8 => (true, b'b'),
                        12 => (true, b'f'),
                        b'\n' => (true, b'n'),
                        b'\r' => (true, b'r'),
                        b'\t' => (true, b't'),
                        11 => (true, b'v'),
                        byte => (byte == b'\\' || byte == delimiter, byte),
                    };
                    if escaped {
                        out.push(b'\\');
                    }
                    out.push(byte);
                }
            }
            Dialect::Csv { quote, escape, .. } => {
                for byte in value.iter().copied() {
                    if byte == quote || byte == escape {
                        out.push(escape);
                    }
                    out.push(byte);
                }
            }
        }
    }

    /// Appends what stands behind a value.
    pub(super) fn close(&self, out: &mut Vec<u8>) {
        self.open(out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CSV: CopyFormat = CopyFormat::Csv {
        delimiter: b',',
        quote: b'"',
        escape: b'"',
        header: false,
    };
    const ODD: CopyFormat = CopyFormat::Csv {
        delimiter: b';',
        quote: b'\'',
        escape: b'\\',
        header: false,
    };
    const TEXT: CopyFormat = CopyFormat::Text { delimiter: b'\t' };

    type Rows = Vec<Vec<Option<String>>>;

    /// Values of the rows of `data`; `None`: NULL.
    fn read(format: CopyFormat, data: &[u8]) -> Rows {
        let mut fields = Fields::of(format).unwrap();
        let (mut rows, mut row, mut value, mut raw) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for byte in data {
            let piece = fields.next(*byte);
            match piece {
                Piece::Value(byte) => value.push(byte),
                Piece::Writing => {}
                Piece::FieldEnd | Piece::RowEnd => {
                    let null = fields.end_field(&raw);
                    let text = String::from_utf8(std::mem::take(&mut value)).unwrap();
                    row.push((!null).then_some(text));
                    raw.clear();
                    if piece == Piece::RowEnd {
                        rows.push(std::mem::take(&mut row));
                    }
                    continue;
                }
            }
            raw.push(*byte);
        }
        assert!(row.is_empty() && value.is_empty());
        rows
    }

    #[test]
    fn rows_are_read_as_the_server_writes_them() {
        let some = |text: &str| Some(text.to_owned());
        let cases: [(CopyFormat, &[u8], Rows); 4] = [
            (
                TEXT,
                b"a\t\\N\tx\\ty\\\\\\n\n\t\n",
                vec![vec![some("a"), None, some("x\ty\\\n")], vec![some(""), some("")]],
            ),
            (
                CopyFormat::Text { delimiter: b'|' },
                b"a\\|b|c\n",
                vec![vec![some("a|b"), some("c")]],
            ),
            (
                CSV,
                b"a,,\"\",\"q\"\"u,\n\"\n",
                vec![vec![some("a"), None, some(""), some("q\"u,\n")]],
            ),
            (ODD, b"'a\\'b\\\\';\n", vec![vec![some("a'b\\"), None]]),
        ];
        for (format, data, rows) in cases {
            assert_eq!(read(format, data), rows);
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_is_read_back(value in "[ -~\t\n\r\\\\\"',;|\u{b}\u{8}é]*", which in 0..4_usize) {
            let format = [TEXT, CopyFormat::Text { delimiter: b'|' }, CSV, ODD][which];
            let fields = Fields::of(format).unwrap();
            let mut out = Vec::new();
            fields.open(&mut out);
            fields.write(value.as_bytes(), &mut out);
            fields.close(&mut out);
            out.push(b'\n');
            proptest::prop_assert_eq!(read(format, &out), vec![vec![Some(value)]]);
        }
    }
}
