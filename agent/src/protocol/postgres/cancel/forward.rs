//! A `CancelRequest` to a target.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::flow::Stream;

use super::super::login::{LoginError, secure};
use super::super::startup::CANCEL_REQUEST;
use super::UpstreamCancel;

/// A cancel that takes longer than this has come too late anyway.
const PATIENCE: Duration = Duration::from_secs(10);

/// Tells the target to cancel, over `stream`, which is connected to [`UpstreamCancel::target`]; with TLS as the
/// service asks for. Returns when the target has taken it (it closes the connection).
pub async fn forward(stream: Stream, cancel: &UpstreamCancel) -> Result<(), LoginError> {
    let exchange = async {
        let mut stream = secure(stream, &cancel.target).await?;
        // At most 256 bytes of secret.
        let length = u32::try_from(cancel.key.secret.len() + 12).unwrap_or(u32::MAX);
        let request = [
            &length.to_be_bytes()[..],
            &CANCEL_REQUEST.to_be_bytes(),
            &cancel.key.process.to_be_bytes(),
            &cancel.key.secret,
        ]
        .concat();
        stream.write_all(&request).await.map_err(LoginError::Io)?;
        stream.flush().await.map_err(LoginError::Io)?;
        // It answers nothing. Under TLS it closes without a farewell, which is an error to read and none here.
        let _ = stream.read(&mut [0]).await;
        Ok(())
    };
    timeout(PATIENCE, exchange)
        .await
        .map_err(|_| LoginError::TooSlow(PATIENCE.as_secs()))?
}
