//! The credential in what a target answers: replaced by as many asterisks, so that lengths stay right.
//!
//! Known are the credential as it is, and percent-encoded, in JSON, in markup, in hexadecimal, and in base64 wherever it stands in
//! what was encoded. What is compressed has to be asked about when it is not any more.

use std::fmt::Write as _;

use aho_corasick::{AhoCorasick, MatchKind};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::HeaderMap;
use http::header::{HeaderValue, SET_COOKIE};
use zeroize::Zeroizing;

use crate::config::{HttpCredential, Inject};
use crate::model::{Material, Secret};

use super::{LEAST_SECRET, cookie, query};

/// A piece of base64 that is shorter is there by chance.
const LEAST_BASE64: usize = 8;
const MASK: u8 = b'*';

/// What a credential looks like in answers.
pub struct Echo {
    forms: Vec<Zeroizing<Vec<u8>>>,
    search: Option<AhoCorasick>,
    /// The same, quicker to say that there is none of them.
    quick: Option<AhoCorasick>,
    /// A cookie that is the agent's own: what the target sets under its name the workload does not get.
    cookie: Option<String>,
}

/// What was held back of a body, since it may be the beginning of the credential.
#[derive(Default)]
pub struct Kept {
    bytes: Vec<u8>,
    /// Which of them have been found to be of one.
    marks: Vec<bool>,
}

