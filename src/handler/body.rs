//! Reading bodies, within limits.

use axum::{
    body::{Body, Bytes},
    extract::Request,
    http::{HeaderMap, StatusCode, header},
};
use http_body_util::{BodyExt, LengthLimitError, Limited};

use super::problem::Problem;

/// The largest body that is read. Event Grid's limit is 1 MB for an event; the host sends its data twice and wraps
/// batches in a string, which escapes every quotation mark.
pub(super) const MAX_BODY: usize = 8 * 1024 * 1024;

/// The whole body, or what to answer.
pub(super) async fn read(headers: &HeaderMap, body: Body) -> Result<Bytes, Problem> {
    let declared = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse().ok());
    if declared.is_some_and(|length: usize| length > MAX_BODY) {
        return Err(too_large());
    }
    match Limited::new(body, MAX_BODY).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(too_large()),
        Err(error) => Err(Problem::new(
            StatusCode::BAD_REQUEST,
            "Body not readable",
            error.to_string(),
        )),
    }
}

/// The headers and the whole body, or what to answer.
pub(super) async fn split(request: Request) -> Result<(HeaderMap, Bytes), Problem> {
    let (parts, body) = request.into_parts();
    let bytes = read(&parts.headers, body).await?;
    Ok((parts.headers, bytes))
}

fn too_large() -> Problem {
    let detail = format!("the body must be at most {MAX_BODY} bytes");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "Body too large", detail)
}
