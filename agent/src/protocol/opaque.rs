//! A protocol that is not understood: recorded and passed, by the policy's explicit choice.
//!
//! No verdict, no credential, no mask: a policy that names `opaque` says that the record alone is wanted.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::model::{Direction, FrameKind};

use super::{SessionEnd, Stages};

/// Bytes that are read at once, each way.
const CHUNK: usize = 64 * 1024;

/// Passes bytes both ways until both ends have closed, each recorded before it is forwarded.
pub async fn run<S: Stages>(mut client: TcpStream, stages: &mut S) -> Result<(), SessionEnd> {
    let mut server = stages.dial().await?;
    let mut ending = stages.ending();
    let (mut client_read, mut client_write) = client.split();
    let (mut server_read, mut server_write) = server.split();
    let mut up = Vec::with_capacity(CHUNK);
    let mut down = Vec::with_capacity(CHUNK);
    let (mut client_open, mut server_open) = (true, true);
    let (mut sent_up, mut sent_down) = (0, 0);
    while client_open || server_open {
        tokio::select! {
            end = &mut ending => return Err(end),
            read = client_read.read_buf(&mut up), if client_open && up.is_empty() => {
                if read.map_err(|error| SessionEnd::Client(error.to_string()))? == 0 {
                    client_open = false;
                    server_write.shutdown().await.ok();
                } else {
                    stages.record(FrameKind::ClientBytes, Direction::ToServer, &[&up])?;
                }
            }
            read = server_read.read_buf(&mut down), if server_open && down.is_empty() => {
                if read.map_err(|error| SessionEnd::Target(error.to_string()))? == 0 {
                    server_open = false;
                    client_write.shutdown().await.ok();
                } else {
                    stages.count(0, down.len() as u64)?;
                    stages.record(FrameKind::ServerBytes, Direction::ToClient, &[&down])?;
                }
            }
            wrote = server_write.write(up.get(sent_up..).unwrap_or_default()), if !up.is_empty() => {
                sent_up += wrote.map_err(|error| SessionEnd::Target(error.to_string()))?;
                if sent_up == up.len() {
                    up.clear();
                    sent_up = 0;
                }
            }
            wrote = client_write.write(down.get(sent_down..).unwrap_or_default()), if !down.is_empty() => {
                sent_down += wrote.map_err(|error| SessionEnd::Client(error.to_string()))?;
                if sent_down == down.len() {
                    down.clear();
                    sent_down = 0;
                }
            }
        }
    }
    Ok(())
}
