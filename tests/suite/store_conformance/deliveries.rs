//! Inbox, intents and outbox.

use orderflow::{
    sales::status::Status,
    store::{Answer, Change, OrderQuery, Pending, Store, Writes},
};

use super::{
    Place, accepted, at, bytes, counting, key, look, order, owing, reminder, run, summary,
    unfinished, work::Task,
};

every_store! {
    an_event_is_decided_on_once
    the_same_event_id_of_another_source_or_function_is_another_event
    what_is_not_written_leaves_no_trace
    an_inbox_record_alone_leaves_the_state_as_it_is
    an_intent_is_decided_on_once_for_each_step
    events_that_are_not_published_yet_stay_when_more_are_added
    a_mark_counts_for_its_own_step_only
    bytes_and_names_are_kept_as_they_are
    everything_is_there_for_the_next_instance
}

/// Marks, and waits until it counts: nobody is told, so this looks until it is so.
async fn mark(store: &dyn Store, id: &str, step: u32, expected: &[(&str, Pending)]) {
    store.published(&key(id), step);
    let expected: Vec<_> = expected
        .iter()
        .map(|(id, pending)| ((*id).to_owned(), pending.clone()))
        .collect();
    crate::support::eventually("the mark counts", async || {
        (unfinished(store).await == expected).then_some(())
    })
    .await;
}

async fn an_event_is_decided_on_once(place: Place) {
    let store = place.open().await;
    let first = run(&*store, counting("1", order(1), &[])).await;
    assert_eq!(first.answer, Some(Answer::Accepted));
    let again = run(&*store, counting("1", order(1), &[])).await;
    assert_eq!((again.answer, again.pending), (None, Pending::default()));
    assert_eq!(look(&*store, 1, &[]).await, "1");
    // A duplicate is told what its first delivery still owes.
    let owes = Writes {
        outbox: Some(bytes("event")),
        ..accepted()
    };
    run(&*store, Task::writing("2", order(1), owes)).await;
    let again = run(&*store, counting("2", order(1), &[])).await;
    assert_eq!(
        (again.answer, again.pending),
        (None, owing(0, Some("event"), None))
    );
}

async fn the_same_event_id_of_another_source_or_function_is_another_event(place: Place) {
    let store = place.open().await;
    run(&*store, counting("1", order(1), &[])).await;
    for owner in ["billing", "payment"] {
        let answer = run(&*store, counting("1", order(2), &[]).of(owner))
            .await
            .answer;
        assert_eq!(answer, Some(Answer::Accepted), "{owner}");
    }
    assert_eq!(
        store.row("payment", order(2)).await.unwrap(),
        Some(bytes("1"))
    );
    assert_eq!(store.row("payment", order(1)).await.unwrap(), None);
}

async fn what_is_not_written_leaves_no_trace(place: Place) {
    let store = place.open().await;
    let defer = || {
        Task::new("1", order(1), |_| {
            Change::Nothing(Answer::Deferred("too early"))
        })
    };
    for _ in 0..2 {
        let receipt = run(&*store, defer()).await;
        assert_eq!(receipt.answer, Some(Answer::Deferred("too early")));
    }
    assert_eq!(store.row("billing", order(1)).await.unwrap(), None);
    let then = run(&*store, counting("1", order(1), &[])).await;
    assert_eq!(then.answer, Some(Answer::Accepted));
}

async fn an_inbox_record_alone_leaves_the_state_as_it_is(place: Place) {
    let store = place.open().await;
    let ignored = || Writes {
        answer: Answer::Ignored("stale"),
        ..accepted()
    };
    let receipt = run(&*store, Task::writing("1", order(1), ignored())).await;
    assert_eq!(receipt.answer, Some(Answer::Ignored("stale")));
    assert_eq!(store.row("billing", order(1)).await.unwrap(), None);
    run(&*store, counting("2", order(1), &[])).await;
    run(&*store, Task::writing("3", order(1), ignored())).await;
    assert_eq!(
        store.row("billing", order(1)).await.unwrap(),
        Some(bytes("1"))
    );
    for id in ["1", "2", "3"] {
        assert_eq!(
            run(&*store, counting(id, order(1), &[])).await.answer,
            None,
            "{id}"
        );
    }
}

