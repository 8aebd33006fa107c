//! Which machine reads which kind of body.

use std::sync::Arc;

use crate::mask::Masks;

use super::Transform;
use super::event_stream::EventStream;
use super::form::Form;
use super::json::Json;
use super::markup::Markup;
use super::media::Kind;
use super::sniff::Sniff;
use super::text::Text;

pub(super) fn transform(masks: &Arc<Masks>, kind: Kind) -> Box<dyn Transform> {
    let masks = Arc::clone(masks);
    match kind {
        Kind::Json => Box::new(Json::new(masks)),
        Kind::EventStream => Box::new(EventStream::new(masks)),
        Kind::Form => Box::new(Form::new(masks)),
        Kind::Markup => Box::new(Markup::new(masks)),
        Kind::Text => Box::new(Text::new(masks)),
        Kind::TextOrJson => Box::new(Sniff::new(masks, true)),
        Kind::Sniffed => Box::new(Sniff::new(masks, false)),
    }
}
