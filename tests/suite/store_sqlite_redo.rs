//! The redo log: what was acknowledged is there, whatever SQLite had of it when the power or the process went away.

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
};

use axum::{Router, routing::post};
use orderflow::{
    events::OrderId,
    store::{Answer, Parked, Store, sqlite::SqliteStore},
};
use tempfile::TempDir;
use uuid::Uuid;

use crate::{
    processes::orderflow,
    store_conformance::{counting, looking, order},
    support::{Answer as Response, client, eventually, listen, sample_of},
};

const FILES: [&str; 2] = ["orders.db", "orders.db-wal"];
const REDO: &str = "orders.db-redo";

fn open(folder: &Path) -> SqliteStore {
    SqliteStore::open(&folder.join("orders.db")).unwrap()
}

fn copy(from: &Path, to: &Path, files: &[&str]) {
    for file in files {
        fs::copy(from.join(file), to.join(file)).unwrap();
    }
}

/// Counts one more, on one of five orders and on the shared row "hot".
async fn count(store: &SqliteStore, number: u32) -> Option<Answer> {
    let work = counting(&number.to_string(), order(number % 5), &["hot"]);
    store.transact(work.boxed()).await.unwrap().answer
}

/// What the shared row "hot" has been counted up to.
async fn counted(store: &SqliteStore) -> u32 {
    let work = looking(order(99), &["hot"]).boxed();
    let seen = store.transact(work).await.unwrap().answer;
    let Some(Answer::Unreadable(seen)) = seen else {
        panic!("{seen:?}");
    };
    seen.strip_prefix("0/").unwrap().parse().unwrap()
}

fn killed_order(process: u32, event: u32) -> OrderId {
    OrderId(Uuid::from_u128(u128::from(process * 100 + event)))
}

fn parked(number: u128, size: usize) -> Parked {
    Parked {
        id: Uuid::from_u128(number),
        function: "billing".to_owned(),
        event_id: None,
        order_id: Some(order(1)),
        reason: "data: must be an object".to_owned(),
        body: vec![b'x'; size],
        at: chrono::DateTime::from_timestamp(1, 0).unwrap(),
    }
}

/// A store of which SQLite's files were lost at some time, and the log was not: files that know of 2 counts, and a log that
/// knows of `all`, of which the first 10 were committed in between.
async fn lost(all: u32) -> TempDir {
    let (folder, lost) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = open(folder.path());
    for number in 0..all {
        assert_eq!(count(&store, number).await, Some(Answer::Accepted));
        if number == 1 || number == 9 {
            // Reading has what was done committed first.
            assert!(store.row("billing", order(1)).await.unwrap().is_some());
        }
        if number == 1 {
            copy(folder.path(), lost.path(), &FILES);
        }
    }
    store.park(parked(1, 10)).await.unwrap();
    copy(folder.path(), lost.path(), &[REDO]);
    lost
}

#[tokio::test]
async fn what_sqlite_lost_is_done_again() {
    let folder = lost(40).await;
    for _ in 0..2 {
        let store = open(folder.path());
        assert_eq!(counted(&store).await, 40);
        for number in 0..40 {
            assert_eq!(count(&store, number).await, None, "{number} is known");
        }
        assert_eq!(store.parked(order(1)).await.unwrap(), [parked(1, 10)]);
        // Once more, from what the first one wrote.
        drop(store);
    }
    let store = open(folder.path());
    assert_eq!(count(&store, 40).await, Some(Answer::Accepted));
    assert_eq!(counted(&store).await, 41);
}

#[tokio::test]
async fn a_log_that_was_cut_anywhere_counts_up_to_its_last_whole_record() {
    let whole = lost(12).await;
    let log = fs::read(whole.path().join(REDO)).unwrap();
    let mut seen = Vec::new();
    for cut in (0..log.len()).step_by(97).chain([log.len()]) {
        let folder = tempfile::tempdir().unwrap();
        copy(whole.path(), folder.path(), &FILES);
        // What was there before the file was written to is left behind the cut.
        let mut rest = vec![0xA5; log.len() + 100];
        rest[..cut].copy_from_slice(&log[..cut]);
        fs::write(folder.path().join(REDO), rest).unwrap();
        let store = open(folder.path());
        let counted_here = counted(&store).await;
        for number in 0..12 {
            let known = (number < counted_here).then_some(None);
            let expected = known.unwrap_or(Some(Answer::Accepted));
            assert_eq!(count(&store, number).await, expected, "{cut}: {number}");
        }
        seen.push(counted_here);
    }
    assert!(seen.is_sorted(), "{seen:?}");
    assert_eq!((seen.first(), seen.last()), (Some(&2), Some(&12)));
    seen.dedup();
    assert_eq!(seen.len(), 11, "each record counts by itself: {seen:?}");
}

