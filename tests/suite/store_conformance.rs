//! What every store must do: the same tests against the store in memory, SQLite and PostgreSQL.

/// Makes each behaviour a test of each store.
macro_rules! every_store {
    ($($behaviour:ident)*) => {
        mod memory {
            $(#[tokio::test]
            async fn $behaviour() {
                super::$behaviour(crate::store_conformance::Place::memory()).await;
            })*
        }

        mod sqlite {
            $(#[tokio::test]
            async fn $behaviour() {
                super::$behaviour(crate::store_conformance::Place::sqlite()).await;
            })*
        }

        mod postgres {
            $(#[tokio::test]
            async fn $behaviour() {
                if let Some(place) = crate::store_conformance::Place::postgres().await {
                    super::$behaviour(place).await;
                }
            })*
        }
    };
}

mod concurrency;
mod deliveries;
mod lists;
mod place;
mod retention;
mod work;

use orderflow::store::{Answer, Pending, Receipt, Store};

pub use place::{Place, open_postgres};
use work::{Task, accepted, at, key, reminder, summary};
pub use work::{counting, looking, order};

async fn run(store: &dyn Store, task: Task) -> Receipt {
    store.transact(task.boxed()).await.unwrap()
}

async fn look(store: &dyn Store, number: u32, shared: &[&str]) -> String {
    match run(store, looking(order(number), shared)).await.answer {
        Some(Answer::Unreadable(seen)) => seen,
        other => panic!("{other:?}"),
    }
}

fn bytes(text: &str) -> Vec<u8> {
    text.as_bytes().to_vec()
}

fn owing(step: u32, outbox: Option<&str>, intent: Option<&str>) -> Pending {
    Pending {
        step,
        outbox: outbox.map(bytes),
        intent: intent.map(bytes),
    }
}

/// What is pending since before any time that a test uses, by the event's id.
async fn unfinished(store: &dyn Store) -> Vec<(String, Pending)> {
    let unfinished = store.unfinished(at(1_000_000), 1_000).await.unwrap();
    let mut unfinished: Vec<_> = unfinished
        .into_iter()
        .map(|(key, pending)| (key.id, pending))
        .collect();
    unfinished.sort_by(|one, other| one.0.cmp(&other.0));
    unfinished
}
