//! For how long inboxes are kept.

use orderflow::store::{Answer, Change, Writes};

use super::{Place, accepted, at, bytes, counting, look, order, run, work::Task};

every_store! {
    inboxes_are_forgotten_when_nothing_was_decided_for_long
    a_forgotten_inbox_begins_again
}

async fn inboxes_are_forgotten_when_nothing_was_decided_for_long(place: Place) {
    let store = place.open().await;
    let decide = async |id: &str, number, seconds| {
        let writes = Writes {
            own: Some(bytes("5")),
            at: at(seconds),
            ..accepted()
        };
        run(&*store, Task::writing(id, order(number), writes))
            .await
            .answer
    };
    let known = async |id: &str, number| {
        let look = Task::new(id, order(number), |_| {
            Change::Nothing(Answer::Deferred("not known"))
        });
        run(&*store, look).await.answer.is_none()
    };
    decide("a", 1, 0).await;
    decide("b", 2, 1).await;
    decide("c", 3, 2).await;
    decide("d", 1, 100).await;
    run(&*store, counting("e", order(4), &["shared"])).await;
    assert_eq!(
        store.forget_inboxes(at(0), 10).await.unwrap(),
        0,
        "before, not at"
    );
    // 1 and 4 are as old; 1 was decided on since, 4 was not.
    assert_eq!(
        store.forget_inboxes(at(2), 2).await.unwrap(),
        2,
        "no more than asked for"
    );
    assert_eq!(store.forget_inboxes(at(2), 10).await.unwrap(), 1);
    assert_eq!(
        store.forget_inboxes(at(2), 10).await.unwrap(),
        0,
        "none is looked at twice"
    );
    for (id, number, expected) in [
        ("a", 1, true),
        ("d", 1, true),
        ("b", 2, false),
        ("c", 3, true),
        ("e", 4, false),
    ] {
        assert_eq!(known(id, number).await, expected, "{id}");
    }
    assert_eq!(
        look(&*store, 2, &["shared"]).await,
        "5/1",
        "the state stays"
    );
    assert_eq!(store.forget_inboxes(at(101), 10).await.unwrap(), 2);
    assert!(!known("d", 1).await);
}

async fn a_forgotten_inbox_begins_again(place: Place) {
    let store = place.open().await;
    let decide = async |id: &str, seconds, own| {
        let writes = Writes {
            own,
            at: at(seconds),
            ..accepted()
        };
        run(&*store, Task::writing(id, order(1), writes))
            .await
            .answer
    };
    decide("a", 0, Some(bytes("1"))).await;
    for (id, seconds) in [("b", 100), ("c", 200)] {
        assert_eq!(
            store.forget_inboxes(at(seconds), 10).await.unwrap(),
            1,
            "{id}"
        );
        // With the state or without it.
        let own = (id == "b").then(|| b"2".to_vec());
        assert_eq!(decide(id, seconds, own).await, Some(Answer::Accepted));
        assert_eq!(decide(id, seconds, None).await, None, "it is known again");
        assert_eq!(store.forget_inboxes(at(seconds), 10).await.unwrap(), 0);
    }
    assert_eq!(store.forget_inboxes(at(201), 10).await.unwrap(), 1);
    assert_eq!(look(&*store, 1, &[]).await, "2");
}