async fn an_intent_is_decided_on_once_for_each_step(place: Place) {
    let store = place.open().await;
    let intent = |text: &str| Writes {
        intent: Some(bytes(text)),
        ..accepted()
    };
    let receipt = run(&*store, Task::writing("1", order(1), intent("charge"))).await;
    assert_eq!(receipt.pending, owing(0, None, Some("charge")));
    // Of another step, or of a delivery that owes nothing: not done.
    for wrong in [
        Task::writing("1", order(1), accepted()).after(1),
        Task::writing("2", order(1), accepted()).after(0),
    ] {
        assert_eq!(run(&*store, wrong).await.answer, None);
    }
    let receipt = run(
        &*store,
        Task::writing("1", order(1), intent("refund")).after(0),
    )
    .await;
    assert_eq!(receipt.answer, Some(Answer::Accepted));
    assert_eq!(receipt.pending, owing(1, None, Some("refund")));
    let stale = run(&*store, Task::writing("1", order(1), accepted()).after(0)).await;
    assert_eq!(
        (stale.answer, stale.pending),
        (None, owing(1, None, Some("refund")))
    );
    let receipt = run(&*store, Task::writing("1", order(1), accepted()).after(1)).await;
    assert_eq!(receipt.answer, Some(Answer::Accepted));
    assert_eq!(unfinished(&*store).await, []);
    let over = run(&*store, Task::writing("1", order(1), accepted()).after(1)).await;
    assert_eq!((over.answer, over.pending), (None, Pending::default()));
}

async fn events_that_are_not_published_yet_stay_when_more_are_added(place: Place) {
    let store = place.open().await;
    let first = Writes {
        outbox: Some(bytes("a\nb")),
        intent: Some(bytes("charge")),
        ..accepted()
    };
    run(&*store, Task::writing("1", order(1), first)).await;
    let second = Writes {
        outbox: Some(bytes("c")),
        ..accepted()
    };
    let receipt = run(&*store, Task::writing("1", order(1), second).after(0)).await;
    assert_eq!(receipt.pending, owing(1, Some("a\nb\nc"), None));
    assert_eq!(
        unfinished(&*store).await,
        [("1".to_owned(), receipt.pending)]
    );
}

async fn a_mark_counts_for_its_own_step_only(place: Place) {
    let store = place.open().await;
    let step = |outbox: &str, intent: Option<&str>| Writes {
        outbox: Some(bytes(outbox)),
        intent: intent.map(bytes),
        ..accepted()
    };
    run(
        &*store,
        Task::writing("1", order(1), step("a", Some("charge"))),
    )
    .await;
    run(&*store, Task::writing("2", order(2), step("x", None))).await;
    let second = ("2", owing(0, Some("x"), None));
    mark(
        &*store,
        "1",
        0,
        &[("1", owing(0, None, Some("charge"))), second.clone()],
    )
    .await;
    run(
        &*store,
        Task::writing("1", order(1), step("b", None)).after(0),
    )
    .await;
    // The mark of a step that is over says nothing about the events of the next one. Marks are done in turn, so the one
    // that follows shows that this one was seen.
    store.published(&key("1"), 0);
    store.published(&key("never heard of"), 0);
    mark(&*store, "2", 0, &[("1", owing(1, Some("b"), None))]).await;
    mark(&*store, "1", 1, &[]).await;
    mark(&*store, "1", 1, &[]).await;
}

async fn bytes_and_names_are_kept_as_they_are(place: Place) {
    let store = place.open().await;
    let all: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let id = "Ünïcode 'quoted' \"twice\" \\ {a,b} NULL %";
    let writes = Writes {
        own: Some(all.clone()),
        outbox: Some(all.clone()),
        intent: Some(Vec::new()),
        ..accepted()
    };
    run(&*store, Task::writing(id, order(1), writes)).await;
    assert_eq!(
        store.row("billing", order(1)).await.unwrap(),
        Some(all.clone())
    );
    let pending = Pending {
        step: 0,
        outbox: Some(all),
        intent: Some(Vec::new()),
    };
    assert_eq!(
        unfinished(&*store).await,
        [(id.to_owned(), pending.clone())]
    );
    let again = run(&*store, Task::writing(id, order(1), accepted())).await;
    assert_eq!((again.answer, again.pending), (None, pending));
}

async fn everything_is_there_for_the_next_instance(place: Place) {
    let store = place.open().await;
    let writes = Writes {
        own: Some(bytes("7")),
        shared: [("hot".to_owned(), b"8".to_vec())].into(),
        reminder: Some(reminder(60)),
        summary: Some(summary(order(1), Status::Placed, 0)),
        outbox: Some(bytes("event")),
        intent: Some(bytes("charge")),
        ..accepted()
    };
    run(
        &*store,
        Task::writing("1", order(1), writes).with_shared(&["hot"]),
    )
    .await;
    drop(store);
    let store = place.open().await;
    assert_eq!(look(&*store, 1, &["hot"]).await, "7/8");
    assert_eq!(
        run(&*store, counting("1", order(1), &[])).await.answer,
        None
    );
    assert_eq!(store.due(at(60), 10).await.unwrap().len(), 1);
    let all = OrderQuery {
        status: None,
        after: None,
        limit: 10,
    };
    assert_eq!(store.orders(all).await.unwrap().len(), 1);
    let owed = owing(0, Some("event"), Some("charge"));
    assert_eq!(unfinished(&*store).await, [("1".to_owned(), owed)]);
}