#[tokio::test]
async fn two_who_take_turns_have_one_log() {
    let folder = tempfile::tempdir().unwrap();
    let stores = [open(folder.path()), open(folder.path())];
    for number in 0..12 {
        // Each has several goes before the other one has the file.
        let store = &stores[usize::from(number % 6 > 2)];
        assert_eq!(count(store, number).await, Some(Answer::Accepted));
        // What a kill would leave: most often SQLite has not committed the last ones.
        let killed = tempfile::tempdir().unwrap();
        copy(folder.path(), killed.path(), &[FILES[0], FILES[1], REDO]);
        assert_eq!(counted(&open(killed.path())).await, number + 1);
    }
}

#[tokio::test]
async fn who_wants_the_file_gets_it_from_one_who_is_never_idle() {
    let folder = tempfile::tempdir().unwrap();
    let (busy, other) = (Arc::new(open(folder.path())), open(folder.path()));
    let done = Arc::new(AtomicU32::new(0));
    let callers: Vec<_> = (1..=8)
        .map(|caller| {
            let (busy, done) = (busy.clone(), done.clone());
            tokio::spawn(async move {
                for number in (caller..).step_by(8) {
                    let work = counting(&number.to_string(), order(number), &[]);
                    busy.transact(work.boxed()).await.unwrap();
                    done.fetch_add(1, Relaxed);
                }
            })
        })
        .collect();
    for number in 0..5 {
        let before = done.load(Relaxed);
        eventually("the busy one has the file", async || {
            (done.load(Relaxed) > before + 100).then_some(())
        })
        .await;
        let number = 1_000_000 + number;
        assert_eq!(count(&other, number).await, Some(Answer::Accepted));
    }
    for caller in callers {
        assert!(!caller.is_finished(), "it has been at it all the time");
        caller.abort();
    }
}

#[tokio::test]
async fn a_log_of_another_file_counts_for_nothing() {
    let folder = lost(12).await;
    for file in FILES {
        fs::remove_file(folder.path().join(file)).unwrap();
    }
    let store = open(folder.path());
    assert_eq!(counted(&store).await, 0);
    assert_eq!(count(&store, 0).await, Some(Answer::Accepted));
    drop(store);
    assert_eq!(counted(&open(folder.path())).await, 1);
}

#[tokio::test]
async fn a_log_that_is_full_begins_anew() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let megabytes = 30;
    for number in 0..megabytes {
        store.park(parked(number, 1 << 20)).await.unwrap();
        assert_eq!(
            store.parked(order(1)).await.unwrap().len() as u128,
            number + 1
        );
    }
    let size = fs::metadata(folder.path().join(REDO)).unwrap().len();
    assert!((8 << 20..10 << 20).contains(&size), "{size}");
    let copied = tempfile::tempdir().unwrap();
    copy(folder.path(), copied.path(), &FILES);
    copy(folder.path(), copied.path(), &[REDO]);
    let parked = open(copied.path()).parked(order(1)).await.unwrap();
    assert_eq!(parked.len() as u128, megabytes);
}

#[tokio::test]
async fn what_a_killed_process_acknowledged_is_seen_by_others_who_have_the_file_open() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(open(folder.path()));
    let topic = listen(Router::new().route("/api/events", post(async || ()))).await;
    let client = client();
    for number in 1..=5 {
        // Somebody else's turn in between.
        assert_eq!(count(&store, number).await, Some(Answer::Accepted));
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let address = format!("http://127.0.0.1:{port}");
        let mut serve = orderflow(&["serve"]);
        serve
            .env("FUNCTIONS_CUSTOMHANDLER_PORT", port.to_string())
            .env("EVENTGRID_TOPIC_ENDPOINT", format!("{topic}/api/events"))
            .env("EVENTGRID_TOPIC_KEY", "a2V5")
            .env(
                "STORE_URL",
                format!("sqlite:{}/orders.db", folder.path().display()),
            );
        let mut process = serve.spawn().unwrap();
        eventually("serve listens", async || {
            client.get(&address).send().await.ok()
        })
        .await;
        // Long enough that some were committed, and most often the last ones were not.
        for event in 1..=30 {
            let order_id = killed_order(number, event);
            let request = client
                .post(format!("{address}/billing"))
                .header("content-type", "application/cloudevents+json")
                .body(sample_of("OrderPlaced", order_id).to_string());
            let answer = Response::of(request).await;
            assert_eq!(answer.status, 200, "{answer:?}");
        }
        process.start_kill().unwrap();
        process.wait().await.unwrap();
        for event in 1..=30 {
            let row = store.row("billing", killed_order(number, event));
            assert!(row.await.unwrap().is_some(), "{number}, {event}");
        }
    }
    assert_eq!(counted(&store).await, 5);
}
