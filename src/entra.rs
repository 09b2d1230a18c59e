//! Tokens of Entra ID: where they come from, and a cache that keeps one at hand.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::http::HeaderValue;
use azure_core::{
    credentials::TokenCredential,
    http::{ClientOptions, RetryOptions, Transport},
    time::OffsetDateTime,
};
use azure_identity::{
    DeveloperToolsCredential, ManagedIdentityCredential, ManagedIdentityCredentialOptions,
    UserAssignedId,
};
use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use tokio::time::Instant;

use crate::http_client;

/// The identity endpoint is on the same machine. Left to itself, the SDK would try for more than a minute.
const MANAGED_IDENTITY_LIMIT: Duration = Duration::from_secs(5);

/// `az` and `azd` are processes that take a second or two to start.
const DEVELOPER_TOOLS_LIMIT: Duration = Duration::from_secs(15);

/// Tokens live for an hour or a day. One that claims more is asked for again after this time.
const LONGEST_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// What goes before a token in the header.
const SCHEME: &str = "Bearer ";

/// A token and how long it is good for. `Debug` does not show it.
#[derive(Debug, Clone)]
pub struct Token {
    authorization: HeaderValue,
    lifetime: Duration,
}

impl Token {
    /// A token as it goes behind `Bearer`.
    pub fn new(secret: &str, lifetime: Duration) -> Result<Token, TokenError> {
        let authorization = sensitive(format!("{SCHEME}{secret}"))?;
        Ok(Token {
            authorization,
            lifetime: lifetime.min(LONGEST_LIFETIME),
        })
    }
}

/// A header's value that is not shown.
pub(crate) fn sensitive(value: String) -> Result<HeaderValue, TokenError> {
    // Neither the value nor the error of the conversion may be shown.
    let mut value = HeaderValue::try_from(value)
        .map_err(|_| TokenError::new("expected printable ASCII, came other characters"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// The token in a value of `Authorization`, for where it serves as a password.
pub(crate) fn token_in(authorization: &HeaderValue) -> Result<&str, TokenError> {
    let value = authorization.to_str().ok();
    value
        .and_then(|value| value.strip_prefix(SCHEME))
        .ok_or_else(|| TokenError::new("expected printable ASCII, came other characters"))
}

/// Why there is no token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no credential: {0}")]
pub struct TokenError(String);

impl TokenError {
    /// An error that says `reason`, or as much of it as fits on a few lines.
    pub fn new(reason: impl fmt::Display) -> TokenError {
        TokenError(reason.to_string().chars().take(500).collect())
    }
}

impl From<azure_core::Error> for TokenError {
    fn from(error: azure_core::Error) -> TokenError {
        TokenError::new(error)
    }
}

/// Where tokens come from.
pub trait TokenSource: Send + Sync + 'static {
    /// Fetches a new token. The future may be dropped at any time.
    fn acquire(&self) -> BoxFuture<'_, Result<Token, TokenError>>;
}

struct ManagedIdentity {
    client: reqwest::Client,
    scope: &'static str,
    /// Which user-assigned identity; the system-assigned one if there is none.
    user_assigned: Option<UserAssignedId>,
}

impl TokenSource for ManagedIdentity {
    fn acquire(&self) -> BoxFuture<'_, Result<Token, TokenError>> {
        // A credential object keeps its token until five minutes before the end, even one that was refused, so
        // each acquisition takes a fresh object. Only the connections are shared.
        let options = ManagedIdentityCredentialOptions {
            user_assigned_id: self.user_assigned.clone(),
            client_options: ClientOptions {
                transport: Some(Transport::new(Arc::new(self.client.clone()))),
                retry: RetryOptions::none(),
                ..ClientOptions::default()
            },
        };
        async move {
            let credential = ManagedIdentityCredential::new(Some(options))?;
            token_of(credential.as_ref(), self.scope).await
        }
        .boxed()
    }
}

struct DeveloperTools {
    credential: Arc<DeveloperToolsCredential>,
    scope: &'static str,
}

impl TokenSource for DeveloperTools {
    fn acquire(&self) -> BoxFuture<'_, Result<Token, TokenError>> {
        token_of(self.credential.as_ref(), self.scope).boxed()
    }
}

async fn token_of(
    credential: &dyn TokenCredential,
    scope: &'static str,
) -> Result<Token, TokenError> {
    let token = credential.get_token(&[scope], None).await?;
    let lifetime = token.expires_on - OffsetDateTime::now_utc();
    let lifetime = Duration::try_from(lifetime).map_err(|_| {
        TokenError::new("the token that came has expired already; is the clock right?")
    })?;
    Token::new(token.token.secret(), lifetime)
}

