//! `orderflow serve`: the custom handler.

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use tokio::{net::TcpListener, sync::SetOnce};

use crate::{
    config::{self, PaymentProvider, Settings, StoreUrl},
    effects::{Simulated, Stripe},
    engine::{Effects, Engine, Swept, SystemClock},
    entra::{TokenCache, TokenError},
    handler,
    publish::{BatchingPublisher, Credential, EventGridPublisher, Publisher},
    store::{
        Store, StoreError,
        memory::MemoryStore,
        postgres::{PostgresStore, TOKEN_SCOPE},
        sqlite::SqliteStore,
    },
    telemetry,
};

/// Serves until SIGINT or SIGTERM.
///
/// # Errors
/// One line: a setting, the port or the store is at fault.
pub(super) async fn run(stop_with_stdin: bool) -> Result<(), String> {
    telemetry::init(&config::environment)?;
    let settings = Settings::read(&config::environment).map_err(|error| error.to_string())?;
    let address = (Ipv4Addr::LOCALHOST, settings.port);
    let listener = TcpListener::bind(address).await.map_err(|error| {
        format!(
            "FUNCTIONS_CUSTOMHANDLER_PORT: cannot listen on 127.0.0.1:{}: {error}",
            settings.port
        )
    })?;
    let signal = super::stop_signal()?;
    let end: BoxFuture<'static, ()> = if stop_with_stdin {
        Box::pin(super::end_of_stdin()?)
    } else {
        Box::pin(std::future::pending())
    };
    let stop = async move {
        tokio::select! {
            () = signal => {}
            () = end => {}
        }
    };
    // Listening comes first: the host polls the port, and a store may take its time to recover.
    let engine = Arc::new(SetOnce::new());
    let serving = handler::serve(listener, handler::router(engine.clone()), stop);
    let opening = async {
        let opened = engine_for(&settings).await?;
        let _ = engine.set(opened.clone());
        let (port, payments) = (settings.port, settings.payments.name());
        tracing::info!(port, payments, "ready");
        tokio::spawn(recover(opened));
        Ok::<(), String>(())
    };
    tokio::pin!(serving);
    tokio::select! {
        served = &mut serving => return served.map_err(|error| error.to_string()),
        opened = opening => opened?,
    }
    serving.await.map_err(|error| error.to_string())?;
    tracing::info!("stopped");
    Ok(())
}

/// Finishes what the process before this one left when it was killed. Another process may be at it too: whatever is
/// done twice is done under the same ids.
async fn recover(engine: Engine) {
    match engine.sweep(Duration::ZERO).await {
        Ok(Swept {
            finished: 0,
            pending: 0,
        }) => {}
        Ok(swept) => tracing::info!(
            finished = swept.finished,
            pending = swept.pending,
            "recovered what an earlier process left"
        ),
        Err(error) => tracing::warn!(%error, "could not look for what an earlier process left"),
    }
}

async fn engine_for(settings: &Settings) -> Result<Engine, String> {
    let store = open(settings).await?;
    let publisher = publisher(settings)?;
    let effects = effects(&settings.payments)?;
    let catalog = Arc::new(settings.catalog.clone());
    Ok(Engine::new(
        store,
        publisher,
        effects,
        Arc::new(SystemClock),
        catalog,
    ))
}

async fn open(settings: &Settings) -> Result<Arc<dyn Store>, String> {
    let line = |error: StoreError| error.to_string();
    match settings.store.clone() {
        StoreUrl::Memory => Ok(Arc::new(MemoryStore::default())),
        StoreUrl::Sqlite(path) => {
            let opening = tokio::task::spawn_blocking(move || SqliteStore::open(&path));
            let opened = opening.await.map_err(|error| error.to_string())?;
            Ok(Arc::new(opened.map_err(line)?))
        }
        StoreUrl::Postgres(address) => {
            let tokens = if address.needs_token() {
                Some(tokens(settings).map_err(|error| format!("STORE_URL: {error}"))?)
            } else {
                None
            };
            let opened = PostgresStore::open(*address, tokens).await;
            Ok(Arc::new(opened.map_err(line)?))
        }
    }
}

/// Tokens for the database.
fn tokens(settings: &Settings) -> Result<TokenCache, TokenError> {
    if settings.managed_identity {
        TokenCache::managed_identity(TOKEN_SCOPE, settings.identity_client.as_deref())
    } else {
        TokenCache::developer_tools(TOKEN_SCOPE)
    }
}

fn effects(payments: &PaymentProvider) -> Result<Arc<dyn Effects>, String> {
    match payments {
        PaymentProvider::Simulated => Ok(Arc::new(Simulated)),
        PaymentProvider::Stripe { api_base, api_key } => {
            let stripe = Stripe::new(api_base, api_key.reveal());
            Ok(Arc::new(stripe.map_err(|problem| {
                format!("PAYMENT_PROVIDER: {problem}")
            })?))
        }
    }
}

fn publisher(settings: &Settings) -> Result<Arc<dyn Publisher>, String> {
    let credential = match &settings.topic_key {
        Some(key) => Credential::access_key(key.reveal()),
        None if settings.managed_identity => {
            Credential::managed_identity(settings.identity_client.as_deref())
        }
        None => Credential::developer_tools(),
    };
    let setting = if settings.topic_key.is_some() {
        "EVENTGRID_TOPIC_KEY"
    } else {
        "Entra ID"
    };
    let credential = credential.map_err(|error| format!("{setting}: {error}"))?;
    let publisher = EventGridPublisher::new(settings.topic_endpoint.as_str(), credential)
        .map_err(|error| format!("EVENTGRID_TOPIC_ENDPOINT: {error}"))?;
    Ok(Arc::new(BatchingPublisher::new(Arc::new(publisher))))
}
