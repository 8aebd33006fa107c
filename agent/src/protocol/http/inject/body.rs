//! What is done to the body of a request.

use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http::request::Parts;
use zeroize::Zeroizing;

use crate::config::HttpCredential;
use crate::model::Material;

use super::sigv4::ChunkSigner;
use super::{InjectError, query, usable};

/// What has to be done to a body: bytes in, bytes out.
#[derive(Debug)]
pub enum BodyWork {
    /// Nothing.
    None,
    /// A placeholder is replaced.
    Replace(Replacer),
    /// Its chunks are signed again.
    Sign(Box<ChunkSigner>),
}

/// Replaces a placeholder.
#[derive(Debug)]
pub struct Replacer {
    placeholder: Vec<u8>,
    secret: Zeroizing<Vec<u8>>,
    /// The beginning of what may be the placeholder.
    kept: Vec<u8>,
}

impl BodyWork {
    /// Whether nothing has to be done.
    pub fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }

    /// Whether the body is as long as it was.
    pub fn keeps_length(&self) -> bool {
        match self {
            Self::None | Self::Sign(_) => true,
            Self::Replace(replacer) => replacer.secret.len() == replacer.placeholder.len(),
        }
    }

    /// What can be sent after `bytes` came.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<u8>, InjectError> {
        match self {
            Self::None => Ok(bytes.to_vec()),
            Self::Replace(replacer) => Ok(replacer.push(bytes)),
            Self::Sign(signer) => signer.push(bytes),
        }
    }

    /// What is left to be sent.
    pub fn finish(&mut self) -> Result<Vec<u8>, InjectError> {
        match self {
            Self::None => Ok(Vec::new()),
            Self::Replace(replacer) => Ok(std::mem::take(&mut replacer.kept)),
            Self::Sign(signer) => signer.finish(),
        }
    }
}

/// What has to be done to the body of `parts` for the placeholder of `spec`. A body that is compressed is left as it is: the
/// placeholder is worthless.
pub(super) fn replacing(
    parts: &mut Parts,
    spec: &HttpCredential,
    material: &Material,
) -> Result<BodyWork, InjectError> {
    let Some(placeholder) = spec.placeholder.as_ref() else {
        return Ok(BodyWork::None);
    };
    let plain = parts
        .headers
        .get_all(CONTENT_ENCODING)
        .iter()
        .all(|coding| coding.as_bytes().eq_ignore_ascii_case(b"identity"));
    if !spec.replaces_in_body(parts.uri.path()) || !plain {
        return Ok(BodyWork::None);
    }
    let secret = match material {
        Material::Token(token) => usable(token)?,
        Material::Login { password, .. } => usable(password)?,
        Material::Key { .. } | Material::Aws(_) => {
            return Err(InjectError::NoFit {
                given: material.what(),
                inject: "placeholder",
            });
        }
    };
    let media = parts.headers.get(CONTENT_TYPE).map(http::HeaderValue::as_bytes);
    let work = BodyWork::Replace(Replacer {
        placeholder: placeholder.text.clone().into_bytes(),
        secret: written(media.unwrap_or_default(), secret)?,
        kept: Vec::new(),
    });
    if !work.keeps_length() {
        parts.headers.remove(CONTENT_LENGTH);
    }
    Ok(work)
}

/// The secret as a body of this media type writes it.
fn written(media: &[u8], secret: &[u8]) -> Result<Zeroizing<Vec<u8>>, InjectError> {
    let media = media.split(|byte| *byte == b';').next().unwrap_or_default();
    let media = media.trim_ascii().to_ascii_lowercase();
    if media == b"application/x-www-form-urlencoded" {
        let mut text = String::with_capacity(secret.len() * 3);
        query::encode(&mut text, secret);
        return Ok(Zeroizing::new(text.into_bytes()));
    }
    let no_text = |_| InjectError::Body {
        why: "the credential is no text, which a body of its kind needs",
    };
    if media.ends_with(b"json") {
        let text = std::str::from_utf8(secret).map_err(no_text)?;
        let quoted = Zeroizing::new(serde_json::Value::from(text).to_string().into_bytes());
        let bare = quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default();
        return Ok(Zeroizing::new(bare.to_vec()));
    }
    if media.ends_with(b"xml") {
        return Ok(Zeroizing::new(super::echo::markup(secret)));
    }
    Ok(Zeroizing::new(secret.to_vec()))
}

impl Replacer {
    fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut text = std::mem::take(&mut self.kept);
        text.extend_from_slice(bytes);
        let mut out = Vec::with_capacity(text.len() + self.secret.len());
        let mut done = 0;
        for at in memchr::memmem::find_iter(&text, &self.placeholder) {
            out.extend_from_slice(text.get(done..at).unwrap_or_default());
            out.extend_from_slice(&self.secret);
            done = at + self.placeholder.len();
        }
        let rest = text.get(done..).unwrap_or_default();
        let kept = super::echo::begun(rest, [self.placeholder.as_slice()]);
        let (sent, kept) = rest.split_at(rest.len() - kept);
        out.extend_from_slice(sent);
        self.kept = kept.to_vec();
        out
    }
}
