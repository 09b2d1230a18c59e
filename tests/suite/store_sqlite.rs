//! What only a file can go through: upgrades.

use std::path::Path;

use orderflow::store::{Answer, Store, sqlite::SqliteStore};
use rusqlite::Connection;

use crate::store_conformance::{counting, looking, order};

const VERSION_1: &str = include_str!("../fixtures/sqlite-version-1.sql");

fn version(path: &Path) -> i64 {
    let connection = Connection::open(path).unwrap();
    connection
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .unwrap()
}

#[tokio::test]
async fn a_file_of_version_1_goes_on_with_all_that_is_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("orders.db");
    let file = Connection::open(&path).unwrap();
    file.execute_batch(VERSION_1).unwrap();
    file.pragma_update(None, "user_version", 1).unwrap();
    let inbox = "billing\t/orders\t1\nbilling\t/orders\t2\n";
    file.execute(
        "INSERT INTO state (owner, key, body, inbox) VALUES ('billing', ?1, X'32', ?2), ('billing', 'hot', X'35', '')",
        (order(1).to_string(), inbox),
    )
    .unwrap();
    drop(file);

    let store = SqliteStore::open(&path).unwrap();
    assert_ne!(version(&path), 1);
    for (id, expected) in [("1", None), ("2", None), ("3", Some(Answer::Accepted))] {
        let receipt = store
            .transact(counting(id, order(1), &["hot"]).boxed())
            .await
            .unwrap();
        assert_eq!(receipt.answer, expected, "{id}");
    }
    let seen = store
        .transact(looking(order(1), &["hot"]).boxed())
        .await
        .unwrap()
        .answer;
    assert_eq!(seen, Some(Answer::Unreadable("3/6".to_owned())));
    // When it was decided on is not known: now at the latest, and long after the time of the tests' events.
    let day = chrono::TimeDelta::days(1);
    let upgraded = std::fs::metadata(&path).unwrap().modified().unwrap().into();
    let upgraded: chrono::DateTime<chrono::Utc> = upgraded;
    let again = store
        .transact(counting("1", order(1), &[]).boxed())
        .await
        .unwrap();
    assert_eq!(store.forget_inboxes(upgraded - day, 10).await.unwrap(), 0);
    assert_eq!(again.answer, None);
    assert_eq!(
        store.forget_inboxes(upgraded + day, 10).await.unwrap(),
        1,
        "shared rows have no inbox"
    );
}

#[tokio::test]
async fn a_row_keeps_its_size_from_decision_to_decision() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("orders.db");
    let store = SqliteStore::open(&path).unwrap();
    let file = Connection::open(&path).unwrap();
    let mut sizes = Vec::new();
    for id in ["1", "2", "3"] {
        let work = counting(id, order(1), &[]).boxed();
        store.transact(work).await.unwrap();
        // Whoever reads through the store has all that was done committed first.
        assert!(store.row("billing", order(1)).await.unwrap().is_some());
        let size: (i64, i64) = file
            .query_row(
                "SELECT length(inbox), length(body) + length(inbox) + length(slack) FROM state",
                [],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
            .unwrap();
        sizes.push(size);
    }
    assert!(sizes.is_sorted_by(|one, next| one.0 < next.0), "{sizes:?}");
    assert!(sizes.iter().all(|(_, row)| *row == 256), "{sizes:?}");
}

#[tokio::test]
async fn old_inboxes_are_found_behind_many_young_ones() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("orders.db");
    let store = SqliteStore::open(&path).unwrap();
    let file = Connection::open(&path).unwrap();
    // 25,000 rows on which something was decided at their second, but for the last 20, where it was in second 0.
    file.execute_batch(
        "WITH RECURSIVE row(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM row WHERE n < 25000)
         INSERT INTO state (owner, key, inbox, decided_at, inbox_from)
         SELECT 'billing', n, 'billing\t/orders\t' || n || char(10), at, at
         FROM (SELECT n, iif(n > 24980, 0, n * 1000000) AS at FROM row)",
    )
    .unwrap();
    let before = chrono::DateTime::from_timestamp(1, 0).unwrap();
    let mut found = Vec::new();
    for _ in 0..5 {
        found.push(store.forget_inboxes(before, 15).await.unwrap());
    }
    // A stretch of 10,000 rows at a time, no more inboxes than asked for, and from the beginning again.
    assert_eq!(found, [0, 0, 15, 5, 0]);
    let kept: i64 = file
        .query_row("SELECT count(*) FROM state WHERE inbox <> ''", [], |row| {
            row.get(0)
        })
        .unwrap();
    assert_eq!(kept, 24_980);
}

#[tokio::test]
async fn a_file_of_a_newer_version_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("orders.db");
    drop(SqliteStore::open(&path).unwrap());
    let file = Connection::open(&path).unwrap();
    file.pragma_update(None, "user_version", 99).unwrap();
    let error = SqliteStore::open(&path).unwrap_err().to_string();
    assert!(
        error.contains("schema version 99") && error.contains("use a newer version"),
        "{error}"
    );
    assert_eq!(version(&path), 99, "it stays as it is");
}
