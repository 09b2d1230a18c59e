//! How the topic knows us: its access key, or a token of Entra ID.

use axum::http::{HeaderName, HeaderValue, header::AUTHORIZATION};

use crate::entra::{TokenCache, TokenError, sensitive};

/// The audience of Event Grid's data plane.
const SCOPE: &str = "https://eventgrid.azure.net/.default";

/// What proves to the topic that we may publish. `Debug` shows no secret.
#[derive(Debug)]
pub enum Credential {
    /// One of the topic's two access keys, as the header that carries it.
    AccessKey(HeaderValue),
    /// Tokens of Entra ID; the identity needs the role `EventGrid Data Sender` on the topic.
    Entra(TokenCache),
}

impl Credential {
    /// An access key of the topic.
    pub fn access_key(key: &str) -> Result<Credential, TokenError> {
        sensitive(key.trim().to_owned()).map(Credential::AccessKey)
    }

    /// The identity that the platform gives this process: the user-assigned one with this client id, or else the
    /// system-assigned one.
    pub fn managed_identity(client_id: Option<&str>) -> Result<Credential, TokenError> {
        TokenCache::managed_identity(SCOPE, client_id).map(Credential::Entra)
    }

    /// Whoever is logged in with `az` or `azd`.
    pub fn developer_tools() -> Result<Credential, TokenError> {
        TokenCache::developer_tools(SCOPE).map(Credential::Entra)
    }

    /// The header that goes with a request.
    pub(super) async fn header(&self) -> Result<(HeaderName, HeaderValue), TokenError> {
        match self {
            Credential::AccessKey(key) => Ok((HeaderName::from_static("aeg-sas-key"), key.clone())),
            Credential::Entra(tokens) => Ok((AUTHORIZATION, tokens.authorization().await?)),
        }
    }

    /// Whether it is worth asking again after 401: a token may have been revoked or replaced, a key stays as it is.
    pub(super) fn renew(&self, refused: &HeaderValue) -> bool {
        match self {
            Credential::AccessKey(_) => false,
            Credential::Entra(tokens) => {
                tokens.invalidate(refused);
                true
            }
        }
    }
}
