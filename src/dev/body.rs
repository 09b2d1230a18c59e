//! Reading request bodies within limits.

use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;

/// How long a sender may take to send its body. On the loopback interface even a megabyte takes milliseconds.
const READING: Duration = Duration::from_secs(30);

/// How much of a body that is too large is read and thrown away, so that its sender gets to read the answer
/// instead of a reset connection.
const THROWN_AWAY: usize = 16 * 1024 * 1024;

/// Why a body could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum BodyError {
    /// The body is larger than the limit.
    #[error("the body is larger than {0} bytes")]
    TooLarge(usize),
    /// The sender broke off or was too slow.
    #[error("the body did not arrive whole within 30 seconds")]
    Incomplete,
}

/// Reads a body of at most `limit` bytes.
pub(super) async fn read(body: Body, limit: usize) -> Result<Bytes, BodyError> {
    tokio::time::timeout(READING, read_frames(body, limit))
        .await
        .unwrap_or(Err(BodyError::Incomplete))
}

async fn read_frames(mut body: Body, limit: usize) -> Result<Bytes, BodyError> {
    let mut whole = BytesMut::new();
    let mut received: usize = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| BodyError::Incomplete)?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        received = received.saturating_add(data.len());
        if received <= limit {
            whole.extend_from_slice(&data);
        } else if received > limit.saturating_add(THROWN_AWAY) {
            break;
        }
    }
    if received > limit {
        Err(BodyError::TooLarge(limit))
    } else {
        Ok(whole.freeze())
    }
}
