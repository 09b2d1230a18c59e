//! What is listed: unfinished deliveries, reminders, orders, parked events.

use futures_util::future::join_all;
use orderflow::{
    sales::status::Status,
    store::{OrderQuery, Parked, Writes},
};
use uuid::Uuid;

use super::{Place, accepted, at, bytes, order, reminder, run, summary, work::Task};

every_store! {
    what_is_unfinished_is_listed_oldest_first_and_effects_last
    a_new_state_takes_back_the_reminder_and_an_inbox_record_does_not
    reminders_come_in_the_order_of_their_time
    orders_are_listed_newest_first_by_status_and_page
    what_is_parked_is_kept_once
}

async fn what_is_unfinished_is_listed_oldest_first_and_effects_last(place: Place) {
    let store = place.open().await;
    let effect = Writes {
        intent: Some(bytes("effect")),
        at: at(0),
        ..accepted()
    };
    run(&*store, Task::writing("effect", order(2), effect)).await;
    for (number, id) in ["c", "a", "b"].into_iter().enumerate() {
        let writes = Writes {
            outbox: Some(bytes(id)),
            at: at(i64::try_from(number).unwrap()),
            ..accepted()
        };
        run(&*store, Task::writing(id, order(1), writes)).await;
    }
    let ids = async |before, limit| -> Vec<String> {
        let unfinished = store.unfinished(at(before), limit).await.unwrap();
        unfinished.into_iter().map(|(key, _)| key.id).collect()
    };
    assert_eq!(ids(0, 10).await, [""; 0], "before, not at");
    assert_eq!(ids(2, 10).await, ["c", "a", "effect"]);
    assert_eq!(ids(10, 10).await, ["c", "a", "b", "effect"]);
    assert_eq!(ids(10, 3).await, ["c", "a", "b"]);
}

async fn a_new_state_takes_back_the_reminder_and_an_inbox_record_does_not(place: Place) {
    let store = place.open().await;
    let due = async || -> Vec<(String, i64)> {
        let due = store.due(at(1_000), 10).await.unwrap();
        let seconds = |due: orderflow::store::Due| {
            assert_eq!(due.order_id, order(1));
            (
                String::from_utf8(due.reminder.cause).unwrap(),
                (due.reminder.at - at(0)).num_seconds(),
            )
        };
        due.into_iter().map(seconds).collect()
    };
    let state = |reminder| Writes {
        own: Some(bytes("1")),
        reminder,
        ..accepted()
    };
    run(
        &*store,
        Task::writing("1", order(1), state(Some(reminder(60)))),
    )
    .await;
    run(&*store, Task::writing("2", order(1), accepted())).await;
    assert_eq!(due().await, [("cause of 60".to_owned(), 60)]);
    run(
        &*store,
        Task::writing("3", order(1), state(Some(reminder(30)))),
    )
    .await;
    assert_eq!(due().await, [("cause of 30".to_owned(), 30)]);
    run(&*store, Task::writing("4", order(1), state(None))).await;
    assert_eq!(due().await, []);
}

async fn reminders_come_in_the_order_of_their_time(place: Place) {
    let store = place.open().await;
    for (number, owner) in [(3, "payment"), (1, "billing"), (2, "billing")] {
        let writes = Writes {
            own: Some(bytes("1")),
            reminder: Some(reminder(i64::from(number))),
            ..accepted()
        };
        run(&*store, Task::writing("1", order(number), writes).of(owner)).await;
    }
    let due = async |until, limit| -> Vec<_> {
        let due = store.due(at(until), limit).await.unwrap();
        due.into_iter()
            .map(|due| (due.owner, due.order_id))
            .collect()
    };
    let billing = |number| ("billing".to_owned(), order(number));
    assert_eq!(due(0, 10).await, []);
    assert_eq!(
        due(2, 10).await,
        [billing(1), billing(2)],
        "at its time, not only after it"
    );
    assert_eq!(
        due(9, 10).await,
        [billing(1), billing(2), ("payment".to_owned(), order(3))]
    );
    assert_eq!(due(9, 1).await, [billing(1)]);
}

async fn orders_are_listed_newest_first_by_status_and_page(place: Place) {
    let store = place.open().await;
    // 1 and 2 were placed at the same time, 3 and 4 later.
    for (number, placed, status) in [
        (1, 0, Status::Placed),
        (2, 0, Status::Completed),
        (3, 1, Status::Placed),
        (4, 2, Status::Placed),
    ] {
        let writes = Writes {
            summary: Some(summary(order(number), status, placed)),
            ..accepted()
        };
        run(&*store, Task::writing("1", order(number), writes)).await;
    }
    let list = async |status, after: Option<u32>, limit| -> Vec<_> {
        let after = after.map(order);
        let query = OrderQuery {
            status,
            after,
            limit,
        };
        let orders = store.orders(query).await.unwrap();
        orders.into_iter().map(|summary| summary.order_id).collect()
    };
    assert_eq!(list(None, None, 10).await, [4, 3, 2, 1].map(order));
    assert_eq!(list(None, None, 2).await, [4, 3].map(order));
    assert_eq!(list(None, Some(3), 10).await, [2, 1].map(order));
    assert_eq!(
        list(Some(Status::Placed), None, 10).await,
        [4, 3, 1].map(order)
    );
    assert_eq!(list(Some(Status::Placed), Some(4), 1).await, [3].map(order));
    // The place in the list is that of the order, whatever its status.
    assert_eq!(
        list(Some(Status::Placed), Some(2), 10).await,
        [1].map(order)
    );
    assert_eq!(
        list(None, Some(99), 10).await,
        [],
        "an order that nobody knows"
    );
    let moved = Writes {
        summary: Some(summary(order(4), Status::Completed, 2)),
        ..accepted()
    };
    run(&*store, Task::writing("2", order(4), moved)).await;
    assert_eq!(
        list(Some(Status::Completed), None, 10).await,
        [4, 2].map(order)
    );
}

async fn what_is_parked_is_kept_once(place: Place) {
    let store = place.open().await;
    let parked = |id: u128, reason: &str, seconds| Parked {
        id: Uuid::from_u128(id),
        function: "billing".to_owned(),
        event_id: Some("1".to_owned()),
        order_id: Some(order(1)),
        reason: reason.to_owned(),
        body: vec![0, 255, b'\n'],
        at: at(seconds),
    };
    let (first, second) = (
        parked(1, "data: is missing", 0),
        parked(2, "data.lines: is empty", 1),
    );
    let again = parked(1, "another reason", 2);
    // Together, so that they may be of one group.
    for result in
        join_all([first.clone(), second.clone(), again.clone()].map(|parked| store.park(parked)))
            .await
    {
        result.unwrap();
    }
    store.park(again).await.unwrap();
    let about_nobody = Parked {
        id: Uuid::from_u128(3),
        event_id: None,
        order_id: None,
        ..first.clone()
    };
    store.park(about_nobody).await.unwrap();
    assert_eq!(store.parked(order(1)).await.unwrap(), [first, second]);
    assert_eq!(store.parked(order(2)).await.unwrap(), []);
}
