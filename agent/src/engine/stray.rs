//! A connection that went around the proxy: ended, and the record says so.

use std::io;

use crate::identity::Identity;
use crate::model::{ClientAddr, Direction, FrameKind, OriginalDst, SessionId};
use crate::record::meta::{CloseMeta, ErrorMeta, Fault};

use super::session::{Host, Service, begin, open_meta};

/// A connection that went around the proxy.
#[derive(Clone, Debug)]
pub struct Stray {
    /// The workload's end.
    pub client: ClientAddr,
    /// What it was connected to.
    pub target: OriginalDst,
    /// How it came to be, one sentence.
    pub how: String,
}

/// Gives the connection a session record of its own and has `end` destroy it; `end` says whether it was still there.
/// False: it could not be destroyed.
///
/// It is destroyed also where it cannot be recorded: it carries bytes that nobody judges.
pub fn end_stray(
    host: &Host,
    service: &Service,
    identity: &Identity,
    stray: &Stray,
    end: impl FnOnce() -> io::Result<bool>,
) -> bool {
    let id = SessionId::new();
    let (client, target) = (stray.client.to_string(), stray.target.to_string());
    let meta = open_meta(id, host, service, (client, target), identity);
    let mut record = begin(host, id, &meta)
        .inspect_err(|why| {
            tracing::error!("a connection around the proxy is ended and cannot be recorded: {why}");
        })
        .ok();
    let found = ErrorMeta {
        fault: Fault::Policy,
        message: stray.how.clone(),
    };
    let mut note = |meta: &ErrorMeta| {
        let Some(record) = record.as_mut() else { return };
        let json = serde_json::json!(meta).to_string();
        if let Err(error) = record.append(FrameKind::Error, Direction::ToServer, &[json.as_bytes()]) {
            tracing::error!(session = %id, "the record of a connection around the proxy failed: {error}");
        }
    };
    note(&found);
    let ended = end();
    let over = ended.is_ok();
    let reason = match ended {
        Ok(true) => "the connection was destroyed: it went around the proxy".to_owned(),
        Ok(false) => "the connection had ended by itself".to_owned(),
        Err(error) => {
            let message = format!(
                "the connection could not be destroyed: {error}; what is sent on its socket may get through"
            );
            note(&ErrorMeta {
                fault: Fault::Agent,
                message: message.clone(),
            });
            message
        }
    };
    tracing::warn!(
        session = %id,
        workload = %service.workload,
        service = %service.name,
        client = %stray.client,
        identity = identity.summary(),
        "{}; {reason}",
        stray.how
    );
    let Some(record) = record else { return over };
    let totals = CloseMeta {
        reason,
        ..CloseMeta::default()
    };
    if let Err(error) = record.close(&serde_json::json!(totals)) {
        tracing::error!(session = %id, "the record could not be closed: {error}; the next start seals what it holds");
    }
    over
}
