//! Who may publish: whoever shows an access key, a SAS token made with one, or a token of the local identity endpoint.

mod access_key;
mod identity;
mod sas;
mod tokens;

use axum::http::{HeaderMap, Uri, header::AUTHORIZATION};
use chrono::{DateTime, Utc};
use serde_json::json;
use url::form_urlencoded;

pub use self::access_key::DEVELOPMENT_KEY;
pub(super) use self::identity::routes as identity_routes;
use self::tokens::TokenIssuer;
use super::{admission::Refusal, subscriptions::SecureWebhook};

/// The audience that tokens for the topic are for.
const AUDIENCE: &str = "https://eventgrid.azure.net";

/// The role that the application of a secure webhook gives Event Grid.
const SUBSCRIBER: &str = "AzureEventGridSecureWebhookSubscriber";

/// Lets publishers in, and issues the tokens that some of them show.
#[derive(Debug)]
pub(super) struct Gate {
    issuer: TokenIssuer,
}

impl Gate {
    /// A gate whose tokens are good for as long as it lives.
    pub(super) fn new() -> Self {
        Self {
            issuer: TokenIssuer::new(),
        }
    }

    /// The token that Event Grid shows to the secure webhook of an application (Azure documentation, "Secure webhook
    /// delivery with Microsoft Entra ID"). None if it cannot be signed.
    pub(super) fn token_for(&self, webhook: &SecureWebhook, now: DateTime<Utc>) -> Option<String> {
        let more = [
            ("tid".to_owned(), json!(webhook.tenant)),
            ("roles".to_owned(), json!([SUBSCRIBER])),
        ];
        let more = more.into_iter().collect();
        self.issuer.issue_with(&webhook.application, more, now)
    }

    /// Checks what a request to a topic shows; `tokens_only` if the topic takes no keys. Event Grid looks for a key or a SAS
    /// token before it looks for a bearer token.
    ///
    /// # Errors
    /// What is wrong with it, or that there is nothing, without repeating it.
    pub(super) fn check(
        &self,
        headers: &HeaderMap,
        uri: &Uri,
        tokens_only: bool,
        now: DateTime<Utc>,
    ) -> Result<(), Refusal> {
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let in_query = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes())
            .find(|(name, _)| name == "aeg-sas-key");
        let authorization = headers
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split_once(' '));
        let sas = |token: &str| sas::verify(token, &address(headers, uri), now);
        let bearer = |scheme: &str| scheme.eq_ignore_ascii_case("Bearer");
        if tokens_only && !authorization.is_some_and(|(scheme, _)| bearer(scheme)) {
            return Err(Refusal::TokensOnly);
        }
        if tokens_only && let Some((_, token)) = authorization {
            self.issuer.verify(token, AUDIENCE, now)
        } else if let Some(key) =
            header("aeg-sas-key").or(in_query.as_ref().map(|(_, key)| key.as_ref()))
        {
            access_key::verify(key)
        } else if let Some(token) = header("aeg-sas-token") {
            sas(token)
        } else {
            match authorization {
                Some((scheme, token)) if scheme.eq_ignore_ascii_case("SharedAccessSignature") => {
                    sas(token)
                }
                Some((scheme, token)) if bearer(scheme) => self.issuer.verify(token, AUDIENCE, now),
                _ => Err("there is none"),
            }
        }
        .map_err(Refusal::Unauthorized)
    }
}

/// The address that was asked for, without scheme and query: as the publisher wrote it, so that a token for localhost
/// is not taken for one for 127.0.0.1.
fn address(headers: &HeaderMap, uri: &Uri) -> String {
    let host = headers
        .get("host")
        .and_then(|host| host.to_str().ok())
        .unwrap_or_default();
    format!("{}{}", host.to_ascii_lowercase(), uri.path())
}
