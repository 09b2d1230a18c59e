//! Where a store keeps its rows, so that it can be opened more than once.

use std::sync::Arc;

use orderflow::store::{
    Store,
    memory::MemoryStore,
    postgres::{Address, PostgresStore},
    sqlite::SqliteStore,
};
use tempfile::TempDir;

use crate::postgres_server::PostgresServer;

pub enum Place {
    Memory(Arc<MemoryStore>),
    Sqlite(TempDir),
    Postgres(String),
}

impl Place {
    pub fn memory() -> Self {
        Self::Memory(Arc::default())
    }

    pub fn sqlite() -> Self {
        Self::Sqlite(tempfile::tempdir().unwrap())
    }

    /// None where PostgreSQL is not installed.
    pub async fn postgres() -> Option<Self> {
        Some(Self::Postgres(PostgresServer::shared()?.database().await))
    }

    /// A store on it, as another instance would open it.
    pub async fn open(&self) -> Arc<dyn Store> {
        match self {
            Self::Memory(store) => store.clone(),
            Self::Sqlite(folder) => {
                let path = folder.path().join("orders.db");
                let opening = tokio::task::spawn_blocking(move || SqliteStore::open(&path));
                Arc::new(opening.await.unwrap().unwrap())
            }
            Self::Postgres(url) => Arc::new(open_postgres(url).await),
        }
    }
}

pub async fn open_postgres(url: &str) -> PostgresStore {
    PostgresStore::open(Address::parse(url).unwrap(), None)
        .await
        .unwrap()
}
