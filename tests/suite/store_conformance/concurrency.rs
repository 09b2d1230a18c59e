//! Shared rows, and many at a time.

use std::sync::Arc;

use futures_util::future::join_all;
use orderflow::store::{Answer, Change, Store, StoreError, Writes};

use super::{
    Place, accepted, counting, look, order, run,
    work::{self, Task},
};

every_store! {
    shared_rows_are_loaded_and_written_with_the_own_row
    shared_rows_may_depend_on_what_an_earlier_event_has_just_written
    concurrent_events_about_one_order_lose_no_update
    instances_that_change_the_same_rows_lose_no_update
    instances_that_share_nothing_but_a_hot_row_lose_no_update
    instances_that_take_the_same_event_decide_once
    a_panicking_decision_harms_nobody_else
    ten_instances_may_start_together
}

async fn shared_rows_are_loaded_and_written_with_the_own_row(place: Place) {
    let store = place.open().await;
    run(&*store, counting("1", order(1), &["KB-87", "MS-12"])).await;
    run(&*store, counting("2", order(2), &["KB-87"])).await;
    assert_eq!(
        look(&*store, 1, &["KB-87", "MS-12", "none"]).await,
        "1/2/1/0"
    );
    // Each owner has shared rows of its own.
    run(&*store, counting("3", order(3), &["KB-87"]).of("inventory")).await;
    assert_eq!(look(&*store, 3, &["KB-87"]).await, "0/2");
    // Those that were loaded and are not written stay.
    run(
        &*store,
        Task::writing("4", order(4), accepted()).with_shared(&["KB-87"]),
    )
    .await;
    assert_eq!(look(&*store, 4, &["KB-87"]).await, "0/2");
}

async fn shared_rows_may_depend_on_what_an_earlier_event_has_just_written(place: Place) {
    let store = place.open().await;
    // Each event wants the shared row that the number in the own row names, and adds one to both.
    let task = |id: &str| {
        let name =
            |own: Option<&[u8]>| format!("row {}", own.map_or("0".into(), String::from_utf8_lossy));
        let apply = move |loaded: &orderflow::store::Loaded| {
            let name = name(loaded.own.as_deref());
            let one_more = |row: Option<&Vec<u8>>| (work::count(row) + 1).to_string().into_bytes();
            let shared = one_more(loaded.shared.get(&name));
            Change::Write(Box::new(Writes {
                own: Some(one_more(loaded.own.as_ref())),
                shared: [(name, shared)].into(),
                ..accepted()
            }))
        };
        Task::new(id, order(1), apply)
            .with_shared_of(move |own| vec![name(own)])
            .boxed()
    };
    for round in 0..2 {
        let ids: Vec<_> = (0..20).map(|number| format!("{round}/{number}")).collect();
        for receipt in join_all(ids.iter().map(|id| store.transact(task(id)))).await {
            assert_eq!(receipt.unwrap().answer, Some(Answer::Accepted));
        }
    }
    assert_eq!(
        look(&*store, 1, &["row 0", "row 19", "row 39", "row 40"]).await,
        "40/1/1/1/0"
    );
}

async fn concurrent_events_about_one_order_lose_no_update(place: Place) {
    let store = place.open().await;
    let ids: Vec<_> = (0..300).map(|number| number.to_string()).collect();
    // Each event twice, all at once.
    let all = ids.iter().chain(&ids);
    let receipts =
        join_all(all.map(|id| store.transact(counting(id, order(1), &["KB-87"]).boxed()))).await;
    let accepted = receipts
        .into_iter()
        .filter(|receipt| receipt.as_ref().unwrap().answer == Some(Answer::Accepted));
    assert_eq!(accepted.count(), 300);
    assert_eq!(look(&*store, 1, &["KB-87"]).await, "300/300");
}