impl Echo {
    /// Of `material`, injected as `spec` says.
    pub fn new(spec: &HttpCredential, material: &Material) -> Self {
        let mut forms = Vec::new();
        // Exposed to be looked for.
        match material {
            Material::Token(token) => {
                add(&mut forms, token.expose());
                if let Inject::Basic { user: Some(user) } = &spec.inject {
                    login(&mut forms, user.as_bytes(), token);
                }
            }
            Material::Login { user, password } => {
                add(&mut forms, password.expose());
                login(&mut forms, user.expose(), password);
            }
            Material::Aws(keys) => {
                add(&mut forms, keys.secret.expose());
                if let Some(token) = &keys.token {
                    add(&mut forms, token.expose());
                }
            }
            // It never leaves the agent: the handshake shows that it is there.
            Material::Key { .. } => {}
        }
        forms.sort_unstable_by(|a, b| a.as_slice().cmp(b.as_slice()));
        forms.dedup_by(|a, b| a.as_slice() == b.as_slice());
        let search = AhoCorasick::builder()
            .match_kind(MatchKind::Standard)
            .build(forms.iter().map(|form| form.as_slice()))
            .ok();
        let quick = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostFirst)
            .build(forms.iter().map(|form| form.as_slice()))
            .ok();
        let cookie = match &spec.inject {
            Inject::Cookie { name } => Some(name.clone()),
            _ => None,
        };
        Self {
            forms,
            search,
            quick,
            cookie,
        }
    }

    /// Whether there is nothing to look for.
    pub fn is_empty(&self) -> bool {
        self.forms.is_empty() && self.cookie.is_none()
    }

    /// Takes the credential out of fields. Gives how many it was in.
    pub fn fields(&self, fields: &mut HeaderMap) -> u64 {
        let mut masked = self.set_cookies(fields);
        for value in fields.values_mut() {
            let mut bytes = value.as_bytes().to_vec();
            if self.mask(&mut bytes) {
                masked += 1;
                // A mask is an asterisk, which a field may have.
                *value = HeaderValue::from_bytes(&bytes).unwrap_or(HeaderValue::from_static("*"));
            }
        }
        masked
    }

    /// Takes it out of a text that is whole. Gives whether it was in it.
    pub fn mask(&self, text: &mut [u8]) -> bool {
        let marks = self.marks(text);
        let mut any = false;
        for (byte, mark) in text.iter_mut().zip(marks) {
            if mark {
                *byte = MASK;
                any = true;
            }
        }
        any
    }

    /// A session that is the agent's own may be followed by another, which is as secret.
    fn set_cookies(&self, fields: &mut HeaderMap) -> u64 {
        let Some(name) = &self.cookie else {
            return 0;
        };
        let mut kept = Vec::new();
        let mut masked = 0;
        for value in fields.get_all(SET_COOKIE) {
            let pair = value.as_bytes().split(|byte| *byte == b';').next();
            let (set, _) = cookie::parted(pair.unwrap_or_default());
            if set.eq_ignore_ascii_case(name.as_bytes()) {
                masked += 1;
            } else {
                kept.push(value.clone());
            }
        }
        if masked > 0 {
            fields.remove(SET_COOKIE);
            for value in kept {
                fields.append(SET_COOKIE, value);
            }
        }
        masked
    }

    /// Which bytes are of the credential; empty: none.
    fn marks(&self, text: &[u8]) -> Vec<bool> {
        let none = self.quick.as_ref().is_some_and(|quick| !quick.is_match(text));
        if none {
            return Vec::new();
        }
        let mut marks = vec![false; text.len()];
        if let Some(search) = &self.search {
            // Overlapping: what one form leaves of another would be a part of the secret.
            for found in search.find_overlapping_iter(text) {
                if let Some(marks) = marks.get_mut(found.range()) {
                    marks.fill(true);
                }
            }
        }
        marks
    }

    /// What can be passed on of a body after `bytes` came. Held back is only what
    /// may be a beginning of it: an event that has none of it is not delayed.
    pub fn push(&self, kept: &mut Kept, bytes: &[u8]) -> Vec<u8> {
        let mut text = std::mem::take(&mut kept.bytes);
        let held = std::mem::take(&mut kept.marks);
        text.extend_from_slice(bytes);
        let mut marks = self.marks(&text);
        marks.resize(text.len(), false);
        for (mark, held) in marks.iter_mut().zip(held) {
            *mark |= held;
        }
        let begun = begun(&text, self.forms.iter().map(|form| form.as_slice()));
        let sent = text.len() - begun;
        kept.bytes = text.split_off(sent);
        kept.marks = marks.split_off(sent);
        for (byte, mark) in text.iter_mut().zip(marks) {
            if mark {
                *byte = MASK;
            }
        }
        text
    }

    /// As [`Self::push`], of bytes that go on as they are in most cases.
    pub fn pass(&self, kept: &mut Kept, bytes: Bytes) -> Bytes {
        let plain = kept.is_empty()
            && self.quick.as_ref().is_some_and(|quick| !quick.is_match(&bytes))
            && begun(&bytes, self.forms.iter().map(|form| form.as_slice())) == 0;
        if plain {
            return bytes;
        }
        self.push(kept, &bytes).into()
    }

    /// What is left of a body.
    pub fn finish(&self, kept: &mut Kept) -> Vec<u8> {
        let mut text = std::mem::take(&mut kept.bytes);
        for (byte, mark) in text.iter_mut().zip(std::mem::take(&mut kept.marks)) {
            if mark {
                *byte = MASK;
            }
        }
        text
    }
}

impl Kept {
    /// Bytes that are held back.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether nothing is.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

impl std::fmt::Debug for Echo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Echo")
    }
}

/// Length of the longest end of `text` that one of `forms` begins with, and is longer than.
pub(super) fn begun<'f>(text: &[u8], forms: impl IntoIterator<Item = &'f [u8]>) -> usize {
    forms
        .into_iter()
        .map(|form| {
            let most = form.len().saturating_sub(1).min(text.len());
            (1..=most)
                .rev()
                .find(|length| text.ends_with(form.get(..*length).unwrap_or_default()))
                .unwrap_or(0)
        })
        .max()
        .unwrap_or(0)
}

