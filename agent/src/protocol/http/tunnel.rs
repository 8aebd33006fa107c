//! What a connection was upgraded to: bytes both ways, each recorded before it is passed on.
//!
//! Known limit: the messages of a WebSocket are recorded as the bytes that they come in, and are neither judged nor masked one by
//! one: a service with masks refuses upgrades.

use std::sync::Arc;

use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};

use crate::model::Direction;
use crate::protocol::Stages;

use super::record::{self, Part};
use super::session::Link;

/// Bytes that are passed at once: one frame of the record.
const CHUNK: usize = 64 * 1024 - record::HEADER;

/// Passes bytes both ways until one side has closed, and the other has been told.
pub(super) async fn run<S: Stages + 'static>(
    link: &Arc<Link<S>>,
    number: u64,
    client: OnUpgrade,
    target: OnUpgrade,
) {
    let (Ok(client), Ok(target)) = (client.await, target.await) else {
        // Whichever connection failed has ended its side of the session.
        return;
    };
    let (from_client, to_client) = tokio::io::split(TokioIo::new(client));
    let (from_target, to_target) = tokio::io::split(TokioIo::new(target));
    tokio::join!(
        pass(link, number, Direction::ToServer, from_client, to_target),
        pass(link, number, Direction::ToClient, from_target, to_client),
    );
}

async fn pass<S: Stages + 'static>(
    link: &Arc<Link<S>>,
    number: u64,
    direction: Direction,
    mut from: ReadHalf<TokioIo<Upgraded>>,
    mut to: WriteHalf<TokioIo<Upgraded>>,
) {
    let mut chunk = vec![0; CHUNK];
    while let Ok(length @ 1..) = from.read(&mut chunk).await {
        let bytes = chunk.get(..length).unwrap_or_default();
        let room = link.stages.ready().await;
        let recorded = room.and_then(|()| link.record(direction, (number, Part::Tunnel, false), bytes));
        if link.check(recorded).is_err() || to.write_all(bytes).await.is_err() {
            break;
        }
    }
    // The other side may be gone already; that shows when it is read from.
    to.shutdown().await.ok();
    link.check(link.record(direction, (number, Part::Tunnel, true), b""))
        .ok();
}
