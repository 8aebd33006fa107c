//! A protocol that is not understood: recorded and passed, by the policy's explicit choice.
//!
//! No verdict, no credential, no mask: a policy that names `opaque` says that the record alone is wanted.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::flow::Stream;
use crate::model::{Direction, FrameKind};

use super::{SessionEnd, Stages};

/// Bytes that are read at once, each way.
const CHUNK: usize = 64 * 1024;

/// Passes bytes both ways until both ends have closed, each recorded before it is forwarded.
pub async fn run<S: Stages>(client: Stream, stages: &mut S) -> Result<(), SessionEnd> {
    let mut ending = stages.ending();
    let server = tokio::select! {
        end = &mut ending => return Err(end),
        dialled = stages.dial() => dialled?,
    };
    let (mut client_read, mut client_write) = tokio::io::split(client);
    let (mut server_read, mut server_write) = tokio::io::split(server);
    let (mut up, mut down) = (Way::default(), Way::default());
    while !(up.is_over() && down.is_over()) {
        stages.ready().await?;
        tokio::select! {
            end = &mut ending => return Err(end),
            moved = up.step(&mut client_read, &mut server_write), if !up.is_over() => {
                match moved.map_err(|error| SessionEnd::Client(error.to_string()))? {
                    Moved::In => stages.record(FrameKind::ClientBytes, Direction::ToServer, &[&up.bytes])?,
                    Moved::Out => {}
                }
            }
            moved = down.step(&mut server_read, &mut client_write), if !down.is_over() => {
                match moved.map_err(|error| SessionEnd::Target(error.to_string()))? {
                    Moved::In => {
                        stages.count(0, down.bytes.len() as u64)?;
                        stages.record(FrameKind::ServerBytes, Direction::ToClient, &[&down.bytes])?;
                    }
                    Moved::Out => {}
                }
            }
        }
    }
    Ok(())
}

/// One direction. What was read is recorded before any of it is written.
#[derive(Default)]
struct Way {
    bytes: Vec<u8>,
    written: usize,
    over: bool,
}

/// What a step did.
enum Moved {
    /// `bytes` were read and have to be recorded.
    In,
    /// Some of them were written, or the end was passed on.
    Out,
}

impl Way {
    fn is_over(&self) -> bool {
        self.over
    }

    /// Reads once or writes once. Safe to drop while it waits.
    async fn step<R, W>(&mut self, reader: &mut R, writer: &mut W) -> io::Result<Moved>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        if self.bytes.is_empty() {
            self.bytes.reserve(CHUNK);
            if reader.read_buf(&mut self.bytes).await? > 0 {
                return Ok(Moved::In);
            }
            self.over = true;
            // The other end may be gone already; that shows when it is read from.
            writer.shutdown().await.ok();
            return Ok(Moved::Out);
        }
        self.written += writer
            .write(self.bytes.get(self.written..).unwrap_or_default())
            .await?;
        if self.written == self.bytes.len() {
            self.bytes.clear();
            self.written = 0;
        }
        Ok(Moved::Out)
    }
}
