//! Connections to the database: made when they are needed, given up when they are of no more use.

use std::{sync::Arc, time::Duration};

use tokio::{task::JoinHandle, time::Instant};
use tokio_postgres::{Client, Error, error::SqlState};

use super::{
    address::Address,
    failure::{Failure, describe},
    statements::Statements,
    tls::Tls,
};
use crate::{
    back_off,
    entra::{TokenCache, token_in},
};

/// How long making a connection may take, all in all: whoever waits for it has a delivery's time.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// How long the first connection waits for a server that is away: it may be on its way back, and the host gives up a
/// handler that ends three times.
const START_LIMIT: Duration = Duration::from_secs(10);

/// What every connection is told. A commit is on disk before it is acknowledged, whatever the server's default. The
/// limits are shorter than a delivery may take: a client that has stopped in the middle of a transaction holds up the
/// others for no longer. Rows are found by key, so no plan may depend on how small a table was when it was made.
const SETTINGS: &str = "
    SELECT set_config('synchronous_commit', 'on', false)
        WHERE current_setting('synchronous_commit') IN ('off', 'local');
    SET lock_timeout = '4s';
    SET statement_timeout = '8s';
    SET idle_in_transaction_session_timeout = '8s';
    SET client_min_messages = warning;
    SET plan_cache_mode = force_generic_plan;
    SET enable_seqscan = off;
    SET enable_hashjoin = off;
    SET enable_mergejoin = off;
    SET jit = off";

/// A way to the database.
pub(super) struct Gateway {
    address: Address,
    tls: Tls,
    tokens: Option<TokenCache>,
}

impl Gateway {
    /// A way to an address, with tokens if it needs them.
    pub(super) fn new(address: Address, tokens: Option<TokenCache>) -> Result<Self, String> {
        let tls = Tls::new(address.encryption).map_err(|error| error.to_string())?;
        Ok(Self {
            address,
            tls,
            tokens,
        })
    }

    /// The first connection: waits for a server that is away, for a while. One that lets us not in is not asked again.
    pub(super) async fn first_connection(&self) -> Result<Connection, String> {
        let give_up = Instant::now() + START_LIMIT;
        let mut failures = 0;
        loop {
            let reason = match self.connect().await {
                Ok(connection) => return Ok(connection),
                Err(Failure::Lost(reason)) if Instant::now() < give_up => reason,
                Err(failure) => return Err(failure.into_reason()),
            };
            if failures == 0 {
                tracing::warn!(reason, "the database is away; waiting for it");
            }
            // It is not to be kept waiting for seconds once it is back.
            failures = (failures + 1).min(4);
            tokio::time::sleep(back_off::jittered(failures)).await;
        }
    }

    /// A new connection, or why there is none: [`Failure::Lost`] if there may be one in a moment.
    pub(super) async fn connect(&self) -> Result<Connection, Failure> {
        let late = || Failure::Lost(format!("no connection within {CONNECT_LIMIT:?}"));
        tokio::time::timeout(CONNECT_LIMIT, self.try_connect())
            .await
            .unwrap_or_else(|_| Err(late()))
    }

    async fn try_connect(&self) -> Result<Connection, Failure> {
        let mut config = self.address.config.clone();
        let tokens = self.tokens.as_ref().filter(|_| self.address.needs_token());
        let token = match tokens {
            Some(tokens) => Some(tokens.authorization().await.map_err(no_token)?),
            None => None,
        };
        if let Some(token) = &token {
            config.password(token_in(token).map_err(no_token)?);
        }
        let connected = config.connect(self.tls.clone()).await;
        let (client, connection) = connected.map_err(|error| {
            if let (Some(tokens), Some(token)) = (tokens, &token)
                && is_refusal(&error)
            {
                tokens.invalidate(token);
            }
            Failure::of_connecting(error)
        })?;
        // How a connection ends is told to those who wait for an answer.
        let driver = tokio::spawn(async move { drop(connection.await) });
        let connection = Connection { client, driver };
        connection.client.batch_execute(SETTINGS).await?;
        Ok(connection)
    }
}

fn no_token(error: impl std::fmt::Display) -> Failure {
    Failure::Refused(error.to_string())
}

/// Whether the server lets us not in for who we are: another token may do.
fn is_refusal(error: &Error) -> bool {
    let code = error.code();
    code == Some(&SqlState::INVALID_PASSWORD)
        || code == Some(&SqlState::INVALID_AUTHORIZATION_SPECIFICATION)
}

/// A connection, which ends when it is dropped, even if the server no longer answers.
pub(super) struct Connection {
    pub(super) client: Client,
    driver: JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// A connection whose statements are prepared.
pub(super) struct Session {
    pub(super) connection: Connection,
    pub(super) statements: Statements,
}

impl Session {
    /// Prepares the statements; the schema must be there.
    async fn prepare(connection: Connection) -> Result<Self, String> {
        let statements = Statements::prepare(&connection.client);
        let statements = tokio::time::timeout(CONNECT_LIMIT, statements)
            .await
            .map_err(|_| format!("no answer within {CONNECT_LIMIT:?}"))?
            .map_err(|error| describe(&error))?;
        Ok(Self {
            connection,
            statements,
        })
    }

    /// The client.
    pub(super) fn client(&self) -> &Client {
        &self.connection.client
    }
}

/// One place in the pool: a session, made when it is needed.
pub(super) struct Link {
    gateway: Arc<Gateway>,
    session: Option<Arc<Session>>,
    failures: u32,
    /// Before then, no new connection is tried.
    closed_until: Option<(Instant, String)>,
}

impl Link {
    pub(super) fn new(gateway: Arc<Gateway>) -> Self {
        Self {
            gateway,
            session: None,
            failures: 0,
            closed_until: None,
        }
    }

    /// Takes over a connection to a database whose schema is there.
    pub(super) async fn with(mut self, connection: Connection) -> Result<Self, String> {
        self.session = Some(Arc::new(Session::prepare(connection).await?));
        Ok(self)
    }

    /// The session, a new one if there is none. While the server is away this fails at once, between one try and the next.
    pub(super) async fn session(&mut self) -> Result<Arc<Session>, String> {
        if let Some(session) = self
            .session
            .as_ref()
            .filter(|session| !session.client().is_closed())
        {
            return Ok(session.clone());
        }
        if let Some((until, reason)) = &self.closed_until
            && Instant::now() < *until
        {
            return Err(reason.clone());
        }
        let opened = async {
            let connection = self.gateway.connect().await;
            Session::prepare(connection.map_err(Failure::into_reason)?).await
        };
        match opened.await {
            Ok(session) => {
                if self.failures > 0 {
                    tracing::info!("the database is back");
                }
                (self.failures, self.closed_until) = (0, None);
                Ok(self.session.insert(Arc::new(session)).clone())
            }
            Err(reason) => {
                if self.failures == 0 {
                    tracing::warn!(reason, "the database is away");
                }
                self.session = None;
                self.failures = self.failures.saturating_add(1);
                let until = Instant::now() + back_off::jittered(self.failures);
                self.closed_until = Some((until, reason.clone()));
                Err(reason)
            }
        }
    }

    /// Gives the session up: the next one who needs one gets a new one.
    pub(super) fn give_up(&mut self) {
        self.session = None;
    }
}