async fn instances_that_change_the_same_rows_lose_no_update(place: Place) {
    let stores = [place.open().await, place.open().await, place.open().await];
    // Every order is new, and so are the shared rows at first; each instance takes them in another order.
    let mut running = Vec::new();
    for (instance, store) in stores.iter().enumerate() {
        for number in 0..200_u32 {
            let store: Arc<dyn Store> = store.clone();
            let order = order(if instance == 0 { number } else { 199 - number } % 50);
            let id = format!("{instance}/{number}");
            let names: &[&'static str] = if number % 2 == 0 {
                &["hot", "warm"]
            } else {
                &["hot"]
            };
            let task = counting(&id, order, names).boxed();
            running.push(tokio::spawn(async move { store.transact(task).await }));
        }
    }
    for receipt in join_all(running).await {
        assert_eq!(receipt.unwrap().unwrap().answer, Some(Answer::Accepted));
    }
    assert_eq!(look(&*stores[0], 7, &["hot", "warm"]).await, "12/600/300");
}

async fn instances_that_share_nothing_but_a_hot_row_lose_no_update(place: Place) {
    let stores = [place.open().await, place.open().await, place.open().await];
    let running = stores.iter().zip(0..).map(|(store, instance)| {
        let store: Arc<dyn Store> = store.clone();
        tokio::spawn(async move {
            // Many small groups, so that those of different instances meet.
            for number in 0..60 {
                let order = order(1_000 * instance + number);
                for receipt in join_all(["1", "2"].map(|id| {
                    let task = counting(id, order, &["hot"]);
                    store.transact(task.boxed())
                }))
                .await
                {
                    assert_eq!(receipt.unwrap().answer, Some(Answer::Accepted));
                }
            }
        })
    });
    for ended in join_all(running.collect::<Vec<_>>()).await {
        ended.unwrap();
    }
    assert_eq!(look(&*stores[0], 0, &["hot"]).await, "2/360");
}

async fn instances_that_take_the_same_event_decide_once(place: Place) {
    let stores = [place.open().await, place.open().await];
    for number in 0..50 {
        let outcomes = join_all(
            stores
                .iter()
                .map(|store| store.transact(counting("1", order(number), &["hot"]).boxed())),
        )
        .await;
        let decided = outcomes
            .into_iter()
            .filter(|receipt| receipt.as_ref().unwrap().answer.is_some());
        assert_eq!(decided.count(), 1);
    }
    assert_eq!(look(&*stores[1], 0, &["hot"]).await, "1/50");
}

async fn a_panicking_decision_harms_nobody_else(place: Place) {
    // In memory, the panic is that of the task that decides.
    let in_memory = matches!(place, Place::Memory(_));
    let store = place.open().await;
    let running = (0..60).map(|number| {
        let store = store.clone();
        let task = match number % 20 {
            7 => Task::new("1", order(number), |_| panic!("a bug, on purpose")),
            9 => counting("1", order(number), &[]).with_shared_of(|_| panic!("a bug, on purpose")),
            _ => counting("1", order(number), &["hot"]),
        };
        tokio::spawn(async move { store.transact(task.boxed()).await })
    });
    let outcomes = join_all(running.collect::<Vec<_>>()).await;
    for (number, outcome) in outcomes.into_iter().enumerate() {
        if number % 20 == 7 || number % 20 == 9 {
            match outcome {
                Ok(Err(StoreError::Unavailable(reason))) => {
                    assert!(reason.contains("panicked"), "{reason}");
                }
                outcome => assert!(in_memory && outcome.is_err(), "{outcome:?}"),
            }
        } else {
            assert_eq!(
                outcome.unwrap().unwrap().answer,
                Some(Answer::Accepted),
                "{number}"
            );
        }
    }
    assert_eq!(look(&*store, 7, &["hot"]).await, "0/54");
}

async fn ten_instances_may_start_together(place: Place) {
    let stores = join_all((0..10).map(|_| place.open())).await;
    let counted = stores.iter().enumerate().map(|(number, store)| {
        let id = number.to_string();
        store.transact(counting(&id, order(1), &["hot"]).boxed())
    });
    for receipt in join_all(counted).await {
        assert_eq!(receipt.unwrap().answer, Some(Answer::Accepted));
    }
    assert_eq!(look(&*stores[0], 1, &["hot"]).await, "10/10");
}
