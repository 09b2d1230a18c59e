//! Where tokens are issued: the managed identity endpoint of App Service and Functions, and Entra ID's token endpoint.
//!
//! Every identity and every client is let in, as every developer on this machine is; what is checked is what a client can
//! get wrong.

use std::sync::Arc;

use axum::{
    Router,
    extract::{Query, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::Deserialize;
use serde_json::json;

use super::{Gate, access_key, tokens::LIFETIME};
use crate::dev::{ambient::now, body, json::Json};

/// The only version of the endpoint (Azure documentation, "How to use managed identities for App Service", REST protocol).
const API_VERSION: &str = "2019-08-01";

/// A form with a few short fields.
const MAXIMUM_FORM: usize = 16 * 1024;

pub(in crate::dev::grid) fn routes(gate: Arc<Gate>) -> Router {
    Router::new()
        .route("/msi/token", get(managed_identity))
        .route("/{tenant}/oauth2/v2.0/token", post(client_credentials))
        .route("/{tenant}/discovery/v2.0/keys", get(keys))
        .with_state(gate)
}

#[derive(Deserialize)]
struct Asked {
    #[serde(rename = "api-version")]
    api_version: Option<String>,
    resource: Option<String>,
}

/// What the SDKs ask where `IDENTITY_ENDPOINT` is set.
async fn managed_identity(
    State(gate): State<Arc<Gate>>,
    headers: HeaderMap,
    Query(asked): Query<Asked>,
) -> Response {
    let secret = headers
        .get("x-identity-header")
        .and_then(|value| value.to_str().ok());
    if secret.is_none_or(|secret| access_key::verify(secret).is_err()) {
        return refused(
            StatusCode::FORBIDDEN,
            "X-IDENTITY-HEADER must be the value of IDENTITY_HEADER",
        );
    }
    if asked.api_version.as_deref() != Some(API_VERSION) {
        return refused(StatusCode::BAD_REQUEST, "api-version must be 2019-08-01");
    }
    let Some(resource) = asked.resource else {
        return refused(
            StatusCode::BAD_REQUEST,
            "resource is missing, such as https://eventgrid.azure.net",
        );
    };
    let now = now();
    let Some(token) = gate.issuer.issue(&resource, now) else {
        return refused(StatusCode::INTERNAL_SERVER_ERROR, "no token can be signed");
    };
    Json(json!({
        "access_token": token,
        // A number of seconds in a string, as the real endpoint answers.
        "expires_on": (now + LIFETIME).timestamp().to_string(),
        "resource": resource,
        "token_type": "Bearer",
    }))
    .into_response()
}

fn refused(status: StatusCode, message: &str) -> Response {
    (
        status,
        Json(json!({ "statusCode": status.as_u16(), "message": message })),
    )
        .into_response()
}

/// OAuth 2.0 client credentials (RFC 6749, section 4.4), with Entra ID's `scope`: a resource and `/.default`.
async fn client_credentials(
    State(gate): State<Arc<Gate>>,
    request: axum::extract::Request,
) -> Response {
    let wrong = |error: &str, description: &str| {
        let body = json!({ "error": error, "error_description": description });
        (StatusCode::BAD_REQUEST, Json(body)).into_response()
    };
    let Ok(form) = body::read(request.into_body(), MAXIMUM_FORM).await else {
        return wrong("invalid_request", "the form did not come, or is too large");
    };
    let field = |wanted: &str| {
        url::form_urlencoded::parse(&form)
            .find(|(name, _)| name == wanted)
            .map(|(_, value)| value.into_owned())
    };
    if field("grant_type").as_deref() != Some("client_credentials") {
        return wrong(
            "unsupported_grant_type",
            "grant_type must be client_credentials",
        );
    }
    let scope = field("scope");
    let resource = scope
        .as_deref()
        .and_then(|scope| scope.strip_suffix("/.default"));
    let Some(resource) = resource else {
        return wrong(
            "invalid_scope",
            "scope must be a resource and /.default, such as https://eventgrid.azure.net/.default",
        );
    };
    let Some(token) = gate.issuer.issue(resource, now()) else {
        return wrong("server_error", "no token can be signed");
    };
    Json(json!({ "token_type": "Bearer", "expires_in": LIFETIME.num_seconds(), "access_token": token }))
        .into_response()
}

/// For those who want to check a token themselves.
async fn keys(State(gate): State<Arc<Gate>>) -> Response {
    Json(gate.issuer.public_keys()).into_response()
}
