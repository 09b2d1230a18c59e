//! A server that is away, or busy with others.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use orderflow::store::{Store, StoreError};

use super::count;
use crate::{
    postgres_server::PostgresServer,
    store_conformance::{counting, open_postgres, order},
    support::eventually,
};

/// How long a store that is away may keep somebody waiting.
const AWAY_LIMIT: Duration = Duration::from_secs(8);

#[tokio::test]
async fn a_row_that_somebody_else_holds_keeps_a_delivery_no_longer_than_it_lasts() {
    let Some(server) = PostgresServer::shared() else {
        return;
    };
    let url = server.database().await;
    let store = Arc::new(open_postgres(&url).await);
    store
        .transact(counting("1", order(1), &["held"]).boxed())
        .await
        .unwrap();
    // Someone takes the row, and then does nothing for a long time.
    let (holder, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls)
        .await
        .unwrap();
    tokio::spawn(connection);
    holder
        .batch_execute("BEGIN; SELECT * FROM orderflow.shared_rows FOR UPDATE")
        .await
        .unwrap();
    let began = Instant::now();
    let held = store
        .transact(counting("2", order(1), &["held"]).boxed())
        .await;
    assert!(matches!(held, Err(StoreError::Unavailable(_))), "{held:?}");
    assert!(began.elapsed() < AWAY_LIMIT, "{:?}", began.elapsed());
    // Others go on meanwhile, by the other writer.
    let waiting = {
        let store = store.clone();
        tokio::spawn(async move {
            store
                .transact(counting("2", order(1), &["held"]).boxed())
                .await
        })
    };
    tokio::task::yield_now().await;
    store
        .transact(counting("3", order(2), &[]).boxed())
        .await
        .unwrap();
    holder.batch_execute("ROLLBACK").await.unwrap();
    waiting.await.unwrap().unwrap();
    assert_eq!(count(&*store, &["held"]).await, "2/2");
}

#[tokio::test]
async fn a_restart_of_the_server_is_survived() {
    let Some(server) = PostgresServer::start("-c fsync=off") else {
        return;
    };
    let store = open_postgres(&server.database().await).await;
    store
        .transact(counting("1", order(1), &[]).boxed())
        .await
        .unwrap();
    assert_eq!(
        store.row("billing", order(1)).await.unwrap(),
        Some(b"1".to_vec())
    );
    // So short that nobody notices.
    server.stop("fast");
    server.run();
    store
        .transact(counting("2", order(1), &[]).boxed())
        .await
        .unwrap();
    assert_eq!(
        store.row("billing", order(1)).await.unwrap(),
        Some(b"2".to_vec())
    );
    server.stop("fast");
    for _ in 0..3 {
        let began = Instant::now();
        let away = store.transact(counting("3", order(1), &[]).boxed()).await;
        assert!(matches!(away, Err(StoreError::Unavailable(_))), "{away:?}");
        let away = store.row("billing", order(1)).await;
        assert!(matches!(away, Err(StoreError::Unavailable(_))), "{away:?}");
        assert!(began.elapsed() < AWAY_LIMIT, "{:?}", began.elapsed());
    }
    server.run();
    eventually("it works again", async || {
        store
            .transact(counting("3", order(1), &[]).boxed())
            .await
            .ok()
    })
    .await;
    eventually("it can be read again", async || {
        store.row("billing", order(1)).await.ok()
    })
    .await;
    assert_eq!(count(&store, &[]).await, "3");
}

/// Two instances under load while the server goes away and comes back; then everything is delivered again.
async fn what_was_acknowledged_survives(go_away: impl FnOnce(&PostgresServer) + Send + 'static) {
    let Some(server) = PostgresServer::start("") else {
        return;
    };
    let server = Arc::new(server);
    let url = server.database().await;
    let stores = [
        Arc::new(open_postgres(&url).await),
        Arc::new(open_postgres(&url).await),
    ];
    let ids: Vec<String> = (0..3_000).map(|number| number.to_string()).collect();
    let task = |id: &str| {
        let number: u32 = id.parse().unwrap();
        counting(id, order(number % 100), &["hot"]).boxed()
    };
    let mut acknowledged = HashSet::new();
    let mut go_away = Some(go_away);
    let mut outage = None;
    for some in ids.chunks(60) {
        let sent = some.iter().zip(stores.iter().cycle());
        let sent = sent.map(|(id, store)| {
            let (store, task) = (store.clone(), task(id));
            tokio::spawn(async move { store.transact(task).await })
        });
        let sent: Vec<_> = sent.collect();
        // In the middle of the eleventh round.
        if acknowledged.len() >= 600
            && let Some(go_away) = go_away.take()
        {
            let server = server.clone();
            outage = Some(tokio::task::spawn_blocking(move || {
                go_away(&server);
                server.run();
            }));
        }
        for (id, outcome) in some.iter().zip(join_all(sent).await) {
            if outcome.unwrap().is_ok() {
                acknowledged.insert(id.clone());
            }
        }
    }
    outage.expect("the server went away").await.unwrap();
    assert!(
        !acknowledged.is_empty() && acknowledged.len() < ids.len(),
        "{}",
        acknowledged.len()
    );
    eventually("the server is back", async || {
        stores[0].row("billing", order(1)).await.ok()
    })
    .await;
    for some in ids.chunks(200) {
        let (store, task, acknowledged) = (&stores[0], &task, &acknowledged);
        let again = some.iter().map(|id| async move {
            let receipt = eventually("a redelivery is taken", async || {
                store.transact(task(id)).await.ok()
            });
            let forgotten = receipt.await.answer.is_some() && acknowledged.contains(id);
            assert!(!forgotten, "{id} was acknowledged and forgotten");
        });
        join_all(again).await;
    }
    assert_eq!(count(&*stores[1], &["hot"]).await, "30/3000");
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_crash_of_the_server() {
    what_was_acknowledged_survives(|server| server.stop("immediate")).await;
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_kill_of_the_server() {
    what_was_acknowledged_survives(PostgresServer::kill).await;
}
