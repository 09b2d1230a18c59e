//! Reading bodies, within limits.

use axum::{
    body::{Body, Bytes},
    extract::Request,
    http::{HeaderMap, StatusCode},
};
use bytes::BytesMut;
use http_body_util::BodyExt;

use super::problem::Problem;

/// The largest body that is read. Event Grid's limit is 1 MB for an event; the host sends its data twice and wraps
/// batches in a string, which escapes every quotation mark.
pub(super) const MAX_BODY: usize = 8 * 1024 * 1024;

/// How much of a body that is too large is read and thrown away, so that its sender gets to hear why: an answer in the
/// middle of a request is lost to many clients.
const MAX_DISCARDED: usize = 64 * 1024 * 1024;

/// The whole body, or what to answer.
pub(super) async fn read(mut body: Body) -> Result<Bytes, Problem> {
    let mut read = BytesMut::new();
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            Problem::new(
                StatusCode::BAD_REQUEST,
                "Body not readable",
                error.to_string(),
            )
        })?;
        let data = frame.into_data().unwrap_or_default();
        length += data.len();
        if length > MAX_DISCARDED {
            break;
        }
        if length <= MAX_BODY {
            read.extend_from_slice(&data);
        }
    }
    if length > MAX_BODY {
        return Err(too_large());
    }
    Ok(read.freeze())
}

/// The headers and the whole body, or what to answer.
pub(super) async fn split(request: Request) -> Result<(HeaderMap, Bytes), Problem> {
    let (parts, body) = request.into_parts();
    let bytes = read(body).await?;
    Ok((parts.headers, bytes))
}

fn too_large() -> Problem {
    let detail = format!("the body must be at most {MAX_BODY} bytes");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "Body too large", detail)
}
