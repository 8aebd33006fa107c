//! Escapes of strings (RFC 8259, 7).

/// One character of a string as it is written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unit {
    /// How many bytes write it.
    pub(super) written: usize,
    /// The character.
    pub(super) character: char,
}

/// The escape that `text` begins with; `None`: it is not whole. Half of a surrogate pair is U+FFFD, as most readers have it.
pub(super) fn unit(text: &[u8]) -> Result<Option<Unit>, &'static str> {
    const UNKNOWN: &str = "a backslash escapes what it cannot";
    let Some(letter) = text.get(1) else {
        return Ok(None);
    };
    let character = match letter {
        b'"' | b'\\' | b'/' => char::from(*letter),
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'u' => return surrogates(text),
        _ => return Err(UNKNOWN),
    };
    Ok(Some(Unit {
        written: 2,
        character,
    }))
}

fn surrogates(text: &[u8]) -> Result<Option<Unit>, &'static str> {
    let Some(first) = hex(text)? else {
        return Ok(None);
    };
    let alone = |character| {
        Ok(Some(Unit {
            written: 6,
            character,
        }))
    };
    if !(0xd800..0xdc00).contains(&first) {
        return alone(char::from_u32(first.into()).unwrap_or(char::REPLACEMENT_CHARACTER));
    }
    let second = match (text.get(6), text.get(7)) {
        (None, _) | (Some(b'\\'), None) => return Ok(None),
        (Some(b'\\'), Some(b'u')) => match hex(text.get(6..).unwrap_or_default())? {
            Some(second) => second,
            None => return Ok(None),
        },
        _ => return alone(char::REPLACEMENT_CHARACTER),
    };
    match char::decode_utf16([first, second]).next() {
        Some(Ok(character)) => Ok(Some(Unit {
            written: 12,
            character,
        })),
        _ => alone(char::REPLACEMENT_CHARACTER),
    }
}

/// The number behind `\u`.
fn hex(text: &[u8]) -> Result<Option<u16>, &'static str> {
    let mut number = 0;
    for at in 2..6 {
        let Some(byte) = text.get(at) else {
            return Ok(None);
        };
        let digit = char::from(*byte)
            .to_digit(16)
            .and_then(|digit| u16::try_from(digit).ok())
            .ok_or("\\u has no four hexadecimal digits")?;
        number = number << 4 | digit;
    }
    Ok(Some(number))
}

/// The characters of a whole string, its quotes taken off.
pub(super) fn decoded(text: &[u8]) -> Result<Vec<u8>, &'static str> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(plain) = memchr::memchr(b'\\', rest) {
        let (before, escape) = rest.split_at_checked(plain).unwrap_or((rest, &[]));
        out.extend_from_slice(before);
        let unit = match unit(escape)? {
            Some(unit) => unit,
            // A high surrogate at the very end.
            None if escape.len() >= 6 => Unit {
                written: 6,
                character: char::REPLACEMENT_CHARACTER,
            },
            None => return Err("an escape is not whole"),
        };
        out.extend_from_slice(unit.character.encode_utf8(&mut [0; 4]).as_bytes());
        rest = escape.get(unit.written..).unwrap_or_default();
    }
    out.extend_from_slice(rest);
    Ok(out)
}
