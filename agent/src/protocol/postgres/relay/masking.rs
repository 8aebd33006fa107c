//! What the machine asks of masks and of the classifier. Stated as traits so that the machine can be tested by itself.

use std::sync::Arc;

use crate::mask::{DetectStream, MaskId, Masked, Masks};
use crate::model::{ColumnName, ValueFormat, ValueType};
use crate::protocol::sql::{Batch, LexState};

/// The masks of a service; see [`Masks`], whose methods these are.
#[expect(missing_docs, reason = "each is the method of Masks of the same name")]
pub trait Masking {
    type Stream<'a>: MaskStream + std::fmt::Debug + Send
    where
        Self: 'a;

    fn is_empty(&self) -> bool;
    fn has_columns(&self) -> bool;
    fn has_detectors(&self) -> bool;
    fn column(&self, origin: &ColumnName) -> Option<MaskId>;
    fn may_mask(&self, table: Option<&str>, column: &str) -> Option<MaskId>;
    fn concerns_table(&self, schema: Option<&str>, table: &str) -> Option<MaskId>;
    fn derived(&self, id: MaskId) -> MaskId;
    fn mask(&self, id: MaskId, value: &[u8], ty: ValueType, format: ValueFormat, out: &mut Vec<u8>)
    -> Masked;
    fn detect(&self, value: &[u8], out: &mut Vec<u8>) -> u32;
    fn detect_json(&self, value: &[u8], out: &mut Vec<u8>) -> u32;
    fn stream(&self) -> Self::Stream<'_>;
}

/// Detectors over a value in pieces, which keep its length; see [`DetectStream`].
pub trait MaskStream {
    /// Takes the next piece and appends what is certain by now.
    fn push(&mut self, piece: &[u8], out: &mut Vec<u8>);
    /// Appends the rest; gives the number of hits.
    fn finish(self, out: &mut Vec<u8>) -> u32;
}

/// Classifies command texts. Expected to keep what it classified: the same text comes many times.
pub trait Classify {
    /// Classifies one text.
    fn classify(&mut self, text: &str, lex: LexState) -> Arc<Batch>;
}

impl<F: FnMut(&str, LexState) -> Arc<Batch>> Classify for F {
    fn classify(&mut self, text: &str, lex: LexState) -> Arc<Batch> {
        self(text, lex)
    }
}

impl Masking for Masks {
    type Stream<'a> = DetectStream<'a>;

    fn is_empty(&self) -> bool {
        Masks::is_empty(self)
    }

    fn has_columns(&self) -> bool {
        Masks::has_columns(self)
    }

    fn has_detectors(&self) -> bool {
        Masks::has_detectors(self)
    }

    fn column(&self, origin: &ColumnName) -> Option<MaskId> {
        Masks::column(self, origin)
    }

    fn may_mask(&self, table: Option<&str>, column: &str) -> Option<MaskId> {
        Masks::may_mask(self, table, column)
    }

    fn concerns_table(&self, schema: Option<&str>, table: &str) -> Option<MaskId> {
        Masks::concerns_table(self, schema, table)
    }

    fn derived(&self, id: MaskId) -> MaskId {
        Masks::derived(self, id)
    }

    fn mask(
        &self,
        id: MaskId,
        value: &[u8],
        ty: ValueType,
        format: ValueFormat,
        out: &mut Vec<u8>,
    ) -> Masked {
        Masks::mask(self, id, value, ty, format, out)
    }

    fn detect(&self, value: &[u8], out: &mut Vec<u8>) -> u32 {
        Masks::detect(self, value, out)
    }

    fn detect_json(&self, value: &[u8], out: &mut Vec<u8>) -> u32 {
        Masks::detect_json(self, value, out)
    }

    fn stream(&self) -> DetectStream<'_> {
        Masks::stream(self)
    }
}

impl MaskStream for DetectStream<'_> {
    fn push(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        DetectStream::push(self, piece, out);
    }

    fn finish(self, out: &mut Vec<u8>) -> u32 {
        DetectStream::finish(self, out)
    }
}
