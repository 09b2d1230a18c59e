//! What only a server can go through: its schema, restarts, crashes and strangers.

mod encryption;
mod outages;
mod served;

use futures_util::future::join_all;
use orderflow::store::{
    Answer, Store,
    postgres::{Address, PostgresStore},
};

use crate::{
    postgres_server::{PostgresServer, execute, number},
    store_conformance::{counting, looking, open_postgres, order},
};

async fn count(store: &dyn Store, shared: &[&str]) -> String {
    match store
        .transact(looking(order(1), shared).boxed())
        .await
        .unwrap()
        .answer
    {
        Some(Answer::Unreadable(seen)) => seen,
        other => panic!("{other:?}"),
    }
}

async fn open_error(url: &str) -> String {
    let opened = PostgresStore::open(Address::parse(url).unwrap(), None).await;
    let error = opened.err().expect("it cannot be opened").to_string();
    assert!(
        error.starts_with("STORE_URL: ") && !error.contains('\n'),
        "{error}"
    );
    error
}

#[tokio::test]
async fn instances_that_start_together_make_the_schema_once() {
    let Some(server) = PostgresServer::shared() else {
        return;
    };
    let url = server.database().await;
    drop(join_all((0..10).map(|_| open_postgres(&url))).await);
    assert_eq!(
        number(&url, "SELECT count(*) FROM orderflow.migrations").await,
        1
    );
}

#[tokio::test]
async fn a_schema_of_a_newer_version_is_refused() {
    let Some(server) = PostgresServer::shared() else {
        return;
    };
    let url = server.database().await;
    drop(open_postgres(&url).await);
    execute(
        &url,
        "INSERT INTO orderflow.migrations (version) VALUES (99)",
    )
    .await;
    let error = open_error(&url).await;
    assert!(
        error.contains("schema version 99") && error.contains("use a newer version"),
        "{error}"
    );
}

#[tokio::test]
async fn whoever_may_not_make_schemas_uses_one_that_was_made_for_him() {
    let Some(server) = PostgresServer::shared() else {
        return;
    };
    let url = server.database().await;
    execute(
        &url,
        "CREATE ROLE app LOGIN PASSWORD 'app'; CREATE SCHEMA orderflow AUTHORIZATION app",
    )
    .await;
    let (_, host) = url.split_once('@').unwrap();
    let store = open_postgres(&format!("postgres://app:app@{host}")).await;
    store
        .transact(counting("1", order(1), &[]).boxed())
        .await
        .unwrap();
    assert_eq!(count(&store, &[]).await, "1");
}

#[tokio::test]
async fn commits_are_flushed_whatever_the_server_s_default() {
    let Some(server) = PostgresServer::shared() else {
        return;
    };
    let url = server.database().await;
    execute(&url, "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET synchronous_commit = off', current_database()); END $$").await;
    assert_eq!(
        number(
            &url,
            "SELECT count(*) FROM pg_settings WHERE name = 'synchronous_commit' AND setting = 'off'"
        )
        .await,
        1
    );
    // A function in the place of the table's default tells what the writer's session has set.
    let store = open_postgres(&url).await;
    execute(
        &url,
        "CREATE TABLE seen (setting text, application text);
         CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             INSERT INTO public.seen VALUES (current_setting('synchronous_commit'), current_setting('application_name'));
             RETURN NULL; END $$;
         CREATE TRIGGER note AFTER INSERT ON orderflow.order_rows EXECUTE FUNCTION note()",
    )
    .await;
    store
        .transact(counting("1", order(1), &[]).boxed())
        .await
        .unwrap();
    let seen = "SELECT count(*) FROM seen WHERE setting = 'on' AND application = 'orderflow'";
    assert_eq!(number(&url, seen).await, 1);
}

#[tokio::test]
async fn one_job_that_the_server_refuses_is_nobody_else_s_fault() {
    let Some(server) = PostgresServer::shared() else {
        return;
    };
    let store = open_postgres(&server.database().await).await;
    // PostgreSQL has no text with a NUL; an event with one in its id is refused long before it comes here.
    let ids: Vec<_> = (0..40)
        .map(|number| {
            if number == 20 {
                "\0".to_owned()
            } else {
                number.to_string()
            }
        })
        .collect();
    let outcomes = join_all(
        ids.iter()
            .map(|id| store.transact(counting(id, order(1), &["hot"]).boxed())),
    )
    .await;
    for (id, outcome) in ids.iter().zip(outcomes) {
        match outcome {
            Ok(receipt) => assert_eq!(receipt.answer, Some(Answer::Accepted)),
            Err(error) => assert!(id == "\0", "{id}: {error}"),
        }
    }
    assert_eq!(count(&store, &["hot"]).await, "39/39");
}