fn login(forms: &mut Vec<Zeroizing<Vec<u8>>>, user: &[u8], password: &Secret) {
    let login = Zeroizing::new([user, b":", password.expose()].concat());
    base64(forms, &login);
    // The header itself, as a page that shows what it was sent writes it.
    let sent = Zeroizing::new(STANDARD.encode(&*login));
    add(forms, sent.as_bytes());
}

/// Every form of `secret`.
fn add(forms: &mut Vec<Zeroizing<Vec<u8>>>, secret: &[u8]) {
    if secret.len() < LEAST_SECRET {
        return;
    }
    let mut form = |bytes: Vec<u8>| forms.push(Zeroizing::new(bytes));
    form(secret.to_vec());
    let mut encoded = String::with_capacity(secret.len() * 3);
    query::encode(&mut encoded, secret);
    form(lower_escapes(&encoded));
    form(encoded.replace("%20", "+").into_bytes());
    form(encoded.into_bytes());
    // What leaves more as it is than is usual.
    let mut light = String::with_capacity(secret.len() * 3);
    for byte in secret {
        if byte.is_ascii_graphic() && !b"%&#?+ \"<>".contains(byte) {
            light.push(char::from(*byte));
        } else {
            query::encode(&mut light, &[*byte]);
        }
    }
    form(light.into_bytes());
    form(hex::encode(secret).into_bytes());
    form(hex::encode_upper(secret).into_bytes());
    form(markup(secret));
    if let Ok(text) = std::str::from_utf8(secret) {
        let quoted = serde_json::Value::from(text).to_string();
        let bare = quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default();
        form(bare.replace('/', "\\/").into_bytes());
        form(unicode_escapes(bare, false).into_bytes());
        form(unicode_escapes(bare, true).into_bytes());
        form(bare.to_owned().into_bytes());
    }
    base64(forms, secret);
}

fn lower_escapes(encoded: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(encoded.len());
    let mut escape = 0;
    for byte in encoded.bytes() {
        out.push(if escape > 0 {
            byte.to_ascii_lowercase()
        } else {
            byte
        });
        escape = if byte == b'%' { 2 } else { i32::max(escape - 1, 0) };
    }
    out
}

/// JSON for markup: what HTML goes by is `\u003c`, and with `all` whatever is not ASCII too.
fn unicode_escapes(bare: &str, all: bool) -> String {
    let mut out = String::with_capacity(bare.len() * 2);
    for c in bare.chars() {
        if matches!(c, '<' | '>' | '&' | '\'' | '=' | '+') || (all && !c.is_ascii()) {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                // Writing to a text cannot fail.
                let _ = write!(out, "\\u{unit:04x}");
            }
        } else {
            out.push(c);
        }
    }
    out
}

/// As XML and HTML write it.
pub(super) fn markup(secret: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(secret.len() * 2);
    for byte in secret {
        match byte {
            b'&' => out.extend_from_slice(b"&amp;"),
            b'<' => out.extend_from_slice(b"&lt;"),
            b'>' => out.extend_from_slice(b"&gt;"),
            b'"' => out.extend_from_slice(b"&quot;"),
            b'\'' => out.extend_from_slice(b"&#39;"),
            byte => out.push(*byte),
        }
    }
    out
}

/// What is the same in base64 whatever stands before and behind: three places, two alphabets.
fn base64(forms: &mut Vec<Zeroizing<Vec<u8>>>, secret: &[u8]) {
    for before in 0..3_usize {
        let text = Zeroizing::new([&vec![0; before], secret].concat());
        // Six bits a letter: the first letters have bits of what stands before, the last may have of what follows.
        let first = (before * 8).div_ceil(6);
        let last = text.len() * 8 / 6;
        for alphabet in [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
            let encoded = Zeroizing::new(alphabet.encode(&*text));
            if let Some(form) = encoded.as_bytes().get(first..last)
                && form.len() >= LEAST_BASE64
            {
                forms.push(Zeroizing::new(form.to_vec()));
            }
        }
    }
}