/// Keeps a token at hand.
///
/// At half of its life a new one is fetched in the background, while the old one goes on being served until its very
/// end: a failing token service is noticed only if it fails for half a token's life. At most one acquisition runs at a
/// time; callers who have nothing to go on with wait for it together, and it goes on without those who leave.
#[derive(Clone)]
pub struct TokenCache {
    inner: Arc<Inner>,
}

struct Inner {
    source: Box<dyn TokenSource>,
    limit: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    held: Option<Held>,
    acquisition: Option<Acquisition>,
}

struct Held {
    authorization: HeaderValue,
    refresh_at: Instant,
    expires_at: Instant,
}

type Acquisition = Shared<BoxFuture<'static, Result<HeaderValue, TokenError>>>;

impl TokenCache {
    /// A cache over `source`, whose every acquisition is given up after `limit`.
    pub fn new(source: impl TokenSource, limit: Duration) -> TokenCache {
        let inner = Inner {
            source: Box::new(source),
            limit,
            state: Mutex::default(),
        };
        TokenCache {
            inner: Arc::new(inner),
        }
    }

    /// The identity that the platform gives this process, where it sets `IDENTITY_ENDPOINT` (which the SDK reads
    /// itself): the user-assigned one with this client id, or else the system-assigned one. `scope` is the audience of
    /// the tokens with `/.default` behind it.
    pub fn managed_identity(
        scope: &'static str,
        client_id: Option<&str>,
    ) -> Result<TokenCache, TokenError> {
        // The endpoint is on this machine, so no proxy.
        let client = http_client::builder()
            .no_proxy()
            .build()
            .map_err(TokenError::new)?;
        let source = ManagedIdentity {
            client,
            scope,
            user_assigned: client_id.map(|id| UserAssignedId::ClientId(id.to_owned())),
        };
        Ok(TokenCache::new(source, MANAGED_IDENTITY_LIMIT))
    }

    /// Whoever is logged in with `az` or `azd`.
    pub fn developer_tools(scope: &'static str) -> Result<TokenCache, TokenError> {
        let credential = DeveloperToolsCredential::new(None)?;
        let source = DeveloperTools { credential, scope };
        Ok(TokenCache::new(source, DEVELOPER_TOOLS_LIMIT))
    }

    /// The value of `Authorization`, at once while a token is valid, else as soon as one has come.
    pub async fn authorization(&self) -> Result<HeaderValue, TokenError> {
        let acquisition = {
            let mut state = self.inner.state();
            let now = Instant::now();
            match state.held.as_ref().filter(|held| now < held.expires_at) {
                Some(held) => {
                    let authorization = held.authorization.clone();
                    if now >= held.refresh_at {
                        // It runs by itself; nobody has to wait for it.
                        drop(self.acquisition(&mut state));
                    }
                    return Ok(authorization);
                }
                None => self.acquisition(&mut state),
            }
        };
        acquisition.await
    }

    /// Forgets a token that was refused, unless another one has come meanwhile.
    pub fn invalidate(&self, refused: &HeaderValue) {
        self.inner
            .state()
            .held
            .take_if(|held| held.authorization == refused);
    }

    /// The acquisition that is under way, or else a new one.
    fn acquisition(&self, state: &mut State) -> Acquisition {
        // One that has ended and is still there ended in a panic.
        if let Some(running) = state
            .acquisition
            .as_ref()
            .filter(|running| running.peek().is_none())
        {
            return running.clone();
        }
        let inner = Arc::clone(&self.inner);
        let task = tokio::spawn(async move { inner.acquire().await });
        let acquisition = task
            .map(|outcome| {
                outcome.unwrap_or_else(|_| Err(TokenError::new("the acquisition broke off")))
            })
            .boxed()
            .shared();
        state.acquisition = Some(acquisition.clone());
        acquisition
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn acquire(&self) -> Result<HeaderValue, TokenError> {
        let started = Instant::now();
        let acquired = tokio::time::timeout(self.limit, self.source.acquire())
            .await
            .unwrap_or_else(|_| {
                Err(TokenError::new(format_args!(
                    "none came within {:?}",
                    self.limit
                )))
            });
        let mut state = self.state();
        state.acquisition = None;
        match acquired {
            Ok(Token {
                authorization,
                lifetime,
            }) => {
                state.held = Some(Held {
                    authorization: authorization.clone(),
                    refresh_at: started + lifetime / 2,
                    expires_at: started + lifetime,
                });
                Ok(authorization)
            }
            Err(error) => {
                tracing::warn!(%error, "could not get a token");
                if let Some(held) = &mut state.held {
                    let now = Instant::now();
                    held.refresh_at = now + held.expires_at.saturating_duration_since(now) / 2;
                }
                Err(error)
            }
        }
    }
}

impl fmt::Debug for TokenCache {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("TokenCache").finish_non_exhaustive()
    }
}
