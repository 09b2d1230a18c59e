//! The schema, and how a database gets it.
//!
//! Each migration is a file that stays as it is once it has been released. While instances are replaced one by one,
//! those of the version before still run on the new schema, so a migration only adds what they can do without.

use tokio_postgres::{Client, Error};

use super::failure::describe;
use crate::store::{Schema, StoreError};

/// The migrations in order; the schema's version is how many of them a database has had.
const MIGRATIONS: [&str; 1] = [include_str!("migrations/0001_initial.sql")];

/// The lock under which a database is migrated: any number that nobody else uses.
const LOCK: i64 = 0x6f72_6465_7266_6c6f;

/// Asked of the catalogue's tables: the server's functions for it answer out of a cache, which may not have heard yet
/// of what another instance did a moment ago.
const SCHEMA_EXISTS: &str =
    "SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = 'orderflow')";
const TABLE_EXISTS: &str = "SELECT EXISTS (SELECT FROM pg_catalog.pg_tables
    WHERE schemaname = 'orderflow' AND tablename = 'migrations')";

const VERSION: &str = "SELECT coalesce(max(version), 0) FROM orderflow.migrations";

/// Brings the schema up to date. Of several instances that start together, one does it and the others wait.
pub(super) async fn migrate(client: &mut Client) -> Result<(), StoreError> {
    let failed =
        |error: Error| StoreError::Open(format!("cannot set up the schema: {}", describe(&error)));
    if pending(version(client).await.map_err(failed)?)?.is_empty() {
        return Ok(());
    }
    let transaction = client.transaction().await.map_err(failed)?;
    // Another instance may take its time over a large table.
    transaction
        .batch_execute("SET LOCAL lock_timeout = 0; SET LOCAL statement_timeout = 0")
        .await
        .map_err(failed)?;
    transaction
        .execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK])
        .await
        .map_err(failed)?;
    let version = version(transaction.client()).await.map_err(failed)?;
    for (number, migration) in (version + 1..).zip(pending(version)?) {
        run(transaction.client(), number, migration)
            .await
            .map_err(failed)?;
    }
    transaction.commit().await.map_err(failed)
}

/// Which version the schema has, and whether it could be made if there is none.
pub(super) async fn probe(client: &Client) -> Result<Schema, StoreError> {
    const ABOUT: &str = "SELECT current_setting('server_version'), current_database(),
        has_database_privilege(current_database(), 'CREATE')";
    let failed =
        |error: Error| StoreError::Open(format!("cannot look at the schema: {}", describe(&error)));
    let about = client.query_one(ABOUT, &[]).await.map_err(failed)?;
    let column = |index| about.try_get::<_, String>(index).map_err(failed);
    let (server, database) = (column(0)?, column(1)?);
    let may_create: bool = about.try_get(2).map_err(failed)?;
    let version = version(client).await.map_err(failed)?;
    let has = MIGRATIONS.len() - pending(version)?.len();
    let exists = client.query_one(SCHEMA_EXISTS, &[]).await;
    let exists: bool = exists.and_then(|row| row.try_get(0)).map_err(failed)?;
    if !exists && !may_create {
        return Err(StoreError::Open(format!(
            "there is no schema orderflow in the database {database}, and this user may not make it;              GRANT CREATE ON DATABASE {database} TO the user, or make the schema for it"
        )));
    }
    Ok(Schema {
        at: format!("PostgreSQL {server}, database {database}"),
        has,
        known: MIGRATIONS.len(),
    })
}

async fn version(client: &Client) -> Result<i32, Error> {
    if !client.query_one(TABLE_EXISTS, &[]).await?.try_get(0)? {
        return Ok(0);
    }
    client.query_one(VERSION, &[]).await?.try_get(0)
}

/// The migrations that a database of a version has not had.
fn pending(version: i32) -> Result<&'static [&'static str], StoreError> {
    usize::try_from(version)
        .ok()
        .and_then(|version| MIGRATIONS.get(version..))
        .ok_or_else(|| {
            StoreError::Open(format!(
                "the database has schema version {version}, this program knows up to {}; use a newer version",
                MIGRATIONS.len()
            ))
        })
}

async fn run(client: &Client, number: i32, migration: &str) -> Result<(), Error> {
    if number == 1 {
        // Whoever may not make schemas finds one made for him; `IF NOT EXISTS` would ask for the right all the same.
        if !client.query_one(SCHEMA_EXISTS, &[]).await?.try_get(0)? {
            client.batch_execute("CREATE SCHEMA orderflow").await?;
        }
        client
            .batch_execute(
                "CREATE TABLE orderflow.migrations (
                     version integer NOT NULL PRIMARY KEY,
                     at timestamptz NOT NULL DEFAULT now()
                 )",
            )
            .await?;
    }
    client.batch_execute(migration).await?;
    client
        .execute(
            "INSERT INTO orderflow.migrations (version) VALUES ($1)",
            &[&number],
        )
        .await
        .map(drop)
}
